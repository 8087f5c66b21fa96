"""Task latent: KL, active units, sparsity, dead latents and use of codes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor

from narrows.errors import require
from narrows.evaluation import evaluating, per_example
from narrows.losses.discrepancy import squared_mmd
from narrows.losses.divergence import posterior_kl
from narrows.tasks.base import Task, TaskContext
from narrows.tasks.figure_table import FigureTable, declared
from narrows.tasks.measures import chosen_rows
from narrows.tasks.measures.mutual_information import is_comparable, mutual_information
from narrows.types import Batch, Latent, QuantizedLatent, SparseLatent, VariationalLatent

SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Scales of the inverse multiquadratic kernels that are summed (Tolstikhin et al., 2018)."""
MOST_COMPARED = 2**28
"""Most values of latents compared for the mutual information: a second or two."""
USELESS = 0.02
"""Nats of mutual information below which a latent says nothing of its example."""
FEW = 100
"""Rows below which an estimate of little information is noise."""
REMEDIES = (
    "likelihood=gaussian_optimal or a smaller likelihood.sigma (of numbers), a warm-up of the KL "
    "(+schedule@loss.kl.weight=linear loss.kl.weight.steps=0.5; schedule@loss.kl.weight=cyclical starts it anew), "
    "free bits (loss.kl.free_bits=0.1), a latent on the sphere, whose KL is fixed (bottleneck=hyperspherical)"
)
REMEDIES_OF_A_STRONG_DECODER = (
    "steps of the encoder alone (module.alternate=[10,1] module.alternate_in=steps module.alternate_until=0.3), a "
    "decoder that is told less of the past (decoder.input_dropout=0.4)"
)
MAX_VALUES = 2**24
"""Most differences between two samples held in memory at once (64 MB)."""


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
        """The variance over rows `[D]`, divided by their number."""
        return torch.as_tensor(self.deviation) / self.count


@dataclass
class CodeHistogram:
    """Counts of the codes of one alphabet of `size`; codes that never occurred take no memory."""

    size: int
    codes: Tensor | None = None
    counts: Tensor | None = None

    def add(self, codes: Tensor) -> None:
        """Count codes of any shape."""
        found, counts = codes.flatten().cpu().unique(return_counts=True)
        if self.codes is not None and self.counts is not None:
            found, place = torch.cat([self.codes, found]).unique(return_inverse=True)
            counts = torch.zeros_like(found).index_add_(0, place, torch.cat([self.counts, counts]))
        self.codes, self.counts = found, counts

    @property
    def usage(self) -> float:
        """The fraction of codes that occurred."""
        return 0.0 if self.codes is None else len(self.codes) / self.size

    @property
    def perplexity(self) -> float:
        """`exp H` of the codes' frequencies: between 1 and `size`."""
        if self.counts is None:
            return 0.0
        shares = self.counts.double() / self.counts.sum()
        return float(torch.special.entr(shares).sum().exp())


