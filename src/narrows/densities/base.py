"""The base classes of densities over the latents of a trained model."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from narrows.bottlenecks.base import Bottleneck
from narrows.errors import UserError, require
from narrows.evaluation import EvaluationData, evaluating
from narrows.models.autoencoder import Autoencoder
from narrows.types import Latent, at_least_single

CHUNK = 1024
"""Number of latents whose log-density is computed at once."""


class Density(nn.Module):
    """A density fitted, once training has ended, to the latents that the decoder was trained on.

    It is a density of values `v [N, *any]`, by default of the latents z. `fit` does not change the model. It encodes
    the training split through the corruption, as training did, with one draw of z per example, because the decoder was
    trained on draws and not on the posterior's mean; a deterministic latent is its own draw. The density is judged on
    the validation split.

    Where latents have point masses (sparse or constant entries), sampling works, but log-densities, which are relative
    to Lebesgue's measure, cannot be compared.

    "From Variational to Deterministic Autoencoders" (Ghosh et al., 2020, https://arxiv.org/abs/1903.12436), section 4
    (ex-post density estimation).

    Raises:
        UserError: a latent that this density cannot read.

    Example:
        >>> GaussianDensity.figures(), AutoregressiveCodes.requires.__name__
        (('density/log_prob_train', 'density/log_prob_val'), 'QuantizedLatent')
    """

    requires: ClassVar[type[Latent]] = Latent
    figure: ClassVar[str] = "log_prob"
    """Name of what `log_prob` gives: another one where it is a bound."""
    by_class: ClassVar[bool] = False
    """Whether it is one density for every class, see `sample_of`."""

    def __init__(self, model: Autoencoder) -> None:
        super().__init__()
        self.check(type(model), model.bottleneck)
        self.latent_shape = model.latent_shape

    @classmethod
    def check(cls, model: type[Autoencoder], bottleneck: Bottleneck) -> None:
        """Refuse a latent that is not of the kind `requires`, before anything is trained.

        Raises:
            UserError: the latent is of another kind; density, kind and source are named.
        """
        returns = model.returns(bottleneck)
        require(
            issubclass(returns, cls.requires),
            f"density {cls.__name__} reads a {cls.requires.__name__}, but {model.name_source(bottleneck)} returns a "
            f"{returns.__name__}",
        )

    @classmethod
    def figures(cls) -> tuple[str, str]:
        """Names of the figures that `fit` returns."""
        return f"density/{cls.figure}_train", f"density/{cls.figure}_val"

    def fit(self, model: Autoencoder, data: EvaluationData, seed: int) -> dict[str, float]:
        """Learn the density; the mean log-density of the training and the validation split, in nats per example.

        The same seed gives the same density, whatever the process drew before.

        Raises:
            UserError: a split without examples, or latents that are not finite.
        """
        device = next(model.parameters()).device
        with evaluating(model, seed, "prior"):  # the seed's word, which is older than `density`
            train, held = (self.gather(model, data, split, device) for split in ("train", "validation"))
            require(len(train) > 0, "density: the training split is empty")
            require(len(held) > 0, "density: the validation split, on which it is judged, is empty")
            require(bool(torch.isfinite(train).all()), "density: the model's latents are not finite")
            self.to(device)
            self.begin(data)
            self.learn(train, held)
            self.eval()
            return dict(zip(self.figures(), (self.judge(train), self.judge(held)), strict=True))

    def gather(self, model: Autoencoder, data: EvaluationData, split: str, device: torch.device) -> Tensor:
        """The values of a split, on the CPU."""
        batches = (model.corrupted(batch.to(device)) for batch in data.ordered_loader(split))
        found = [self.read(model.encode(seen)).cpu() for seen in batches]
        return torch.cat(found) if found else torch.empty(0)

    def read(self, latent: Latent) -> Tensor:
        """The part of a latent whose density this is."""
        return at_least_single(latent.z)

    def begin(self, data: EvaluationData) -> None:
        """Take from the data whatever else the fit starts from."""

    def learn(self, train: Tensor, held: Tensor) -> None:
        """Fit to `train [N, *any]`, both on the CPU; `held` decides when to stop."""
        raise NotImplementedError

    def log_prob(self, values: Tensor) -> Tensor:
        """`[B, *any] -> [B]`, in nats."""
        raise NotImplementedError

    def sample(self, n: int) -> Tensor:
        """`n` latents, `[n, *latent_shape]`, on the device of the density."""
        raise NotImplementedError

    def sample_of(self, label: Tensor) -> Tensor:
        """A latent of each of these classes, `[n] -> [n, *latent_shape]`; of any where it is not `by_class`."""
        return self.sample(len(label))

    def classes(self, n: int) -> Tensor | None:
        """The classes that it knows, in turn, `[n]`; None where it is not `by_class`."""
        return None

    @property
    def device(self) -> torch.device:
        values: dict[str, Tensor] = self.state_dict()
        return next(iter(values.values())).device

    @torch.no_grad()
    def judge(self, values: Tensor) -> float:
        """Mean log-density of the rows, in nats."""
        return mean_log_prob(self.log_prob, values, self.device)


def mean_log_prob(log_prob: Any, values: Tensor, device: torch.device) -> float:
    """Mean over the rows, added up in double precision."""
    return sum(float(log_prob(part.to(device)).double().sum()) for part in values.split(CHUNK)) / len(values)


class StandardisedDensity(Density):
    """A density of `u = (z - mean) / scale`, flattened to `[N, D]`: no latent's unit matters to what is learnt.

    `log p(z) = log p(u) - sum log scale`. A latent that does not vary gets the largest scale of the others.

    Example:
        >>> spec = DataSpec((4,), "vector", 10, value_range=(0.0, 1.0))
        >>> model = Autoencoder(spec, Stages(MLPEncoder, Gaussian, MLPDecoder, BernoulliLikelihood, NoCorruption))
        >>> density = GaussianDensity(model)
        >>> density.learn(torch.rand(50, 8), torch.rand(10, 8))
        >>> density.standard(torch.rand(3, 8)).shape
        torch.Size([3, 8])
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, model: Autoencoder) -> None:
        super().__init__(model)
        self.width = math.prod(self.latent_shape)
        self.register_buffer("mean", torch.zeros(self.width))
        self.register_buffer("scale", torch.ones(self.width))

    def learn(self, train: Tensor, held: Tensor) -> None:
        rows = train.flatten(1).double()
        deviation = rows.std(0, unbiased=False)
        largest = deviation.max()
        varies = deviation > 1e-6 * largest
        self.mean.copy_(rows.mean(0))
        self.scale.copy_(torch.where(varies, deviation, largest if largest > 0 else torch.ones_like(largest)))
        self.learn_standard(*(self.standard(values.to(self.mean)).cpu() for values in (train, held)))

    def standard(self, z: Tensor) -> Tensor:
        """`[B, *latent_shape] -> [B, D]`."""
        return (z.flatten(1) - self.mean) / self.scale

    def log_prob(self, values: Tensor) -> Tensor:
        return self.log_prob_standard(self.standard(values)) - self.scale.log().sum()

    def sample(self, n: int) -> Tensor:
        return (self.sample_standard(n) * self.scale + self.mean).reshape(n, *self.latent_shape)

    def learn_standard(self, train: Tensor, held: Tensor) -> None:
        """Fit to standardised rows `[N, D]`."""
        raise NotImplementedError

    def log_prob_standard(self, u: Tensor) -> Tensor:
        """Log-density of standardised rows, `[B, D] -> [B]`, in nats."""
        raise NotImplementedError

    def sample_standard(self, n: int) -> Tensor:
        """`n` standardised draws, `[n, D]`."""
        raise NotImplementedError


def refuse_wide(name: str, width: int, most: int, why: str) -> None:
    """Refuse a latent of more than `most` values.

    Raises:
        UserError: says which densities fit.
    """
    if width > most:
        raise UserError(
            f"density {name}: the latent has {width:,} values, and {why} is kept to {most:,}; use a smaller latent, "
            "or density=second_stage (of codes: density=autoregressive)"
        )
