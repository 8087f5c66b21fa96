"""Points on two axes, with a note above and a legend beside them.

Pillow sets them: matplotlib takes ten times as long, and such maps are drawn while training waits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from narrows.drawing.labels import DPI, FAINT, INK, MUTED, Picture, _font

Marker = Literal["o", "^", "s"]
WIDTH, HEIGHT = 960, 810
_LEFT, _TOP, _BOTTOM, _RIGHT = 52, 78, 66, 20
_TICK, _ROW, _SIGN, _INDENT, _BETWEEN = 6, 25, 20, 34, 24
_NARROWEST = 460
"""Pixels of a panel and the numbers beside it, however long the names in the legend are."""
_OPACITY = 0.75
_FINER = 8
"""Times as many pixels in which a mark is drawn before it is made small."""
_GRID = "#e3e7ea"


@dataclass
class Marked:
    """Points `[N, 2]` that share a mark; without a `label` they are not in the legend."""

    points: NDArray[np.floating]
    colour: str
    marker: Marker = "o"
    label: str | None = None


def marked_points(
    groups: Sequence[Marked],
    title: str,
    names: tuple[str, str],
    *,
    area: float,
    note: str = "",
    heading: str = "",
    rows: int = 20,
    column: int = 240,
) -> Picture:
    """The points of all groups, the later ones above; points that are not finite are left out.

    Args:
        names: of the axes.
        area: of a mark, in square points.
        heading: of the legend.
        rows: most lines of a column of the legend.
        column: pixels that each of its further columns makes the picture wider.
    """
    entries = [group for group in groups if group.label is not None]
    columns = [entries[start : start + rows] for start in range(0, len(entries), rows)]
    small = _font(8)
    beside = [_INDENT + round(max(small.getlength(str(group.label)) for group in part)) for part in columns]
    legend = sum(beside) + _BETWEEN * len(columns)
    width = max(WIDTH + column * max(len(columns) - 1, 0), _LEFT + _NARROWEST + legend + _RIGHT)
    sheet = Image.new("RGB", (width, HEIGHT), "white")
    pen = ImageDraw.Draw(sheet)
    pen.text((14, 20), title, INK, _font(10), anchor="lm")
    every = np.concatenate([group.points for group in groups])
    x, y = (_Axis.of(values) for values in every[np.isfinite(every).all(1)].T)
    left = _LEFT + round(max((_font(7).getlength(text) for _, text in y.ticks), default=0))
    pen.text((left, _TOP - 18), note, MUTED, small, anchor="lm")
    right = width - _RIGHT - legend
    panel = _Panel(sheet, pen, (left, _TOP, right, HEIGHT - _BOTTOM), x, y)
    panel.draw_axes(names)
    panel.draw(groups, max(3, round(area**0.5 * DPI / 72)))
    place = right + _BETWEEN
    for part, taken in zip(columns, beside, strict=True):
        _legend(sheet, pen, part, place, heading if part is columns[0] else "")
        place += taken + _BETWEEN
    return np.asarray(sheet)


@dataclass
class _Axis:
    low: float
    high: float
    ticks: list[tuple[float, str]]

    @classmethod
    def of(cls, values: NDArray[np.floating]) -> _Axis:
        """An axis that leaves a twentieth free on both sides of the values."""
        low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 0.0)
        spread = high - low
        free = 0.05 * spread if spread > 1e-9 * max(abs(low), abs(high)) else max(0.05 * abs(high), 0.5)
        return cls(low - free, high + free, _ticks(low - free, high + free))

    def places(self, values: Any) -> Any:
        """Shares of the axis' length."""
        return (values - self.low) / (self.high - self.low)


def _ticks(low: float, high: float) -> list[tuple[float, str]]:
    values = [float(v) for v in MaxNLocator(8, steps=[1, 2, 5, 10]).tick_values(low, high) if low <= v <= high]
    step = min((b - a for a, b in pairwise(values)), default=1.0)
    decimals = max(0, -int(np.floor(np.log10(step) + 1e-6)))
    plain = decimals <= 4 and max(map(abs, values), default=0.0) < 1e5
    texts = [f"{value:.{decimals}f}" if plain else f"{value:.4g}" for value in values]
    return [(value, text.replace("-", "\N{MINUS SIGN}")) for value, text in zip(values, texts, strict=True)]


