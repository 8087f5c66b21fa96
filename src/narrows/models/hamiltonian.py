"""The Hamiltonian autoencoder: a posterior that follows the gradient of its own target."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Literal, ParamSpec, TypeVar

import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal

from narrows.bottlenecks._pushforward import Pushforward
from narrows.bottlenecks.base import Bottleneck, require_gaussian
from narrows.errors import require
from narrows.layers.blocks import choose
from narrows.layers.stages import still
from narrows.models.autoencoder import Autoencoder
from narrows.models.initial_weights import Init
from narrows.models.stages import Stages
from narrows.types import Batch, DataSpec, GaussianLatent, Given, Latent, MomentumLatent, log_prob_of, row_sums

TEMPERINGS = ("none", "fixed", "quadratic")
PART = "model hamiltonian"
MOST_STEPS = 1000
"""More is a slip: each step is kept in memory until the gradient has gone back through it."""
P = ParamSpec("P")
R = TypeVar("R")


class HamiltonianAutoencoder(Autoencoder):
    """The Gaussian posterior `q_0(z|x)`, carried towards `p(z|x)` by `steps` leapfrog steps of Hamiltonian dynamics.

    z has a momentum rho beside it, of the same shape. `z_0 ~ q_0(z|x)`, `rho_0 ~ N(0, I / beta_0)`; each step is
    `rho <- rho - eps/2 grad U(z)`, `z <- z + eps rho`, `rho <- rho - eps/2 grad U(z)` with
    `U(z) = -log p(x, z)`, and then `rho <- sqrt(beta_{k-1} / beta_k) rho`. Steps keep volume and tempering scales it:
    `log q(z_K, rho_K|x) = log q_0(z_0|x) + log N(rho_0; 0, I / beta_0) - D/2 log beta_0`, judged against
    `p(z) N(rho; 0, I)`, both standard. eps, one for every entry of axis 1, is learnt inside (0, `largest_step`), and
    so is beta_0 inside (0, 1):

    - `quadratic`: `1/sqrt(beta_k) = 1/sqrt(beta_0) + (1 - 1/sqrt(beta_0)) k^2 / K^2`;
    - `fixed`: beta_k / beta_{k-1} is the same at every step; `none`: beta is 1.

    U is of x as the encoder sees it, without what a corruption hid, and of decoder and likelihood in evaluation mode:
    noise or statistics of the batch in it would make the map of one example depend on others. Every pass costs
    `steps + 1` further passes of the decoder and their gradients, in training differentiated again. `point` has
    followed the same steps from the mean of q_0, at rest. The stages are those of `Autoencoder`; the terms' draws are
    of z and rho, of which the decoder reads z.

    "Hamiltonian Variational Auto-Encoder" (Caterini et al., 2018, https://arxiv.org/abs/1805.11328), algorithm 2 and
    equations 7 to 11.

    Raises:
        UserError: `steps` below 0 or above 1,000, `largest_step` not above 0, an unknown tempering, one without steps,
            or a posterior that is not Gaussian.

    Example:
        >>> spec = DataSpec((4,), "vector", 10, value_range=(0.0, 1.0))
        >>> stages = Stages(MLPEncoder, Gaussian, MLPDecoder, BernoulliLikelihood, NoCorruption)
        >>> model = HamiltonianAutoencoder(spec, stages, steps=2)
        >>> latent = model.encode(torch.rand(3, 4))
        >>> latent.z.shape, latent.state.shape
        (torch.Size([3, 8]), torch.Size([3, 16]))
    """

    def __init__(
        self,
        spec: DataSpec,
        stages: Stages,
        *,
        init: Init = "torch",
        steps: int = 3,
        tempering: Literal["none", "fixed", "quadratic"] = "quadratic",
        largest_step: float = 0.5,
    ) -> None:
        require(0 <= steps <= MOST_STEPS, f"{PART}: steps must be from 0 to {MOST_STEPS:,}, not {steps:,}")
        require(largest_step > 0, f"{PART}: largest_step must be above 0, not {largest_step}")
        choose(tempering, TEMPERINGS, "tempering", PART)
        require(steps > 0 or tempering == "none", f"{PART}: without steps nothing is tempered; use tempering=none")
        super().__init__(spec, stages, init=init)
        self.steps, self.tempering, self.largest_step = steps, tempering, largest_step
        if steps:
            share = min(0.1 / largest_step, 0.5)
            self.raw_step = nn.Parameter(torch.full((self.latent_shape[0],), math.log(share / (1 - share))))
        if tempering != "none":
            # beta_0 = 1/2.
            self.raw_beta = nn.Parameter(torch.tensor(0.0))

    @classmethod
    def returns(cls, bottleneck: Bottleneck) -> type[Latent]:
        require_gaussian(bottleneck, PART)
        return MomentumLatent

    def step_size(self) -> Tensor:
        """eps, over `latent_shape`'s axes."""
        size = self.largest_step * self.raw_step.sigmoid()
        return size.reshape(-1, *[1] * (len(self.latent_shape) - 1))

    def log_beta(self) -> Tensor:
        """`log beta_0 <= 0`."""
        if self.tempering == "none":
            return torch.zeros((), device=next(self.parameters()).device)
        return nn.functional.logsigmoid(self.raw_beta)

    def coolings(self) -> list[Tensor]:
        """`sqrt(beta_{k-1} / beta_k)` of every step; their product is `sqrt(beta_0)`."""
        log_beta = self.log_beta()
        if self.tempering != "quadratic":
            return [(log_beta / (2 * self.steps)).exp()] * self.steps
        hot = (-0.5 * log_beta).exp()
        widths = [hot + (1 - hot) * (k / self.steps) ** 2 for k in range(self.steps + 1)]
        return [after / before for before, after in pairwise(widths)]

    def encode(self, batch: Batch | Tensor) -> Latent:
        batch = self.whole(batch)
        given = super().encode(batch)
        assert isinstance(given, GaussianLatent)
        flow = _Leapfrog(self, batch)
        q_0 = given.posterior
        hot = (-0.5 * self.log_beta()).exp().expand_as(q_0.mean)
        base = Normal(
            torch.cat([q_0.mean, torch.zeros_like(hot)], 1), torch.cat([q_0.stddev, hot], 1), validate_args=False
        )
        axes = tuple(range(-q_0.mean.ndim + 1, 0))
        posterior = Pushforward(base, flow.forward, flow.inverse, axes)
        standard = Normal(torch.zeros_like(base.mean), torch.ones_like(base.mean), validate_args=False)
        prior = Independent(standard, len(axes), validate_args=False)
        state = posterior.rsample()
        point, _ = flow.forward(base.mean)
        z, point = (values.chunk(2, 1)[0] for values in (state, point))
        return MomentumLatent(z=z, point=point, posterior=posterior, prior=prior, state=state)

    def decoder_input(self, z: Tensor, given: Batch | Given | None) -> Tensor:
        """The latent `[B, *latent_shape]`, which may have its momentum beside it."""
        return z[:, : self.latent_shape[0]]


def _uncompiled(function: Callable[P, R]) -> Callable[P, R]:
    """The function as torch.compile leaves it alone; torch says nothing of the type."""
    plain: Callable[P, R] = torch.compiler.disable(function)
    return plain


class _Leapfrog:
    """The steps for given examples, both ways, on `[..., B, 2 D, *positions]`."""

    def __init__(self, model: HamiltonianAutoencoder, batch: Batch) -> None:
        unseen = batch.unseen
        # U is of what was seen: not of the truth, where that is another.
        self.seen = replace(batch, target=None, observed=None if unseen is None else ~unseen, hidden=None)
        self.model, self.batch = model, batch
        self.log_det = 0.5 * math.prod(model.latent_shape) * model.log_beta()

    def forward(self, state: Tensor) -> tuple[Tensor, Tensor]:
        z, rho = self._halves(state)
        force = self._force(z)
        for cooling in self._coolings():
            rho = rho + 0.5 * self.model.step_size() * force
            z = z + self.model.step_size() * rho
            force = self._force(z)
            rho = cooling * (rho + 0.5 * self.model.step_size() * force)
        return self._whole(z, rho, state, self.log_det)

    def inverse(self, state: Tensor) -> tuple[Tensor, Tensor]:
        z, rho = self._halves(state)
        force = self._force(z)
        for cooling in reversed(self._coolings()):
            rho = rho / cooling - 0.5 * self.model.step_size() * force
            z = z - self.model.step_size() * rho
            force = self._force(z)
            rho = rho - 0.5 * self.model.step_size() * force
        return self._whole(z, rho, state, -self.log_det)

    def _coolings(self) -> list[Tensor]:
        return self.model.coolings() if self.model.steps else []

    def _halves(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """z and rho, each `[S B, D, *positions]`."""
        z, rho = state.reshape(-1, *state.shape[-len(self.model.latent_shape) :]).chunk(2, 1)
        return z, rho

    def _whole(self, z: Tensor, rho: Tensor, like: Tensor, log_det: Tensor) -> tuple[Tensor, Tensor]:
        return torch.cat([z, rho], 1).reshape(like.shape), log_det

    # What torch.compile has compiled has no second derivative.
    @_uncompiled
    def _force(self, z: Tensor) -> Tensor:
        """`-grad U(z)`, itself differentiable while gradients are recorded."""
        if self.model.steps == 0:
            return torch.zeros_like(z)
        recorded = torch.is_grad_enabled()
        # cuDNN's LSTM has no second derivative, and in evaluation none at all.
        with torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):
            z = z if z.requires_grad else z.detach().requires_grad_()
            log_joint = self._log_likelihood(z).sum() - 0.5 * z.square().sum()
            (force,) = torch.autograd.grad(log_joint, z, create_graph=recorded)
        return force

    def _log_likelihood(self, z: Tensor) -> Tensor:
        """`log p(x|z)` of what the encoder saw, `[S B]`."""
        model, draws = self.model, z.shape[0] // self.seen.x.shape[0]
        seen = self.seen.repeat(draws)
        # Only teacher forcing reads x here; what p(x|z) is told of an example is of its truth.
        given = seen if model.decoder.autoregressive else self.batch.repeat(draws)
        with still(model.decoder, model.likelihood):
            return row_sums(log_prob_of(model.decode(z, given), seen.x, seen.judged))
