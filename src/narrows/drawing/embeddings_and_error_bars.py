"""Two-dimensional embeddings side by side, and curves with error bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from narrows.drawing.canvas import (
    _STYLE,
    CLASSES,
    DPI,
    FAINT,
    INK,
    MODEL,
    MUTED,
    Array,
    Picture,
    _layout,
    _legend,
    _quiet,
    _render,
    _single,
)


def maps(panels: Mapping[str, Array], labels: NDArray | None, title: str) -> Picture:
    """Points `[N, 2]` of the same examples side by side, coloured by label."""
    figure = Figure(figsize=(3.4 * len(panels) + 0.8, 3.9), dpi=DPI, layout=_layout())
    figure.suptitle(title, x=0.01, ha="left", fontsize=10, **_STYLE)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, (name, points) in zip(axes, panels.items(), strict=True):
        _quiet(axis)
        axis.set_title(name, fontsize=9, loc="left", color=INK)
        axis.set_xlabel("first coordinate", fontsize=8, color=MUTED)
        axis.set_ylabel("second coordinate", fontsize=8, color=MUTED)
        _scatter(axis, points, labels)
    if labels is not None and _few(labels):
        handles, names = axes[0].get_legend_handles_labels()
        _legend(figure, handles, names)
    elif labels is not None:
        figure.colorbar(axes[-1].collections[0], ax=list(axes), label="label", fraction=0.03, pad=0.01)
    return _render(figure)


def _few(labels: NDArray) -> bool:
    return len(np.unique(labels)) <= len(CLASSES)


def _scatter(axis: Axes, points: Array, labels: NDArray | None) -> None:
    size = float(np.clip(8000 / max(len(points), 1), 3, 20))
    if labels is None:
        axis.scatter(points[:, 0], points[:, 1], color=MODEL, s=size, alpha=0.7, linewidths=0)
    elif _few(labels):
        for color, kind in zip(CLASSES, np.unique(labels), strict=False):
            x, y = points[labels == kind].T
            axis.scatter(x, y, color=color, s=size, alpha=0.7, linewidths=0, label=str(kind))
    else:
        axis.scatter(points[:, 0], points[:, 1], c=labels, cmap="viridis", s=size, alpha=0.7, linewidths=0)


@dataclass
class Curve:
    """One line: x, y and standard error of y, `[N]` each; NaN where there is no value."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    error: Sequence[float] | None = None
    ours: bool = False
    """Whether it is the model's line, which is thicker and solid."""


def curves(lines: Sequence[Curve], title: str, names: tuple[str, str], log_x: bool = True, note: str = "") -> Picture:
    """Lines with error bars of one standard error, over whole numbers on a logarithmic axis or one that starts at 0."""
    figure, axis = _single((6.8, 4.2), title, names, note)
    axis.grid(color=FAINT, lw=0.5, alpha=0.6)
    for color, line in zip(CLASSES, lines, strict=False):
        style: dict[str, Any] = {"lw": 2.0, "ls": "-"} if line.ours else {"lw": 1.2, "ls": "--"}
        axis.errorbar(line.x, line.y, line.error, color=color, label=line.name, marker="o", ms=3.5, capsize=3, **style)
    if not log_x:
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.set_ylim(bottom=0)
    else:
        axis.set_xscale("log")
        ticks = sorted({place for line in lines for place in line.x})
        axis.set_xticks(ticks)
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axis.xaxis.set_minor_formatter(NullFormatter())
    axis.legend(frameon=False, fontsize=8)
    return _render(figure)
