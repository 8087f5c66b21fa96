"""Importance weighted bounds on the evidence.

Legend for shapes: S draws of z per example, in M groups of K; B examples.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from narrows.errors import require
from narrows.losses.divergence import variational
from narrows.losses.objective import Term
from narrows.models.autoencoder import Autoencoder
from narrows.schedules import Schedule
from narrows.types import Batch, Output, ReparameterisedLatent, VariationalLatent, log_prob_of


def log_joint(model: Autoencoder, batch: Batch, latent: VariationalLatent, z: Tensor) -> Tensor:
    """`log p(x|z) + log p(z)` over the observed values, `[S, B, *latent] -> [S, B]`, in nats."""
    draws = len(z)
    told = batch.repeat(draws)
    log_prob = log_prob_of(model.decode(z.flatten(0, 1), told), told.truth, told.judged)
    return log_prob.reshape(draws, len(batch), -1).sum(2) + _per_draw(latent.prior.log_prob(z))


def log_posterior(latent: VariationalLatent, z: Tensor) -> Tensor:
    """`log q(z|x)`, `[S, B, *latent] -> [S, B]`, in nats."""
    return _per_draw(latent.posterior.log_prob(z))


def _per_draw(values: Tensor) -> Tensor:
    return values.reshape(*values.shape[:2], -1).sum(2)


class ImportanceWeighted(Term):
    """The negative importance weighted bound with K = `samples` and M = `groups`, `[B]`, in nats:

    `-1/M sum_m [(1 - beta) log 1/K sum_k w_mk + beta 1/K sum_k log w_mk]`,
    `w_mk = p(x|z_mk) p(z_mk) / q(z_mk|x)`, z_mk ~ q(z|x), fresh draws at every call.

    - `groups=1, elbo_share=0`: IWAE, "Importance Weighted Autoencoders" (Burda et al., 2016,
      https://arxiv.org/abs/1509.00519), equation 8.
    - `groups=M`: MIWAE; `elbo_share=beta`: CIWAE; `joined=True`: PIWAE, where the generative side follows the bound
      over all M K draws as one group (which is also the value), and the posterior the grouped one: "Tighter Variational
      Bounds are Not Necessarily Better" (Rainforth et al., 2018, https://arxiv.org/abs/1802.04537), section 4.
    - `doubly=True`: the posterior's gradient is the doubly reparameterised one, weights squared and without the score
      of q: "Doubly Reparameterized Gradient Estimators for Monte Carlo Objectives" (Tucker et al., 2019,
      https://arxiv.org/abs/1810.04152), equation 8.

    It replaces the terms `reconstruction` and `kl`. Two optimisers are not needed: one pass down the decoder
    weighs z's gradient with the posterior's weights, another the parameters' with the generative ones.

    Raises:
        UserError: `samples` or `groups` below 1, `elbo_share` outside [0, 1], or a negative weight.

    Example:
        >>> spec = DataSpec((4,), "vector", 10, value_range=(0.0, 1.0))
        >>> model = Autoencoder(spec, Stages(MLPEncoder, Gaussian, MLPDecoder, BernoulliLikelihood, NoCorruption))
        >>> out = model(Batch(torch.rand(2, 4)))
        >>> ImportanceWeighted(samples=3)(out, model).shape
        torch.Size([2])
    """

    requires = ReparameterisedLatent
    trains = "prior"

    def __init__(
        self,
        weight: float | Schedule = 1.0,
        samples: int = 5,
        groups: int = 1,
        elbo_share: float = 0.0,
        joined: bool = False,
        doubly: bool = False,
    ) -> None:
        super().__init__(weight)
        require(samples >= 1, f"term importance_weighted: samples must be at least 1, not {samples}")
        require(groups >= 1, f"term importance_weighted: groups must be at least 1, not {groups}")
        require(0 <= elbo_share <= 1, f"term importance_weighted: elbo_share must be between 0 and 1, not {elbo_share}")
        self.samples, self.groups, self.elbo_share = samples, groups, elbo_share
        self.joined, self.doubly = joined, doubly

    def forward(self, out: Output, model: Autoencoder) -> Tensor:
        latent = variational(out)
        draws = torch.Size((self.samples * self.groups,))
        split = self.doubly or self.joined
        if not (split and torch.is_grad_enabled()):
            z = latent.posterior.rsample(draws)
            return -self.bound(log_joint(model, out.seen, latent, z) - log_posterior(latent, z))
        z = latent.posterior.rsample(draws)
        leaf = z.detach().requires_grad_()
        joint, log_q = log_joint(model, out.seen, latent, leaf), log_posterior(latent, leaf)
        bound = self.bound((joint - log_q).detach())
        gradient = self._surrogate(z, leaf, joint, log_q)
        return -(bound + gradient - gradient.detach())

    def bound(self, log_weights: Tensor) -> Tensor:
        """The bound of `log w [S, B]`, `[B]`."""
        grouped = self._grouped(log_weights, self.joined)
        tight = grouped.logsumexp(1) - math.log(grouped.shape[1])
        return ((1 - self.elbo_share) * tight + self.elbo_share * grouped.mean(1)).mean(0)

    def _surrogate(self, z: Tensor, leaf: Tensor, joint: Tensor, log_q: Tensor) -> Tensor:
        """`[B]`, which is used for its gradient alone: that of decoder and posterior, each with its own weights."""
        log_weights = joint - log_q
        inference = self._shares(log_weights.detach(), joined=False, squared=self.doubly)
        (towards,) = torch.autograd.grad(log_weights, leaf, inference, retain_graph=True)
        generative = self._shares(log_weights.detach(), joined=self.joined, squared=False)
        total = (generative * joint + _per_draw(towards * z)).sum(0)
        return total if self.doubly else total - (inference * log_q).sum(0)

    def _shares(self, log_weights: Tensor, joined: bool, squared: bool) -> Tensor:
        """`d bound / d log w`, `[S, B]`; if `squared`, of the squares of the normalised weights."""
        grouped = self._grouped(log_weights, joined)
        weights = grouped.softmax(1)
        weights = weights.square() if squared else weights
        groups, samples = grouped.shape[:2]
        return ((self.elbo_share / samples + (1 - self.elbo_share) * weights) / groups).flatten(0, 1)

    def _grouped(self, log_weights: Tensor, joined: bool) -> Tensor:
        """`[S, B] -> [M, K, B]`."""
        grouped: Tensor = log_weights.unflatten(0, (1, -1) if joined else (self.groups, self.samples))
        return grouped


def log_weights(model: Autoencoder, batch: Batch, latent: VariationalLatent, draws: int) -> Tensor:
    """`log p(x|z) + log p(z) - log q(z|x)` at fresh draws of z, `[draws, B]`, float64 on the CPU."""
    z = latent.posterior.sample(torch.Size((draws,)))
    return (log_joint(model, batch, latent, z) - log_posterior(latent, z)).cpu().double()
