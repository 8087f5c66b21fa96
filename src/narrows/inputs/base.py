"""What an input is: what the encoder sees of a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from torch import Tensor, nn

from narrows.types import Batch, DataSpec, Shape


class Input(nn.Module):
    """`[B, *spec.shape] -> [B, *out_shape]`, between corruption and encoder.

    The likelihood judges x itself: an input has no say in the loss. `forward` reads `x` of the batch as the encoder
    gets it, with what `Batch.unseen` says that nobody may know of it. Where an unseen value would change what others
    become (a norm, a transform), the input leaves it out; one that treats every value on its own lets through what the
    data and the corruption have put in its place.

    Subclasses set `out_shape`, without the batch axis, at construction.

    Raises:
        UserError: data that it cannot read.
    """

    out_shape: Shape
    takes_variable: ClassVar[bool] = False
    """Whether examples may differ in length: then `[B, *any, T]` for any T, with T kept as the last axis."""

    if TYPE_CHECKING:

        def __call__(self, batch: Batch) -> Tensor: ...

    def __init__(self, spec: DataSpec) -> None:
        super().__init__()
        self.out_shape = tuple(spec.shape)

    def forward(self, batch: Batch) -> Tensor:
        raise NotImplementedError

    def mask(self, unseen: Tensor) -> Tensor | None:
        """Which of its values tell nothing, because of what is `unseen` of x.

        Args:
            unseen: bool, `[B, *spec.shape]`.

        Returns:
            bool, `[B, *out_shape]`; None where every value tells something.
        """
        raise NotImplementedError
