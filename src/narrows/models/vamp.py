"""The VampPrior: a mixture of posteriors at learnt inputs."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import MixtureSameFamily

from narrows.bottlenecks.base import Bottleneck
from narrows.bottlenecks.mixture import mixture_of_normals, under_prior
from narrows.errors import require
from narrows.models.autoencoder import Autoencoder, Init, Stages
from narrows.types import DataSpec, GaussianLatent, Latent, LearntPriorLatent


class VampAutoencoder(Autoencoder):
    """An autoencoder with the prior `p(z) = 1/K sum_k q(z|u_k)` over K = `pseudo_inputs` learnt inputs u_k.

    u_k lies inside the data's range where it has one. The encoder reads all of them at every pass, in one
    batch of their own (which is what a batch norm's statistics are of). The stages are those of `Autoencoder`;
    the KL has no closed form, so terms take the draw `log q(z|x) - log p(z)`. A loss that does not read the
    prior would not train the u_k, which is refused.

    "VAE with a VampPrior" (Tomczak and Welling, 2018), equation 9.

    Raises:
        UserError: `pseudo_inputs` below 1, a posterior that is not Gaussian, or data of tokens.
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
        require(spec.kind != "tokens", "model vamp: tokens have no learnt inputs between them; use model=autoencoder")
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
        """Over one latent, `latent_shape`."""
        posterior = super().encode(self.pseudo_inputs()).posterior  # type: ignore[attr-defined]
        return mixture_of_normals(self.raw_inputs.new_zeros(len(self.raw_inputs)), posterior.mean, posterior.stddev)

    def encode(self, x: Tensor, label: Tensor | None = None, hidden: Tensor | None = None) -> Latent:
        latent = super().encode(x, label, hidden)
        assert isinstance(latent, GaussianLatent)
        return under_prior(latent, self.prior())

    def draw_own(self, n: int) -> Tensor:
        return self.prior().sample(torch.Size((n,)))


def inside(raw: Tensor, spec: DataSpec) -> Tensor:
    """Free values to inputs inside the data's range, through a sigmoid where it has one."""
    if spec.value_range is None:
        return raw
    low, high = spec.value_range
    return low + (high - low) * raw.sigmoid()


def outside(x: Tensor, spec: DataSpec, margin: float = 0.02) -> Tensor:
    """The free values of which `inside` makes `x`; at least `margin` of the range away from its ends, where a
    sigmoid has hardly a gradient."""
    if spec.value_range is None:
        return x
    low, high = spec.value_range
    return ((x - low) / (high - low)).clamp(margin, 1 - margin).logit()
