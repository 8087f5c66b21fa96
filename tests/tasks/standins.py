"""A datamodule in memory and a model whose evidence is known exactly."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal, Normal

from narrows.bottlenecks.base import Bottleneck
from narrows.bottlenecks.deterministic import Deterministic
from narrows.corruptions import NoCorruption
from narrows.layers.stages import Decoder, Encoder
from narrows.likelihoods.normal import GaussianLikelihood
from narrows.models.autoencoder import Autoencoder
from narrows.models.stages import Stages
from narrows.tasks.base import TaskContext
from narrows.types import Batch, DataSpec, VariationalLatent


class Rows:
    """Splits in memory, served in order."""

    def __init__(self, splits: dict[str, Batch], batch_size: int = 4, **spec: object) -> None:
        self.splits, self.batch_size = splits, batch_size
        train = splits["train"].x
        self.spec = DataSpec(**{"shape": tuple(train.shape[1:]), "kind": "vector", "size": len(train)} | spec)

    def ordered_loader(self, split: str) -> Iterator[Batch]:
        whole = self.splits[split]
        for start in range(0, len(whole), self.batch_size):
            rows = slice(start, start + self.batch_size)
            parts = {name: getattr(whole, name) for name in ("x", "target", "label", "observed")}
            yield Batch(**{name: None if part is None else part[rows] for name, part in parts.items()})


def context(model: Autoencoder, data: Rows, seed: int = 0) -> TaskContext:
    return TaskContext(model=model, datamodule=data, directory=None, seed=seed, device=torch.device("cpu"))


class Same(Encoder):
    def __init__(self, in_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.in_shape = tuple(in_shape)
        self.out_shape = (math.prod(in_shape),)

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)


class Always(Decoder):
    """Gives the same values whatever the latent."""

    def __init__(self, in_shape: tuple[int, ...], out_shape: tuple[int, ...], values: Tensor) -> None:
        super().__init__()
        self.in_shape, self.out_shape = tuple(in_shape), tuple(out_shape)
        self.register_buffer("values", values)

    def forward(self, z: Tensor) -> Tensor:
        return self.values.expand(len(z), *self.out_shape)


def zero_model(data: Rows, dim: int = 1) -> Autoencoder:
    """`dim` latents, and zeros for a reconstruction: its squared error is the example's own square."""
    return Autoencoder(
        data.spec,
        Stages(
            encoder=Same,
            bottleneck=partial(Deterministic, dim=dim),
            decoder=partial(Always, values=torch.zeros(data.spec.shape)),
            likelihood=GaussianLikelihood,
            corruption=NoCorruption,
        ),
    )


class PPCA:
    """x = W z + b + sigma eps with orthogonal columns in W, so that the posterior is diagonal."""

    def __init__(self, dims: int = 6, latents: int = 2, sigma: float = 0.4) -> None:
        basis = torch.linalg.qr(torch.randn(dims, latents)).Q
        self.weight = basis * torch.linspace(1.5, 0.7, latents)
        self.bias, self.sigma = torch.randn(dims), sigma

    @property
    def evidence(self) -> MultivariateNormal:
        identity = torch.eye(len(self.bias))
        return MultivariateNormal(self.bias, self.weight @ self.weight.T + self.sigma**2 * identity)

    def model(self, widen: float = 1.0) -> Autoencoder:
        spec = DataSpec(shape=(len(self.bias),), kind="vector", size=1)
        return Autoencoder(
            spec,
            Stages(
                encoder=Same,
                bottleneck=partial(_Posterior, truth=self, widen=widen),
                decoder=partial(_Linear, truth=self),
                likelihood=partial(GaussianLikelihood, sigma=self.sigma),
                corruption=NoCorruption,
            ),
        )


class _Posterior(Bottleneck):
    returns = VariationalLatent

    def __init__(self, in_shape: tuple[int, ...], *, truth: PPCA, widen: float) -> None:
        super().__init__(in_shape, truth.weight.shape[1])
        self.truth, self.widen = truth, widen

    def forward(self, h: Tensor) -> VariationalLatent:
        scale = self.truth.weight.square().sum(0) + self.truth.sigma**2
        mean = (h - self.truth.bias) @ self.truth.weight / scale
        posterior = Normal(mean, (self.widen * self.truth.sigma / scale.sqrt()).expand_as(mean))
        prior = Normal(torch.zeros_like(mean), torch.ones_like(mean))
        return VariationalLatent(z=posterior.sample(), point=mean, posterior=posterior, prior=prior)

    def sample_prior(self, n: int) -> Tensor:
        return torch.randn(n, *self.out_shape)


class _Linear(Decoder):
    def __init__(self, in_shape: tuple[int, ...], out_shape: tuple[int, ...], *, truth: PPCA) -> None:
        super().__init__()
        self.in_shape, self.out_shape = tuple(in_shape), tuple(out_shape)
        self.truth = truth
        self.rows_decoded = 0
        self.dropout = nn.Dropout(0.5)

    def forward(self, z: Tensor) -> Tensor:
        self.rows_decoded += len(z)
        return self.dropout(z) @ self.truth.weight.T + self.truth.bias
