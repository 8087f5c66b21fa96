"""A square matrix between named things, such as how alike runs are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from narrows.drawing.canvas import DPI, HEAT, Array, Picture, _layout, _quiet, _render
from narrows.errors import printable

SHORT = 32
"""Characters of a name that are shown; the last ones tell runs of a sweep apart."""
WITH_NUMBERS = 16
"""Largest matrix whose values are written into its fields."""


def matrix(values: Array, names: Sequence[str], title: str, span: tuple[float, float]) -> Picture:
    """`[N, N]` values between `names`, coloured over `span`; NaN stays white."""
    count = len(names)
    side = max(3.2, 0.42 * count + 2.2)
    figure = Figure(figsize=(side + 1, side), dpi=DPI, layout=_layout())
    figure.suptitle(title, x=0.015, ha="left", fontsize=10)
    axis = figure.subplots()
    _quiet(axis)
    drawn = axis.imshow(values, vmin=span[0], vmax=span[1], cmap=HEAT)
    short = [name if len(name) <= SHORT else f"…{name[1 - SHORT :]}" for name in map(printable, names)]
    texts = [name.replace("$", r"\$") for name in short]
    axis.set_xticks(range(count), texts, rotation=60, ha="right", fontsize=7)
    axis.set_yticks(range(count), texts, fontsize=7)
    middle = sum(span) / 2
    if count <= WITH_NUMBERS:
        for row, column in np.argwhere(np.isfinite(values)):
            value = values[row, column]
            color = "white" if value < middle else "black"
            axis.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=7, color=color)
    figure.colorbar(drawn, ax=axis, shrink=0.7).ax.tick_params(labelsize=7)
    return _render(figure)
