"""How well a trained model tells anomalies from normal examples, beside the classics."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from narrows.compare.figure_names import CLASSICS, MODEL
from narrows.errors import UserError, nearest, require, require_at_least
from narrows.evaluation import EvaluationData
from narrows.models.autoencoder import Autoencoder
from narrows.tasks.anomaly_of_frames import FrameScores, has_frames, judge_frames
from narrows.tasks.anomaly_of_pixels import PixelMaps, draw_pixels, judge_pixels, largest_of_maps, masks_of
from narrows.tasks.anomaly_of_points import Points, judge
from narrows.tasks.base import Task, TaskContext
from narrows.tasks.classics.anomaly_detectors import GUESSED, NAMES, fit_detectors
from narrows.tasks.figure_table import FigureTable, declared
from narrows.tasks.measures import anomaly_scores
from narrows.tasks.measures.anomaly_scores import Score
from narrows.tasks.measures.auroc_and_thresholds import (
    Flags,
    Scores,
    conformal_threshold,
    detection_figures,
    quantile_threshold,
)
from narrows.types import Batch, DataSpec

log = logging.getLogger(__name__)

ScoreName = Literal["reconstruction", "standardised", "likelihood", "elbo", "latent", "map_maximum"]
OUTLIER = np.iinfo(np.int64).min
"""The label given to outliers, which no data set uses."""


class Anomaly(Task):
    """Ranks test examples by a score of the model; labels outside `normal_labels` are anomalies.

    Reports AUROC and average precision and, at a threshold, the false-alarm rate on the test split,
    recall, precision and F1 (see `tasks.measures.auroc_and_thresholds`), each with its bootstrap standard error. The
    threshold comes from the scores of *validation normals*: no anomaly and no test example is looked at.
    The same figures are reported for classic detectors (`test/anomaly/<classic>/...`, see
    `tasks.classics.anomaly_detectors`), each with its own threshold by the same rule: always PCA with as many
    components as the latent has dimensions (or those of 90% of the variance, where that many would leave no error) and
    the distance to the training mean, then those that `classics` names. All are fitted on the whole training split: for
    one-class detection it must hold normals only.

    Where the data are windows of series that have a label for each time step, time steps are judged in their place
    (`tasks.anomaly_of_points`): a step's score is the mean of those of the windows that cover it, and there is no point
    adjustment. Beside the figures above stand VUS-PR (`tasks.measures.volume_under_surface`) and those of events
    (`tasks.measures.event_figures`), the mean over series; classics are `tasks.classics.series_detectors`.

    Where the test pictures have masks of their defects (`Part.anomalous`), pixels are judged too
    (`tasks.anomaly_of_pixels`): pixel AUROC and average precision, AUPRO, and rates at a threshold from the pixels of
    validation normals (`tasks.measures.pixel_figures`). A map is the squared error of every position, the mean over
    channels, at the size of the pictures and smoothed. Of feature maps, detectors of positions
    (`tasks.classics.position_detectors`) stand beside it, also where there are no masks.

    Where they are clips, frames are judged too (`tasks.anomaly_of_frames`): a frame's score is its squared error in the
    clips that hold it, the mean over these, and `frame_auroc`, `frame_average_precision` and rates at a threshold from
    the frames of validation normals have standard errors over films. Beside the model stand PCA of clips and of single
    frames, the mean clip and the frame before.

    Draws `anomaly_scores`, `anomaly_roc`, of pixels `anomaly_pixels`, and `anomaly_top`, the most anomalous examples
    with the squared error of every value.

    Args:
        normal_labels: labels of the normal classes; `auto`: those that training was restricted to, or else 1; null,
            only with `outliers`, means all.
        quantile: of the validation normals' scores, which is the threshold; 0.95 asks for 5% false alarms.
        false_alarms: a false-alarm rate not to exceed, by the conformal threshold; it replaces `quantile`.
        score: `reconstruction`, `standardised`, `likelihood`, `elbo` or `latent`, see `tasks.measures.anomaly_scores`;
            or of pictures `map_maximum`, the largest value of the map, by which PCA and mean are judged then too.
        classics: further detectors: mahalanobis, knn, lof, isolation_forest, ocsvm, ecod.
        max_rows: training rows that any classic may read; null for all.
        pair_rows: training rows for knn, lof and ocsvm (at most 5,000), which compare rows in pairs.
        outliers: a datamodule of the same shape, whose test split is added as anomalies to that of the run.
        points: how the time steps of series are judged, of which the data are windows: steps of label 0 are normal, and
            `normal_labels` and the classics named here are not read; null judges windows as other examples.
        maps: how pixels are judged; null judges whole pictures alone.
        frames: how the frames of clips with masks are judged; null judges whole clips (and pixels) alone.

    Raises:
        UserError: no normal label, a rate outside (0, 1), an unknown score or classic, no normal in the validation
            split, too few for `false_alarms`, a test split without both kinds, or outliers of another shape.
    """

    name = "anomaly"
    figures = (
        *declared(("auroc", "average_precision", "false_alarm_rate", "recall"), heading="anomaly"),
        *declared(("auroc",), ("pca", "mean"), "anomaly"),
    )

    def __init__(
        self,
        *,
        normal_labels: Sequence[int] | Literal["auto"] | None = "auto",
        quantile: float = 0.95,
        false_alarms: float | None = None,
        score: ScoreName = "reconstruction",
        classics: Sequence[str] = ("mahalanobis", "knn", "lof", "isolation_forest", "ocsvm", "ecod"),
        max_rows: int | None = None,
        pair_rows: int | None = 10_000,
        outliers: EvaluationData | None = None,
        points: Points | None = None,
        maps: PixelMaps | None = None,
        frames: FrameScores | None = None,
    ) -> None:
        require(
            len(normal_labels) > 0 if normal_labels is not None else outliers is not None,
            "task anomaly: normal_labels must name at least one label",
        )
        for option, rate in {"quantile": quantile, "false_alarms": false_alarms}.items():
            require(rate is None or 0 < rate < 1, f"task anomaly: {option} must be in (0, 1), not {rate}")
        require_at_least(1, "task anomaly:", max_rows=max_rows, pair_rows=pair_rows)
        known = anomaly_scores.AXES
        require(score in known, f"task anomaly: no score '{score}': {nearest(score, known)}")
        for name in classics:
            require(name in NAMES, f"task anomaly: no classic '{name}': {nearest(name, NAMES)}")
        plain = normal_labels is None or isinstance(normal_labels, str)
        self.normal_labels: Any = normal_labels if plain else list(normal_labels or ())
        self.quantile, self.false_alarms, self.score, self.outliers = quantile, false_alarms, score, outliers
        self.classics, self.max_rows, self.pair_rows = [*GUESSED, *classics], max_rows, pair_rows
        self.points, self.maps, self.frames = points, maps, frames
        twice = points is not None and points.deviations is not None and false_alarms is not None
        require(not twice, "task anomaly: the threshold comes from points.deviations or from false_alarms: set one")

    def fits(self, spec: DataSpec, model: Autoencoder) -> str | None:
        # Labels that were trained on are labels, also negative ones, which number no classes.
        if spec.num_classes is None and spec.trained_labels is None and self.normal_labels is not None:
            return "the data have no labels" if spec.factor_sizes is None else "the labels are factors, not classes"
        return "tokens have no squared error" if spec.kind == "tokens" else anomaly_scores.unfit(self.score, model)

    def check(self, spec: DataSpec) -> None:
        labels = self._labels(spec)
        for label in labels or ():
            require(
                spec.num_classes is None or 0 <= label < spec.num_classes,
                f"task anomaly: normal_labels={labels}, but no example has the label {label}: those of "
                f"these data are 0 to {(spec.num_classes or 0) - 1}",
            )

    def _labels(self, spec: DataSpec) -> list[int] | None:
        """The normal labels; None where no label is."""
        if isinstance(self.normal_labels, str):
            return [1] if spec.trained_labels is None else list(spec.trained_labels)
        labels: list[int] | None = self.normal_labels
        return labels

    def run(self, context: TaskContext) -> FigureTable:
        self._normal = self._labels(context.spec)
        if self.points is not None and self._in_time(context):
            require(self.outliers is None, "task anomaly: outliers have no place in time: set task.points=null")
            found = FigureTable(self.name)
            judge(context, self.points, self.score, self._threshold, found)
            return found
        return self._of_examples(context)

    def _in_time(self, context: TaskContext) -> bool:
        """Whether the test examples are windows of series whose time steps have labels."""
        timeline = getattr(context.everything, "timeline", None)
        return timeline is not None and all(label is not None for label in timeline.labels)

    def _of_examples(self, context: TaskContext) -> FigureTable:
        largest = largest_of_maps(context, self.maps or PixelMaps()) if self.score == "map_maximum" else None
        own = largest[MODEL] if largest is not None else anomaly_scores.SCORES[self.score](context)
        detectors = fit_detectors(context, self.classics, self.max_rows, self.pair_rows)
        scores: dict[str, Score] = {MODEL: own} | detectors | (largest or {})
        held = self._judge("validation", ((batch, False) for batch in context.batches("validation")), scores)
        test = self._judge("test", self._test(context), scores)
        self._tell_absent(context, held, test)
        normal, anomalous = ~self._anomalous(held), self._anomalous(test)
        self._check(normal, anomalous)
        thresholds = {name: self._threshold(values[normal]) for name, values in held.scores.items()}
        found = FigureTable(self.name)
        found.add({"prevalence": float(anomalous.mean())})
        for name, values in test.scores.items():
            found.add(detection_figures(values, anomalous, thresholds[name], context.seed), name)
        self._compare(context, held, normal, found)
        self._draw(context, test, anomalous, thresholds[MODEL], found)
        self._of_pixels(context, test, found)
        if self.frames is not None and has_frames(context):
            judge_frames(context, self.frames, self.score, self._is_normal, self._threshold, found)
        return found

    def _of_pixels(self, context: TaskContext, test: _Judged, found: FigureTable) -> None:
        """What maps say, where there are masks to judge them by, or features, of which detectors of positions make
        maps."""
        if self.maps is None or (context.spec.kind != "features" and masks_of(context) is None):
            return
        pixels = judge_pixels(context, self.maps, self.score, self._is_normal, self._threshold, found)
        if pixels is not None and context.directory is not None:
            own = ~test.outlier
            draw_pixels(context, pixels, test.scores[MODEL][own], ~self._is_normal(test.labels[own]), test.labels[own])

    def _anomalous(self, judged: _Judged) -> Flags:
        if self._normal is None:
            return judged.outlier
        return judged.outlier | ~self._is_normal(judged.labels)

    def _is_normal(self, labels: NDArray[np.integer]) -> Flags:
        return np.ones(len(labels), dtype=bool) if self._normal is None else np.isin(labels, self._normal)

    def _tell_absent(self, context: TaskContext, *judged: _Judged) -> None:
        present = {label for split in judged for label in split.labels.tolist()}
        absent = [label for label in self._normal or () if label not in present]
        if absent:
            context.warn(
                f"task anomaly: no validation or test example has the label {', '.join(map(str, absent))} of "
                f"normal_labels={self._normal}"
            )

    def _check(self, normal: Flags, anomalous: Flags) -> None:
        if not normal.any():
            raise UserError(
                f"task anomaly: no validation example has a label in normal_labels={self._normal}, and the "
                "threshold comes from them; name the labels of normal examples"
            )
        if anomalous.all() or not anomalous.any():
            raise UserError(
                f"task anomaly: with normal_labels={self._normal} the test split is all "
                f"{'anomalies' if anomalous.all() else 'normal'}; ranking needs both kinds"
            )

    def _threshold(self, normals: Scores) -> float:
        """The threshold from the scores of validation normals."""
        if self.false_alarms is None:
            return quantile_threshold(normals, self.quantile)
        return conformal_threshold(normals, self.false_alarms)

    def _test(self, context: TaskContext) -> Iterator[tuple[Batch, bool]]:
        """The batches of the test split and of the outliers, each with whether it holds outliers."""
        yield from ((batch.to(context.device), False) for batch in context.everything.ordered_loader("test"))
        if self.outliers is None:
            return
        loader = self.outliers.ordered_loader("test")
        found, wanted = self.outliers.spec, context.spec
        require(
            (found.shape, found.value_range) == (wanted.shape, wanted.value_range),
            f"task anomaly: the outliers have shape {list(found.shape)} and range {found.value_range}, but the run's "
            f"data {list(wanted.shape)} and {wanted.value_range}: they must be alike",
        )
        yield from ((batch.to(context.device), True) for batch in loader)

    def _judge(self, split: str, batches: Iterable[tuple[Batch, bool]], scores: dict[str, Score]) -> _Judged:
        parts: list[Batch] = []
        own: list[Scores] = []
        labels: list[NDArray[np.integer]] = []
        for batch, outlier in batches:
            if batch.label is None and not outlier and self._normal is not None:
                raise UserError(
                    f"task anomaly: the {split} split has no labels; choose data that have, or leave it out"
                )
            unknown = np.full(len(batch), OUTLIER if outlier else 0)
            labels.append(unknown if outlier or batch.label is None else batch.label.cpu().numpy())
            own.append(scores[MODEL](batch))
            parts.append(batch.to("cpu"))
        require(bool(parts), f"task anomaly: the {split} split is empty")
        rows = Batch.cat(parts)
        others = {name: score(rows) for name, score in scores.items() if name != MODEL}
        return _Judged(rows, np.concatenate(labels), {MODEL: np.concatenate(own)} | others)

    def _compare(self, context: TaskContext, held: _Judged, normal: Flags, found: FigureTable) -> None:
        model, mean = (float(held.scores[name][normal].mean()) for name in (MODEL, "mean"))
        if self.score == "reconstruction":
            context.warn_if_worse_than_mean("the model reconstructs validation normals", "MSE", model, mean)
        reached = {name: found.row(name)["auroc"] for name in held.scores}
        better = [CLASSICS[name] for name, value in reached.items() if value > reached[MODEL]]
        if better:
            log.info("AUROC of the model %.4f; higher: %s", reached[MODEL], ", ".join(better))

    def _draw(
        self, context: TaskContext, test: _Judged, anomalous: Flags, threshold: float, found: FigureTable
    ) -> None:
        if context.directory is None:
            return
        # Imported here, so that loading a model does not import matplotlib.
        from narrows.drawing import roc_and_error_maps as figures
        from narrows.tasks.measures.anomaly_attribution import most_anomalous

        own = test.scores[MODEL]
        title = f"test examples by {anomaly_scores.AXES[self.score]}"
        histogram = figures.score_histogram(
            own[~anomalous], own[anomalous], threshold, title, anomaly_scores.AXES[self.score]
        )
        context.show("anomaly_scores", histogram)
        named = {
            f"{CLASSICS.get(name, 'this run')}, AUROC {found.row(name)['auroc']:.3f}": values
            for name, values in test.scores.items()
        }
        context.show("anomaly_roc", figures.roc_curves(named, anomalous, "anomalies found against false alarms"))
        context.show("anomaly_top", most_anomalous(context, test.rows, own, anomalous))


@dataclass
class _Judged:
    """The labels of a split and the scores of every method, on the CPU."""

    rows: Batch
    labels: NDArray[np.integer]
    """The labels, `OUTLIER` for outliers; 0 if no labels are needed."""
    scores: dict[str, Scores]

    @property
    def outlier(self) -> Flags:
        return self.labels == OUTLIER
