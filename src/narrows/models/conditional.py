"""The conditional autoencoder: encoder and decoder read the class."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from narrows.errors import require
from narrows.models.autoencoder import Autoencoder
from narrows.models.initial_weights import Init
from narrows.models.stages import Stages
from narrows.types import Batch, DataSpec, Given, Shape


class ConditionalAutoencoder(Autoencoder):
    """p(x|z, y) and q(z|x, y) for the class y, which stands one-hot behind the encoder's input and behind z, on axis 1.
    The prior does not depend on y.

    The stages are those of `Autoencoder`. Samples are of the classes in `given.label`.

    "Learning Structured Output Representation using Deep Conditional Generative Models" (Sohn et al., 2015),
    section 4.1, with p(z|y) = p(z); the M2 model of "Semi-supervised Learning with Deep Generative Models" (Kingma
    et al., 2014, https://arxiv.org/abs/1406.5298) where all labels are known.

    Raises:
        UserError: data without classes, or tokens that the input leaves as they are; at use, examples without a label.

    Example:
        >>> spec = DataSpec((4,), "vector", 10, num_classes=2, value_range=(0.0, 1.0))
        >>> stages = Stages(MLPEncoder, Gaussian, MLPDecoder, BernoulliLikelihood, NoCorruption)
        >>> model = ConditionalAutoencoder(spec, stages)
        >>> model.sample(3, Given(label=torch.tensor([0, 1, 1]))).shape
        torch.Size([3, 4])
    """

    def __init__(
        self,
        spec: DataSpec,
        stages: Stages,
        *,
        init: Init = "torch",
    ) -> None:
        require(
            spec.num_classes is not None,
            "model conditional needs data with classes, but these have none; use model=autoencoder",
        )
        super().__init__(spec, stages, init=init)
        require(
            spec.kind != "tokens" or len(self.input.out_shape) > 1,
            f"model conditional cannot put classes beside tokens, which input {type(self.input).__name__} leaves as "
            "they are; use model=autoencoder",
        )

    @property
    def seen_shape(self) -> Shape:
        return self._beside(super().seen_shape)

    @property
    def read_shape(self) -> Shape:
        return self._beside(super().read_shape)

    def _beside(self, shape: Shape) -> Shape:
        assert self.spec.num_classes is not None
        return (shape[0] + self.spec.num_classes, *shape[1:])

    def shown(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        seen, unseen = super().shown(batch)
        told = self._told(seen, batch)
        if unseen is not None:
            # The class is never hidden, wherever it stands.
            unseen = torch.cat([unseen, torch.zeros_like(told[:, unseen.shape[1] :], dtype=torch.bool)], 1)
        return told, unseen

    def decoder_input(self, z: Tensor, given: Batch | Given | None) -> Tensor:
        return self._told(z, given)

    def _told(self, values: Tensor, given: Batch | Given | None) -> Tensor:
        """`[B, C, *positions] -> [B, C + classes, *positions]`."""
        classes, label = self.spec.num_classes, None if given is None else given.label
        assert classes is not None
        require(label is not None, "model conditional needs a label for every example; these have none")
        assert label is not None
        hot = F.one_hot(label.long(), classes).to(values.dtype)
        hot = hot.reshape(hot.shape[0], classes, *[1] * (values.ndim - 2))
        return torch.cat([values, hot.expand(-1, -1, *values.shape[2:])], 1)

    def classes(self, n: int) -> Tensor:
        assert self.spec.num_classes is not None
        told = super().classes(n)
        in_turn = torch.arange(n, device=next(self.parameters()).device) % self.spec.num_classes
        return in_turn if told is None else told
