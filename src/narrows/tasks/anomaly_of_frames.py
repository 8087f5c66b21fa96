"""How well a model tells the anomalous frames of clips: what task anomaly does where masks mark them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from narrows.compare.figure_names import CLASSICS, MODEL
from narrows.errors import nearest, require
from narrows.tasks.base import TaskContext
from narrows.tasks.classics.frame_methods import FramePCA, before
from narrows.tasks.classics.mean_pca_ridge import fit_classics
from narrows.tasks.figure_table import FigureTable
from narrows.tasks.measures.anomaly_maps import MapOf, frame_means, guess_map, model_map
from narrows.tasks.measures.auroc_and_thresholds import Flags, Scores
from narrows.tasks.measures.folded_frames import Folding
from narrows.tasks.measures.frame_figures import frame_figures
from narrows.types import Batch

log = logging.getLogger(__name__)

SHOWN = 6
OF_FRAMES = ("frame_pca", "previous_frame")


@dataclass
class FrameScores:
    """How the frames of clips are judged.

    Args:
        classics: beside PCA of clips and their mean: frame_pca (of single frames), previous_frame (the squared
            difference from the frame before, of a clip's first frame from its second).
    """

    classics: Sequence[str] = OF_FRAMES

    def __post_init__(self) -> None:
        for name in self.classics:
            require(name in OF_FRAMES, f"task anomaly: frames.classics has no '{name}': {nearest(name, OF_FRAMES)}")


@dataclass
class Filmed:
    """The frames of the films of a split, one film after another."""

    names: list[str]
    """Of the films."""
    film: NDArray[np.int64]
    """The film of each frame, `[F]`."""
    place: NDArray[np.int64]
    """Its place in the film, `[F]`."""
    scores: dict[str, Scores] = field(default_factory=dict)
    """Of each method, `[F]`."""
    anomalous: Flags = field(default_factory=lambda: np.zeros(0, dtype=bool))


def has_frames(context: TaskContext) -> bool:
    """Whether the test examples are clips, of which masks say which frames are anomalous."""
    part = getattr(context.everything, "part", None)  # that of a test's or a user's data may be missing
    return context.spec.kind == "video" and part is not None and part("test").anomalous is not None


def judge_frames(
    context: TaskContext,
    how: FrameScores,
    score: str,
    normal: Callable[[NDArray[np.integer]], Flags],
    threshold: Callable[[Scores], float],
    found: FigureTable,
) -> None:
    """Add to `found` the figures of frames of every method. A frame's score is its mean squared error in a clip, and
    the mean over the clips that hold it; a frame is anomalous where a pixel of it is marked.

    Args:
        score: the model's; see `tasks.measures.anomaly_maps.model_map`.
        normal: which labels of clips `[B]` are normal.
        threshold: from the scores of the frames of normal validation clips; frames of one film are alike, so that a
            conformal one promises nothing of them.
    """
    methods = _methods(context, how, score)
    part = context.everything.part("test")
    marked = part.anomalous.take(slice(None)).cpu().flatten(3).amax(3)[:, 0].numpy() > 0
    test, _ = _filmed(context.everything.ordered_loader("test"), part.names, methods, context)
    test.anomalous = Folding(part.names, *marked.shape).mean(marked) > 0
    require(
        bool(test.anomalous.any()) and not test.anomalous.all(),
        "task anomaly: the masks mark no frame or every frame of the test clips; ranking needs both kinds",
    )
    names = context.everything.part("validation").names
    held, usual = _filmed(context.batches("validation"), names, methods, context, normal)
    level = {name: threshold(scores[usual]) for name, scores in held.scores.items()}
    found.add({"frame_prevalence": float(test.anomalous.mean())})
    for name, scores in test.scores.items():
        found.add(frame_figures(scores, test.anomalous, level[name], test.film, context.seed), name)
    reached = {name: found.row(name)["frame_auroc"] for name in methods}
    better = [CLASSICS[name] for name, value in reached.items() if value > reached[MODEL]]
    if better:
        log.info("AUROC of frames of the model %.4f; higher: %s", reached[MODEL], ", ".join(better))
    _draw(context, test, level[MODEL])


def _methods(context: TaskContext, how: FrameScores, score: str) -> dict[str, MapOf]:
    classics = fit_classics(context, None)
    found = {
        MODEL: model_map(context, score),
        "pca": guess_map(lambda batch: classics.guess_usual(batch.x, batch.observed)),
        "mean": guess_map(lambda batch: classics.guess_mean(batch.x)),
    }
    if "frame_pca" in how.classics:
        frames = FramePCA.of(context, None)
        found["frame_pca"] = guess_map(lambda batch: frames.guess(batch.x))
    if "previous_frame" in how.classics:
        found["previous_frame"] = guess_map(lambda batch: before(batch.x))
    return found


def _filmed(
    batches: Iterable[Batch],
    names: Sequence[str] | None,
    methods: Mapping[str, MapOf],
    context: TaskContext,
    normal: Callable[[NDArray[np.integer]], Flags] | None = None,
) -> tuple[Filmed, Flags]:
    """The frames of a split with their scores, and which of them are in no clip but normal ones."""
    parts: dict[str, list[Scores]] = {name: [] for name in methods}
    usual = []
    for batch in batches:
        batch = batch.to(context.device)
        for name, map_of in methods.items():
            parts[name].append(frame_means(map_of(batch)))
        labels = np.zeros(len(batch), dtype=np.int64) if batch.label is None else batch.label.cpu().numpy()
        usual.append(np.ones(len(batch), dtype=bool) if normal is None else normal(labels))
    whole = {name: np.concatenate(several) for name, several in parts.items()}
    shape = whole[MODEL].shape
    folding = Folding(names, *shape)
    scores: dict[str, Scores] = {name: folding.mean(values) for name, values in whole.items()}
    kept = np.broadcast_to(np.concatenate(usual)[:, None], shape)
    return Filmed(folding.names, folding.film, folding.place, scores), folding.mean(kept) == 1


def _draw(context: TaskContext, test: Filmed, threshold: float) -> None:
    """Show `anomaly_frames`: the scores of the films with most anomalous frames."""
    if context.directory is None:
        return
    # Imported here, so that loading a model does not import matplotlib.
    from narrows.drawing.anomalies_in_time import Track, anomalies_in_time

    marked = np.bincount(test.film, test.anomalous, len(test.names))
    tracks = []
    for number in np.argsort(-marked, kind="stable")[:SHOWN]:
        rows = test.film == number
        others = {name: scores[rows] for name, scores in test.scores.items() if name in OF_FRAMES}
        values = np.stack([*others.values()] or [test.scores["mean"][rows]])
        tracks.append(
            Track(
                test.names[number], test.place[rows], values, test.anomalous[rows], test.scores[MODEL][rows], threshold
            )
        )
    above = " and ".join(CLASSICS[name] for name in OF_FRAMES if name in test.scores) or CLASSICS["mean"]
    context.show("anomaly_frames", anomalies_in_time(tracks, f"test frames: {above} above the run's score"))
