"""Pictures of anomalies on a time axis: series, true intervals, scores and thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from narrows.drawing.canvas import CLASSES, MODEL, NOISE, TRUTH, Array, _panels, _render
from narrows.drawing.labels import INK, MUTED, Picture

CHANNELS = 6
"""Channels that are drawn of one series."""
HIGHEST = 99.9
"""Percentile of the scores at which their axis ends, if the threshold lies below."""


@dataclass
class Track:
    """One series as it is drawn."""

    name: str
    steps: NDArray[np.int64]
    """`[T]`."""
    values: Array
    """`[C, T]`, NaN where one is missing."""
    anomalous: NDArray[np.bool_]
    scores: Array
    threshold: float


def anomalies_in_time(tracks: Sequence[Track], title: str) -> Picture:
    """Each series above its score, with the threshold; the true intervals are shaded in both, and alarms are marked on
    the lower edge."""
    figure, axes = _panels(2 * len(tracks), 1, (9.0, 1.25), title, shared=False)
    for number, track in enumerate(tracks):
        above, below = axes[2 * number], axes[2 * number + 1]
        for channel, values in enumerate(track.values[:CHANNELS]):
            colour = TRUTH if len(track.values) == 1 else CLASSES[channel]
            above.plot(track.steps, values, color=colour, lw=0.7)
        above.set_title(track.name, fontsize=8, color=MUTED, loc="left")
        above.set_ylabel("value", fontsize=7, color=INK)
        below.plot(track.steps, track.scores, color=MODEL, lw=0.7, label="score")
        below.axhline(track.threshold, color=INK, lw=0.8, ls="--", label="threshold")
        top = max(float(np.percentile(track.scores, HIGHEST)), 1.2 * track.threshold)
        below.set_ylim(min(0.0, float(track.scores.min())), top)
        alarms = track.steps[track.scores > track.threshold]
        below.plot(alarms, np.full(len(alarms), 0.03 * top), "|", color=CLASSES[3], ms=4, label="alarm")
        below.set_ylabel("score", fontsize=7, color=INK)
        for axis in (above, below):
            _shade(axis, track)
            axis.tick_params(labelsize=6)
            axis.set_xlim(track.steps[0], track.steps[-1])
    axes[-1].set_xlabel("time step", fontsize=8, color=INK)
    handles, names = axes[1].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper right", ncols=4, frameon=False, fontsize=8)
    return _render(figure)


def _shade(axis: Axes, track: Track) -> None:
    edges = np.diff(np.concatenate([[0], track.anomalous.astype(np.int8), [0]]))
    pairs = zip(np.flatnonzero(edges == 1), np.flatnonzero(edges == -1), strict=True)
    for number, (start, end) in enumerate(pairs):
        label = "true interval" if number == 0 else None
        axis.axvspan(track.steps[start], track.steps[end - 1], color=NOISE, alpha=0.3, lw=0, label=label)
