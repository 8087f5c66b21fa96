"""Basic pictures (grids, lines, heat maps), `[H, W, 3]` uint8, for PNG files and TensorBoard.

Arrays are NumPy, channels first. Nothing here uses pyplot's global state.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray
from PIL import Image

from narrows.drawing.labels import DPI, FAINT, GAP, INK, MUTED, Picture, labelled
from narrows.files import replacing

Array = NDArray[np.floating]
Row = tuple[str, Array]
"""A label and its values, `[N, *shape]`."""

TRUTH, MODEL, NOISE = "#7b8794", "#0b7a75", "#e9a23b"
CLASSES = (
    "#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#b07aa1",
    "#9c755f", "#ff9da7", "#86bcb6", "#d4a017", "#5a5a5a",
)  # fmt: skip
"""Colours of classes and of methods."""
HEAT = "viridis"
TILE = 104
"""Fewest pixels to which the longer side of a small image is enlarged."""
FEW, SLICES = 2, 8
"""Volumes or clips beside each other in a picture, and the most slices or frames of each."""
_STYLE: dict[str, Any] = {"color": INK, "fontfamily": "DejaVu Sans"}


def as_png(picture: Picture) -> bytes:
    """The bytes of a PNG file; a tenth larger than the smallest, in half of the time."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, format="PNG", compress_level=3)
    return file.getvalue()


