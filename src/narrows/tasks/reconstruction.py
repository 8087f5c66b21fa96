"""Task reconstruction: how well the test split is reconstructed, beside PCA, ridge and the training mean."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.distributions import Distribution

from narrows.compare.figure_names import MODEL, figure_name
from narrows.errors import require, require_at_least
from narrows.evaluation import subset
from narrows.layers.feature_networks import FeatureNetwork
from narrows.likelihoods.elementwise import Likelihood
from narrows.losses.perceptual import require_pictures
from narrows.models.autoencoder import Autoencoder
from narrows.tasks.base import OTHER_LABELS, Task, TaskContext
from narrows.tasks.classics.mean_pca_ridge import PCA_90, Classics, fit_classics
from narrows.tasks.figure_table import FigureTable, declared
from narrows.tasks.measures.pretrained_figures import SeenByNetwork
from narrows.tasks.measures.reconstruction_errors import (
    ErrorSums,
    example_ms_ssim,
    example_nats,
    example_ssim,
    frame_psnr,
    has_ms_ssim,
    has_ssim,
    value_counts,
)
from narrows.tasks.measures.standard_errors import with_error
from narrows.types import COUNTED, Batch, DataSpec, VariationalLatent

log = logging.getLogger(__name__)

Row = tuple[str, str]
"""Method and condition: a row of the table."""
CORRUPTED, HIDDEN, DRAWN, TEACHER_FORCED = "corrupted", "hidden", "drawn", "teacher_forced"
FRAME_PCA = "frame_pca"
DRAWERS = (MODEL, "pca", FRAME_PCA)
"""Methods whose pictures are compared by their structure."""
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

    Where z is drawn, the model is also judged at one draw of it (`test/drawn/...`): the decoder of a collapsed latent
    has been at draws alone. An autoregressive decoder is also judged where it is fed the truth
    (`test/teacher_forced/...`): what lies between is what its own errors cost. Where PCA with so many components leaves
    no error on the training split, there is also one with those of 90% of the variance (`test/pca_90/...`).

    `nll_at_point` is -log p(x|z) at the noise-free latent, also in `bits_per_dim` or `density_bits_per_dim` where p is
    a mass or density over such data (`Likelihood.bits_name`); the code's own length is no part of it. Images of at
    least 11 pixels a side have `ssim`, of at least 12 `ms_ssim` (`scores`); of volumes and
    video these are means over slices and frames, and video has `psnr_per_frame` and a PCA of single frames beside it
    (`test/frame_pca/...`). With `features` pictures have the
    perceptual distance and the Fréchet distance of reconstructions in that network's features, under its name
    (`perceptual_NAME`, `rfid_NAME`: `SeenByNetwork`). Standard errors are over examples.

    Where only some labels were trained on, all of this is of their test examples; those of other labels, PCA and the
    training mean on the same stand apart (`test/other_labels/...`). Counts have no PSNR, and their PCA reads sparse
    rows. Interactions are left to `Recommendation`.

    Args:
        max_rows: training rows that PCA and ridge may read; null for all.
        at_draw: whether the model is judged at a draw of z too.
        pca_90: whether a PCA that leaves no error has one of 90% of the variance beside it.
        features: `features()`, a pretrained network; None has no such figures.

    Raises:
        UserError: `max_rows` below 1, or `features` of data that are no pictures.
    """

    name = "reconstruction"
    part_of_every_run = True
    figures = (
        *declared(("mse", "psnr", "variance_unexplained"), (MODEL, "pca")),
        *declared(("mse", "psnr"), ("mean",)),
    )

    def __init__(
        self,
        *,
        max_rows: int | None = None,
        at_draw: bool = True,
        pca_90: bool = True,
        features: Callable[[], FeatureNetwork] | None = None,
    ) -> None:
        require_at_least(1, "task reconstruction:", max_rows=max_rows)
        self.max_rows, self.at_draw, self.pca_90, self.features = max_rows, at_draw, pca_90, features

    def fits(self, spec: DataSpec, model: Autoencoder) -> str | None:
        if self.features is not None:
            require_pictures(spec, "task reconstruction: features")
        if spec.kind == "interactions":
            # PCA rebuilds what went in, and what was held out is judged.
            return "what is held out of interactions is judged by its rank: +task@tasks.recommendation=recommendation"
        return "tokens have no squared error" if spec.kind == "tokens" else None

    def declared(self, spec: DataSpec) -> tuple[str, ...]:
        return tuple(name for name in self.figures if spec.kind not in COUNTED or not name.endswith("psnr"))

    def run(self, context: TaskContext) -> FigureTable:
        classics = fit_classics(context, self.max_rows)
        labels = context.spec.trained_labels
        found = FigureTable()
        sums = self._judge(context, classics, context.batches("test"), found)
        of = "is empty" if labels is None else f"has no example of the labels {labels} that were trained on"
        require(bool(sums), f"task reconstruction: the test split {of}")
        self._compare(context, sums, classics.pca.n_components_)
        _show(context, sums[MODEL, ""].example_errors)
        others = self._judge(context, classics, context.other_labels(), found, OTHER_LABELS)
        if others:
            count = others[MODEL, ""].examples
            log.info(
                "reconstruction is of the trained labels %s; the other %d test examples stand apart", labels, count
            )
        return found

    def _judge(
        self,
        context: TaskContext,
        classics: Classics,
        batches: Iterable[Batch],
        table: FigureTable,
        heading: str = "",
    ) -> dict[Row, ErrorSums]:
        """The errors of the model and of the other methods by row of the table, which their figures are added to, under
        `heading`; empty without batches."""
        bounds = context.spec.bounds
        unit = bounds is not None and bounds[0] >= 0 and bounds[1] <= 1
        sums: dict[Row, ErrorSums] = {}
        closer = _Closer(context, classics.span, self.features)
        for batch in batches:
            p_x, own = _decoded(context.model, batch)
            if not self.at_draw:
                own.pop(DRAWN, None)
            guesses = {(MODEL, condition): (guess, batch.judged) for condition, guess in own.items()}
            guesses |= _guesses(context, classics, batch, self.max_rows)
            if self.pca_90 and classics.exact:
                guesses[PCA_90, ""] = (classics.guess_usual(batch.x, batch.judged), batch.judged)
            for row, (found, judged) in guesses.items():
                sums.setdefault(row, ErrorSums(classics.span, unit)).add(found, batch.truth, judged)
            closer.add(batch, p_x, {name: guesses[name, ""][0] for name in DRAWERS if (name, "") in guesses})
        figures = _figures(sums, classics.pca.n_components_) if sums else {}
        if context.spec.kind in COUNTED:  # a decibel is one of a signal, and counts have no peak
            figures = {row: _without(found, ("psnr", "psnr_stderr")) for row, found in figures.items()}
        for method, values in closer.figures().items() if sums else ():
            figures[method, ""] |= values
        for (method, condition), values in figures.items():
            if context.spec.kind in COUNTED:  # decibels are of values with a largest one
                values = {name: value for name, value in values.items() if not name.startswith("psnr")}
            table.add(values, method, f"{heading}/{condition}".strip("/"))
        return sums

    def _compare(self, context: TaskContext, sums: dict[Row, ErrorSums], components: int) -> None:
        judged = HIDDEN if (MODEL, HIDDEN) in sums else ""
        model, mean = (sums[method, judged].mse for method in (MODEL, "mean"))
        worse = context.warn_if_worse_than_mean("the model is", f"{figure_name(judged)} MSE", model, mean)
        model, pca = (sums[method, ""].mse for method in (MODEL, "pca"))
        if not worse and pca < model:
            log.info("PCA with %d components has test MSE %.6g, the model %.6g", components, pca, model)


