"""A second VAE, of the latents of the first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from narrows.bottlenecks.gaussian import Gaussian
from narrows.corruptions import NoCorruption
from narrows.decoders.mlp import MLPDecoder
from narrows.densities.base import StandardisedDensity
from narrows.densities.gradient_fit import Budget
from narrows.encoders.mlp import MLPEncoder
from narrows.errors import require
from narrows.likelihoods.normal import OptimalGaussianLikelihood
from narrows.losses.divergence import evidence_lower_bound
from narrows.losses.importance import log_weights
from narrows.models.autoencoder import Autoencoder
from narrows.models.stages import Stages
from narrows.types import Batch, DataSpec, VariationalLatent

DRAWS = 50
"""Number of importance samples in the bound that is reported."""


class SecondStage(StandardisedDensity):
    """A VAE of the latents: `p(u) = N(0, I)`, `p(z|u) = N(f(u), gamma^2 I)` with the optimal gamma; samples are drawn
    u, then z, then x.

    It is trained on the evidence lower bound. `log_prob` is the importance-weighted bound with 50 draws of u, not
    above `log p(z)` in expectation, and itself random.

    "Diagnosing and Enhancing VAE Models" (Dai and Wipf, 2019, https://arxiv.org/abs/1903.05789), section 4 (where u has
    as many values as z).

    Args:
        dim: values of u; None: as many as z has.
        widths: of the encoder's hidden layers, and reversed of the decoder's.
        epochs: at most.
        batch_size: examples per step.
        lr: of Adam.
        patience: epochs without a better bound of the validation split after which it ends.

    Raises:
        UserError: a value out of its range.

    Example:
        >>> spec = DataSpec((4,), "vector", 10, value_range=(0.0, 1.0))
        >>> model = Autoencoder(spec, Stages(MLPEncoder, Gaussian, MLPDecoder, BernoulliLikelihood, NoCorruption))
        >>> density = SecondStage(model, dim=2, widths=[8])
        >>> density.log_prob(torch.zeros(3, 8)).shape, density.sample(2).shape
        (torch.Size([3]), torch.Size([2, 8]))
    """

    figure = "log_prob_bound"

    def __init__(
        self,
        model: Autoencoder,
        *,
        dim: int | None = None,
        widths: Sequence[int] = (512, 512),
        epochs: int = 200,
        batch_size: int = 256,
        lr: float = 1e-3,
        patience: int = 20,
    ) -> None:
        require(dim is None or dim >= 1, f"density second_stage: dim must be at least 1, or null, not {dim}")
        super().__init__(model)
        self.budget = Budget("second_stage", epochs, batch_size, lr, patience)
        self.stage = Autoencoder(
            DataSpec(shape=(self.width,), kind="vector", size=1),
            Stages(
                encoder=partial(MLPEncoder, widths=widths),
                bottleneck=partial(Gaussian, dim=dim or self.width),
                decoder=partial(MLPDecoder, widths=list(reversed(widths))),
                likelihood=OptimalGaussianLikelihood,
                corruption=NoCorruption,
            ),
        )

    def learn_standard(self, train: Tensor, held: Tensor) -> None:
        self.budget.spend(self.stage, self.elbo, train, held)

    def elbo(self, u: Tensor) -> Tensor:
        """The bound with one draw, of standardised latents, `[B, D] -> [B]`."""
        return evidence_lower_bound(self.stage(Batch(x=u)))

    def log_prob_standard(self, u: Tensor) -> Tensor:
        latent = self.stage.encode(u)
        assert isinstance(latent, VariationalLatent)
        weights = log_weights(self.stage, Batch(x=u), latent, DRAWS)
        return (weights.logsumexp(0) - math.log(DRAWS)).to(u)

    @torch.no_grad()
    def sample_standard(self, n: int) -> Tensor:
        # With the noise of p(z|u): its mean alone is a thinner set than the latents.
        return self.stage.decode(self.stage.draw(n)).sample()