def save(picture: Picture | bytes, path: Path) -> None:
    """Write a picture, or the bytes of its PNG, into a file that appears under its name only when complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(picture if isinstance(picture, bytes) else as_png(picture))


def image_grid(
    rows: Sequence[Row],
    title: str,
    value_range: tuple[float, float] | None,
    heat: bool = False,
    heads: Sequence[str] = (),
) -> Picture:
    """Rows of small images `[N, C, H, W]`, enlarged by an integer factor without smoothing.

    One channel is drawn grey (or as a heat map), three as RGB, and any other number as their mean. Without a
    `value_range`, black and white are the smallest and largest value of the first row. `heads` label the columns.
    Of volumes and video `[N, C, D, H, W]` the first `FEW` are drawn, each a strip of its slices or frames.
    """
    first = rows[0][1]
    if first.ndim == 5:
        scale = max(1, round(TILE / 2 / max(first.shape[-2:])))
        rows = [(label, side_by_side(volumes)) for label, volumes in rows]
        low, high = value_range if value_range is not None else (float(first.min()), float(first.max()))
        strips = [_strip(images, low, high, scale, heat) for _, images in rows]
        return labelled([label for label, _ in rows], strips, title, heads[:FEW])
    low, high = value_range if value_range is not None else (float(first.min()), float(first.max()))
    scale = max(1, round(TILE / max(first.shape[-2:])))
    strips = [_strip(images, low, high, scale, heat) for _, images in rows]
    return labelled([label for label, _ in rows], strips, title, heads)


def tiles(images: Array, title: str, value_range: tuple[float, float] | None, columns: int = 8) -> Picture:
    """Images `[N, C, H, W]` in reading order, `columns` per row; an incomplete last row is left out. Volumes and video
    `[N, C, D, H, W]` as strips, `FEW` per row."""
    columns = FEW if images.ndim == 5 else columns
    rows = [("", images[start : start + columns]) for start in range(0, len(images), columns)]
    full = [row for row in rows if len(row[1]) == len(rows[0][1])]
    if value_range is None:
        value_range = (float(images.min()), float(images.max()))
    return image_grid(full, title, value_range)


def side_by_side(volumes: NDArray[Any]) -> NDArray[Any]:
    """The first `FEW` volumes or clips `[N, C, D, H, W]` as pictures `[n, C, H, S * W]`: S slices or frames side by
    side, all of at most `SLICES`, else those in the middle of as many equal parts."""
    depth = volumes.shape[2]
    count = min(depth, SLICES)
    places = [int((place + 0.5) * depth / count) for place in range(count)]
    return np.concatenate([volumes[:FEW, :, place] for place in places], axis=-1)


def _strip(images: Array, low: float, high: float, scale: int, heat: bool) -> Picture:
    """`[N, C, H, W]` side by side, white gaps between them."""
    if images.shape[1] not in (1, 3):
        images = images.mean(axis=1, keepdims=True)
    unit = np.clip((images - low) / max(high - low, 1e-12), 0, 1).transpose(0, 2, 3, 1)
    if heat:
        unit = colormaps[HEAT](unit[..., 0])[..., :3]
    pixels = np.rint(np.broadcast_to(unit, (*unit.shape[:3], 3)) * 255).astype(np.uint8)
    pixels = pixels.repeat(scale, axis=1).repeat(scale, axis=2)
    gap = np.full((pixels.shape[1], GAP, 3), 255, np.uint8)
    parts = [part for image in pixels for part in (gap, image)][1:]
    return np.concatenate(parts, axis=1)


def lines(rows: Sequence[Row], title: str, columns: int = 4, heads: Sequence[str] = ()) -> Picture:
    """Series `[N, C, T]`: one panel per example with its head above; all rows share the axes of its panel, each in its
    own colour."""
    count = len(rows[0][1])
    columns = min(columns, count)
    figure, axes = _panels(-(-count // columns), columns, (2.3, 1.5), title)
    styles = {"input": (TRUTH, 2.2), "corrupted": (NOISE, 0.7)}
    for position, axis in enumerate(axes):
        axis.set_visible(position < count)
        axis.set_title(heads[position] if position < len(heads) else "", fontsize=8, color=MUTED, loc="left")
        for label, values in rows if position < count else ():
            color, width = styles.get(label, (MODEL, 1.2))
            for channel, line in enumerate(values[position]):
                axis.plot(line, color=color, lw=width, alpha=0.9, label=label if channel == 0 else None)
    if any(label for label, _ in rows):
        handles, names = axes[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=len(names), frameon=False, fontsize=8)
    return _render(figure)


def fans(panels: Sequence[Row], values: Sequence[float], title: str) -> Picture:
    """Traversals of series: the lines `[V, C, T]` of each panel, coloured by the value of the latent."""
    columns = min(4, len(panels))
    figure, axes = _panels(-(-len(panels) // columns), columns, (2.3, 1.6), title)
    colours = colormaps["coolwarm"](np.linspace(0, 1, len(values)))
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    for axis, (label, curves) in zip(axes, panels, strict=False):
        axis.set_title(label, fontsize=8, color=MUTED, loc="left")
        for curve, color in zip(curves, colours, strict=True):
            axis.plot(curve.T, color=color, lw=1.1)
    return _render(figure)


def heat_maps(
    panels: Sequence[Row],
    title: str,
    columns: Sequence[str] | None = None,
    ylabel: str = "example",
    rows: Sequence[str] = (),
    bounds: tuple[float, float] | None = None,
) -> Picture:
    """Matrices `[N, D]` below one another on one colour scale: `bounds`, or else the 1st to 99th percentile of the
    first matrix."""
    low, high = np.percentile(panels[0][1], (1, 99)) if bounds is None else bounds
    height = len(panels[0][1]) * (0.17 if rows else 0.12)
    figure = Figure(figsize=(8, 0.7 + len(panels) * (0.45 + height)), dpi=DPI, layout=_layout())
    figure.suptitle(title, x=0.02, ha="left", fontsize=10, **_STYLE)
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axis, (label, matrix) in zip(axes, panels, strict=True):
        drawn = axis.imshow(
            matrix, aspect="auto", interpolation="nearest", cmap=HEAT, vmin=low, vmax=max(high, low + 1e-9)
        )
        axis.set_title(label, fontsize=8, color=MUTED, loc="left")
        _quiet(axis)
        axis.set_yticks(range(len(rows)), rows)
        axis.tick_params(bottom=axis is axes[-1])
        axis.set_ylabel(ylabel, fontsize=8, color=MUTED)
    if columns is not None and len(columns) <= 40:
        short = [name if len(name) <= 16 else f"{name[:15]}…" for name in columns]
        axes[-1].set_xticks(range(len(columns)), short, rotation=40, ha="right", rotation_mode="anchor", fontsize=7)
    else:
        axes[-1].set_xlabel("feature", fontsize=8, color=MUTED)
    bar = figure.colorbar(drawn, ax=list(axes), fraction=0.025, pad=0.01, aspect=30)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=7, colors=MUTED, length=2)
    return _render(figure)


def _single(size: tuple[float, float], title: str, names: tuple[str, str], note: str) -> tuple[Figure, Axes]:
    """One panel with named axes, a title and a note below it."""
    figure = Figure(figsize=size, dpi=DPI, layout=_layout())
    figure.suptitle(title, x=0.015, ha="left", fontsize=10, **_STYLE)
    axis = figure.subplots()
    if note:
        axis.set_title(note, fontsize=8, loc="left", color=MUTED)
    _quiet(axis)
    axis.set_xlabel(names[0], fontsize=9, color=INK)
    axis.set_ylabel(names[1], fontsize=9, color=INK)
    return figure, axis


def _panels(
    rows: int, columns: int, size: tuple[float, float], title: str, shared: bool = True
) -> tuple[Figure, list[Axes]]:
    width = max(columns * size[0], 0.085 * len(title))
    figure = Figure(figsize=(width, rows * size[1] + 0.8), dpi=DPI, layout=_layout())
    figure.suptitle(title, x=0.01, ha="left", fontsize=10, **_STYLE)
    axes = figure.subplots(rows, columns, sharex=shared, sharey=shared, squeeze=False).ravel().tolist()
    for axis in axes:
        _quiet(axis)
    return figure, axes


def _layout() -> ConstrainedLayoutEngine:
    return ConstrainedLayoutEngine(w_pad=0.09, h_pad=0.07)


def _quiet(axis: Axes) -> None:
    axis.tick_params(labelsize=7, colors=MUTED, length=2)
    for side, spine in axis.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(FAINT)


def _render(figure: Figure) -> Picture:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
