"""A square matrix between named things, such as how alike runs are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from narrows.drawing.canvas import HEAT, Array, _render, _single
from narrows.drawing.labels import Picture
from narrows.errors import printable

SHORT = 32
"""Characters of a name that are shown; the last ones tell runs of a sweep apart."""
WITH_NUMBERS = 16
"""Largest matrix whose values are written into its fields."""


def matrix(values: Array, names: Sequence[str], title: str, span: tuple[float, float]) -> Picture:
    """`[N, N]` values between `names`, coloured over `span`; NaN stays white."""
    count = len(names)
    side = max(3.2, 0.42 * count + 2.2)
    figure, axis = _single((side + 1, side), title, ("", ""), "")
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
