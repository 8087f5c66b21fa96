"""Pictures of piano rolls: keys upwards, frames to the right. See `narrows.drawing.canvas`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from narrows.data.midi_files import LOWEST, Roll
from narrows.data.piano_rolls import pitch_names
from narrows.drawing.canvas import MODEL, NOISE, _panels, _render
from narrows.drawing.labels import FAINT, MUTED, Picture

WRONG = "#e15759"
COLOURS = ListedColormap(["#ffffff00", MODEL, NOISE, WRONG])
BOTH, MISSED, ADDED = 1, 2, 3
OCTAVE = 12
COLUMNS = 4


def piano_rolls(rolls: Sequence[Roll], title: str, heads: Sequence[str] = ()) -> Picture:
    """A panel for each roll `[88, T]`, over the keys that any of them has."""
    return _drawn([roll * BOTH for roll in rolls], title, heads)


def compared_rolls(found: Sequence[Roll], truth: Sequence[Roll], title: str, heads: Sequence[str] = ()) -> Picture:
    """A panel for each pair of rolls: notes of both, notes that `found` lacks, and notes that it adds."""
    pairs = zip(found, truth, strict=True)
    marked = [np.where(a & b, BOTH, np.where(b, MISSED, np.where(a, ADDED, 0))).astype(np.uint8) for a, b in pairs]
    return _drawn(marked, title, heads, {"found": BOTH, "missed": MISSED, "added": ADDED})


def _drawn(rolls: Sequence[Roll], title: str, heads: Sequence[str], legend: dict[str, int] | None = None) -> Picture:
    used = np.flatnonzero(sum((roll > 0).sum(1) for roll in rolls))
    low, high = (int(used[0]), int(used[-1])) if len(used) else (0, OCTAVE)
    columns = min(COLUMNS, len(rolls))
    figure, axes = _panels(-(-len(rolls) // columns), columns, (2.6, 1.9), title)
    for axis in axes[len(rolls) :]:
        axis.set_visible(False)
    cs = [key for key in range(low, high + 1) if (key + LOWEST) % OCTAVE == 0]
    for number, (axis, roll) in enumerate(zip(axes, rolls, strict=False)):
        axis.imshow(
            roll,
            cmap=COLOURS,
            vmin=0,
            vmax=COLOURS.N - 1,
            aspect="auto",
            origin="lower",
            interpolation="nearest",
            zorder=2,
            extent=(0, roll.shape[1], -0.5, len(roll) - 0.5),
        )
        axis.set_ylim(low - 0.5, high + 0.5)
        axis.set_yticks(cs, pitch_names([key + LOWEST for key in cs]))
        axis.grid(color=FAINT, lw=0.4, axis="y")
        axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axis.set_title(heads[number] if number < len(heads) else "", fontsize=7, color=MUTED, loc="left")
    if legend:
        handles = [Patch(color=COLOURS(value), label=name) for name, value in legend.items()]
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=8)
    return _render(figure)
