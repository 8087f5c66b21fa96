"""The distribution of every column in several sets of rows: histograms of numbers, bars of categories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from narrows.drawing.canvas import CLASSES, _layout, _render
from narrows.drawing.labels import FAINT, Picture
from narrows.errors import printable

ACROSS, MOST = 4, 16
BINS, BARS, LETTERS = 30, 8, 16
"""Bins of a histogram, most categories shown, and most letters of a name."""


@dataclass
class Marginal:
    """One column in several sets of rows."""

    name: str
    values: Mapping[str, NDArray[np.float64]]
    """By set, numbers `[N]`, or the numbers of categories."""
    categories: Sequence[str] = ()
    """The names of the categories; empty of a column of numbers."""


def marginals(panels: Sequence[Marginal], title: str) -> Picture:
    """The first sixteen columns beside each other, and of the classes, the last column; the first set is filled."""
    shown = list(panels) if len(panels) <= MOST else [*panels[: MOST - 1], panels[-1]]
    down = -(-len(shown) // ACROSS)
    across = min(ACROSS, len(shown))
    figure = Figure(figsize=(3.1 * across, 2.3 * down + 0.7), layout=_layout())
    axes = [figure.add_subplot(down, across, place + 1) for place in range(len(shown))]
    for axis, panel in zip(axes, shown, strict=True):
        axis.set_title(_short(panel.name), fontsize=9)
        axis.tick_params(labelsize=7)
        axis.set_yticks([])
        axis.spines[["top", "right", "left"]].set_visible(False)
        if panel.categories:
            _bars(axis, panel)
        else:
            _histograms(axis, panel)
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=len(names), frameon=False, fontsize=8)
    more = f" ({len(shown)} of {len(panels)} columns)" if len(panels) > len(shown) else ""
    figure.suptitle(title + more, fontsize=10)
    return _render(figure)


def _histograms(axis: Axes, panel: Marginal) -> None:
    whole = np.concatenate(list(panel.values.values()))
    low, high = np.quantile(whole, [0.001, 0.999])
    axis.xaxis.set_major_locator(MaxNLocator(4))
    edges = np.linspace(low, high if high > low else low + 1, BINS + 1)
    for place, (name, values) in enumerate(panel.values.items()):
        counts = np.histogram(values.clip(edges[0], edges[-1]), edges)[0] / len(values)
        if place == 0:
            axis.stairs(counts, edges, fill=True, color=FAINT, label=name)
        else:
            axis.stairs(counts, edges, color=CLASSES[place - 1], lw=1.2, label=name)


def _bars(axis: Axes, panel: Marginal) -> None:
    shares = {
        name: np.bincount(values.astype(int), minlength=len(panel.categories)) / len(values)
        for name, values in panel.values.items()
    }
    order = np.argsort(-next(iter(shares.values())), kind="stable")
    kept = [kind for kind in order.tolist() if any(heights[kind] > 0 for heights in shares.values())][:BARS]
    width = 0.8 / len(shares)
    for place, (name, heights) in enumerate(shares.items()):
        where = np.arange(len(kept)) + (place - (len(shares) - 1) / 2) * width
        axis.bar(where, heights[kept], width, color=FAINT if place == 0 else CLASSES[place - 1], label=name)
    axis.set_xticks(np.arange(len(kept)), [_short(panel.categories[kind]) for kind in kept], rotation=60, ha="right")


def _short(name: str) -> str:
    name = printable(name)
    return name if len(name) <= LETTERS else name[: LETTERS - 1] + "…"
