"""The scores of every time step of series: those of a model and of classics, window scores folded back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from narrows.compare.figure_names import MODEL
from narrows.data.time_order import Timeline
from narrows.random import derive
from narrows.tasks.base import TaskContext
from narrows.tasks.classics.series_detectors import DETECTORS, OneSeries
from narrows.tasks.measures.anomaly_scores import Score
from narrows.tasks.measures.time_steps import Cut, in_time, interpolated
from narrows.tasks.measures.volume_under_surface import period_of
from narrows.types import Batch

Scores = NDArray[np.float64]


@dataclass
class Judged:
    """One series, and the scores of every method."""

    name: str
    steps: NDArray[np.int64]
    """The judged time steps, `[T]`: those that a test window covers."""
    anomalous: NDArray[np.bool_]
    """`[T]`."""
    values: Scores
    """`[C, T]`, scaled."""
    period: int
    scores: dict[str, Scores] = field(default_factory=dict)
    """`[T]` of each method."""
    thresholds: dict[str, float] = field(default_factory=dict)
    figures: dict[str, dict[str, float]] = field(default_factory=dict)
    """Of each method, by name."""

    @property
    def both(self) -> bool:
        """Whether it has time steps of both kinds."""
        return bool(self.anomalous.any()) and not self.anomalous.all()


def score_series(
    context: TaskContext, rank: Score, names: Sequence[str], period: int | Literal["auto"]
) -> tuple[list[Judged], list[dict[str, Scores]]]:
    """The series of the test split, each with the scores of the model and of the named classics; and of each series the
    scores of its normal validation steps, by method.

    Args:
        rank: the model's score of windows.
        names: of `tasks.classics.series_detectors`.
    """
    timeline: Timeline = context.everything.timeline  # type: ignore[attr-defined]
    windows = {split: _windows(context, split) for split in ("train", "validation", "test")}
    own = {split: _ranked(context, split, rank) for split in ("validation", "test")}
    numbers = timeline.places["test"][:, 0].unique().tolist()
    found = [_of_series(context, timeline, windows, own, number, period, names) for number in numbers]
    return [one for one, _ in found], [normal for _, normal in found]


def _windows(context: TaskContext, split: str) -> Batch:
    data = context.everything if split == "test" else context.datamodule
    return Batch.cat(batch.to("cpu") for batch in data.ordered_loader(split))


def _ranked(context: TaskContext, split: str, rank: Score) -> Scores:
    data = context.everything if split == "test" else context.datamodule
    found = [rank(batch.to(context.device)) for batch in data.ordered_loader(split)]
    return np.concatenate(found).astype(np.float64)


def _of_series(
    context: TaskContext,
    timeline: Timeline,
    windows: dict[str, Batch],
    own: dict[str, Scores],
    number: int,
    period: int | Literal["auto"],
    names: Sequence[str],
) -> tuple[Judged, dict[str, Scores]]:
    """A series with the scores of every method, and those of its normal validation steps."""
    cuts, missing = _cuts(timeline, windows, number)
    values = np.full((windows["test"].x.shape[1], timeline.lengths[number]), np.nan)
    for split, cut in cuts.items():
        seen = in_time(cut, missing[split])
        values = np.where(np.isfinite(seen), seen, values)
    trained = cuts["train"].covered if len(cuts["train"].starts) else cuts["test"].covered
    filled = interpolated(values)
    before = (trained | cuts["validation"].covered) & ~cuts["test"].covered
    own_period = period_of(filled[:, before]) if period == "auto" and before.any() else None
    found = own_period if period == "auto" else period
    label = timeline.labels[number]
    assert label is not None
    steps = np.flatnonzero(cuts["test"].covered)
    judged = Judged(
        timeline.names[number],
        steps,
        label.numpy()[steps] != 0,
        values[:, steps],
        min(found or timeline.window, max(1, len(steps) // 2)),
    )
    one = OneSeries(
        train=cuts["train"].rows if len(cuts["train"].starts) else windows["train"].x.numpy(),
        judged={split: cut for split, cut in cuts.items() if split != "train" and len(cut.starts)},
        values=filled,
        trained=trained,
        period=judged.period,
        components=int(np.prod(context.model.latent_shape)),
        seed=derive(context.seed, "series detectors") % 2**32,
    )
    rows = {split: (timeline.places[split][:, 0] == number).numpy() for split in own}
    scored = {MODEL: {split: cuts[split].fold(own[split][rows[split]]) for split in own}}
    scored |= {name: result for name in names if (result := DETECTORS[name](one)) is not None}
    judged.scores = {name: by_split["test"][steps] for name, by_split in scored.items()}
    normal = (label.numpy() == 0) & cuts["validation"].covered
    return judged, {name: by_split["validation"][normal] for name, by_split in scored.items() if normal.any()}


def _cuts(
    timeline: Timeline, windows: dict[str, Batch], number: int
) -> tuple[dict[str, Cut], dict[str, NDArray[np.bool_]]]:
    """The windows of a series by split, missing values at the training mean of all windows, and what is missing."""
    cuts, missing = {}, {}
    for split, batch in windows.items():
        rows = timeline.places[split][:, 0] == number
        x, observed = batch.x[rows], None if batch.observed is None else batch.observed[rows]
        gone = torch.zeros_like(x, dtype=torch.bool) if observed is None else ~observed
        missing[split] = gone.numpy()
        cuts[split] = Cut(
            torch.where(gone, _centre(windows["train"]), x).numpy(),
            timeline.places[split][rows, 1].numpy(),
            timeline.lengths[number],
        )
    return cuts, missing


def _centre(train: Batch) -> torch.Tensor:
    """The mean of the observed values of each channel, `[C, 1]`."""
    if train.observed is None:
        return train.x.mean((0, 2))[:, None]
    return ((train.x * train.observed).sum((0, 2)) / train.observed.sum((0, 2)).clamp_min(1))[:, None]