def _decoded(model: Autoencoder, batch: Batch) -> tuple[Distribution, dict[str, Tensor]]:
    """p(x|z) at the noise-free latent, under teacher forcing where autoregressive; and by condition its point, free
    running, and where there are others under teacher forcing and at a draw of z."""
    latent = model.encode(batch)
    if model.decoder.autoregressive:
        forced = model.decode(latent.point, batch)
        free = model.point_at(latent.point, batch.given)
        return forced, {"": free, TEACHER_FORCED: model.likelihood.point(forced)}
    p_x = model.decode(latent.point, batch.given)
    guesses = {"": model.likelihood.point(p_x)}
    if isinstance(latent, VariationalLatent) and not torch.equal(latent.z, latent.point):
        guesses[DRAWN] = model.point_at(latent.z, batch.given)
    return p_x, guesses


class _Closer:
    """Accumulates figures that only some data and likelihoods have: nats, bits per dimension, SSIM and MS-SSIM, and
    what a pretrained network sees."""

    def __init__(self, context: TaskContext, span: float, features: Callable[[], FeatureNetwork] | None) -> None:
        spec = context.spec
        self.likelihood: Likelihood = context.model.likelihood
        self.seen = None if features is None else SeenByNetwork(features(), spec, context.device)
        self.span, self.ssim, self.ms_ssim = span, has_ssim(spec), has_ms_ssim(spec)
        self.video = spec.kind == "video"
        self.rows: dict[str, dict[str, list[Tensor]]] = {}
        self.values = 0.0
        self.bits: set[str | None] = set()

    def add(self, batch: Batch, p_x: Distribution, guesses: dict[str, Tensor]) -> None:
        self._keep(MODEL, "nll_at_point", example_nats(p_x, batch.truth, batch.judged))
        self.values += float(value_counts(batch.truth, batch.judged).sum())
        self.bits.add(self.likelihood.bits_name(batch.truth))
        if self.seen is not None and batch.judged is None:
            self.seen.add(batch.truth, guesses)
        if batch.judged is not None:
            return
        for method, guess in guesses.items() if self.video else ():
            self._keep(method, "psnr_per_frame", frame_psnr(guess, batch.truth, self.span))
        for method, guess in guesses.items() if self.ssim else ():
            self._keep(method, "ssim", example_ssim(guess, batch.truth, self.span))
            if self.ms_ssim:
                self._keep(method, "ms_ssim", example_ms_ssim(guess, batch.truth, self.span))

    def _keep(self, method: str, figure: str, values: Tensor) -> None:
        self.rows.setdefault(method, {}).setdefault(figure, []).append(values)

    def figures(self) -> dict[str, dict[str, float]]:
        """By method, means over examples with their standard errors; bits over all observed values."""
        found = {} if self.seen is None else self.seen.figures()
        for method, figures in self.rows.items():
            for figure, parts in figures.items():
                found.setdefault(method, {}).update(with_error(figure, torch.cat(parts)))
        (kind,) = self.bits if len(self.bits) == 1 else (None,)
        if kind is not None:
            total = float(torch.cat(self.rows[MODEL]["nll_at_point"]).sum())
            found[MODEL][kind] = total / (max(self.values, 1) * math.log(2))
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
    guess = _decoded(context.model, batch)[1][""]
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


