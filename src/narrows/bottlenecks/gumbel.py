"""A stochastic quantiser, relaxed while it trains."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from narrows.bottlenecks._quantizer import straight_through
from narrows.bottlenecks.base import Bottleneck
from narrows.errors import require
from narrows.processes import of_first_process, sum_over_processes
from narrows.stages import AxisLinear
from narrows.types import Latent, Shape, SoftCodeLatent

NOISE = 0.1
"""Between twins, relative to the standard deviation of all values."""


class GumbelVQ(Bottleneck):
    """`z = sum_k y_k e_k`, where y is a code drawn from `softmax(W h + b)`, in training relaxed:
    `y = softmax((logits + g) / tau)` with Gumbel noise g.

    `tau` falls with the training batches t as `max(minimum, temperature exp(-anneal t))`; t is a buffer, saved
    with the weights. In evaluation y is a code drawn exactly. `point` is the likeliest code, with the gradient of
    `sum_k softmax(logits)_k e_k`. `h [B, C, *positions]` to z `[B, dim, *positions]` and the likeliest codes
    `[B, 1, *positions]`.

    An improbable code is not learnt either, so that few codes take all. One that was nowhere the likeliest for
    `revive_after` training batches becomes a twin of a code in use, drawn by how often that is: both share its
    probability and differ by a little noise. Under several processes the counts are all theirs, the draws the first's.

    "Zero-Shot Text-to-Image Generation" (Ramesh et al., 2021), section 2.1; "Categorical Reparameterization with
    Gumbel-Softmax" (Jang et al., 2017), section 2 and 4.2 (annealing); splitting of codes from "An Algorithm for Vector
    Quantizer Design" (Linde et al., 1980).

    Args:
        dim: of a code's vector.
        codes: number of codes.
        temperature: tau at the start.
        minimum: tau never falls below it.
        anneal: rate per training batch; 0 keeps tau.
        hard: in training, exact codes with the relaxed ones' gradient.
        revive_after: training batches without use after which a code is moved; None: never.

    Raises:
        UserError: a value out of its range.
    """

    returns = SoftCodeLatent
    seen: Tensor
    idle: Tensor

    def __init__(
        self,
        in_shape: Shape,
        *,
        dim: int = 64,
        codes: int = 512,
        temperature: float = 1.0,
        minimum: float = 0.0625,
        anneal: float = 1e-3,
        hard: bool = False,
        revive_after: int | None = 100,
    ) -> None:
        require(dim >= 1, f"bottleneck gumbel_vq: dim must be at least 1, not {dim}")
        require(codes >= 2, f"bottleneck gumbel_vq: codes must be at least 2, not {codes}")
        require(
            0 < minimum <= temperature,
            f"bottleneck gumbel_vq: minimum must be above 0 and at most temperature={temperature}, not {minimum}",
        )
        require(anneal >= 0, f"bottleneck gumbel_vq: anneal must be at least 0, not {anneal}")
        require(
            revive_after is None or revive_after >= 1,
            f"bottleneck gumbel_vq: revive_after must be at least 1 batch, or null, not {revive_after}",
        )
        super().__init__(in_shape, dim)
        self.revive_after = revive_after
        self.temperature, self.minimum, self.anneal, self.hard = temperature, minimum, anneal, hard
        self.sizes = (codes,)
        self.projection = AxisLinear(self.in_shape[0], codes)
        self.vectors = nn.Parameter(torch.randn(codes, dim))
        self.register_buffer("seen", torch.tensor(0))
        self.register_buffer("idle", torch.zeros(codes, dtype=torch.long))

    @property
    def tau(self) -> Tensor:
        """The temperature now, a scalar."""
        return (self.temperature * torch.exp(-self.anneal * self.seen)).clamp_min(self.minimum)

    def forward(self, h: Tensor) -> SoftCodeLatent:
        log_probs = self._logits(h).float().log_softmax(dim=1)
        codes = log_probs.argmax(dim=1, keepdim=True)
        best = straight_through(self._one_hot(codes), log_probs.exp())
        return SoftCodeLatent(
            z=self._mix(self._draw(log_probs)),
            point=self._mix(best),
            codes=codes,
            sizes=self.sizes,
            log_probs=log_probs,
        )

    def _logits(self, h: Tensor) -> Tensor:
        if not self.training:
            return self.projection(h)
        # Of copies, because `learn` may renew rows before this batch's backward reads them.
        copies = {name: value.clone() for name, value in self.projection.named_parameters()}
        return functional_call(self.projection, copies, (h,))

    def _draw(self, log_probs: Tensor) -> Tensor:
        relaxed = F.gumbel_softmax(log_probs, cast(float, self.tau), dim=1)
        if self.training and not self.hard:
            return relaxed
        return straight_through(self._one_hot(relaxed.argmax(dim=1, keepdim=True)), relaxed)

    def _one_hot(self, codes: Tensor) -> Tensor:
        """`[B, 1, *positions] -> [B, codes, *positions]`."""
        return F.one_hot(codes.squeeze(1), self.sizes[0]).movedim(-1, 1).to(self.vectors.dtype)

    def _mix(self, shares: Tensor) -> Tensor:
        """`[B, codes, *positions] -> [B, dim, *positions]`."""
        vectors = self.vectors.clone() if self.training else self.vectors
        return (shares.movedim(1, -1) @ vectors).movedim(-1, 1)

    @torch.no_grad()
    def learn(self, latent: Latent) -> None:
        assert isinstance(latent, SoftCodeLatent)
        self.seen.add_(1)
        if self.revive_after is None:
            return
        counts = sum_over_processes(torch.bincount(latent.codes.flatten(), minlength=self.sizes[0]))
        self.idle.add_(1).masked_fill_(counts > 0, 0)
        dead = self.idle >= self.revive_after
        twins = of_first_process(torch.multinomial(counts.float(), self.sizes[0], replacement=True))
        self._split(dead, torch.where(dead, twins, torch.arange(len(dead), device=dead.device)))
        self.idle.masked_fill_(dead, 0)

    def _split(self, dead: Tensor, source: Tensor) -> None:
        """Make every dead code a twin of its source, and divide the sources' probability."""
        shared = torch.bincount(source, minlength=len(source)).clamp_min(1)
        bias = (self.projection.bias - shared.log())[source]
        for value in (self.projection.weight, self.vectors):
            noise = of_first_process(torch.randn_like(value)) * NOISE * value.std()
            value.copy_(torch.where(dead[:, None], value[source] + noise, value))
        self.projection.bias.copy_(bias)

    def decode_codes(self, codes: Tensor) -> Tensor:
        """`[B, 1, *positions]` to the z that has these codes, `[B, dim, *positions]`."""
        return F.embedding(codes.squeeze(1), self.vectors).movedim(-1, 1)
