"""The base class of inputs: what the encoder sees of a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from torch import Tensor, nn

from narrows.errors import require
from narrows.types import Batch, DataSpec, Shape


class Input(nn.Module):
    """The step between corruption and encoder, `[B, *spec.shape] -> [B, *out_shape]`.

    The likelihood is that of x itself, so an input does not change what the loss measures. `forward` reads `x` of the
    corrupted batch and `Batch.unseen`, the mask of hidden and missing values. An input in which one value changes
    others (a norm, a transform) leaves unseen values out; one that treats every value on its own passes on what the
    data and the corruption have put in their place.

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
        """The values of the output that carry no information, because x is `unseen` there.

        Args:
            unseen: bool, `[B, *spec.shape]`.

        Returns:
            bool, `[B, *out_shape]`; None where every value carries some.
        """
        raise NotImplementedError


def require_numbers(spec: DataSpec, name: str) -> None:
    """Refuse tokens, which are names and not numbers.

    Raises:
        UserError: names the input.
    """
    require(
        spec.kind != "tokens",
        f"input {name} computes with numbers, which tokens are not; use input=identity",
    )
