"""The pictures of task compression: curves of rate and distortion, and examples at equal bytes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from narrows.compare.figure_names import CLASSICS, MODEL, figure_name
from narrows.compare.run_records import read_run
from narrows.compare.short_names import short_names
from narrows.compare.varied_keys import differing_columns
from narrows.runs.file_names import FIGURES
from narrows.tasks.base import TaskContext
from narrows.tasks.classics.image_codecs import OPTIONS, TINY, Classic, Coded, Pictures

HEADING = "compression"
SHOWN = 8
DRAWN = (*OPTIONS, "pca", "h264", "h264_mosaic")
"""The classic codecs that have a curve."""

Curve = list[tuple[float, float]]
"""Bits per pixel and PSNR."""


def bits_per_pixel(size: int, truth: Pictures) -> float:
    """Of so many bytes, all channels together."""
    return 8 * size * truth.shape[1] / truth.size


def _points(figures: dict[str, float], name: str) -> Curve:
    """Rate and PSNR of a method at every step, sorted, from figures by their full names."""
    steps = {match[1] for figure in figures if (match := re.fullmatch(r".*/(step_[^/]+)/.*", figure))}
    found = set()
    for condition in ("", *steps):
        rate, psnr = (figure_name(figure, name, HEADING, condition) for figure in ("bpp", "psnr"))
        found |= {(figures[rate], figures[psnr])} if psnr in figures else set()
    return sorted(found)


def curve_of(figures: dict[str, float]) -> Curve:
    """Bits per pixel and PSNR of the model at every step, sorted."""
    return _points(figures, MODEL)


def _classic_curves(*found: dict[str, float]) -> dict[str, Curve]:
    """The curve of every classic codec, at the bytes of all runs' files."""
    return {name: sorted({point for figures in found for point in _points(figures, name)}) for name in DRAWN}


def across(figures: Mapping[Path, dict[str, float]]) -> Path:
    """Draw the curves of several runs, each with its figures and called by what it differs in, into one file of the
    first."""
    # Imported here, so that loading a model does not import matplotlib.
    from narrows.drawing.canvas import save
    from narrows.drawing.rate_distortion import rate_distortion

    records = [read_run(run) for run in figures]
    names = short_names(records, differing_columns(records))
    curves = {name: curve_of(found) for name, found in zip(names, figures.values(), strict=True)}
    path = next(iter(figures)) / FIGURES / "compression_runs.png"
    save(rate_distortion(curves, _classic_curves(*figures.values()), "Rate and distortion on the test split"), path)
    return path


def show(
    context: TaskContext,
    figures: dict[str, float],
    file: Coded,
    classics: dict[str, Classic],
    truth: Pictures,
) -> None:
    """Draw the rate-distortion curve, and the first examples beside their compressions at equal bytes."""
    if context.directory is None:
        return
    # Imported here, so that loading a model does not import matplotlib.
    from narrows.drawing import canvas
    from narrows.drawing.rate_distortion import rate_distortion

    curve = rate_distortion(
        {"this run": curve_of(figures)}, _classic_curves(figures), "Rate and distortion, test split"
    )
    context.show("compression_curve", curve)
    coded = {CLASSICS[name]: classic.within(file.size) for name, classic in classics.items()}
    shown = {"original": Coded(0, truth), "this run": Coded(file.size, file.pictures)} | coded
    count = SHOWN if max(truth.shape[2:]) < TINY else 3
    rows = [
        (
            f"{name}, {bits_per_pixel(part.size, truth):.3f} bpp" if part.size else name,
            part.pictures[:count].astype(np.float32),
        )
        for name, part in shown.items()
    ]
    title = f"{len(truth)} test examples at equal bytes, or at a codec's fewest"
    context.show("compression_examples", canvas.image_grid(rows, title, (0, 255)))
