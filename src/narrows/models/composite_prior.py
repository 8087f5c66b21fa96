"""The composite prior: a mixture of which one part is the posterior as it was a while ago."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal
from torch.func import functional_call

from narrows.bottlenecks.base import Bottleneck, require_gaussian
from narrows.errors import require
from narrows.layers.stages import still
from narrows.models.autoencoder import Autoencoder
from narrows.models.initial_weights import Init
from narrows.models.stages import Stages
from narrows.types import Batch, DataSpec, GaussianLatent, Latent, Output, ReparameterisedLatent

PART = "model composite_prior"
TRACKED = ("encoder", "bottleneck")


class CompositePriorAutoencoder(Autoencoder):
    """An autoencoder with the prior `p(z|x) = w_1 N(0, I) + w_2 q_old(z|x) + w_3 N(0, e^v I)`, where q_old is the
    posterior of `refresh` training passes ago at most: no step takes an example far from where it was.

    The old encoder has no dropout and no gradient; its weights are buffers, copied every `refresh` passes. The KL has
    no closed form, so terms take the draw `log q(z|x) - log p(z|x)`. Such a prior has read x: what training minimises
    is no bound of log p(x), and is neither named ELBO nor NLL. Samples are of `N(0, I)`: a new example has no old
    posterior. The stages are those of `Autoencoder`.

    "RecVAE: a New Variational Autoencoder for Top-N Recommendations with Implicit Feedback" (Shenbin et al., 2020,
    https://arxiv.org/abs/1912.11160), section 3.3; there the old encoder is that of the epoch before.

    Args:
        weights: w_1, w_2 and w_3, made to add up to 1.
        log_variance: v, of the wide part.
        refresh: training passes between two copies.

    Raises:
        UserError: weights that are not three positive numbers, `refresh` below 1, a posterior that is not Gaussian, or
            an encoder that reads masks or lengths.

    Example:
        >>> spec = DataSpec((4,), "vector", 10, value_range=(0.0, 1.0))
        >>> stages = Stages(MLPEncoder, Gaussian, MLPDecoder, BernoulliLikelihood, NoCorruption)
        >>> latent = CompositePriorAutoencoder(spec, stages).encode(torch.rand(3, 4))
        >>> latent.prior.batch_shape, latent.divergence().shape
        (torch.Size([3]), torch.Size([3]))
    """

    prior_reads_input = True
    passes: Tensor
    shares: Tensor

    def __init__(
        self,
        spec: DataSpec,
        stages: Stages,
        *,
        init: Init = "torch",
        weights: Sequence[float] = (0.15, 0.75, 0.1),
        log_variance: float = 10.0,
        refresh: int = 100,
    ) -> None:
        shares = [float(weight) for weight in weights]
        require(
            len(shares) == 3 and min(shares) > 0,
            f"{PART}: weights must be three numbers above 0, those of the standard, the old and the wide part, not "
            f"{list(weights)}",
        )
        require(refresh >= 1, f"{PART}: refresh must be at least 1 training pass, not {refresh}")
        super().__init__(spec, stages, init=init)
        require(
            not (self.encoder.reads_hidden or spec.variable),
            f"{PART}: the old encoder is not told of masks or lengths, which encoder {type(self.encoder).__name__} "
            "reads; use model=autoencoder",
        )
        self.log_variance, self.refresh = log_variance, refresh
        self.register_buffer("shares", torch.tensor(shares) / sum(shares), persistent=False)
        self.register_buffer("passes", torch.zeros((), dtype=torch.long))
        for part in TRACKED:
            for name, value in self._weights(part).items():
                self.register_buffer(_old(part, name), value.detach().clone())

    @classmethod
    def returns(cls, bottleneck: Bottleneck) -> type[Latent]:
        require_gaussian(bottleneck, PART)
        return ReparameterisedLatent

    def encode(self, batch: Batch | Tensor) -> Latent:
        batch = self.whole(batch)
        latent = super().encode(batch)
        assert isinstance(latent, GaussianLatent)
        posterior = Independent(latent.posterior, latent.z.ndim - 1, validate_args=False)
        prior = self.prior(self.old_posterior(batch))
        return ReparameterisedLatent(z=latent.z, point=latent.point, posterior=posterior, prior=prior)

    @torch.no_grad()
    def old_posterior(self, batch: Batch) -> Normal:
        """q_old(z|x), elementwise over `[B, *latent_shape]`."""
        with still(self.input, self.encoder, self.bottleneck):
            hidden = functional_call(self.encoder, self._old_weights("encoder"), (self.shown(batch)[0],))
            latent = functional_call(self.bottleneck, self._old_weights("bottleneck"), (hidden,))
        posterior: Normal = latent.posterior
        return posterior

    def prior(self, old: Normal) -> MixtureSameFamily:
        """p(z|x), one event `latent_shape` for each of B examples."""
        mean = torch.stack([torch.zeros_like(old.mean), old.mean, torch.zeros_like(old.mean)], 1)
        wide = torch.full_like(old.mean, 0.5 * self.log_variance).exp()
        scale = torch.stack([torch.ones_like(old.mean), old.stddev, wide], 1)
        parts = Independent(Normal(mean, scale, validate_args=False), old.mean.ndim - 1, validate_args=False)
        chosen = Categorical(probs=self.shares.to(mean).expand(mean.shape[0], 3), validate_args=False)
        return MixtureSameFamily(chosen, parts, validate_args=False)

    def forward(self, batch: Batch) -> Output:
        if self.training:
            self._copy_if_due()
        return super().forward(batch)

    @torch.no_grad()
    def _copy_if_due(self) -> None:
        # Without looking at the number of passes, for which training would wait for the device.
        due = self.passes % self.refresh == 0
        for part in TRACKED:
            for name, value in self._weights(part).items():
                old = getattr(self, _old(part, name))
                old.copy_(torch.where(due, value.detach(), old))
        self.passes += 1

    def _weights(self, part: str) -> dict[str, Tensor]:
        module: nn.Module = getattr(self, part)
        return dict(module.named_parameters()) | dict(module.named_buffers())

    def _old_weights(self, part: str) -> dict[str, Tensor]:
        return {name: getattr(self, _old(part, name)) for name in self._weights(part)}


def _old(part: str, name: str) -> str:
    """The buffer's name of an old weight."""
    return f"old_{part}_{name.replace('.', '_')}"