@dataclass
class _Panel:
    sheet: Image.Image
    pen: ImageDraw.ImageDraw
    box: tuple[int, int, int, int]
    """Left, top, right and bottom in pixels."""
    x: _Axis
    y: _Axis

    def at(self, x: Any, y: Any) -> tuple[Any, Any]:
        """Pixels of values on both axes."""
        left, top, right, bottom = self.box
        return left + self.x.places(x) * (right - left), bottom - self.y.places(y) * (bottom - top)

    def draw_axes(self, names: tuple[str, str]) -> None:
        (left, top, right, bottom), font = self.box, _font(7)
        for value, text in self.x.ticks:
            x = round(self.at(value, 0)[0])
            self.pen.line((x, top, x, bottom), _GRID)
            self.pen.line((x, bottom, x, bottom + _TICK), MUTED)
            self.pen.text((x, bottom + 18), text, MUTED, font, anchor="mm")
        for value, text in self.y.ticks:
            y = round(self.at(0, value)[1])
            self.pen.line((left, y, right, y), _GRID)
            self.pen.line((left - _TICK, y, left, y), MUTED)
            self.pen.text((left - 10, y), text, MUTED, font, anchor="rm")
        self.pen.line((left, top, left, bottom, right, bottom), FAINT, 2)
        self.pen.text(((left + right) / 2, bottom + 44), names[0], INK, _font(9), anchor="mm")
        _write_upwards(self.sheet, names[1], (20, (top + bottom) // 2), _font(9))

    def draw(self, groups: Sequence[Marked], size: int) -> None:
        for group in groups:
            mark = _mark(group.marker, size, _OPACITY)
            found = group.points[np.isfinite(group.points).all(1)]
            places = np.stack(self.at(*found.T), 1)
            for x, y in np.rint(places - size / 2).astype(int).tolist():
                self.sheet.paste(group.colour, (x, y), mark)


def _mark(marker: Marker, size: int, opacity: float) -> Image.Image:
    """The opacity `[size, size]` of a mark."""
    fine, full = size * _FINER, round(255 * opacity)
    mark = Image.new("L", (fine, fine), 0)
    pen, last = ImageDraw.Draw(mark), fine - 1
    if marker == "o":
        pen.ellipse((0, 0, last, last), full)
    elif marker == "^":
        pen.polygon(((0, last), (last / 2, 0), (last, last)), full)
    else:
        pen.rectangle((0, 0, last, last), full)
    return mark.reduce(_FINER)


def _legend(sheet: Image.Image, pen: ImageDraw.ImageDraw, part: Sequence[Marked], left: int, heading: str) -> None:
    """The names of a column of groups, in the middle of the height."""
    top = (HEIGHT - _ROW * len(part)) // 2
    pen.text((left, top - _ROW), heading, INK, _font(8), anchor="lm")
    for number, group in enumerate(part):
        middle = top + _ROW * number + _ROW // 2
        sheet.paste(group.colour, (left, middle - _SIGN // 2), _mark(group.marker, _SIGN, 1.0))
        pen.text((left + _INDENT, middle), str(group.label), INK, _font(8), anchor="lm")


def _write_upwards(sheet: Image.Image, text: str, middle: tuple[int, int], font: ImageFont.FreeTypeFont) -> None:
    left, top, right, bottom = (round(value) for value in font.getbbox(text, anchor="lt"))
    mask = Image.new("L", (right - left + 2, bottom - top + 2), 0)
    ImageDraw.Draw(mask).text((1 - left, 1 - top), text, 255, font, anchor="lt")
    turned = mask.rotate(90, expand=True)
    sheet.paste(INK, (middle[0] - turned.width // 2, middle[1] - turned.height // 2), turned)
