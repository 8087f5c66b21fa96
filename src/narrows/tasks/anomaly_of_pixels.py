"""How well a model tells the anomalous pixels of pictures: what task anomaly does where masks are at hand."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from narrows.compare.figure_names import CLASSICS, MODEL
from narrows.errors import nearest, printable, require
from narrows.tasks.base import TaskContext
from narrows.tasks.classics.intensity_maps import INTENSITIES
from narrows.tasks.classics.mean_pca_ridge import fit_classics
from narrows.tasks.classics.position_detectors import POSITIONS, Positions
from narrows.tasks.figure_table import FigureTable
from narrows.tasks.measures.anomaly_maps import MapOf, Maps, finish, guess_map, largest, model_map
from narrows.tasks.measures.anomaly_scores import Score
from narrows.tasks.measures.auroc_and_thresholds import Flags, Scores, detection_figures
from narrows.tasks.measures.pixel_figures import pixel_figures
from narrows.types import Batch

log = logging.getLogger(__name__)

LETTERS = 14
"""Of a class's name above its picture."""


@dataclass
class PixelMaps:
    """How the pixels of pictures are judged.

    Args:
        smoothing: standard deviation, in pixels, of the Gaussian by which maps are smoothed; 4 is usual at sides of
            some 250 pixels, 0 leaves them as they are.
        classics: detectors of positions, of feature maps (`input=features`) alone: feature_pca, padim, patchcore;
            and of values, of pictures and scans alone: equalised, equalised_extremes, z_score
            (`tasks.classics.intensity_maps`).
        coreset: the share of training positions that patchcore keeps; null keeps all.
    """

    smoothing: float = 4.0
    classics: Sequence[str] = ("feature_pca", "padim", "patchcore")
    coreset: float | None = 0.01

    def __post_init__(self) -> None:
        require(self.smoothing >= 0, f"task anomaly: maps.smoothing={self.smoothing} must be at least 0 pixels")
        share = self.coreset
        require(share is None or 0 < share <= 1, f"task anomaly: maps.coreset={share} must be in (0, 1], or null")
        for name in self.classics:
            known = {**POSITIONS, **INTENSITIES}
            require(name in known, f"task anomaly: maps.classics has no '{name}': {nearest(name, known)}")


@dataclass
class Pixels:
    """What was found of pixels, for pictures.

    Args:
        maps: of the model, of the test pictures, `[N, H, W]`.
        masks: `[N, H, W]`.
        threshold: of the model's pixels.
    """

    maps: Maps
    masks: Flags
    threshold: float


def masks_of(context: TaskContext) -> Flags | None:
    """The masks of all test pictures, bool `[N, H, W]`; None where the data have none."""
    part = getattr(context.everything, "part", None)  # that of a test's or a user's data may be missing
    held = None if part is None else part("test").anomalous
    return None if held is None else held.take(slice(None))[:, 0].cpu().numpy() > 0


def judge_pixels(
    context: TaskContext,
    how: PixelMaps,
    score: str,
    normal: Callable[[NDArray[np.integer]], Flags],
    threshold: Callable[[Scores], float],
    found: FigureTable,
) -> Pixels | None:
    """Add to `found` the pixels' figures of every method that has a map, and of detectors of positions and of values
    also those of whole pictures, by the largest value of the map.

    Args:
        score: the model's; see `tasks.measures.anomaly_maps.model_map`.
        normal: which labels `[B]` are normal.
        threshold: from scores of validation normals; that of pixels is of all their pixels together, which are not
            exchangeable, so that a conformal one promises nothing of them.
    """
    masks = masks_of(context)
    methods = _methods(context, how, score)
    size = _size(context)
    held, fine = _maps(context.batches("validation"), methods, context)
    test, labels = _maps(context.everything.ordered_loader("test"), methods, context)
    anomalous = ~normal(labels)
    kept: Pixels | None = None
    for name in methods:
        normals = finish(held[name][torch.from_numpy(normal(fine))], size, how.smoothing)
        maps = finish(test[name], size, how.smoothing)
        if name in POSITIONS or name in INTENSITIES:
            scores = largest(maps)
            found.add(detection_figures(scores, anomalous, threshold(largest(normals)), context.seed), name)
        if masks is not None:
            level = threshold(normals.ravel())
            found.add(pixel_figures(maps, masks, level, context.seed), name)
            kept = Pixels(maps, masks, level) if name == MODEL else kept
    _tell(methods, found, masked=masks is not None)
    return kept


