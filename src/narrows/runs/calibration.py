"""The scores of a run's validation normals, kept with the run: every threshold is a quantile of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig
from torch import Tensor

from narrows.errors import UserError
from narrows.model import Autoencoder
from narrows.runs import checkpoints
from narrows.runs import data as data_of
from narrows.runs.directory import read_json, write_json
from narrows.runs.load import checkpoint_path
from narrows.tasks import rows
from narrows.tasks.base import evaluating
from narrows.tasks.scores import example_mse
from narrows.types import Batch

FILE = "calibration.json"

Scores = NDArray[np.float64]


def reconstructed(model: Autoencoder, x: Tensor, observed: Tensor | None) -> tuple[Tensor, Scores]:
    """Reconstructions `[N, *shape]` and anomaly scores `[N]` (see `narrows.tasks.anomaly`), on the CPU."""
    batch = Batch(x, observed=observed)
    with evaluating(model, 0, "score"):
        guess = rows.reconstructed(model, batch.to(next(model.parameters()).device))
    return guess, example_mse(guess, x, observed).numpy()


def calibrated(run: Path, config: DictConfig, model: Autoencoder) -> Scores:
    """The scores of the validation normals: the stored ones where they are of these weights, else computed from the
    run's data and stored.

    Raises:
        UserError: they are not stored, and the data are not here or have no normal row in validation.
    """
    weights = checkpoints.checksum(checkpoint_path(run, config.checkpoint))
    path = run / FILE
    if path.is_file():
        stored = read_json(path)
        if stored.get("weights") == weights:
            return np.asarray(stored["scores"])
    scores = np.sort(_scores(run, config, model))
    write_json(path, {"weights": weights, "scores": scores.tolist()})
    return scores


def _scores(run: Path, config: DictConfig, model: Autoencoder) -> Scores:
    data = data_of.load(config, run)
    binary = data.source.label.normal is not None
    found = []
    for batch in data.ordered_loader("validation"):
        scores = reconstructed(model, batch.x, batch.observed)[1]
        # Where the table does not say which labels are normal, what is trained on is.
        found.append(scores[(batch.label == 0).numpy()] if binary else scores)
    scores = np.concatenate(found)
    if not len(scores):
        raise UserError(f"no validation row of {run} is normal, and the threshold comes from them")
    return scores
