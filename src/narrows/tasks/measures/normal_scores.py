"""The scores of a run's normal validation rows, stored with the run; thresholds are quantiles of them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig
from torch import Tensor

from narrows.config.plain_schema import require_fits
from narrows.errors import UserError, require
from narrows.evaluation import evaluating
from narrows.files import read_json, write_json
from narrows.loading.open_run import OpenRun
from narrows.models.autoencoder import Autoencoder
from narrows.runs import record_types
from narrows.runs.file_names import CALIBRATION
from narrows.tasks.measures import chosen_rows
from narrows.tasks.measures.anomaly_maps import error_map, frame_means
from narrows.tasks.measures.anomaly_scores import standardised_mse, usual_errors
from narrows.tasks.measures.folded_frames import Folding
from narrows.tasks.measures.reconstruction_errors import example_mse, example_nats
from narrows.tasks.measures.time_steps import fold
from narrows.types import COUNTED, Batch

SUPPORTED = ("reconstruction", "standardised")
"""Scores of task anomaly that need only a row and its reconstruction."""
NATS = "nats"
"""`-log p(x|z)` at the noise-free latent, in nats; where examples differ in length, per step: the score of tokens,
counts and interactions, whose squared errors mean little."""

Scores = NDArray[np.float64]
log = logging.getLogger(__name__)


@dataclass
class Calibration:
    """The score of new rows, and the normal scores that give its threshold."""

    normals: Scores
    """Scores of the validation normals, ascending."""
    usual: Tensor | None
    """`narrows.tasks.measures.anomaly_scores.usual_errors` of the training rows, where the score is `standardised`."""
    score: str = SUPPORTED[0]
    """Which score it is."""
    series: dict[str, Scores] | None = None
    """Of windows of signals, where `normals` are those of time steps, the same of each series, ascending."""
    frames: Scores | None = None
    """Of clips of films, the scores of the frames that are in normal validation clips alone, ascending."""

    def threshold(self, quantile: float, series: str | None = None) -> float:
        """The quantile of the normal scores: of this series where it has some of its own, else of all."""
        own = None if self.series is None or series is None else self.series.get(series)
        return float(np.quantile(self.normals if own is None else own, quantile))

    def judge(self, model: Autoencoder, batch: Batch) -> tuple[Tensor, Scores]:
        """Reconstructions `[N, *shape]` (the examples themselves where the score needs none) and scores `[N]`, on the
        CPU."""
        return _judge(model, batch, self.usual, self.score)

    def frame_scores(self, guess: Tensor, x: Tensor) -> Scores:
        """The scores of the frames of clips `[N, C, T, H, W]` by themselves, `[N, T]`: the mean over those of a clip is
        the clip's."""
        return frame_means(error_map(guess, x, None, self.usual))


def calibrate(run: OpenRun, overrides: Sequence[str] | None = None, *, frames: bool = False) -> Calibration:
    """The run's calibration: the stored one if it belongs to these weights, else computed from the data and stored.

    Args:
        overrides: of the run's config, by which its data are looked for once they are needed; None: that is done.
        frames: whether the scores of frames are needed too, which earlier versions did not store.

    Raises:
        UserError: it is not stored, and the data are not on this machine or have no normal validation row.
    """
    score = NATS if run.model.spec.kind in (*COUNTED, "tokens") else score_of(run.config)
    made_for: dict[str, Any] = {"weights": run.checksum, "score": score}
    if run.model.spec.variable and score != NATS:  # earlier versions judged padding too
        made_for["padding"] = False
    path = run.path / CALIBRATION
    if path.is_file():
        stored = _stored(path)
        of_frames = stored.get("frames")
        if made_for == {key: stored.get(key) for key in made_for} and not (frames and of_frames is None):
            usual, series = stored["usual"], stored.get("series")
            shape = run.model.spec.shape
            require(
                usual is None or len(usual) == prod(shape),
                f"{path} is damaged: usual must hold a number for each of {prod(shape)} values",
            )
            return Calibration(
                np.asarray(stored["scores"]),
                None if usual is None else torch.tensor(usual).double().reshape(shape),
                score,
                None if series is None else {name: np.asarray(scores) for name, scores in series.items()},
                None if of_frames is None else np.asarray(of_frames),
            )
    if overrides is not None:
        run.find_data(overrides)
    found = _calibrate(run, score)
    usual = None if found.usual is None else found.usual.flatten().tolist()
    series = None if found.series is None else {name: scores.tolist() for name, scores in found.series.items()}
    record = {"scores": found.normals.tolist(), "usual": usual, "series": series}
    write_json(path, made_for | record | {"frames": None if found.frames is None else found.frames.tolist()})
    return found


def _stored(path: Path) -> dict[str, Any]:
    """The content of a calibration file.

    Raises:
        UserError: it is damaged.
    """
    stored = read_json(path)
    require_fits(record_types.Calibration, stored, str(path))
    series = stored.get("series") or {}
    frames = stored.get("frames")
    numbers = [
        *stored["scores"],
        *(frames or []),
        *np.ravel(stored["usual"] or []),
        *(one for each in series.values() for one in each),
    ]
    filled = all(len(each) > 0 for each in (stored["scores"], *series.values(), *([] if frames is None else [frames])))
    usable = filled and bool(np.isfinite(numbers).all())
    require(usable, f"{path} is damaged: scores must be finite numbers, at least one; without it they are found again")
    return dict(stored)