def largest_of_maps(context: TaskContext, how: PixelMaps) -> dict[str, Score]:
    """The largest value of the map of the model, of PCA and of the mean, as scores of pictures."""
    size = _size(context)

    def score(map_of: MapOf) -> Score:
        return lambda batch: largest(finish(map_of(batch), size, how.smoothing))

    return {name: score(map_of) for name, map_of in _rebuilding(context, "reconstruction").items()}


def _size(context: TaskContext) -> tuple[int, ...]:
    """Height and width of the pictures, of which features may be what the model sees; of volumes three sides."""
    part = getattr(context.everything, "part", None)
    return tuple(context.spec.shape[1:] if part is None else part("test").x.shape[2:])


def _rebuilding(context: TaskContext, score: str) -> dict[str, MapOf]:
    """The methods whose map is the error of what they rebuild."""
    classics = fit_classics(context, None)
    return {
        MODEL: model_map(context, score),
        "pca": guess_map(lambda batch: classics.guess_usual(batch.x, batch.observed)),
        "mean": guess_map(lambda batch: classics.guess_mean(batch.x)),
    }


def _methods(context: TaskContext, how: PixelMaps, score: str) -> dict[str, MapOf]:
    found = _rebuilding(context, score)
    if context.spec.kind == "features":
        positions = Positions(context, how.coreset)
        found |= {name: fit(positions) for name, fit in POSITIONS.items() if name in how.classics}
    else:
        found |= {name: fit(context) for name, fit in INTENSITIES.items() if name in how.classics}
    return found


def _maps(
    batches: Iterable[Batch], methods: dict[str, MapOf], context: TaskContext
) -> tuple[dict[str, Tensor], NDArray[np.integer]]:
    """The maps of every method, `[N, h, w]`, and the labels, both on the CPU."""
    parts: dict[str, list[Tensor]] = {name: [] for name in methods}
    labels = []
    for batch in batches:
        batch = batch.to(context.device)
        for name, map_of in methods.items():
            parts[name].append(map_of(batch).float().cpu())
        labels.append(torch.zeros(len(batch)).long() if batch.label is None else batch.label.cpu())
    return {name: torch.cat(several) for name, several in parts.items()}, torch.cat(labels).numpy()


def _tell(methods: Iterable[str], found: FigureTable, *, masked: bool) -> None:
    figure = "aupro" if masked else "auroc"
    reached = {name: found.row(name)[figure] for name in methods}
    better = [CLASSICS[name] for name, value in reached.items() if value > reached[MODEL]]
    if better:
        log.info("%s of the model %.4f; higher: %s", figure.upper(), reached[MODEL], ", ".join(better))


def telling(scores: Scores, anomalous: Flags, most: int = 8) -> NDArray[np.int64]:
    """Rows of test pictures that say most: the anomalies of the highest scores, those of the lowest, which were missed,
    and the normal ones of the highest, which are false alarms; no row twice."""
    order = np.argsort(-scores, kind="stable")
    odd, plain = order[anomalous[order]], order[~anomalous[order]]
    few = most // 4
    chosen = [*odd[: most - 2 * few], *odd[::-1][:few], *plain[:few]]
    return np.array(list(dict.fromkeys(chosen)), dtype=np.int64)


def draw_pixels(
    context: TaskContext, pixels: Pixels, scores: Scores, anomalous: Flags, labels: NDArray[np.integer]
) -> None:
    """Show `anomaly_pixels`: pictures, reconstructions, maps and masks of test pictures, whose scores are `[N]`."""
    # Imported here, so that loading a model does not import matplotlib.
    from narrows.drawing.roc_and_error_maps import defect_images

    rows = telling(scores, anomalous)
    chosen = torch.from_numpy(rows)
    data = context.everything
    shown = data.part("test").x.take(chosen.to(data.part("test").x.device)).cpu()
    pictures = (shown / 255 if shown.dtype == torch.uint8 else shown).float().numpy()
    guess = None
    if context.spec.kind != "features":
        guess = context.model.reconstruct(Batch(torch.from_numpy(pictures)).to(context.device)).cpu().numpy()
    names = context.spec.class_names
    heads = [printable(str(label) if names is None else names[label])[:LETTERS] for label in labels[rows].tolist()]
    context.show(
        "anomaly_pixels",
        defect_images(pictures, guess, pixels.maps[rows], pixels.masks[rows], heads, pixels.threshold),
    )
