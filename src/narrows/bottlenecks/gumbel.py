"""A stochastic quantiser, relaxed while it trains."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from narrows.bottlenecks._quantizer import straight_through
from narrows.bottlenecks.base import Bottleneck
from narrows.errors import require
from narrows.layers.stages import AxisLinear
from narrows.types import Latent, Shape, SoftCodeLatent, at_least_single


class GumbelVQ(Bottleneck):
    """`z = sum_k y_k e_k`, where y is a code drawn from `softmax(W h + b)`, in training relaxed:
    `y = softmax((logits + g) / tau)` with Gumbel noise g.

    `tau` falls with the training batches t as `max(minimum, temperature exp(-anneal t))`; t is a buffer, saved
    with the weights. In evaluation y is a code drawn exactly. `point` is the likeliest code, with the gradient of
    `sum_k softmax(logits)_k e_k`. `h [B, C, *positions]` to z `[B, dim, *positions]` and the likeliest codes
    `[B, 1, *positions]`.

    "Zero-Shot Text-to-Image Generation" (Ramesh et al., 2021, https://arxiv.org/abs/2102.12092), section 2.1;
    "Categorical Reparameterization with Gumbel-Softmax" (Jang et al., 2017, https://arxiv.org/abs/1611.01144),
    section 2 and 4.2 (annealing).

    Args:
        dim: of a code's vector.
        codes: number of codes.
        temperature: tau at the start.
        minimum: of tau.
        anneal: rate per training batch; 0 keeps tau.
        hard: in training, exact codes with the relaxed ones' gradient.

    Raises:
        UserError: a value out of its range.

    Example:
        >>> latent = GumbelVQ((5,), dim=2, codes=6)(torch.rand(3, 5))
        >>> latent.z.shape, latent.codes.shape, latent.log_probs.shape
        (torch.Size([3, 2]), torch.Size([3, 1]), torch.Size([3, 6]))
    """

    returns = SoftCodeLatent
    seen: Tensor

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
    ) -> None:
        require(dim >= 1, f"bottleneck gumbel_vq: dim must be at least 1, not {dim}")
        require(codes >= 2, f"bottleneck gumbel_vq: codes must be at least 2, not {codes}")
        require(
            0 < minimum <= temperature,
            f"bottleneck gumbel_vq: minimum must be above 0 and at most temperature={temperature}, not {minimum}",
        )
        require(anneal >= 0, f"bottleneck gumbel_vq: anneal must be at least 0, not {anneal}")
        super().__init__(in_shape, dim)
        self.temperature, self.minimum, self.anneal, self.hard = temperature, minimum, anneal, hard
        self.sizes = (codes,)
        self.projection = AxisLinear(self.in_shape[0], codes)
        self.vectors = nn.Parameter(torch.randn(codes, dim))
        self.register_buffer("seen", torch.tensor(0))

    @property
    def tau(self) -> Tensor:
        """The temperature now, a scalar."""
        return (self.temperature * torch.exp(-self.anneal * self.seen)).clamp_min(self.minimum)

    def forward(self, h: Tensor) -> SoftCodeLatent:
        log_probs = at_least_single(self.projection(h)).log_softmax(dim=1)
        codes = log_probs.argmax(dim=1, keepdim=True)
        best = straight_through(self._one_hot(codes), log_probs.exp())
        return SoftCodeLatent(
            z=self._mix(self._draw(log_probs)),
            point=self._mix(best),
            codes=codes,
            sizes=self.sizes,
            log_probs=log_probs,
        )

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
        return (shares.movedim(1, -1) @ self.vectors).movedim(-1, 1)

    def learn(self, latent: Latent) -> None:
        self.seen.add_(1)

    def decode_codes(self, codes: Tensor) -> Tensor:
        """`[B, 1, *positions]` to the z that has these codes, `[B, dim, *positions]`."""
        return F.embedding(codes.squeeze(1), self.vectors).movedim(-1, 1)
