"""Two-dimensional embeddings side by side, and curves with error bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from narrows.drawing.canvas import _STYLE, CLASSES, Array, _layout, _quiet, _render, _single
from narrows.drawing.class_plots import explain, paint
from narrows.drawing.labels import DPI, FAINT, INK, MUTED, Picture


def maps(
    panels: Mapping[str, Array], labels: NDArray | None, title: str, classes: Sequence[str] | None = None
) -> Picture:
    """Points `[N, 2]` of the same examples side by side, coloured by label as `class_plots.scatter` does."""
    figure = Figure(figsize=(3.4 * len(panels) + 0.8, 3.9), dpi=DPI, layout=_layout())
    figure.suptitle(title, x=0.01, ha="left", fontsize=10, **_STYLE)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, (name, points) in zip(axes, panels.items(), strict=True):
        _quiet(axis)
        axis.set_title(name, fontsize=9, loc="left", color=INK)
        axis.set_xlabel("first coordinate", fontsize=8, color=MUTED)
        axis.set_ylabel("second coordinate", fontsize=8, color=MUTED)
        size = float(np.clip(8000 / max(len(points), 1), 3, 20))
        coloured = paint(axis, points, labels, size)
    explain(figure, axes.tolist(), coloured, labels, classes)
    return _render(figure)


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
