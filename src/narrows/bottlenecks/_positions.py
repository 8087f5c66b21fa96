"""One distribution over vectors at every position of a map."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints, kl_divergence, register_kl


class AtPositions(Distribution):
    """A distribution over vectors `[D]` with batch `[*batch, *positions]`, its values laid out channels first:
    `[..., *batch, D, *positions]`, `log_prob [..., *batch, *positions]`."""

    support = constraints.real_vector

    def __init__(self, vectors: Distribution, positions: int) -> None:
        self.vectors, self.positions = vectors, positions
        super().__init__(vectors.batch_shape, vectors.event_shape, validate_args=False)

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        return self.vectors.has_rsample

    @property
    def mean(self) -> Tensor:
        return self.laid_out(self.vectors.mean)

    def laid_out(self, vectors: Tensor) -> Tensor:
        """`[..., *positions, D]` channels first."""
        return vectors.movedim(-1, -1 - self.positions)

    def log_prob(self, value: Tensor) -> Tensor:
        return self.vectors.log_prob(value.movedim(-1 - self.positions, -1))

    def rsample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        return self.laid_out(self.vectors.rsample(torch.Size(sample_shape)))


def _kl_at_positions(q: AtPositions, p: AtPositions) -> Tensor:
    return kl_divergence(q.vectors, p.vectors)


register_kl(AtPositions, AtPositions)(_kl_at_positions)
