"""Terms that ask for few active latents."""

from __future__ import annotations

import math

from torch import Tensor

from narrows.errors import require
from narrows.losses.objective import Term
from narrows.model import Autoencoder
from narrows.schedules import Schedule
from narrows.types import Output, UnitLatent


class L1(Term):
    """`sum_j |z_j|`, `[B]`: the Laplace prior's penalty."""

    def __init__(self, weight: float | Schedule = 0.1) -> None:
        super().__init__(weight)

    def forward(self, out: Output, model: Autoencoder) -> Tensor:
        return out.latent.point.abs().flatten(1).sum(1)


class SparseKL(Term):
    """`sum_j KL(Bernoulli(rho) || Bernoulli(rho_j))`, a scalar, where `rho_j` is unit j's mean activation
    over the batch and the positions.

    "Sparse autoencoder" (Ng, CS294A lecture notes, 2011), section 3.

    Raises:
        UserError: `rho` outside (0, 1), or a negative weight.
    """

    requires = UnitLatent

    def __init__(self, weight: float | Schedule = 1.0, rho: float = 0.05) -> None:
        super().__init__(weight)
        require(0 < rho < 1, f"term sparse_kl: the target activation rho must be in (0, 1), not {rho}")
        self.rho = rho

    def forward(self, out: Output, model: Autoencoder) -> Tensor:
        mean = out.latent.point.float().transpose(0, 1).flatten(1).mean(1).clamp(1e-6, 1 - 1e-6)
        rho = self.rho
        entropy = rho * math.log(rho) + (1 - rho) * math.log(1 - rho)
        return (entropy - rho * mean.log() - (1 - rho) * (1 - mean).log()).sum()
