"""Pictures of anomaly detection: score histograms, ROC curves, and error maps of the most anomalous examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.patches import Patch
from numpy.typing import NDArray
from sklearn.metrics import roc_curve

from narrows.drawing.canvas import (
    CLASSES,
    MODEL,
    NOISE,
    TILE,
    TRUTH,
    Array,
    _panels,
    _render,
    _single,
    _strip,
    heat_maps,
    side_by_side,
)
from narrows.drawing.labels import FAINT, INK, MUTED, Picture, labelled

BARS = 60
SHOWN = 99.5
"""Percentile of all scores at which the axis ends, so that a few extreme scores do not squeeze the rest."""
COLUMNS = 4


def score_histogram(normal: Array, anomalous: Array, threshold: float, title: str, name: str) -> Picture:
    """Histogram of the scores of normal `[N]` and anomalous `[M]` test examples, each as shares of its kind, with the
    threshold; the last bar holds all scores beyond the axis."""
    both = np.concatenate([normal, anomalous])
    low, high = float(both.min()), max(float(np.percentile(both, SHOWN)), threshold)
    edges = np.linspace(low, high if high > low else low + 1, BARS + 1)
    note = f"the last bar holds all above {edges[-1]:.3g}"
    figure, axis = _single((6.4, 3.6), title, (name, "share of examples"), note)
    for values, color, label in ((normal, MODEL, "normal"), (anomalous, NOISE, "anomaly")):
        counts = np.histogram(np.clip(values, edges[0], edges[-1]), bins=edges)[0]
        axis.stairs(counts / max(len(values), 1), edges, fill=True, color=color, alpha=0.55, label=label)
    axis.axvline(threshold, color=INK, lw=1, ls="--", label=f"threshold {threshold:.3g}")
    axis.legend(frameon=False, fontsize=8)
    return _render(figure)


def roc_curves(scores: Mapping[str, Array], anomalous: NDArray[np.bool_], title: str) -> Picture:
    """ROC curves, one per method in the given order, the first thicker; the names include the AUROC."""
    figure, axis = _single((7.4, 4.6), title, ("false-alarm rate", "recall"), "")
    axis.plot([0, 1], [0, 1], color=FAINT, lw=0.8)
    colours = [MODEL, *(color for color in CLASSES if color != CLASSES[7])]
    for number, ((name, values), color) in enumerate(zip(scores.items(), colours, strict=False)):
        alarms, recall, _ = roc_curve(anomalous, values)
        axis.plot(alarms, recall, color=color, lw=1.2 if number else 2.4, label=name, zorder=2 if number else 3)
    axis.set_xlim(0, 1)
    axis.set_ylim(0, 1.01)
    figure.legend(loc="outside right center", frameon=False, fontsize=8)
    return _render(figure)


def error_images(
    truth: Array, guess: Array, error: Array, heads: Sequence[str], title: str, bounds: tuple[float, float] | None
) -> Picture:
    """Images `[N, C, H, W]` above their reconstructions and error maps: the squared error of every pixel, averaged over
    channels. The colours end at the largest error, which the title gives. Of volumes and video `[N, C, D, H, W]` the
    first ones as strips."""
    low, high = bounds if bounds is not None else (float(truth.min()), float(truth.max()))
    scale = max(1, round(TILE / max(truth.shape[-2:])))
    maps = error.mean(axis=1, keepdims=True)
    if truth.ndim == 5:
        scale = max(1, round(TILE / 2 / max(truth.shape[-2:])))
        truth, guess, maps = (side_by_side(values) for values in (truth, guess, maps))
        heads = heads[: len(truth)]
    strips = [_strip(images, low, high, scale, False) for images in (truth, guess)]
    strips.append(_strip(maps, 0.0, float(maps.max()), scale, True))
    full = f"{title}; squared error 0 (dark) to {maps.max():.2g} (yellow)"
    return labelled(["input", "reconstruction", "squared error"], strips, full, heads)


def defect_images(
    pictures: Array,
    guess: Array | None,
    maps: Array,
    masks: NDArray[np.bool_],
    heads: Sequence[str],
    threshold: float,
) -> Picture:
    """Pictures `[N, C, H, W]` in [0, 1] above their reconstructions, if there are any, maps `[N, H, W]`, their places
    above the threshold, and masks `[N, H, W]`. The colours of maps end at the largest value. Of volumes, with D before
    H, the first ones as strips."""
    scale = max(1, round(TILE / max(pictures.shape[-2:])))
    if pictures.ndim == 5:
        scale = max(1, round(TILE / 2 / max(pictures.shape[-2:])))
        pictures = side_by_side(pictures)
        maps, masks = side_by_side(maps[:, None])[:, 0], side_by_side(masks[:, None])[:, 0]
        guess, heads = None if guess is None else side_by_side(guess), heads[: len(pictures)]
    rows = {"input": (pictures, False, 1.0)}
    if guess is not None:
        rows["reconstruction"] = (guess, False, 1.0)
    rows |= {
        "map": (maps[:, None], True, float(maps.max())),
        "above": ((maps > threshold)[:, None].astype(float), False, 1.0),
        "mask": (masks[:, None].astype(float), False, 1.0),
    }
    strips = [_strip(images, 0.0, high, scale, heat) for images, heat, high in rows.values()]
    title = (
        f"anomalies of the highest scores and the lowest, then normal ones of the highest; map 0 (dark) to "
        f"{maps.max():.2g} (yellow), threshold {threshold:.2g}"
    )
    return labelled(list(rows), strips, title, heads)


def error_lines(truth: Array, guess: Array, error: Array, heads: Sequence[str], title: str) -> Picture:
    """Series `[N, C, T]` and their reconstructions; time steps are darker the larger their squared error, averaged over
    channels, on one scale for all."""
    figure, axes = _panels(-(-len(truth) // COLUMNS), min(COLUMNS, len(truth)), (2.5, 1.7), title)
    low, high = float(min(truth.min(), guess.min())), float(max(truth.max(), guess.max()))
    shade = error.mean(axis=1)
    for axis, line, model, strip, head in zip(axes, truth, guess, shade, heads, strict=False):
        axis.imshow(
            strip[None], extent=(-0.5, len(strip) - 0.5, low, high), aspect="auto", cmap=colormaps["Reds"],
            vmin=0, vmax=float(shade.max()), alpha=0.6,
        )  # fmt: skip
        axis.set_title(head, fontsize=8, color=MUTED, loc="left")
        for channel, (real, made) in enumerate(zip(line, model, strict=True)):
            axis.plot(real, color=TRUTH, lw=1.8, label="input" if channel == 0 else None)
            axis.plot(made, color=MODEL, lw=1.1, label="reconstruction" if channel == 0 else None)
    for axis in axes[len(truth) :]:
        axis.set_visible(False)
    figure.supxlabel("time step", fontsize=9, color=INK)
    figure.supylabel("value", fontsize=9, color=INK)
    handles, names = axes[0].get_legend_handles_labels()
    handles.append(Patch(color=colormaps["Reds"](0.6)))
    figure.legend(handles, [*names, "squared error"], loc="outside upper right", ncols=3, frameon=False, fontsize=8)
    return _render(figure)


def error_table(error: Array, heads: Sequence[str], title: str, names: Sequence[str] | None) -> Picture:
    """Heat map of the squared error of every feature, `[N, D]`, one row per example."""
    label = "squared error"
    return heat_maps([(label, error)], title, columns=names, ylabel="", rows=heads, bounds=(0.0, float(error.max())))
