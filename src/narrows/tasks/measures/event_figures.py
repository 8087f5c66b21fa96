"""Figures of alarms on a time axis, judged by events; there is no point adjustment.

Scores and labels are of the time steps of one series, `[T]`. An event is an unbroken run of anomalous steps.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.floating]
Flags = NDArray[np.bool_]


def runs(flags: Flags) -> list[tuple[int, int]]:
    """The unbroken runs of true values, each from its first step to one behind its last."""
    edges = np.diff(np.concatenate([[0], flags.astype(np.int8), [0]]))
    return list(zip(np.flatnonzero(edges == 1).tolist(), np.flatnonzero(edges == -1).tolist(), strict=True))


def event_figures(alarms: Flags, anomalous: Flags) -> dict[str, float]:
    """The composite F-score, its two parts, and the delay.

    - `event_recall`: the share of events in which at least one step is alarmed;
    - `event_precision`: the share of alarmed steps that lie in events, 0 where nothing is alarmed. It is of steps, not
      of alarms: one alarm that never ends meets every event, and this is what tells;
    - `event_f1`: their harmonic mean;
    - `delay`: of the events that are found, the mean number of steps from the first step of the event to its first
      alarm; absent where none is found.

    "An Evaluation of Anomaly Detection and Diagnosis in Multivariate Time Series" (Garg et al., 2021), composite
    F-score, https://arxiv.org/abs/2109.11428; the event-based F1 of "The Elephant in the Room" (Liu and Paparrizos,
    2024) is the same. The delay is ours.

    Example:
        >>> of = lambda text: np.array(list(text)) == "x"
        >>> found = event_figures(of("...xxx..x."), of("..xxxx.xx."))
        >>> [round(found[name], 3) for name in ("event_recall", "event_precision", "event_f1", "delay")]
        [1.0, 1.0, 1.0, 1.0]
    """
    events = runs(anomalous)
    first = [start + int(np.argmax(alarms[start:end])) for start, end in events if alarms[start:end].any()]
    found = [start for start, end in events if alarms[start:end].any()]
    recall = len(found) / len(events) if events else np.nan
    precision = float((alarms & anomalous).sum()) / max(int(alarms.sum()), 1)
    both = precision + recall
    figures = {
        "event_recall": recall,
        "event_precision": precision,
        "event_f1": 2 * precision * recall / both if both > 0 else float(both * 0),
    }
    return figures | ({"delay": float(np.mean(np.subtract(first, found)))} if found else {})
