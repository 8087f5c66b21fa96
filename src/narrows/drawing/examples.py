"""Pictures of examples of any data but tokens: as images, curves, piano rolls, or rows of a heat map."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from narrows.drawing import canvas
from narrows.drawing.canvas import Array, Row
from narrows.drawing.labels import Picture
from narrows.drawing.parts import sheet_of_parts
from narrows.types import COUNTED, DataSpec

PANELS = 32
"""Samples in a picture of images; of other data there are eight."""
MOST_PARTS = 16
"""Multi-modal examples in a picture."""

FREQUENT = 40
"""Features of counts in a picture: more have no room for their names."""


def panels(spec: DataSpec) -> int:
    """The number of samples in a picture."""
    return PANELS if len(spec.shape) == 3 else 8


def features(rows: Sequence[Row], spec: DataSpec) -> tuple[list[Row], Sequence[str] | None]:
    """Examples as one row each, `[N, D]`, and the names of their features; of counts, only the `FREQUENT` features that
    the first examples have most of, the most frequent one first."""
    plain = flat(list(rows))
    if spec.kind not in COUNTED or len(plain[0][1].T) <= FREQUENT:
        return plain, spec.feature_names
    kept = np.argsort(-plain[0][1].sum(0), kind="stable")[:FREQUENT]
    names = spec.feature_names or [str(place) for place in range(spec.shape[0])]
    return [(label, values[:, kept]) for label, values in plain], [names[place] for place in kept]


def sheet(drawn: Array, spec: DataSpec, title: str) -> Picture:
    """A picture of examples `[N, *shape]` of any data but tokens."""
    if spec.parts is not None:
        return sheet_of_parts([("", drawn[:MOST_PARTS])], spec, title)
    layout = layout_of(spec)
    if layout == "image":
        return canvas.tiles(drawn, title, spec.bounds)
    if layout == "roll":
        return canvas.image_grid(rolls([("", drawn)]), title, spec.bounds, heat=True)
    if layout == "lines":
        return canvas.lines([("", drawn)], title)
    shown, names = features([("", drawn)], spec)
    return canvas.heat_maps(shown, title, names, ylabel="sample")


def paths(rows: Sequence[Row], values: Sequence[float], spec: DataSpec, title: str, span: str) -> Picture:
    """A picture of how an example changes along several directions: `[V, *shape]` for each direction.

    Args:
        values: `[V]`, the position of each example along the direction.
        span: label for the axis of positions, where there is no room for all values.
    """
    if spec.parts is not None:
        return sheet_of_parts(rows, spec, title, [f"{value:.2f}" for value in values])
    layout = layout_of(spec)
    if len(spec.shape) == 4:  # a strip of each would leave room for two positions
        rows = [(label, middle(volumes)) for label, volumes in rows]
        title = f"{title}; of each the {'frame' if spec.kind == 'video' else 'slice'} in the middle"
    if layout in ("image", "roll"):
        heat = layout == "roll"
        heads = [f"{value:.2f}" for value in values]
        return canvas.image_grid(rolls(list(rows)) if heat else rows, title, spec.bounds, heat, heads)
    if layout == "lines":
        return canvas.fans(rows, values, title)
    shown, names = features(rows, spec)
    return canvas.heat_maps(shown, title, names, ylabel=span)


def middle(volumes: Array) -> Array:
    """The slice or frame in the middle of volumes or clips `[N, C, D, H, W]`, `[N, C, H, W]`."""
    return volumes[:, :, volumes.shape[2] // 2]


def layout_of(spec: DataSpec) -> str:
    """How to draw such data: `image` (of volumes and video their slices and frames), `lines` (few channels over time),
    `roll` (many) or `rows` (features)."""
    if len(spec.shape) in (3, 4):
        return "image"
    if len(spec.shape) == 2:
        return "lines" if spec.shape[0] <= 6 else "roll"
    return "rows"


def array(x: Tensor) -> Array:
    """A tensor as the NumPy array that the drawing functions take."""
    return x.detach().float().cpu().numpy()


def rolls(rows: list[tuple[str, Array]]) -> list[tuple[str, Array]]:
    """Series of many channels as heat maps with the first channel at the bottom."""
    return [(label, values[:, None, ::-1]) for label, values in rows]


def flat(rows: list[tuple[str, Array]]) -> list[tuple[str, Array]]:
    """Examples flattened to one row each, `[N, D]`."""
    return [(label, values.reshape(len(values), -1)) for label, values in rows]
