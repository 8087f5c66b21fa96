"""Terms that hold the posterior near the prior."""

from __future__ import annotations

from torch import Tensor
from torch.distributions import kl_divergence

from narrows.errors import require
from narrows.losses.objective import Term
from narrows.model import Autoencoder
from narrows.schedules import Schedule, as_schedule
from narrows.types import Output, VariationalLatent


def posterior_kl(latent: VariationalLatent) -> Tensor:
    """`KL(q(z|x) || p(z))` of every latent value, z's shape, in nats."""
    return kl_divergence(latent.posterior, latent.prior)


class KL(Term):
    """`KL(q(z|x) || p(z))`, `[B]`, in nats; its weight is beta ("beta-VAE", Higgins et al., 2017).

    With `free_bits` (nats), a latent whose KL, averaged over the batch, is below it costs that much and
    gets no gradient: `sum_j max(free_bits, mean_B KL_j)`, a scalar ("Improved Variational Inference with
    Inverse Autoregressive Flow", Kingma et al., 2016, appendix C.8).

    Raises:
        UserError: negative `free_bits` or weight.
    """

    requires = VariationalLatent

    def __init__(self, weight: float | Schedule = 1.0, free_bits: float = 0.0) -> None:
        super().__init__(weight)
        require(free_bits >= 0, f"term kl: free_bits must be at least 0 nats, not {free_bits}")
        self.free_bits = free_bits

    def forward(self, out: Output, model: Autoencoder) -> Tensor:
        kl = posterior_kl(_variational(out)).flatten(1)
        if self.free_bits > 0:
            return kl.mean(0).clamp_min(self.free_bits).sum()
        return kl.sum(1)


class Capacity(Term):
    """`|KL - C(step)|` of the batch's mean KL, a scalar in nats; its weight is gamma.

    `capacity` is a number or a schedule that raises C, usually from 0.

    "Understanding disentangling in beta-VAE" (Burgess et al., 2018), equation 8.

    Raises:
        UserError: a negative capacity or weight.
    """

    requires = VariationalLatent

    def __init__(self, weight: float | Schedule = 100.0, capacity: float | Schedule = 25.0) -> None:
        super().__init__(weight)
        self.capacity = as_schedule(capacity, "term capacity: capacity")

    def forward(self, out: Output, model: Autoencoder) -> Tensor:
        kl = posterior_kl(_variational(out)).flatten(1).sum(1).mean()
        return (kl - self.capacity(out.step)).abs()


def evidence_lower_bound(out: Output) -> Tensor:
    """`log p(x|z) - KL(q(z|x) || p(z))` with one sample of z, `[B]`, in nats, whatever the loss weighs."""
    return out.log_likelihood - posterior_kl(_variational(out)).flatten(1).sum(1)


def _variational(out: Output) -> VariationalLatent:
    assert isinstance(out.latent, VariationalLatent)
    return out.latent
