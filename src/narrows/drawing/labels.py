"""Strips of pictures below one another, with a title and labels beside them.

Pillow sets the text: matplotlib takes ten times as long, and these pictures are drawn while training waits.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Picture = NDArray[np.uint8]

INK, MUTED, FAINT = "#1f2933", "#7b8794", "#cbd2d9"
DPI = 150
GAP = 6
"""Pixels between pictures."""
_MARGIN, _TITLE, _HEAD, _BESIDE = 20, 58, 26, 16


def labelled(labels: Sequence[str], strips: Sequence[Picture], title: str, heads: Sequence[str] = ()) -> Picture:
    """Strips `[H, W, 3]` below one another at their exact pixels, a label on the left of each, a title above.

    Args:
        heads: over as many columns, which share the strips' width evenly.
    """
    small, large = _font(8), _font(10)
    beside = max(map(small.getlength, labels))
    side = _MARGIN + (round(beside) + _BESIDE if beside else 0)
    width = max(side + strips[0].shape[1] + _MARGIN, round(large.getlength(title)) + 2 * _MARGIN)
    top = _TITLE + (_HEAD if heads else 0)
    height = top + sum(len(strip) + GAP for strip in strips) - GAP + _MARGIN
    sheet = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(sheet)
    pen.text((_MARGIN, _TITLE / 2), title, INK, large, anchor="lm")
    step = (strips[0].shape[1] + GAP) / max(len(heads), 1)
    for number, head in enumerate(heads):
        place = side + step * (number + 0.5) - GAP / 2
        pen.text((place, _TITLE + 0.3 * _HEAD), head, MUTED, small, anchor="mm")
    for label, strip in zip(labels, strips, strict=True):
        sheet.paste(Image.fromarray(strip), (side, top))
        pen.text((_MARGIN, top + len(strip) / 2), label, MUTED, small, anchor="lm")
        top += len(strip) + GAP
    return np.asarray(sheet)


@cache
def _font(points: float) -> ImageFont.FreeTypeFont:
    """The font that matplotlib brings and sets all else in."""
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", points * DPI / 72)
