"""What the latent carries: KL, active units, sparsity."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import kl_divergence

from narrows.errors import require
from narrows.tasks.base import Task, TaskContext, per_example
from narrows.types import Latent, SparseLatent, VariationalLatent


@dataclass
class Moments:
    """Mean and summed squared deviation of rows, merged over batches (Chan et al., 1979)."""

    count: int = 0
    mean: Tensor | float = 0.0
    deviation: Tensor | float = 0.0

    def add(self, rows: Tensor) -> None:
        """Rows `[B, D]`."""
        rows = rows.double()
        total = self.count + len(rows)
        gap = rows.mean(0) - self.mean
        self.deviation = self.deviation + (rows - rows.mean(0)).square().sum(0)
        self.deviation = self.deviation + gap.square() * self.count * len(rows) / total
        self.mean = self.mean + gap * len(rows) / total
        self.count = total

    @property
    def variance(self) -> Tensor:
        """`[D]`, over rows, dividing by their number."""
        return torch.as_tensor(self.deviation) / self.count


class LatentFigures(Task):
    """Figures of the noise-free latent over the test split.

    Every model: `test/l0`, non-zero entries per example, and `test/l0_fraction`, the same over all entries.
    Variational: `test/latent/kl`, KL(q(z|x) || p(z)) in nats, summed over the latent, mean over examples, and
    `test/active_units`, the entries u with `Var_x(E_q[u]) > threshold`. Sparse: `test/dead_fraction`, latents
    (entries of axis 1) that are zero at every position of every example.

    "Importance Weighted Autoencoders" (Burda et al., 2016), section 5.2 (active units).

    Args:
        threshold: variance above which a unit counts as active.

    Raises:
        UserError: `threshold` below 0.
    """

    name = "latent"
    figures = ("test/l0", "test/l0_fraction")

    def __init__(self, *, threshold: float = 0.01) -> None:
        require(threshold >= 0, f"task latent: threshold must be at least 0, not {threshold}")
        self.threshold = threshold

    def run(self, context: TaskContext) -> dict[str, float]:
        sums = _Sums()
        for batch in context.batches("test"):
            sums.add(context.model.encode(batch.x))
        require(sums.examples > 0, "task latent: the test split is empty")
        return sums.figures(self.threshold)


class _Sums:
    def __init__(self) -> None:
        self.examples = self.entries = 0
        self.nonzero = 0.0
        self.divergence: float | None = None
        self.means = Moments()
        self.alive: Tensor | None = None

    def add(self, latent: Latent) -> None:
        point = latent.point
        self.examples += len(point)
        self.entries = point[0].numel()
        self.nonzero += float((point != 0).sum())
        if isinstance(latent, VariationalLatent):
            divergence = _divergence(latent)
            self.divergence = (self.divergence or 0.0) + float(per_example(divergence).sum())
            self.means.add(latent.posterior.mean.flatten(1).cpu())
        if isinstance(latent, SparseLatent):
            fired = (point != 0).transpose(0, 1).flatten(1).any(1).cpu()
            self.alive = fired if self.alive is None else self.alive | fired

    def figures(self, threshold: float) -> dict[str, float]:
        count = self.nonzero / self.examples
        found = {"test/l0": count, "test/l0_fraction": count / self.entries}
        if self.divergence is not None:
            found["test/latent/kl"] = self.divergence / self.examples
            found["test/active_units"] = float((self.means.variance > threshold).sum())
        if self.alive is not None:
            found["test/dead_fraction"] = float((~self.alive).double().mean())
        return found


def _divergence(latent: VariationalLatent) -> Tensor:
    try:
        return kl_divergence(latent.posterior, latent.prior)
    except NotImplementedError:
        # No closed form for this pair: one draw per example, unbiased over the split.
        return latent.posterior.log_prob(latent.z) - latent.prior.log_prob(latent.z)
