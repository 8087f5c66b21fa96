"""Terms that hold the posterior near the prior."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from narrows.errors import nearest, require
from narrows.losses.objective import Term
from narrows.models.autoencoder import Autoencoder
from narrows.schedules import Schedule, as_schedule
from narrows.types import COUNTED, HyperpriorLatent, JointLatent, Latent, Output, VariationalLatent, row_sums


def posterior_kl(latent: VariationalLatent) -> Tensor:
    """`KL(q(z|x) || p(z))` of every latent value or event, `[B, *any]`, in nats; see `VariationalLatent.divergence`."""
    return latent.divergence()


class KL(Term):
    """`KL(q(z|x) || p(z))`, `[B]`, in nats; its weight is beta ("beta-VAE", Higgins et al., 2017,
    https://openreview.net/forum?id=Sy2fzU9gl).

    With `free_bits` (nats), a latent whose KL, averaged over the batch, is below it costs that much and gets no
    gradient: `sum_j max(free_bits, mean_B KL_j)`, a scalar ("Improved Variational Inference with Inverse Autoregressive
    Flow", Kingma et al., 2016, https://arxiv.org/abs/1606.04934, appendix C.8).

    With `per_count` an example's KL is multiplied by its library size: the weight is beta for each of its counts
    ("RecVAE", Shenbin et al., 2020, https://arxiv.org/abs/1912.11160, section 3.4).

    Raises:
        UserError: negative `free_bits` or weight; `per_count` with `free_bits`, or of data that are no counts.

    Example:
        >>> q, p = Normal(torch.ones(1, 4), 1.0), Normal(torch.zeros(1, 4), 1.0)
        >>> latent = GaussianLatent(z=q.mean, point=q.mean, posterior=q, prior=p)
        >>> out = Output(Batch(q.mean), Batch(q.mean), latent, p_x=q)
        >>> KL()(out, None)
        tensor([2.])
    """

    requires = VariationalLatent
    trains = "prior"

    def __init__(self, weight: float | Schedule = 1.0, free_bits: float = 0.0, per_count: bool = False) -> None:
        super().__init__(weight)
        require(free_bits >= 0, f"term kl: free_bits must be at least 0 nats, not {free_bits}")
        require(not (per_count and free_bits), "term kl: free_bits are of the KL itself; per_count has none")
        self.free_bits, self.per_count = free_bits, per_count

    def attach(self, model: Autoencoder) -> None:
        require(
            not self.per_count or model.spec.kind in COUNTED,
            f"term kl: per_count needs counts or interactions, not data of kind {model.spec.kind}",
        )

    def forward(self, out: Output, model: Autoencoder) -> Tensor:
        kl = posterior_kl(variational(out))
        if self.per_count:
            return row_sums(kl) * out.batch.total
        if self.free_bits > 0:
            return self.over_batch(kl.mean(0), out).clamp_min(self.free_bits).sum()
        return row_sums(kl)


class Capacity(Term):
    """`|KL - C(step)|` of the batch's mean KL, a scalar in nats; its weight is gamma.

    `capacity` is a number or a schedule that raises C, usually from 0. With `part` it is the KL of that part of a joint
    latent alone ("Learning Disentangled Joint Continuous and Discrete Representations", Dupont, 2018,
    https://arxiv.org/abs/1804.00104, equation 7).

    "Understanding disentangling in beta-VAE" (Burgess et al., 2018, https://arxiv.org/abs/1804.03599), equation 8.

    Raises:
        UserError: a negative capacity or weight, or no such part.

    Example:
        >>> q, p = Normal(torch.ones(1, 4), 1.0), Normal(torch.zeros(1, 4), 1.0)
        >>> latent = GaussianLatent(z=q.mean, point=q.mean, posterior=q, prior=p)
        >>> out = Output(Batch(q.mean), Batch(q.mean), latent, p_x=q)
        >>> Capacity(capacity=1.5)(out, None)
        tensor(0.5000)
    """

    requires: type[Latent] = VariationalLatent
    trains = "prior"

    def __init__(
        self, weight: float | Schedule = 100.0, capacity: float | Schedule = 25.0, part: str | None = None
    ) -> None:
        super().__init__(weight)
        self.part = part
        if part is not None:
            self.requires = JointLatent
        self.capacity = as_schedule(capacity, "term capacity: capacity")

    def forward(self, out: Output, model: Autoencoder) -> Tensor:
        latent = variational(out)
        if self.part is not None:
            assert isinstance(latent, JointLatent)
            require(
                self.part in latent.parts,
                f"term capacity: the latent has no part '{self.part}': {nearest(self.part, latent.parts)}",
            )
            latent = latent.parts[self.part]
        kl = self.over_batch(row_sums(posterior_kl(latent)).mean(), out)
        return (kl - self.capacity(out.step)).abs()


class Rate(Term):
    """The rate of latents given their side information, or of the side information, `[B]`, in nats: with the weight of
    0 that it has unless told otherwise it is logged alone. `KL` is of both, and trains them.

    "Variational Image Compression with a Scale Hyperprior" (Balle et al., 2018, https://arxiv.org/abs/1802.01436),
    equation 6.

    Raises:
        UserError: a negative weight, or another part.

    Example:
        >>> latent = ScaleHyperprior((4, 8), dim=2, side=1)(torch.rand(3, 4, 8))
        >>> Rate(part="side")(Output(Batch(latent.z), Batch(latent.z), latent, p_x=None), None).shape
        torch.Size([3])
    """

    requires = HyperpriorLatent

    def __init__(self, weight: float | Schedule = 0.0, part: Literal["latent", "side"] = "latent") -> None:
        super().__init__(weight)
        require(part in ("latent", "side"), f"term rate: part must be latent or side, not '{part}'")
        self.part = part

    def forward(self, out: Output, model: Autoencoder) -> Tensor:
        latent = out.latent
        assert isinstance(latent, HyperpriorLatent)
        return row_sums(latent.own_rate if self.part == "latent" else latent.side_rate)


def evidence_lower_bound(out: Output) -> Tensor:
    """`log p(x|z) - KL(q(z|x) || p(z))` with one sample of z, `[B]`, in nats, whatever the loss weighs."""
    return out.log_likelihood - row_sums(posterior_kl(variational(out)))


def variational(out: Output) -> VariationalLatent:
    """The latent of an output that a term with `requires = VariationalLatent` reads."""
    assert isinstance(out.latent, VariationalLatent)
    return out.latent
