"""Pictures of restored examples: denoised, imputed, or of other data. See `narrows.drawing.canvas`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from narrows.compare.figure_names import CLASSICS
from narrows.compare.figure_names import MODEL as OURS
from narrows.drawing.canvas import CLASSES, MODEL, Array, _panels, _render, heat_maps, image_grid, lines
from narrows.drawing.examples import features
from narrows.drawing.labels import INK, MUTED, Picture
from narrows.drawing.parts import sheet_of_parts
from narrows.types import PIXELS, DataSpec

OVERLAID = ("input", "clean", "truth", "noisy input", "visible", "model")
"""The methods drawn for a series, whose lines share their axes."""


def examples(rows: Mapping[str, Array], title: str, spec: DataSpec, heads: Sequence[str] = ()) -> Picture:
    """The same examples `[N, *shape]` for each method: images, volumes and video as a grid, series as panels with
    a line per method, vectors as rows of a heat map. Labels name the methods and `heads` the examples."""
    named = [(CLASSICS.get(name, name), values) for name, values in rows.items()]
    if spec.parts is not None:
        return sheet_of_parts(named, spec, title, heads)
    if spec.kind in PIXELS:
        return image_grid(named, title, spec.bounds, heads=heads)
    if len(spec.shape) == 2:
        renamed = {"clean": "input", "truth": "input", CLASSICS["noisy"]: "corrupted", "visible": "corrupted"}
        return lines(
            [(renamed.get(label, label), values) for label, values in named if label in OVERLAID], title, heads=heads
        )
    shown, names = features(named, spec)
    return heat_maps(shown, title, names, rows=heads)


def level_lines(
    curves: Mapping[str, Mapping[str, Mapping[float, float]]], names: Mapping[str, str], trained: str
) -> Picture:
    """PSNR over the level of noise: a panel for each kind of noise, with the name of its level, and a line for each
    method."""
    methods = sorted({name for of_kind in curves.values() for name in of_kind})
    colours = dict(zip((name for name in methods if name != OURS), CLASSES * 2, strict=False))
    columns = min(3, len(curves))
    figure, axes = _panels(-(-len(curves) // columns), columns, (2.9, 2.3), f"Denoising, trained with {trained}")
    for axis in axes[len(curves) :]:
        axis.set_visible(False)
    for axis, (kind, of_kind) in zip(axes, curves.items(), strict=False):
        axis.set_title(kind.replace("_", " "), fontsize=8, color=MUTED, loc="left")
        axis.tick_params(labelbottom=True)
        for name in (*colours, OURS):
            points = sorted(of_kind.get(name, {}).items())
            levels, decibels = [point[0] for point in points], [point[1] for point in points]
            axis.plot(
                levels,
                decibels,
                label=CLASSICS.get(name, name),
                marker="o",
                color=colours.get(name, MODEL),
                lw=2.2 if name == OURS else 1.0,
                ms=5 if name == OURS else 3,
            )
        axis.set_xlabel(f"level: {names[kind]}", fontsize=8, color=INK)
        axis.set_ylabel("PSNR (dB)", fontsize=8, color=INK)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(5, 2 * columns), frameon=False, fontsize=8)
    return _render(figure)
