"""Error maps of the most anomalous examples, which show the values that are unusual."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from narrows.drawing import roc_and_error_maps as figures
from narrows.drawing.labels import Picture
from narrows.evaluation import select
from narrows.tasks.base import TaskContext
from narrows.types import PIXELS, Batch

TOP = 8


def value_errors(context: TaskContext, rows: Batch) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """The noise-free reconstruction and the squared error of every value, `[B, *shape]` each; the error is 0 where the
    value was not observed. Its mean over observed values is the score `reconstruction`."""
    guess = context.model.reconstruct(rows.to(context.device)).cpu()
    error = (guess - rows.truth).square()
    if rows.observed is not None:
        error = error.masked_fill(~rows.observed, 0.0)
    return guess.numpy(), error.numpy()


def most_anomalous(
    context: TaskContext, rows: Batch, scores: NDArray[np.floating], anomalous: NDArray[np.bool_]
) -> Picture:
    """The `TOP` test examples of highest score, what each really is, and its error map."""
    top = np.argsort(-scores, kind="stable")[:TOP]
    shown = select(rows, torch.from_numpy(top))
    guess, error = value_errors(context, shown)
    truth = shown.truth.numpy()
    heads = ["anomaly" if kind else "normal" for kind in anomalous[top]]
    title = "the most anomalous test examples, and what they really are"
    if context.spec.kind in PIXELS:
        return figures.error_images(truth, guess, error, heads, title, context.spec.bounds)
    if context.spec.kind in ("series", "audio") and truth.ndim == 3:
        return figures.error_lines(truth, guess, error, heads, title)
    heads = [f"{kind}, score {score:.3g}" for kind, score in zip(heads, scores[top], strict=True)]
    names = context.spec.feature_names
    return figures.error_table(error.reshape(len(error), -1), heads, title, names)