def score_of(config: DictConfig) -> str:
    """The score of the run's own task anomaly, if it can be computed for new rows; else the squared error."""
    asked = [task.score for task in _anomaly_tasks(config)]
    if asked and asked[0] not in SUPPORTED:
        log.info("new rows are scored by squared error: score=%s is for whole splits", asked[0])
    return asked[0] if asked and asked[0] in SUPPORTED else SUPPORTED[0]


def _anomaly_tasks(config: DictConfig) -> list[DictConfig]:
    # Records of earlier versions name the file of the class too.
    return [task for task in config.tasks.values() if task._target_.endswith(".Anomaly")]


def _calibrate(run: OpenRun, score: str) -> Calibration:
    data, model = run.data, run.model
    usual = None
    if score == "standardised":
        device = next(model.parameters()).device
        with evaluating(model, 0, "score"):
            usual = usual_errors(
                model, (batch.to(device) for batch in data.ordered_loader("train")), data.spec.shape[-1]
            )
    if data.timeline is not None and data.spec.kind != "audio":  # windows of sound are judged as they are
        return _calibrate_steps(data, model, usual, score)
    normal = _normal_labels(run, data)
    found, kept, frames = [], [], []
    for batch in data.ordered_loader("validation"):
        guess, scores = _judge(model, batch, usual, score)
        told = normal is not None and batch.label is not None
        kept.append(np.isin(batch.label.numpy(), np.array(normal)) if told else np.ones(len(batch), dtype=bool))
        found.append(scores[kept[-1]])
        if data.spec.kind == "video":
            frames.append(frame_means(error_map(guess, batch.x.cpu(), None, usual)))
    normals = np.sort(np.concatenate(found))
    if not len(normals):
        raise UserError(f"no validation row of {run.path} is normal, and the threshold comes from them")
    return Calibration(normals, usual, score, frames=_normal_frames(data, frames, np.concatenate(kept)))


def _normal_frames(data: Any, frames: Sequence[Scores], kept: NDArray[np.bool_]) -> Scores | None:
    """The scores of the frames of films, ascending, that are in no clip but normal ones; None of other data, or where
    there are none.

    Args:
        frames: of clips, `[N, T]` in parts.
        kept: which clips are normal, `[N]`.
    """
    if not frames:
        return None
    scores = np.concatenate(frames)
    folding = Folding(data.part("validation").names, *scores.shape)
    usual = folding.mean(np.broadcast_to(kept[:, None], scores.shape)) == 1
    return np.sort(folding.mean(scores)[usual]) if usual.any() else None


def _normal_labels(run: OpenRun, data: Any) -> list[int] | None:
    """The labels of normal examples: 0 of a table that says which rows are normal; of other data those that the run's
    task anomaly names; None where nobody says, and what was trained on is normal."""
    if getattr(getattr(data.source, "label", None), "normal", None) is not None:
        return [0]
    asked = _anomaly_tasks(run.config)
    if data.spec.columns is not None or not asked or data.spec.num_classes is None:
        return None
    named = asked[0].get("normal_labels")
    if named == "auto":  # as the task takes it
        return [1] if data.spec.trained_labels is None else list(data.spec.trained_labels)
    return None if named is None else list(named)


def _calibrate_steps(data: Any, model: Autoencoder, usual: Tensor | None, score: str) -> Calibration:
    """The calibration of time steps, whose score is the mean of those of the windows that cover them."""
    timeline = data.timeline
    places, found = timeline.places["validation"], {}
    scores = np.concatenate([_judge(model, batch, usual, score)[1] for batch in data.ordered_loader("validation")])
    for number in places[:, 0].unique().tolist():
        own = (places[:, 0] == number).numpy()
        steps = fold(scores[own], places[own, 1].numpy(), timeline.window, timeline.lengths[number])
        label = timeline.labels[number]
        normal = np.isfinite(steps) if label is None else np.isfinite(steps) & (label.numpy() == 0)
        if normal.any():
            found[timeline.names[number]] = np.sort(steps[normal])
    if not found:
        raise UserError("no validation time step is normal (label 0), and the threshold comes from them")
    return Calibration(np.sort(np.concatenate(list(found.values()))), usual, score, found)


def _judge(model: Autoencoder, batch: Batch, usual: Tensor | None, score: str) -> tuple[Tensor, Scores]:
    x, observed = batch.x.cpu(), None if batch.observed is None else batch.observed.cpu()
    known = Batch(x, observed=observed, covariates=batch.covariates, length=batch.length)
    device = next(model.parameters()).device
    with evaluating(model, 0, "score"):
        if score == NATS:
            nats = [_nats(model, part.to(device)) for part in chosen_rows.parts(known)]
            return x, np.concatenate(nats) if nats else np.zeros(0)
        guess = chosen_rows.reconstructed(model, known.to(device))
    judged = None if batch.judged is None else batch.judged.cpu()
    if usual is None:
        return guess, example_mse(guess, x, judged).numpy()
    return guess, standardised_mse(guess, x, judged, usual).numpy()


def _nats(model: Autoencoder, batch: Batch) -> Scores:
    p_x = model.decode(model.encode(batch).point, batch)
    nats = example_nats(p_x, batch.truth, batch.judged)
    return (nats if batch.length is None else nats / batch.length.cpu()).numpy()