class LatentFigures(Task):
    """Figures of the noise-free latent over the test split.

    Every model: `test/l0`, non-zero entries per example, and `test/l0_fraction`, the same over all entries.
    Variational: `test/latent/kl`, KL(q(z|x) || p(z)) in nats, summed over the latent, mean over examples, and
    `test/active_units`, the entries u with `Var_x(E_q[u]) > threshold` (`Var_x` of the noise-free u where E_q[u] has
    no closed form). Where posteriors are Gaussian or on the sphere, `test/latent/mutual_information`: how many nats a
    draw of z says of which row it is of (`measures.mutual_information`, at most the logarithm of the number of rows),
    the part of the KL that is of use. A latent without an active unit, or that says nothing, has collapsed, which is a
    loud warning with remedies. Sparse: `test/dead_fraction`, latents (entries of axis 1) that are zero at every
    position of every example. Quantised, over all positions of the whole split and on average over the codebooks:
    `test/codebook_usage`, the fraction of the codes that occur, and `test/perplexity`, the exponential of the entropy
    of their frequencies; where the codebooks have names (the levels of `vq_vae_2`), also of each
    (`test/perplexity/top`).

    Where `mmd_rows` asks for it, `test/latent/mmd`: the squared maximum mean discrepancy between the latents z and
    draws of the model's own prior (N(0, I) where it has none), by inverse multiquadratic kernels. It is unbiased: 0
    on average where the aggregate posterior is the prior, so it may be below 0.

    "Importance Weighted Autoencoders" (Burda et al., 2016), section 5.2 (active units); "Wasserstein Auto-Encoders"
    (Tolstikhin et al., 2018), section 4 (the discrepancy).

    Args:
        threshold: variance above which a unit counts as active.
        mmd_rows: rows of the test split whose discrepancy from the prior is measured; 0 for none.
        information_rows: rows of the test split of which the mutual information is estimated; 0 for none.

    Raises:
        UserError: `threshold` below 0, or `mmd_rows` or `information_rows` below 0 or 1.
    """

    name = "latent"
    part_of_every_run = True
    figures = declared(("l0", "l0_fraction"))

    def __init__(self, *, threshold: float = 0.01, mmd_rows: int = 0, information_rows: int = 1000) -> None:
        require(threshold >= 0, f"task latent: threshold must be at least 0, not {threshold}")
        right = mmd_rows == 0 or mmd_rows >= 2
        require(right, f"task latent: mmd_rows must be at least 2, or 0 for no discrepancy, not {mmd_rows}")
        right = information_rows == 0 or information_rows >= 2
        require(right, f"task latent: information_rows must be at least 2, or 0 for none, not {information_rows}")
        self.threshold, self.mmd_rows, self.information_rows = threshold, mmd_rows, information_rows

    def run(self, context: TaskContext) -> FigureTable:
        sums = _Sums()
        for batch in context.batches("test"):
            sums.add(context.model.encode(batch))
        require(sums.examples > 0, "task latent: the test split is empty")
        found = FigureTable()
        sums.fill(found, self.threshold)
        found.add(self._discrepancy(context), condition=self.name)
        information = self._information(context)
        if information is not None:
            found.add({"mutual_information": information}, condition=self.name)
        if sums.divergence is not None:
            told = information if sums.examples >= FEW else None
            warn_of_collapse(context, sums.divergence / sums.examples, told, sums.collapsed(self.threshold))
        return found

    def _information(self, context: TaskContext) -> float | None:
        """The mutual information of x and z; None where it is not asked for, or posteriors cannot be compared."""
        if self.information_rows == 0 or not context.model.variational:
            return None
        most = min(self.information_rows, max(2, math.isqrt(MOST_COMPARED // math.prod(context.model.latent_shape))))
        latents = []
        # Draws of its own, so that it changes no other figure.
        with evaluating(context.model, context.seed, "information"):
            for batch in chosen_rows.sampled(context, "test", most, "information rows"):
                latent = context.model.encode(batch)
                if not isinstance(latent, VariationalLatent) or not is_comparable(latent):
                    return None
                latents.append(latent)
        return mutual_information(latents)

    def _discrepancy(self, context: TaskContext) -> dict[str, float]:
        """The mean discrepancy of parts of the rows small enough to compare in pairs, weighted by their sizes."""
        if self.mmd_rows == 0:
            return {}
        model = context.model
        size = min(self.mmd_rows, max(2, math.isqrt(MAX_VALUES // math.prod(model.latent_shape))))
        chosen = Batch.cat(list(chosen_rows.sampled(context, "test", self.mmd_rows, "latent rows")))
        require(len(chosen) > 1, "task latent: mmd_rows needs a test split of at least two rows")
        found, counts = [], []
        for part in chosen_rows.parts(chosen, size):
            if len(part) > 1:
                z = model.encode(part).z.flatten(1)
                drawn = model.draw_own(len(z)).flatten(1).to(z) if model.variational else torch.randn_like(z)
                found.append(float(squared_mmd(z, drawn, "imq", SCALES)))
                counts.append(len(z))
        return {"mmd": fmean(found, counts)}


def warn_of_collapse(context: TaskContext, kl: float, information: float | None, inactive: bool) -> None:
    """Say loudly, with what helps, that z says nothing of x: no unit is active, or x and z share no information,
    however large the KL is (free bits pay for noise too)."""
    useless = information is not None and information < USELESS
    if not inactive and not useless:
        return
    found = [f"KL {kl:.3g} nats", *(["no active unit"] if inactive else [])]
    found += [f"mutual information of x and z {information:.2g} nats"] if information is not None else []
    decoder = context.model.decoder
    remedies = [REMEDIES, *([REMEDIES_OF_A_STRONG_DECODER] if decoder.autoregressive else [])]
    if not getattr(decoder, "latent_every_step", True):
        remedies.append("z at every step (decoder.latent_every_step=true)")
    context.warn(
        f"THE LATENT HAS COLLAPSED: {', '.join(found)}, so that z says nothing of x; remedies: {', '.join(remedies)}"
    )


class _Sums:
    def __init__(self) -> None:
        self.examples = self.entries = 0
        self.nonzero = 0.0
        self.divergence: float | None = None
        self.means = Moments()
        self.alive: Tensor | None = None
        self.histograms: dict[str, CodeHistogram] = {}
        self.named = False

    def add(self, latent: Latent) -> None:
        point = latent.point
        self.examples += len(point)
        self.entries = point[0].numel()
        self.nonzero += float((point != 0).sum())
        if isinstance(latent, VariationalLatent):
            self.divergence = (self.divergence or 0.0) + float(per_example(posterior_kl(latent)).sum())
            self.means.add(_mean(latent).flatten(1).cpu())
        if isinstance(latent, SparseLatent):
            fired = (point != 0).transpose(0, 1).flatten(1).any(1).cpu()
            self.alive = fired if self.alive is None else self.alive | fired
        if isinstance(latent, QuantizedLatent):
            self.named = latent.maps is not None
            for name, (size, codes) in latent.books.items():
                self.histograms.setdefault(name, CodeHistogram(size)).add(codes)

    def collapsed(self, threshold: float) -> bool:
        """Whether no unit of a variational latent is active."""
        return self.divergence is not None and not bool((self.means.variance > threshold).any())

    def fill(self, found: FigureTable, threshold: float) -> None:
        """Add the figures of what was seen to the table."""
        count = self.nonzero / self.examples
        found.add({"l0": count, "l0_fraction": count / self.entries})
        if self.divergence is not None:
            found.add({"kl": self.divergence / self.examples}, condition=LatentFigures.name)
            found.add({"active_units": float((self.means.variance > threshold).sum())})
        if self.alive is not None:
            found.add({"dead_fraction": float((~self.alive).double().mean())})
        measured = {
            "codebook_usage": {name: one.usage for name, one in self.histograms.items()},
            "perplexity": {name: one.perplexity for name, one in self.histograms.items()},
        }
        for figure, of_books in measured.items() if self.histograms else ():
            found.add({figure: fmean(of_books.values())})
            if self.named:
                found.add(of_books, condition=figure)


def _mean(latent: VariationalLatent) -> Tensor:
    """`E_q[z]`, or the noise-free value if that has no closed form."""
    try:
        return latent.posterior.mean
    except NotImplementedError:
        return latent.point
