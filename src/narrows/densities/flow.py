"""A normalising flow over the latents."""

from __future__ import annotations

from collections.abc import Sequence

import zuko
from torch import Tensor

from narrows.densities.base import StandardisedDensity, refuse_wide
from narrows.densities.gradient_fit import Budget
from narrows.errors import require
from narrows.layers.blocks import counts
from narrows.models.autoencoder import Autoencoder

WIDEST = 1024
"""Largest number of values in a latent: a draw takes as many passes of the network."""


class FlowDensity(StandardisedDensity):
    """A masked autoregressive flow: `log p(u) = log N(f(u); 0, I) + log |det df/du|`, where f is `transforms` affine
    maps whose shift and scale of entry i are a masked network's functions of the entries before it, and the order is
    reversed from each to the next. Its maximum-likelihood fit.

    "Masked Autoregressive Flow for Density Estimation" (Papamakarios et al., 2017, https://arxiv.org/abs/1705.07057),
    section 3.

    Args:
        transforms: affine maps after one another.
        widths: of the hidden layers of each.
        epochs: at most.
        batch_size: examples per step.
        lr: of Adam.
        patience: epochs without a better log-density of the validation split after which it ends.

    Raises:
        UserError: a value out of its range, or more than 1,024 latent values.

    Example:
        >>> spec = DataSpec((4,), "vector", 10, value_range=(0.0, 1.0))
        >>> model = Autoencoder(spec, Stages(MLPEncoder, Gaussian, MLPDecoder, BernoulliLikelihood, NoCorruption))
        >>> density = FlowDensity(model, transforms=2, widths=[8])
        >>> density.log_prob(torch.zeros(3, 8)).shape, density.sample(2).shape
        (torch.Size([3]), torch.Size([2, 8]))
    """

    def __init__(
        self,
        model: Autoencoder,
        *,
        transforms: int = 5,
        widths: Sequence[int] = (128, 128),
        epochs: int = 100,
        batch_size: int = 256,
        lr: float = 1e-3,
        patience: int = 10,
    ) -> None:
        require(transforms >= 1, f"density flow: transforms must be at least 1, not {transforms}")
        super().__init__(model)
        refuse_wide("flow", self.width, WIDEST, "a masked autoregressive flow, which draws them one after another,")
        self.budget = Budget("flow", epochs, batch_size, lr, patience)
        hidden = counts(widths, "widths", "density flow")
        self.flow = zuko.flows.MAF(self.width, transforms=transforms, hidden_features=hidden)

    def learn_standard(self, train: Tensor, held: Tensor) -> None:
        self.budget.spend(self.flow, self.log_prob_standard, train, held)

    def log_prob_standard(self, u: Tensor) -> Tensor:
        log_prob: Tensor = self.flow().log_prob(u)
        return log_prob

    def sample_standard(self, n: int) -> Tensor:
        drawn: Tensor = self.flow().sample((n,))
        return drawn
