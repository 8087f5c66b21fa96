"""Models of sequences whose figures are known: one that copies, one that knows shares alone, one that repeats."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Normal
from torch.nn.functional import one_hot, pad

from narrows.bottlenecks.base import Bottleneck
from narrows.bottlenecks.deterministic import Deterministic
from narrows.corruptions import NoCorruption
from narrows.data import DataModule
from narrows.inputs import Input
from narrows.layers.stages import Decoder, Encoder
from narrows.likelihoods import BernoulliLikelihood, CategoricalLikelihood
from narrows.models.autoencoder import Autoencoder
from narrows.models.stages import Stages
from narrows.tasks.base import TaskContext
from narrows.types import Batch, DataSpec, VariationalLatent


class OneHot(Input):
    """Tokens as 0 and 1, `[B, T] -> [B, V, T]`; numbers as they are."""

    takes_variable = True

    def __init__(self, spec: DataSpec) -> None:
        super().__init__(spec)
        self.words = len(spec.vocabulary or [])
        self.out_shape = (self.words, *spec.shape) if self.words else spec.shape

    def forward(self, batch: Batch) -> Tensor:
        return one_hot(batch.x, self.words).transpose(1, 2).float() if self.words else batch.x


class Whole(Encoder):
    """All values of a sequence, padded to the longest of all."""

    reads_length: ClassVar[bool] = True

    def __init__(self, in_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.in_shape, self.out_shape = tuple(in_shape), (math.prod(in_shape),)

    def forward(self, x: Tensor, length: Tensor | None = None) -> Tensor:
        return pad(x, (0, self.in_shape[-1] - x.shape[-1])).flatten(1)


class Identity(Bottleneck):
    """What the encoder gives."""

    returns = Deterministic((1,), dim=1).returns

    def __init__(self, in_shape: tuple[int, ...]) -> None:
        super().__init__(in_shape, in_shape[0])

    def forward(self, h: Tensor) -> Any:
        return self.returns(z=h, point=h)


class Uninformed(Bottleneck):
    """A posterior that is the prior: an importance sample weighs what the example does."""

    returns = VariationalLatent

    def __init__(self, in_shape: tuple[int, ...]) -> None:
        super().__init__(in_shape, 2)

    def forward(self, h: Tensor) -> VariationalLatent:
        prior = Normal(torch.zeros(len(h), 2), torch.ones(len(h), 2))
        return VariationalLatent(z=prior.sample(), point=prior.mean, posterior=prior, prior=prior)

    def sample_prior(self, n: int) -> Tensor:
        return torch.randn(n, 2)


class Sharp(Decoder):
    """Reads the values back from the latent, with certainty; told a length, it gives as many steps as the target."""

    reads_length: ClassVar[bool] = True

    def __init__(self, in_shape: tuple[int, ...], out_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.in_shape, self.out_shape = tuple(in_shape), tuple(out_shape)

    def forward(self, z: Tensor, target: Tensor | None = None) -> Tensor:
        return 40 * (z.unflatten(1, self.out_shape) - 0.5)


class Stepwise(Decoder):
    """A decoder of steps, which reads the step before or nothing: `logits(before [B, C, S] or [B, S]) -> [B, n, S]`."""

    autoregressive: ClassVar[bool] = True
    reads_length: ClassVar[bool] = True
    scheduled_sampling = 0.0

    def __init__(
        self,
        in_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        *,
        spec: DataSpec,
        logits: Callable[[Tensor], Tensor],
    ) -> None:
        super().__init__()
        self.in_shape, self.out_shape, self.logits = tuple(in_shape), tuple(out_shape), logits

    def forward(self, z: Tensor, target: Tensor, length: Tensor | None = None) -> Tensor:
        return self.logits(pad(target[..., :-1], (1, 0)))

    def run_free(self, z: Tensor, readout: Callable[[Tensor], Tensor], steps: int | None = None) -> Tensor:
        found = [torch.zeros(len(z), self.out_shape[0], 1)]
        for _ in range(self.out_shape[1] if steps is None else steps):
            found.append(readout(self.logits(found[-1])))
        return torch.cat(found[1:], 2)


def copying(spec: DataSpec) -> Autoencoder:
    """Gives back what it is given."""
    likelihood = CategoricalLikelihood if spec.kind == "tokens" else BernoulliLikelihood
    return Autoencoder(spec, Stages(Whole, Identity, Sharp, likelihood, NoCorruption, OneHot))


def of_steps(spec: DataSpec, logits: Callable[[Tensor], Tensor]) -> Autoencoder:
    """A model of piano rolls whose latent says nothing, and whose steps follow from the one before."""
    decoder = partial(Stepwise, logits=logits)
    return Autoencoder(spec, Stages(Whole, Uninformed, decoder, BernoulliLikelihood, NoCorruption, OneHot))


def context_of(source: Any, model: Callable[[DataSpec], Autoencoder], directory: Path | None = None) -> TaskContext:
    """The model of these data, to be judged on them."""
    data = DataModule(source, validation="auto")
    data.setup()
    return TaskContext(model(data.spec), data, directory, seed=0, device=torch.device("cpu"))
