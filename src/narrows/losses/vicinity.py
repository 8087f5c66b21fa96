"""A term that judges the model between and beyond its examples."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from narrows.errors import require
from narrows.losses.objective import Term
from narrows.models.autoencoder import Autoencoder
from narrows.schedules import Schedule
from narrows.types import COUNTED, Batch, Output, log_prob_of, row_sums


class Vicinity(Term):
    """`-log p(x'|z')` of neighbours of the batch's examples, `[B]`, in nats: `x' = x + scale e (x_i - x_j)` for two
    other examples of the batch, i and j, and a standard normal number e; z' is the latent of x' after the model's
    corruption.

    The differences of examples span what principal components span, so that the model learns to be right along these
    directions too, and does not learn a few hundred rows by heart. Neighbours are held inside the data's range. Between
    two examples instead of beyond them it is "mixup: Beyond Empirical Risk Minimization" (Zhang et al., 2018,
    https://arxiv.org/abs/1710.09412). In evaluation it is 0, because what is judged there are the examples.

    Args:
        weight: a number or a schedule.
        scale: of the steps.

    Raises:
        UserError: a scale that is not above 0, or a negative weight; tokens, counts, or examples of different lengths,
            whose sums are no data.

    Example:
        >>> spec = DataSpec((4,), "vector", 10)
        >>> model = Autoencoder(spec, Stages(MLPEncoder, Gaussian, MLPDecoder, GaussianLikelihood, NoCorruption))
        >>> out = model(Batch(torch.rand(2, 4)))
        >>> Vicinity()(out, model).shape
        torch.Size([2])
    """

    def __init__(self, weight: float | Schedule = 1.0, scale: float = 0.5) -> None:
        super().__init__(weight)
        require(scale > 0, f"term vicinity: scale must be above 0, not {scale}")
        self.scale = scale

    def attach(self, model: Autoencoder) -> None:
        spec = model.spec
        require(
            spec.kind not in ("tokens", *COUNTED) and not spec.variable,
            "term vicinity adds differences of examples, which give no data again where these are tokens, counts or of "
            "different lengths; leave it out",
        )

    def forward(self, out: Output, model: Autoencoder) -> Tensor:
        if not model.training:
            return out.batch.x.new_zeros(len(out.batch))
        near = self._near(out.batch, model.spec.value_range)
        p_x = model.decode(model.encode(model.corrupted(near)).z, near)
        return -row_sums(log_prob_of(p_x, near.truth, near.judged))

    def _near(self, batch: Batch, held: tuple[float, float] | None) -> Batch:
        x = batch.truth
        one, other = (torch.randint(len(x), (len(x),), device=x.device) for _ in range(2))
        step = torch.randn(len(x), *[1] * (x.ndim - 1), dtype=x.dtype, device=x.device)
        seen = batch.observed
        known = None if seen is None else seen & seen[one] & seen[other]
        near = x + self.scale * step * (x[one] - x[other])
        return replace(batch, x=near if held is None else near.clamp(*held), target=None, observed=known)
