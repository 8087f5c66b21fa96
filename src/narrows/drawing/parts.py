"""Pictures of multi-modal data: a row for each part, images of different sizes on one grid."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from torch import Tensor

from narrows.drawing import canvas
from narrows.drawing.canvas import Array, Row
from narrows.drawing.labels import Picture
from narrows.types import DataSpec, Shape

NARROW = 32
"""Values of a vector in a row of its picture."""


def images(values: Array, shape: Shape, side: tuple[int, int], flipped: bool = False) -> Array:
    """A part's flattened values `[N, D]` as pictures `[N, 1, *side]` of values in [0, 1].

    Images stand in the middle, channels averaged, the first row at the bottom if `flipped`; series have their first
    channel at the bottom; vectors lie in rows.
    """
    if len(shape) == 3:
        drawn = values.reshape(len(values), *shape).mean(1)
        drawn = drawn[:, ::-1] if flipped else drawn
    elif len(shape) == 2:
        drawn = values.reshape(len(values), *shape)[:, ::-1]
    else:
        lacking = -shape[0] % min(NARROW, shape[0])
        drawn = np.pad(values, ((0, 0), (0, lacking))).reshape(len(values), -1, min(NARROW, shape[0]))
    found = np.zeros((len(values), 1, *side), np.float32)
    top, left = ((whole - own) // 2 for whole, own in zip(side, drawn.shape[1:], strict=True))
    found[:, 0, top : top + drawn.shape[1], left : left + drawn.shape[2]] = drawn
    return found


def side_of(spec: DataSpec) -> tuple[int, int]:
    """Height and width of a picture that holds any part."""
    sizes = []
    for part in spec.parts or []:
        if len(part.shape) == 1:
            width = min(NARROW, part.shape[0])
            sizes.append((-(-part.shape[0] // width), width))
        else:
            sizes.append((part.shape[-2], part.shape[-1]))
    return max(size[0] for size in sizes), max(size[1] for size in sizes)


def rows_of_parts(label: str, x: Array, spec: DataSpec) -> list[Row]:
    """Examples `[N, D]` as a row of pictures for each part, each scaled to [0, 1] by its own range."""
    side = side_of(spec)
    return [
        (f"{label} {part.name}".strip(), images(_unit(x[:, place], spec, part.name), part.shape, side))
        for part, place in zip(spec.parts or [], spec.slices.values(), strict=True)
    ]


def sheet_of_parts(rows: Sequence[tuple[str, Array]], spec: DataSpec, title: str, heads: Sequence[str] = ()) -> Picture:
    """Examples `[N, D]` under several labels, a row of pictures for each part of each; `heads` label the columns."""
    drawn = [row for label, x in rows for row in rows_of_parts(label, x, spec)]
    return canvas.image_grid(drawn, title, (0.0, 1.0), heads=heads)


def cross_generation(
    shown: Sequence[tuple[str, Tensor, str, Sequence[Tensor]]], spec: DataSpec, flipped: Collection[str] = ()
) -> Picture | None:
    """For each pair the sources above what was made from them.

    Args:
        shown: source, its values `[N, D_s]`, target, and several of these made from each, `[N, D_t]`.
        flipped: parts whose pictures have their first row at the bottom.
    """
    side, rows = side_of(spec), []
    for source, given, target, answers in shown:
        own, made = spec.of_part(source).shape, spec.of_part(target).shape
        low, high = _bounds(given.numpy(), spec, source)
        rows.append((source, images(_scaled(given.numpy(), low, high), own, side, source in flipped)))
        low, high = _bounds(answers[0].numpy(), spec, target)
        for answer in answers:
            drawn = images(_scaled(answer.numpy(), low, high), made, side, target in flipped)
            rows.append((f"{target} from {source}", drawn))
    return canvas.image_grid(rows, "Parts made from other parts of test examples", (0.0, 1.0)) if rows else None


def _bounds(x: Array, spec: DataSpec, name: str) -> tuple[float, float]:
    found = spec.of_part(name).bounds
    return (float(x.min()), float(x.max())) if found is None else found


def _scaled(x: Array, low: float, high: float) -> Array:
    return (x - low) / max(high - low, 1e-12)


def _unit(x: Array, spec: DataSpec, name: str) -> Array:
    return _scaled(x, *_bounds(x, spec, name))
