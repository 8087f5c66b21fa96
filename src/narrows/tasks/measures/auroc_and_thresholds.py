"""AUROC and further figures of an anomaly score with standard errors, and thresholds from normal rows alone.

Scores are `[N]`, higher where more anomalous; an alarm is a score strictly above the threshold.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from narrows.compare.figure_names import STDERR
from narrows.errors import require
from narrows.tasks.measures.standard_errors import bootstrap

Scores = NDArray[np.floating]
Flags = NDArray[np.bool_]


def detection_figures(scores: Scores, anomalous: Flags, threshold: float, seed: int | None = None) -> dict[str, float]:
    """AUROC, average precision (the step-wise area under precision and recall) and, at `threshold`, the false-alarm
    rate among the normal, recall, precision and F1.

    Precision and F1 are 0 where nothing is flagged. With a `seed` every figure has its bootstrap standard error
    over test rows beside it, as `<figure>_stderr`.
    """
    flagged = scores > threshold
    found = {
        "auroc": float(roc_auc_score(anomalous, scores)),
        "average_precision": float(average_precision_score(anomalous, scores)),
        "threshold": threshold,
        **{name: rate(flagged, anomalous) for name, rate in RATES.items()},
    }
    if seed is None:
        return found
    ranking, places = Ranking(scores, anomalous), np.arange(len(scores))
    errors = {
        "auroc": bootstrap(lambda drawn: ranking.auroc(drawn), places, seed=seed),
        "average_precision": bootstrap(lambda drawn: ranking.average_precision(drawn), places, seed=seed),
        **{name: bootstrap(rate, flagged, anomalous, seed=seed) for name, rate in RATES.items()},
    }
    return found | {f"{name}{STDERR}": error for name, error in errors.items()}


def _share(part: int, whole: int, empty: float = math.nan) -> float:
    return float(part) / float(whole) if whole else empty


def false_alarm_rate(flagged: Flags, anomalous: Flags) -> float:
    """Share of the normal that is flagged; NaN where nothing is normal."""
    return _share((flagged & ~anomalous).sum(), (~anomalous).sum())


def recall(flagged: Flags, anomalous: Flags) -> float:
    """Share of the anomalous that is flagged; NaN where nothing is anomalous."""
    return _share((flagged & anomalous).sum(), anomalous.sum())


def precision(flagged: Flags, anomalous: Flags) -> float:
    """Share of the flagged that is anomalous; 0 where nothing is flagged."""
    return _share((flagged & anomalous).sum(), flagged.sum(), empty=0.0)


def f1(flagged: Flags, anomalous: Flags) -> float:
    """`2 hits / (flagged + anomalous)`, the harmonic mean of precision and recall."""
    return _share(2 * (flagged & anomalous).sum(), flagged.sum() + anomalous.sum())


RATES = {"false_alarm_rate": false_alarm_rate, "recall": recall, "precision": precision, "f1": f1}


class Ranking:
    """Test rows sorted by score once, so that resampling need not sort; scikit-learn takes 20 ms per draw.

    Args:
        scores: `[N]`, higher where more anomalous.
        anomalous: `[N]`.
    """

    def __init__(self, scores: Scores, anomalous: Flags) -> None:
        self._order = np.argsort(-scores, kind="stable")
        ordered = scores[self._order]
        self._anomalous = anomalous[self._order]
        self._ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
        """The last position of every group of equal scores."""

    def auroc(self, drawn: NDArray[np.integer]) -> float:
        """AUROC of the rows `drawn`, counted as often as they occur; equal scores count half. NaN for one class."""
        hits, alarms = self._counts(drawn)
        if not hits[-1] or not alarms[-1]:
            return math.nan
        area = np.trapezoid(np.append(0, hits), np.append(0, alarms))
        return float(area / (hits[-1] * alarms[-1]))

    def average_precision(self, drawn: NDArray[np.integer]) -> float:
        """`sum_n (R_n - R_{n-1}) P_n` over thresholds, of the rows `drawn`; NaN where none is anomalous."""
        hits, alarms = self._counts(drawn)
        if not hits[-1]:
            return math.nan
        flagged = np.maximum(hits + alarms, 1)
        return float((np.diff(hits, prepend=0) * hits / flagged).sum() / hits[-1])

    def _counts(self, drawn: NDArray[np.integer]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Anomalous and normal rows at or above each distinct score."""
        times = np.bincount(drawn, minlength=len(self._order))[self._order]
        hits = np.cumsum(times * self._anomalous)[self._ends].astype(float)
        return hits, np.cumsum(times)[self._ends] - hits


def quantile_threshold(normals: Scores, quantile: float) -> float:
    """The plain `quantile` of held-out normals' scores, interpolated between neighbours."""
    return float(np.quantile(normals, quantile))


def conformal_threshold(normals: Scores, rate: float) -> float:
    """The `ceil((n + 1) (1 - rate))`-th smallest of n held-out normals' scores.

    A new normal, exchangeable with these, scores above it with probability at most `rate`, over the draw of both:
    conservative where the plain quantile is not.

    "Inductive Conformal Anomaly Detection for Sequential Detection of Anomalous Sub-Trajectories" (Laxhammar and
    Falkman, 2015); split conformal prediction of "Algorithmic Learning in a Random World" (Vovk et al., 2005).

    Raises:
        UserError: too few normals to promise that rate.
    """
    # Rounding errors of the product must not raise it above a whole number.
    place = math.ceil((len(normals) + 1) * (1 - rate) - 1e-9)
    require(
        place <= len(normals),
        f"task anomaly: false_alarms={rate} cannot be promised from {len(normals)} validation normals: it needs "
        f"{math.ceil(1 / rate - 1e-9) - 1} of them, or a larger rate",
    )
    return float(np.sort(normals)[place - 1])
