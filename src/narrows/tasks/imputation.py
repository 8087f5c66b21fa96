"""Task imputation: how well a model fills in missing values, beside classic imputers."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from narrows.compare.figure_names import MODEL
from narrows.drawing import restoration
from narrows.errors import require, require_at_least
from narrows.models.autoencoder import Autoencoder
from narrows.random import derive, seed_default
from narrows.tasks.base import Task, TaskContext, counts_have_no
from narrows.tasks.classics import imputers
from narrows.tasks.classics.frame_methods import video_imputers
from narrows.tasks.classics.imputers import Known, Matrix
from narrows.tasks.classics.series_imputers import series_imputers
from narrows.tasks.figure_table import FigureTable
from narrows.tasks.measures.chosen_rows import parts, reconstructed, sampled
from narrows.tasks.measures.imputation_cases import Case, flat, gapped, given, patterns
from narrows.tasks.measures.standard_errors import bootstrap, standard_error
from narrows.types import Batch, DataSpec

log = logging.getLogger(__name__)

NOMINAL = 0.9
"""Percentiles that bound the intervals whose coverage is measured."""
SHOWN, SHOWN_DRAWS = 8, 3
PIXELS = 100
"""Examples that biharmonic inpainting, which is slow, is judged on."""
PLACES = ("centre", "random", "end")


class Imputation(Task):
    """RMSE and MAE over hidden values, accuracy too where all values are 0 or 1, in the data's own units; of vectors
    also `nrmse`, the RMSE in units of each feature's deviation over the training rows with nothing hidden (features
    that do not vary left out), in which predicting the mean scores 1.

    If the data have values that were hidden on purpose (`narrows.data.missing_completely_at_random`), these are judged:
    on test rows (`.../missing/...`) and, as in benchmarks of imputation, on the training rows
    (`.../missing_train/...`), whose observed values were trained on. Otherwise values are hidden completely at random
    (`test/imputation/mcar_0.5/rmse`) and in blocks (`.../centre_0.5/...`, `.../random_0.3/...`, images and series; of
    series also the last steps, of video the last frames, `.../end_0.25/...`, which is a forecast).
    Standard errors are by bootstrap over rows (`tasks.measures.standard_errors`).

    The model reads, in the place of a hidden value, what its training corruption put there, or the training mean
    where it had none that hides (missing values: 0), and is told what is hidden if it reads that. One imputation is
    its reconstruction. A variational one is also drawn from, `z ~ q(z|x)`, `x ~ p(x|z)`: `multiple/rmse` is of the
    mean of the draws, `coverage` the share of hidden values inside the interval from the 5th to the 95th percentile
    of the draws, which is nominally 0.9, and `width` its mean width. With `gibbs` steps the draws fill the input and
    are drawn again ("Stochastic Backpropagation", Rezende et al., 2014, appendix F), each a Markov chain of its own.

    Beside the model stand, on the same rows, `tasks.classics.imputers`: mean, k-NN, iterative and (on request) forest,
    ridge where the hole is the same for all, biharmonic inpainting of images (of the first 100 examples), of series
    `tasks.classics.series_imputers`: linear interpolation, the last value, the season before or after, and of video
    the frame before (`tasks.classics.frame_methods`). They learn from at most `max_rows` training rows; k-NN, ridge and
    the mean from whole ones, the chained ones from rows with such gaps.

    Args:
        rates: shares of the values hidden at random.
        blocks: sides of blocks, as shares of the side of the data, for each place: `centre`, `random`, `end` (of
            series and video, all of the last steps).
        draws: from the posterior predictive of variational models; 99 makes the percentiles exact for exchangeable
            draws; 0 for none.
        gibbs: steps of pseudo-Gibbs sampling before a draw.
        max_examples: a seeded subset of the split; null for all.
        max_rows: training rows for the classics; null for all.
        max_features: with more features, iterative and forest are left out.
        forest: whether to run the slow trees.

    Raises:
        UserError: a share outside (0, 1), an unknown place, or a number that is too small.
    """

    name = "imputation"

    def __init__(
        self,
        *,
        rates: Sequence[float] = (0.25, 0.5),
        blocks: Mapping[str, Sequence[float]] | None = None,
        draws: int = 99,
        gibbs: int = 0,
        max_examples: int | None = 500,
        max_rows: int | None = 5000,
        max_features: int = 100,
        forest: bool = False,
    ) -> None:
        self.blocks = {"centre": (0.5,)} if blocks is None else blocks
        for share in [*rates, *(side for sides in self.blocks.values() for side in sides)]:
            require(0 < share < 1, f"task imputation: a share of hidden values must be in (0, 1), not {share}")
        for place in self.blocks:
            require(place in PLACES, f"task imputation: blocks lie at {', '.join(PLACES)}, not '{place}'")
        require(draws == 0 or draws >= 19, f"task imputation: draws must be 0 or at least 19, not {draws}")
        require(gibbs >= 0, f"task imputation: gibbs must not be negative, not {gibbs}")
        require_at_least(2, "task imputation:", max_examples=max_examples, max_rows=max_rows)
        require_at_least(1, "task imputation:", max_features=max_features)
        self.rates, self.draws, self.gibbs, self.forest = rates, draws, gibbs, forest
        self.max_examples, self.max_rows, self.max_features = max_examples, max_rows, max_features

    def fits(self, spec: DataSpec, model: Autoencoder) -> str | None:
        return "tokens have no missing values" if spec.kind == "tokens" else counts_have_no("missing values", spec)

    def check(self, spec: DataSpec) -> None:
        ends = "end" in self.blocks and spec.kind not in ("series", "video")
        require(
            not ends,
            f"task imputation: blocks.end hides the last steps of series or frames of video, and these data are "
            f"{spec.kind}",
        )

    def run(self, context: TaskContext) -> FigureTable:
        train = Batch.cat(sampled(context, "train", self.max_rows, "imputation training rows"))
        values = gapped(train.x, None if train.observed is None else ~train.observed.cpu())
        cases = [] if train.observed is None else list(given(context, self.max_examples))
        cases = cases or list(self._made(context))
        require(bool(cases), "task imputation: nothing is hidden; name task.rates or task.blocks")
        deviation = _deviation(context.spec, train, cases)
        found = FigureTable(self.name)
        for case in cases:
            case.deviation = deviation
            guesses, drawn = self._of_model(context, case, values)
            guesses |= self._of_classics(context, case, train.x, values)
            figures = _figures(case, guesses, context.seed)
            if drawn is not None:
                figures[MODEL] |= _intervals(case, drawn)
            for name, judged in figures.items():
                found.add(judged, name, case.name)
            _show(context, case, guesses, drawn)
            self._compare(context, case, figures)
        return found

    def _compare(self, context: TaskContext, case: Case, figures: dict[str, dict[str, float]]) -> None:
        model, mean = (figures[name]["rmse"] for name in (MODEL, "mean"))
        context.warn_if_worse_than_mean("the model imputes", f"{case.name} RMSE", model, mean, "leave it to the mean")

    def _made(self, context: TaskContext) -> Iterator[Case]:
        batch = Batch.cat(sampled(context, "test", self.max_examples, "imputation rows"))
        for name, hide, fixed in patterns(context.spec, self.rates, self.blocks):
            seed_default(context.seed, "imputation", name)
            hidden = hide(batch.x) if batch.observed is None else hide(batch.x) & batch.observed
            yield Case(name, batch, batch.x.float().cpu(), hidden.cpu(), hide, fixed)

    def _of_model(
        self, context: TaskContext, case: Case, train: Matrix
    ) -> tuple[dict[str, Tensor], NDArray[np.floating] | None]:
        """The model's reconstruction, and its draws of the hidden values `[draws, hidden values]`."""
        model, hidden = context.model, case.hidden.to(context.device)
        batch = case.batch.seen_as(_filled(context, case, train), hidden)
        guesses = {MODEL: reconstructed(model, batch)}
        if not self.draws or not model.variational:
            return guesses, None
        seed_default(context.seed, "imputation draws", case.name)
        total = torch.zeros_like(case.truth)
        drawn = []
        for _ in range(self.draws):
            sample = torch.cat([_draw(model, part, self.gibbs) for part in parts(batch)])
            total += sample
            drawn.append(sample[case.hidden].numpy())
        guesses["multiple"] = total / self.draws
        return guesses, np.stack(drawn)

    def _of_classics(self, context: TaskContext, case: Case, x: Tensor, train: Matrix) -> dict[str, Tensor]:
        seed_default(context.seed, "imputation training gaps", case.name)
        train_gapped = train if case.hide is None else np.where(flat(case.hide(x)).astype(bool), np.nan, train)
        known = Known(train, train_gapped, derive(context.seed, "imputation") % 2**32)
        rows, found = case.known, {}
        wanted = imputers.imputers_for(rows.shape[1], self.max_features, case.fixed, self.forest)
        if context.spec.kind == "series" and len(context.spec.shape) == 2:
            wanted |= series_imputers((context.spec.shape[0], context.spec.shape[1]), train)
        if context.spec.kind == "video":
            wanted |= video_imputers(context.spec.shape)
        for name, imputer in wanted.items():
            found[name] = torch.from_numpy(imputer(known, rows)).float().reshape(case.truth.shape)
        if context.spec.kind == "image" and case.hide is not None:
            filled = case.truth.masked_fill(case.hidden, 0.0)[:PIXELS].double().numpy()
            found["biharmonic"] = torch.from_numpy(imputers.biharmonic(filled, case.hidden[:PIXELS].numpy())).float()
        return found


