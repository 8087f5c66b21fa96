"""Points and histograms coloured by class, with a legend of the classes' names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray

from narrows.drawing.canvas import CLASSES, MODEL, Array, _render, _single
from narrows.drawing.labels import DPI, FAINT, Picture
from narrows.drawing.marked_points import Marked, Marker, marked_points
from narrows.errors import printable

MARKERS: tuple[Marker, ...] = ("o", "^", "s")
MOST = len(CLASSES) * len(MARKERS)
"""Classes that colours and markers tell apart; more use a continuous colour map."""
COLUMN, LETTERS = 20, 24
"""Most lines of a column of the legend, and most letters of a name in it."""
INCHES = 1.6
"""What a further column of the legend makes a figure wider."""


def scatter(
    points: Array,
    labels: NDArray | None,
    title: str,
    names: tuple[str, str],
    note: str = "",
    classes: Sequence[str] | None = None,
) -> Picture:
    """Points `[N, 2]` coloured by label.

    Args:
        labels: of the points, `[N]`. Whole numbers of at most `MOST` kinds have a legend, others a colour bar.
        names: of the axes.
        classes: the names of the labels 0, 1, ...; None shows the numbers.
    """
    size = float(np.clip(14000 / max(len(points), 1), 5, 30))
    groups = _groups(points, labels, classes)
    if groups is not None:
        heading, wider = "label" if classes is None else "", round(INCHES * DPI)
        return marked_points(groups, title, names, area=size, note=note, heading=heading, rows=COLUMN, column=wider)
    figure, axis = _single((6.4, 5.4), title, names, note)
    axis.grid(color=FAINT, lw=0.5, alpha=0.6)
    axis.set_axisbelow(True)
    explain(figure, [axis], paint(axis, points, labels, size), labels, classes)
    return _render(figure)


def histogram(
    values: Array, labels: NDArray | None, title: str, name: str, classes: Sequence[str] | None = None
) -> Picture:
    """Histogram of one-dimensional latents `[N]`, with one outline per class for up to ten; see `scatter`."""
    figure, axis = _single((6.4, 3.6), title, (name, "examples"), "")
    bins = int(np.clip(2 * np.sqrt(len(values)), 10, 60))
    edges = np.histogram_bin_edges(values, bins=bins).tolist()
    kinds = kinds_of(labels)
    if kinds is None or len(kinds) > len(CLASSES):
        axis.hist(values, bins=edges, color=MODEL)
        return _render(figure)
    for color, kind in zip(CLASSES, kinds, strict=False):
        axis.hist(values[labels == kind], bins=edges, color=color, alpha=0.55, label=str(kind))
    explain(figure, [axis], None, labels, classes)
    return _render(figure)


def kinds_of(labels: NDArray | None) -> NDArray | None:
    """The classes among labels `[N]`, ascending, if they can be told apart: whole numbers of at most `MOST` kinds."""
    if labels is None or not np.issubdtype(labels.dtype, np.integer):
        return None
    kinds = np.unique(labels)
    return kinds if len(kinds) <= MOST else None


def paint(axis: Axes, points: Array, labels: NDArray | None, size: float) -> PathCollection | None:
    """Put points `[N, 2]` on an axis; what a colour bar explains, if labels are too many for a legend."""
    style: dict[str, Any] = {"s": size, "alpha": 0.75, "linewidths": 0}
    groups = _groups(points, labels, None)
    if groups is None:
        return axis.scatter(points[:, 0], points[:, 1], c=labels, cmap="viridis", **style)
    for group in groups:
        axis.scatter(*group.points.T, color=group.colour, marker=group.marker, label=group.label, **style)
    return None


def _groups(points: Array, labels: NDArray | None, classes: Sequence[str] | None) -> list[Marked] | None:
    """The points of each class with the mark and the name that it has, of one group without labels; None where labels
    are too many to be told apart."""
    if labels is None:
        return [Marked(points, MODEL)]
    kinds = kinds_of(labels)
    if kinds is None:
        return None
    return [
        Marked(
            points[labels == kind],
            CLASSES[place % len(CLASSES)],
            MARKERS[place // len(CLASSES)],
            _name(kind, classes),
        )
        for place, kind in enumerate(kinds.tolist())
    ]


def explain(
    figure: Figure,
    axes: Sequence[Axes],
    coloured: PathCollection | None,
    labels: NDArray | None,
    classes: Sequence[str] | None,
) -> None:
    """Say beside the axes which label a colour means, by the names of the classes if there are any."""
    kinds = kinds_of(labels)
    if coloured is not None:
        figure.colorbar(coloured, ax=list(axes), label="label", fraction=0.04, pad=0.02)
    if kinds is None:
        return
    handles, _ = axes[0].get_legend_handles_labels()
    columns = -(-len(kinds) // COLUMN)
    figure.set_figwidth(figure.get_figwidth() + INCHES * (columns - 1))
    legend = figure.legend(
        handles,
        [_without_mathematics(_name(kind, classes)) for kind in kinds.tolist()],
        loc="outside right center",
        ncols=columns,
        title="label" if classes is None else None,
        frameon=False,
        fontsize=8,
        title_fontsize=8,
        markerscale=1.8,
    )
    for handle in legend.legend_handles:
        if handle is not None:
            handle.set_alpha(1.0)


def _name(kind: int, classes: Sequence[str] | None) -> str:
    if classes is None or not 0 <= kind < len(classes):
        return str(kind)
    text = printable(classes[kind])
    return text if len(text) <= LETTERS else f"{text[: LETTERS - 1]}…"


def _without_mathematics(text: str) -> str:
    """A name for matplotlib, which sets what stands between dollars as mathematics, and leaves out names that begin
    with _."""
    return (" " if text.startswith("_") else "") + text.replace("$", r"\$")
