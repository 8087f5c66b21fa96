"""Task reconstruction: how well the test split is reconstructed, beside PCA, ridge and the training mean."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable

import torch
from torch import Tensor
from torch.distributions import Distribution

from narrows.errors import require, require_at_least
from narrows.evaluation import subset
from narrows.likelihoods.elementwise import Likelihood
from narrows.models.autoencoder import Autoencoder
from narrows.tasks.base import OTHER_LABELS, Task, TaskContext
from narrows.tasks.classics.mean_pca_ridge import Classics, fit_classics
from narrows.tasks.measures.reconstruction_errors import (
    ErrorSums,
    example_ms_ssim,
    example_nats,
    example_ssim,
    has_ms_ssim,
    has_ssim,
    value_counts,
)
from narrows.tasks.measures.standard_errors import with_error
from narrows.types import Batch, DataSpec

log = logging.getLogger(__name__)

SHOWN = 4
"""Number of worst reconstructed examples shown, and of best ones."""


class Reconstruction(Task):
    """MSE, PSNR and BCE per value (see `ErrorSums`) of the uncorrupted test input, noise free and free running.

    Beside the model: PCA with as many components as the latent has dimensions (`test/pca/...`) and the
    training mean (`test/mean/...`). `variance_unexplained = MSE / MSE of the training mean`, so predicting the
    mean scores 1. A model with a corruption is also judged from the corrupted input (`test/denoised/...`),
    beside that input itself (`test/corrupted/...`), its PCA projection and ridge regression from
    corrupted to clean; one whose corruption hides values also on these alone (`test/hidden/...`), beside the mean
    and ridge. Being worse than the mean, on the hidden values where there are any, is a loud warning.

    `nll_at_point` is -log p(x|z) at the noise-free latent, also in `bits_per_dim` or `density_bits_per_dim` where p is
    a mass or density over such data (`Likelihood.bits_name`); the code's own length is no part of it. Images of at
    least 11 pixels a side have `ssim`, of at least 12 `ms_ssim` (`scores`). Standard errors are over examples.

    Where only some labels were trained on, all of this is of their test examples; those of other labels, PCA and the
    training mean on the same stand apart (`test/other_labels/...`).

    Args:
        max_rows: training rows that PCA and ridge may read; null for all.

    Raises:
        UserError: `max_rows` below 1.
    """

    name = "reconstruction"
    part_of_every_run = True
    figures = (
        "test/mse",
        "test/psnr",
        "test/variance_unexplained",
        "test/pca/mse",
        "test/pca/psnr",
        "test/pca/variance_unexplained",
        "test/mean/mse",
        "test/mean/psnr",
    )

    def __init__(self, *, max_rows: int | None = None) -> None:
        require_at_least(1, "task reconstruction:", max_rows=max_rows)
        self.max_rows = max_rows

    def fits(self, spec: DataSpec, model: Autoencoder) -> str | None:
        return "tokens have no squared error" if spec.kind == "tokens" else None

    def run(self, context: TaskContext) -> dict[str, float]:
        classics = fit_classics(context, self.max_rows)
        labels = context.spec.trained_labels
        sums, found = _judged(context, classics, context.batches("test"))
        of = "is empty" if labels is None else f"has no example of the labels {labels} that were trained on"
        require(bool(sums), f"task reconstruction: the test split {of}")
        self._compare(context, sums, classics.pca.n_components_)
        _show(context, sums["test"].example_errors)
        others, apart = _judged(context, classics, context.other_labels())
        if others:
            count = others["test"].examples
            log.info(
                "reconstruction is of the trained labels %s; the other %d test examples stand apart", labels, count
            )
        return found | {f"{OTHER_LABELS}/{name.removeprefix('test/')}": value for name, value in apart.items()}

    def _compare(self, context: TaskContext, sums: dict[str, ErrorSums], components: int) -> None:
        judged, beside = ("test/hidden", "test/hidden/mean") if "test/hidden" in sums else ("test", "test/mean")
        pca = sums["test/pca"].mse
        worse = context.warn_if_worse_than_mean("the model is", f"{judged} MSE", sums[judged].mse, sums[beside].mse)
        if not worse and pca < sums["test"].mse:
            log.info("PCA with %d components has test MSE %.6g, the model %.6g", components, pca, sums["test"].mse)


def _judged(
    context: TaskContext, classics: Classics, batches: Iterable[Batch]
) -> tuple[dict[str, ErrorSums], dict[str, float]]:
    """The errors of the model and of the other methods by name, and their figures; empty without batches."""
    bounds = context.spec.bounds
    unit = bounds is not None and bounds[0] >= 0 and bounds[1] <= 1
    sums: dict[str, ErrorSums] = {}
    closer = _Closer(context.spec, classics.span, context.model.likelihood)
    for batch in batches:
        p_x, guess = _decoded(context.model, batch)
        guesses = {"test": (guess, batch.observed)} | _guesses(context, classics, batch)
        for name, (found, judged) in guesses.items():
            sums.setdefault(name, ErrorSums(classics.span, unit)).add(found, batch.truth, judged)
        closer.add(batch, p_x, {name: guesses[name][0] for name in ("test", "test/pca")})
    return sums, _figures(sums, classics.pca.n_components_) | closer.figures() if sums else {}


def _decoded(model: Autoencoder, batch: Batch) -> tuple[Distribution, Tensor]:
    """p(x|z) at the noise-free latent, under teacher forcing where autoregressive, and its mean, free running."""
    point = model.encode(batch).point
    free = model.decode(point, batch.given)
    p_x = model.decode(point, batch) if model.decoder.autoregressive else free
    return p_x, model.likelihood.point(free)


class _Closer:
    """Accumulates figures that only some data and likelihoods have: nats, bits per dimension, SSIM and MS-SSIM."""

    def __init__(self, spec: DataSpec, span: float, likelihood: Likelihood) -> None:
        self.likelihood = likelihood
        self.span, self.ssim, self.ms_ssim = span, has_ssim(spec), has_ms_ssim(spec)
        self.rows: dict[str, list[Tensor]] = {}
        self.values = 0.0
        self.bits: set[str | None] = set()

    def add(self, batch: Batch, p_x: Distribution, guesses: dict[str, Tensor]) -> None:
        self._keep("test/nll_at_point", example_nats(p_x, batch.truth, batch.judged))
        self.values += float(value_counts(batch.truth, batch.judged).sum())
        self.bits.add(self.likelihood.bits_name(batch.truth))
        if not self.ssim or batch.observed is not None:
            return
        for name, guess in guesses.items():
            self._keep(f"{name}/ssim", example_ssim(guess, batch.truth, self.span))
            if self.ms_ssim:
                self._keep(f"{name}/ms_ssim", example_ms_ssim(guess, batch.truth, self.span))

    def _keep(self, name: str, values: Tensor) -> None:
        self.rows.setdefault(name, []).append(values)

    def figures(self) -> dict[str, float]:
        """Means over examples with their standard errors; bits over all observed values."""
        found: dict[str, float] = {}
        for name, parts in self.rows.items():
            found |= with_error(name, torch.cat(parts))
        (kind,) = self.bits if len(self.bits) == 1 else (None,)
        if kind is not None:
            total = float(torch.cat(self.rows["test/nll_at_point"]).sum())
            found[f"test/{kind}"] = total / (max(self.values, 1) * math.log(2))
        return found


def _show(context: TaskContext, errors: Tensor) -> None:
    """Draw the worst and best reconstructed test examples with their reconstructions."""
    if context.directory is None:
        return
    from narrows.drawing import restoration

    order = errors.argsort(descending=True)
    ends = torch.cat([order[:SHOWN], order[-SHOWN:]]) if len(order) > 2 * SHOWN else order
    rows = ends.sort()
    batch = Batch.cat(subset(context.batches("test"), rows.values))
    _, guess = _decoded(context.model, batch)
    back = rows.indices.argsort()
    pairs = {"input": batch.truth[back.to(batch.x.device)].cpu(), "model": guess.cpu()[back]}
    context.show(
        "worst_and_best",
        restoration.examples(
            {name: values.float().numpy() for name, values in pairs.items()},
            "Test examples by error: the worst first, the best last; MSE per value above",
            context.spec,
            heads=[f"{float(errors[row]):.2g}" for row in ends],
        ),
    )


def _guesses(context: TaskContext, classics: Classics, batch: Batch) -> dict[str, tuple[Tensor, Tensor | None]]:
    """The guesses of the other methods by name, each with the values by which it is judged (None for all)."""
    model, x, observed = context.model, batch.x, batch.observed
    guesses = {
        "test/pca": classics.guess_pca(x, observed),
        "test/mean": classics.guess_mean(x),
    }
    hidden = None
    if not getattr(model.corruption, "identity", False):
        seen = model.corrupted(batch)
        x_in, hidden = seen.x, seen.hidden
        guesses["test/denoised"] = model.reconstruct(seen)
        guesses["test/corrupted"] = x_in
        guesses["test/denoised/pca"] = classics.guess_pca(x_in, observed)
        if classics.ridge is not None:
            guesses["test/denoised/ridge"] = classics.guess_ridge(x_in, observed)
    judged = {name: (guess, observed) for name, guess in guesses.items()}
    if hidden is not None:
        only = hidden if observed is None else hidden & observed
        of = {"": "test/denoised", "/mean": "test/mean", "/ridge": "test/denoised/ridge"}
        judged |= {f"test/hidden{name}": (guesses[guess], only) for name, guess in of.items() if guess in guesses}
    return judged


def _figures(sums: dict[str, ErrorSums], components: int) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, errors in sums.items():
        found |= errors.figures(name)
    for name in ("test", "test/pca"):
        found |= sums[name].deviations(name)
    # The corrupted input does not predict probabilities.
    found.pop("test/corrupted/bce", None)
    smallest = 1e-30
    mean = max(sums["test/mean"].mse, smallest)
    found["test/variance_unexplained"] = sums["test"].mse / mean
    found["test/pca/variance_unexplained"] = sums["test/pca"].mse / mean
    found["test/pca/components"] = float(components)
    return found