def _filled(context: TaskContext, case: Case, train: Matrix) -> Tensor:
    """The input of the model, with hidden values replaced as in training."""
    x, hidden = case.batch.x, case.hidden.to(context.device)
    if case.hide is None:
        return x
    value = getattr(context.model.corruption, "value", None)
    if value is not None:
        return x.masked_fill(hidden, value)
    mean = torch.as_tensor(np.nan_to_num(np.nanmean(train, 0)), dtype=x.dtype, device=x.device).reshape(x.shape[1:])
    return torch.where(hidden, mean, x)


def _draw(model: Autoencoder, batch: Batch, steps: int) -> Tensor:
    """One draw of x given the known values, `[B, *shape]` on the CPU, after `steps` of pseudo-Gibbs sampling."""
    hidden, given = batch.hidden, batch.given
    assert hidden is not None
    for _ in range(steps):
        drawn = model.decode(model.encode(batch).z, given).sample()
        batch = replace(batch, x=torch.where(hidden, drawn, batch.x), hidden=None)
    return model.decode(model.encode(batch).z, given).sample().float().cpu()


def _figures(case: Case, guesses: dict[str, Tensor], seed: int) -> dict[str, dict[str, float]]:
    """The figures of every method, by name."""
    binary = bool(((case.truth == 0) | (case.truth == 1))[case.hidden].all())
    found: dict[str, dict[str, float]] = {}
    for name, guess in guesses.items():
        truth, hidden = case.truth[: len(guess)], case.hidden[: len(guess)]
        figures = errors(guess, truth, hidden, seed, binary)
        if case.deviation is not None:
            unit, varies = case.deviation.clamp_min(1e-12), hidden & (case.deviation > 0)
            standard = errors(guess / unit, truth / unit, varies, seed, binary=False)
            figures |= {"nrmse": standard["rmse"], "nrmse_stderr": standard["rmse_stderr"]}
        found[name] = figures
    return found


