"""Pictures of style transfer: what it costs, and a picture at several strengths. See `narrows.drawing.canvas`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from narrows.compare.figure_names import CLASSICS
from narrows.drawing.canvas import CLASSES, MODEL, Array, _render, _single, _strip
from narrows.drawing.labels import FAINT, Picture, labelled

NAME_WIDTH = 100
"""Pixels of a column that hold its name, to which small pictures are enlarged."""
LARGEST = 768
"""Pixels of the height above which none is."""
Point = tuple[float, float]


def trade_off(strengths: Mapping[str, Point], classics: Mapping[str, Point]) -> Picture:
    """Gram distance over content error: a line through the run's strengths, and a mark for each classic."""
    names = ("content error in the network's last layer", "Gram distance to the style")
    figure, axis = _single((6.4, 4.2), "Style against content: towards the lower left is better", names, "")
    axis.grid(color=FAINT, lw=0.5, alpha=0.6)
    across, up = zip(*strengths.values(), strict=True)
    axis.plot(across, up, color=MODEL, lw=2.0, marker="o", ms=4, label="this run, by strength")
    for name, point in strengths.items():
        axis.annotate(name, point, xytext=(5, 4), textcoords="offset points", fontsize=7, color=MODEL)
    for colour, (name, point) in zip(CLASSES, classics.items(), strict=False):
        axis.plot(*point, color=colour, marker="s", ls="", ms=6, label=CLASSICS[name])
    axis.legend(frameon=False, fontsize=8)
    return _render(figure)


def strength_grid(columns: Mapping[str, Array], title: str) -> Picture:
    """Pictures `[C, H, W]` in [0, 1] of any sizes side by side under their names, each within the first one's frame, on
    white."""
    frame = next(iter(columns.values())).shape[1:]
    fitted = [_within(picture, frame) for picture in columns.values()]
    channels = max(map(len, fitted))
    images = np.stack([np.broadcast_to(picture, (channels, *frame)) for picture in fitted])
    height, width = frame
    scale = max(1, min(-(-NAME_WIDTH // width), LARGEST // height))
    return labelled([""], [_strip(images, 0.0, 1.0, scale, heat=False)], title, list(columns))


def _within(picture: Array, frame: tuple[int, ...]) -> Array:
    """The picture at its own proportions in the middle of a frame, on white, `[C, *frame]`."""
    factor = min(wide / own for wide, own in zip(frame, picture.shape[1:], strict=True))
    size = [max(1, min(wide, round(own * factor))) for wide, own in zip(frame, picture.shape[1:], strict=True)]
    rows, lines = (
        np.minimum((np.arange(n) * own) // n, own - 1) for n, own in zip(size, picture.shape[1:], strict=True)
    )
    found = np.ones((len(picture), *frame))
    top, left = ((wide - own) // 2 for wide, own in zip(frame, size, strict=True))
    found[:, top : top + size[0], left : left + size[1]] = picture[:, rows][:, :, lines]
    return found
