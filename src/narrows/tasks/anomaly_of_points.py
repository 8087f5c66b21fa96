"""How well a model of windows tells the anomalous time steps of series: what task anomaly does on series."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from narrows.compare.figure_names import CLASSICS, MODEL
from narrows.errors import nearest, require
from narrows.tasks.base import TaskContext
from narrows.tasks.classics.series_detectors import DETECTORS, GUESSED
from narrows.tasks.figure_table import FigureTable
from narrows.tasks.measures.anomaly_scores import SCORES
from narrows.tasks.measures.auroc_and_thresholds import detection_figures
from narrows.tasks.measures.event_figures import event_figures
from narrows.tasks.measures.scored_series import Judged, Scores, score_series
from narrows.tasks.measures.standard_errors import with_error
from narrows.tasks.measures.volume_under_surface import vus_pr

log = logging.getLogger(__name__)

Threshold = Callable[[Scores], float]
SHOWN = 4
"""Series in the picture."""


@dataclass
class Points:
    """How time steps are judged, where the data are windows of series with a label for each step.

    Args:
        period: of the borders of VUS-PR and of the seasonal classic, in time steps; `auto` finds each series' own in
            its part before the test steps, and takes the window where it has none.
        classics: further detectors: rolling_z, seasonal_naive, knn, isolation_forest, matrix_profile.
        deviations: the threshold lies so many standard deviations above the mean score of validation normals; it
            replaces the task's `quantile`.
    """

    period: int | Literal["auto"] = "auto"
    classics: Sequence[str] = ("rolling_z", "seasonal_naive", "knn", "isolation_forest", "matrix_profile")
    deviations: float | None = None

    def __post_init__(self) -> None:
        right = self.period == "auto" or (isinstance(self.period, int) and self.period >= 1)
        require(right, f"task anomaly: points.period={self.period} must be at least 1 time step, or auto")
        deviations = self.deviations
        require(deviations is None or deviations > 0, f"task anomaly: points.deviations={deviations} must be above 0")
        for name in self.classics:
            require(name in DETECTORS, f"task anomaly: no classic '{name}': {nearest(name, DETECTORS)}")


def judge(context: TaskContext, how: Points, score: str, threshold: Threshold, found: FigureTable) -> None:
    """Add to `found` the figures of every method: the mean over series with its standard error, where there are many.

    Args:
        score: the model's, of a window; see `tasks.measures.anomaly_scores`.
        threshold: from the scores of validation normals, `[T]`, unless `how` has a rule of its own.

    Raises:
        UserError: no series has normal and anomalous test steps, or no validation step is normal.
    """
    names = [name for name in DETECTORS if name in (*GUESSED, *how.classics)]
    series, held = score_series(context, SCORES[score](context), names, how.period)
    if how.deviations is not None:
        threshold = partial(_deviant, how.deviations)
    _find_thresholds(series, held, threshold)
    for one in series:
        one.figures = {method: _of_method(one, method) for method in one.scores} if one.both else {}
    _figures(series, found)
    _tell(context, series, found)
    _draw(context, series)


def _find_thresholds(series: Sequence[Judged], held: Sequence[dict[str, Scores]], threshold: Threshold) -> None:
    """The threshold of each series and method, from its own normal validation steps, or from those of all series where
    it has none."""
    pooled = {name: [one[name] for one in held if name in one] for name in series[0].scores}
    require(
        all(pooled.values()),
        "task anomaly: no validation time step is normal (label 0), and the threshold comes from them",
    )
    every = {name: np.concatenate(parts) for name, parts in pooled.items()}
    for one, normal in zip(series, held, strict=True):
        one.thresholds = {name: threshold(normal.get(name, every[name])) for name in one.scores}


def _deviant(deviations: float, normals: Scores) -> float:
    return float(normals.mean() + deviations * normals.std())


def _figures(series: Sequence[Judged], found: FigureTable) -> None:
    judged = [one for one in series if one.both]
    require(
        bool(judged),
        "task anomaly: no series has both normal and anomalous time steps in the test split; ranking needs both kinds",
    )
    left = len(series) - len(judged)
    if left:
        log.info("%d series without anomalous test steps %s in no figure", left, "is" if left == 1 else "are")
    found.add({"prevalence": float(np.mean([one.anomalous.mean() for one in judged]))})
    for method in judged[0].scores:
        rows = [one.figures[method] for one in judged]
        names = dict.fromkeys(name for row in rows for name in row)
        for name in names:
            values = np.array([row[name] for row in rows if name in row])
            if name != "threshold" or len(judged) == 1:
                alone = {name: float(values[0])} if len(judged) == 1 else with_error(name, values)
                found.add(alone, method)


def _of_method(one: Judged, method: str) -> dict[str, float]:
    scores, threshold = one.scores[method], one.thresholds[method]
    return {
        **detection_figures(scores, one.anomalous, threshold),
        **event_figures(scores > threshold, one.anomalous),
        "vus_pr": vus_pr(scores, one.anomalous, one.period),
    }


def _tell(context: TaskContext, series: Sequence[Judged], found: FigureTable) -> None:
    """The figures of every series as a table, and the methods that are better than the model."""
    methods = list(series[0].scores)
    heads = [CLASSICS.get(name, "this run") for name in methods]
    lines = [f"| series | steps | period | {' | '.join(heads)} |", "|---|---|---|" + "---|" * len(heads)]
    for one in series:
        if one.both:
            cells = [f"{row['vus_pr']:.3f} / {row['event_f1']:.3f}" for row in one.figures.values()]
            lines.append(f"| {one.name or 'the series'} | {len(one.steps):,} | {one.period} | {' | '.join(cells)} |")
    context.write("anomaly_series", "VUS-PR / event F1 at the threshold, of test time steps\n\n" + "\n".join(lines))
    reached = {name: found.row(name)["vus_pr"] for name in methods}
    better = [CLASSICS[name] for name in methods if name != MODEL and reached[name] > reached[MODEL]]
    if better:
        log.info("VUS-PR of the model %.4f; higher: %s", reached[MODEL], ", ".join(better))


def _draw(context: TaskContext, series: Sequence[Judged]) -> None:
    if context.directory is None:
        return
    # Imported here, so that loading a model does not import matplotlib.
    from narrows.drawing.anomalies_in_time import Track, anomalies_in_time

    chosen = [one for one in series if one.both][:SHOWN]
    tracks = [
        Track(one.name, one.steps, one.values, one.anomalous, one.scores[MODEL], one.thresholds[MODEL])
        for one in chosen
    ]
    context.show("anomaly_in_time", anomalies_in_time(tracks, "test time steps, their score and the true intervals"))