def _deviation(spec: DataSpec, train: Batch, cases: Sequence[Case]) -> Tensor | None:
    if len(spec.shape) > 1:
        return None
    whole = next((case.truth for case in cases if case.name == "missing_train"), train.x.float().cpu())
    return whole.double().std(0, correction=0).to(whole.dtype)


def errors(guess: Tensor, truth: Tensor, hidden: Tensor, seed: int, binary: bool) -> dict[str, float]:
    """`rmse = sqrt(mean of (guess - truth)^2)`, `mae` and, of `binary` values, `accuracy` of guesses rounded at 1/2,
    over the hidden values of all rows together, with standard errors by resampling rows."""
    difference = (guess - truth).masked_fill(~hidden, 0.0).flatten(1).double()
    counts = hidden.flatten(1).sum(1).double().numpy()
    sums = {"rmse": difference.square().sum(1).numpy(), "mae": difference.abs().sum(1).numpy()}
    if binary:
        sums["accuracy"] = (((guess > 0.5) == (truth > 0.5)) & hidden).flatten(1).sum(1).double().numpy()
    found: dict[str, float] = {}
    for name, values in sums.items():
        root = math.sqrt if name == "rmse" else float

        def statistic(total: Matrix, number: Matrix, root: Callable[[float], float] = root) -> float:
            return root(float(total.sum() / number.sum())) if number.sum() else math.nan

        found |= {name: statistic(values, counts), f"{name}_stderr": bootstrap(statistic, values, counts, seed=seed)}
    return found


def _intervals(case: Case, drawn: NDArray[np.floating]) -> dict[str, float]:
    """Coverage and mean width of the intervals between percentiles of the draws; the standard error is over rows."""
    # Weibull's plotting positions: the interval of exchangeable draws covers the next one with just this probability.
    tail = (1 - NOMINAL) / 2
    low, high = np.quantile(drawn, (tail, 1 - tail), axis=0, method="weibull")
    truth = case.truth[case.hidden].numpy()
    inside = torch.zeros(case.truth.shape, dtype=torch.float64)
    inside[case.hidden] = torch.from_numpy(((low <= truth) & (truth <= high)).astype(np.float64))
    counts = case.hidden.flatten(1).sum(1)
    rows = inside.flatten(1).sum(1)[counts > 0] / counts[counts > 0]
    return {
        "coverage": float(inside[case.hidden].mean()),
        "coverage_stderr": standard_error(rows.numpy()),
        "width": float(np.mean(high - low)),
    }


def _show(context: TaskContext, case: Case, guesses: dict[str, Tensor], drawn: NDArray[np.floating] | None) -> None:
    if case.name == "missing_train":
        return
    visible = case.truth.masked_fill(case.hidden, _grey(context.spec))
    rows = {"truth": case.truth, "visible": visible}
    for name, guess in guesses.items():
        rows[name] = torch.where(case.hidden[: len(guess)], guess, case.truth[: len(guess)])
    for number in range(0 if drawn is None else SHOWN_DRAWS):
        assert drawn is not None
        sample = case.truth.clone()
        sample[case.hidden] = torch.from_numpy(drawn[number]).float()
        rows[f"draw {number + 1}"] = sample
    shown = {label: values[:SHOWN].numpy() for label, values in rows.items()}
    title = f"Imputation: {case.name.replace('_', ' ')}, what is hidden filled in"
    context.show(f"imputation_{case.name}", restoration.examples(shown, title, context.spec))


def _grey(spec: DataSpec) -> float:
    return 0.0 if spec.bounds is None else sum(spec.bounds) / 2
