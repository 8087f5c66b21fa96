"""The VampPrior: a mixture of posteriors at learnt inputs."""

from __future__ import annotations

from math import inf, isfinite

import torch
from torch import Tensor, nn
from torch.distributions import MixtureSameFamily
from torch.nn.functional import softplus

from narrows.bottlenecks.base import Bottleneck
from narrows.bottlenecks.mixture import mixture_of_normals, under_prior
from narrows.errors import require
from narrows.models.autoencoder import Autoencoder
from narrows.models.initial_weights import Init
from narrows.models.stages import Stages
from narrows.types import Batch, DataSpec, GaussianLatent, Latent, LearntPriorLatent


class VampAutoencoder(Autoencoder):
    """An autoencoder with the prior `p(z) = 1/K sum_k q(z|u_k)` over K = `pseudo_inputs` learnt inputs u_k.

    u_k lies inside the data's range where it has one, or on the right side of its one end. The encoder reads all of
    them at every pass, in one batch of their own (which is what a batch norm's statistics are of). The stages are
    those of `Autoencoder`; the KL has no closed form, so terms take the draw `log q(z|x) - log p(z)`. A loss that does
    not read the prior would not train the u_k, and is refused.

    "VAE with a VampPrior" (Tomczak and Welling, 2018, https://arxiv.org/abs/1705.07120), equation 9.

    Raises:
        UserError: `pseudo_inputs` below 1, a posterior that is not Gaussian, or data of tokens or of different lengths.

    Example:
        >>> spec = DataSpec((4,), "vector", 10, value_range=(0.0, 1.0))
        >>> stages = Stages(MLPEncoder, Gaussian, MLPDecoder, BernoulliLikelihood, NoCorruption)
        >>> model = VampAutoencoder(spec, stages, pseudo_inputs=5)
        >>> model.pseudo_inputs().shape, model.prior().event_shape
        (torch.Size([5, 4]), torch.Size([8]))
    """

    def __init__(
        self,
        spec: DataSpec,
        stages: Stages,
        *,
        init: Init = "torch",
        pseudo_inputs: int = 500,
    ) -> None:
        require(pseudo_inputs >= 1, f"model vamp: pseudo_inputs must be at least 1, not {pseudo_inputs}")
        require(
            spec.kind != "tokens",
            "model vamp: learnt inputs are real numbers, which tokens are not; use model=autoencoder",
        )
        require(
            not spec.variable,
            "model vamp: learnt inputs have one length, but these examples differ in length; use model=autoencoder",
        )
        super().__init__(spec, stages, init=init)
        self.raw_inputs = nn.Parameter(torch.randn(pseudo_inputs, *spec.shape))

    @classmethod
    def returns(cls, bottleneck: Bottleneck) -> type[Latent]:
        require(
            issubclass(bottleneck.returns, GaussianLatent),
            f"model vamp: the posterior must be Gaussian, but bottleneck {type(bottleneck).__name__} returns a "
            f"{bottleneck.returns.__name__}; use bottleneck=gaussian",
        )
        return LearntPriorLatent

    def pseudo_inputs(self) -> Tensor:
        """u, `[K, *shape]`."""
        return inside(self.raw_inputs, self.spec)

    def prior(self) -> MixtureSameFamily:
        """The prior over one latent, `latent_shape`."""
        latent = super().encode(Batch(self.pseudo_inputs()))
        assert isinstance(latent, GaussianLatent)
        mean, scale = latent.posterior.mean, latent.posterior.stddev
        return mixture_of_normals(self.raw_inputs.new_zeros(len(self.raw_inputs)), mean, scale)

    def encode(self, batch: Batch | Tensor) -> Latent:
        latent = super().encode(batch)
        assert isinstance(latent, GaussianLatent)
        return under_prior(latent, self.prior())

    def draw_own(self, n: int) -> Tensor:
        drawn: Tensor = self.prior().sample(torch.Size((n,)))
        return drawn


def inside(raw: Tensor, spec: DataSpec) -> Tensor:
    """Free values to inputs inside the data's range: through a sigmoid where it has two ends, a softplus where one."""
    low, high = spec.value_range or (-inf, inf)
    if isfinite(low) and isfinite(high):
        return low + (high - low) * raw.sigmoid()
    if isfinite(low):
        return low + softplus(raw)
    return high - softplus(raw) if isfinite(high) else raw


def outside(x: Tensor, spec: DataSpec, margin: float = 0.02) -> Tensor:
    """The free values that `inside` maps to `x`, which is first moved `margin` away from the ends of its range (times
    the range's width, where it has two ends): there the gradient is small."""
    low, high = spec.value_range or (-inf, inf)
    if isfinite(low) and isfinite(high):
        return ((x - low) / (high - low)).clamp(margin, 1 - margin).logit()
    if isfinite(low):
        return _inverse_softplus((x - low).clamp_min(margin))
    return _inverse_softplus((high - x).clamp_min(margin)) if isfinite(high) else x


def _inverse_softplus(y: Tensor) -> Tensor:
    """`log(exp(y) - 1)`, of y above 0."""
    return y + (-torch.expm1(-y)).log()
