"""VUS-PR: the area under precision and recall of time steps, averaged over widths of a soft border round every event.

T time steps, of which K thresholds are the distinct scores.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from narrows.tasks.measures.event_figures import Flags, Scores, runs

LAGS = 400
"""Longest period that is looked for, in time steps."""
SHORTEST = 4


def vus_pr(scores: Scores, anomalous: Flags, period: int, thresholds: int | None = None) -> float:
    """The volume under the surface of precision and recall, over thresholds and border widths 0 to `period`.

    With width w, a normal step at a distance d <= w / 2 from an event counts as anomalous by sqrt(1 - d / w), events on
    both sides together by at most 1. With the alarms of one threshold, A the alarmed steps of events, E the alarmed
    weight of borders, N all alarms and P the steps of events,

        precision = (A + E) / N,    recall = min(1, (A + E) / (P + E / 2)) * share of bordered events that are met,

    where events whose borders share a step count as one; the area is the sum of precision times the rise in recall over
    descending thresholds, and the volume the mean over widths. Width 0 alone is average precision times existence.

    "Volume Under the Surface: A New Accuracy Evaluation Measure for Time-Series Anomaly Detection" (Paparrizos et al.,
    2022), https://www.vldb.org/pvldb/vol15/p2774-paparrizos.pdf, in the form of their implementation.

    Args:
        scores: `[T]`, higher where more anomalous; a step is alarmed by a score at or above the threshold.
        anomalous: `[T]`, true in events, of which there must be one.
        period: the widest border, both sides together; the usual choice is the series' own period.
        thresholds: evenly spaced ranks of the scores, as the published implementation takes 250; None for every
            distinct score, which is the definition.

    Example:
        >>> scores = np.array([0.1, 0.2, 0.9, 0.8, 0.1, 0.3])
        >>> round(vus_pr(scores, np.array([0, 0, 1, 1, 0, 0], dtype=bool), 0), 6)
        1.0
    """
    order = np.argsort(-scores, kind="stable")
    ends = _last_ranks(scores[order], thresholds)
    rank = np.empty(len(scores), dtype=np.int64)
    rank[order] = np.arange(len(scores))
    events = runs(anomalous)
    whole, alarmed = float(anomalous.sum()), np.cumsum(anomalous[order])[ends]
    areas = []
    for width in range(period + 1):
        border = _border(anomalous, events, width)
        extra = np.cumsum(border[order])[ends]
        met = np.sort([rank[start:end].min() for start, end in _joined(events, width // 2, len(scores))])
        existence = np.searchsorted(met, ends, side="right") / len(met)
        recall = np.minimum((alarmed + extra) / (whole + extra / 2), 1) * existence
        areas.append(float((np.diff(recall, prepend=0.0) * (alarmed + extra) / (ends + 1)).sum()))
    return float(np.mean(areas))


def _last_ranks(descending: Scores, thresholds: int | None) -> NDArray[np.int64]:
    """The last rank of the steps alarmed at each threshold, `[K]`: equal scores are alarmed together."""
    ends = np.flatnonzero(np.append(descending[1:] != descending[:-1], True))
    if thresholds is None:
        return ends
    chosen = np.linspace(0, len(descending) - 1, thresholds).astype(np.int64)
    return ends[np.searchsorted(ends, chosen)]


def _border(anomalous: Flags, events: list[tuple[int, int]], width: int) -> NDArray[np.float64]:
    """The weight of normal steps near events, `[T]`."""
    found, half = np.zeros(len(anomalous)), width // 2
    for start, end in events:
        after, before = np.arange(end, min(end + half, len(found))), np.arange(max(start - half, 0), start)
        found[after] += np.sqrt(1 - (after - end + 1) / max(width, 1))
        found[before] += np.sqrt(1 - (start - before) / max(width, 1))
    return np.where(anomalous, 0.0, np.minimum(found, 1))


def _joined(events: list[tuple[int, int]], half: int, steps: int) -> list[tuple[int, int]]:
    """Events with `half` a border on either side; those that then share a step are one."""
    found: list[tuple[int, int]] = []
    for start, end in events:
        low, high = max(start - half, 0), min(end + half, steps)
        if found and low < found[-1][1]:
            low = found.pop()[0]
        found.append((low, high))
    return found


def period_of(values: NDArray[np.floating]) -> int | None:
    """The lag of the highest peak of the autocorrelation, the mean over channels, among 4 to 400 steps; None where
    there is no peak.

    Args:
        values: `[C, T]`, finite.
    """
    steps = values.shape[1]
    centred = np.asarray(values, dtype=np.float64) - values.mean(1, keepdims=True)
    power = np.abs(np.fft.rfft(centred, 2 * steps, axis=1)) ** 2
    lags = np.fft.irfft(power, axis=1)[:, : min(LAGS, steps // 2) + 1]
    varies = lags[:, 0] > 0
    inner = np.arange(SHORTEST, lags.shape[1] - 1)
    if not len(inner) or not varies.any():
        return None
    mean = (lags[varies] / lags[varies, :1]).mean(0)
    peaks = inner[(mean[inner] > mean[inner - 1]) & (mean[inner] > mean[inner + 1])]
    return int(peaks[np.argmax(mean[peaks])]) if len(peaks) else None