def _guesses(
    context: TaskContext, classics: Classics, batch: Batch, max_rows: int | None
) -> dict[Row, tuple[Tensor, Tensor | None]]:
    """The guesses of the other methods by row of the table, each with the values that are judged (None for all)."""
    model, x, observed = context.model, batch.x, batch.judged
    guesses: dict[Row, Tensor] = {
        ("pca", ""): classics.guess_pca(x, observed),
        ("mean", ""): classics.guess_mean(x),
    }
    hidden = None
    if not getattr(model.corruption, "identity", False):
        seen = model.corrupted(batch)
        x_in, hidden = seen.x, seen.hidden
        guesses[MODEL, "denoised"] = model.reconstruct(seen)
        guesses[MODEL, CORRUPTED] = x_in
        guesses["pca", "denoised"] = classics.guess_pca(x_in, observed)
        if classics.ridge is not None:
            guesses["ridge", "denoised"] = classics.guess_ridge(x_in, observed)
    if context.spec.kind == "video" and observed is None:
        from narrows.tasks.classics.frame_methods import FramePCA  # scikit-learn is slow to import

        guesses[FRAME_PCA, ""] = FramePCA.of(context, max_rows).guess(x)
    judged = {row: (guess, observed) for row, guess in guesses.items()}
    if hidden is not None:
        only = hidden if observed is None else hidden & observed
        alone = ((MODEL, "denoised"), ("mean", ""), ("ridge", "denoised"))
        judged |= {(row[0], HIDDEN): (guesses[row], only) for row in alone if row in guesses}
    return judged


def _without(figures: dict[str, float], names: tuple[str, ...]) -> dict[str, float]:
    return {name: value for name, value in figures.items() if name not in names}


def _figures(sums: dict[Row, ErrorSums], components: int) -> dict[Row, dict[str, float]]:
    found = {row: errors.figures() for row, errors in sums.items()}
    # The corrupted input does not predict probabilities.
    found.get((MODEL, CORRUPTED), {}).pop("bce", None)
    smallest = 1e-30
    mean = max(sums["mean", ""].mse, smallest)
    for method in (MODEL, "pca", PCA_90, FRAME_PCA):
        if (method, "") in sums:
            of = sums[method, ""]
            found[method, ""] |= of.deviations() | {"variance_unexplained": of.mse / mean}
    for condition in (DRAWN, TEACHER_FORCED):
        if (MODEL, condition) in sums:
            found[MODEL, condition]["variance_unexplained"] = sums[MODEL, condition].mse / mean
    found["pca", ""]["components"] = float(components)
    return found
