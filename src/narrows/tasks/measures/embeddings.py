"""Embeddings (latents, components) of a split, and figures of their worth: k-NN, linear probe, neighbourhoods."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.manifold import trustworthiness
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from narrows.data import ClipNames
from narrows.errors import require
from narrows.evaluation import subset
from narrows.models.autoencoder import Autoencoder
from narrows.models.conditional import ConditionalAutoencoder
from narrows.tasks.base import TaskContext
from narrows.types import Batch

log = logging.getLogger(__name__)

Matrix = NDArray[np.floating]
Reader = Callable[[Batch], NDArray[Any]]
"""A function from a batch to the rows that describe its examples, `[B, ...]`."""
NEIGHBOURS = 5
ITERATIONS = 300


def read_split(
    context: TaskContext, split: str, readers: Mapping[str, Reader], positions: Tensor | None = None
) -> dict[str, NDArray[Any]]:
    """The results `[N, ...]` of every reader on a split, or on its rows at the ascending `positions`, in order."""
    loader = context.datamodule.ordered_loader(split)
    found: dict[str, list[NDArray[Any]]] = {name: [] for name in readers}
    for batch in loader if positions is None else subset(loader, positions):
        batch = batch.to(context.device)
        for name, read in readers.items():
            found[name].append(read(batch))
    require(all(found.values()), f"the {split} split is empty")
    return {name: np.concatenate(parts) for name, parts in found.items()}


def embedding(context: TaskContext) -> Reader:
    """The model's noise-free latents, flattened."""
    return lambda batch: context.model.embed(batch).float().cpu().numpy()


def pooled_embedding(context: TaskContext) -> Reader:
    """Means and deviations over time of latents that are maps `[D, K]`, of the steps whose part of the sound `[C, T]`
    is not all zeros, or of all where none is: `[B, 2 D]`."""
    shape = context.model.latent_shape

    def read(batch: Batch) -> NDArray[Any]:
        latents = context.model.embed(batch).float().cpu().numpy().reshape(len(batch), *shape)
        edges = np.arange(shape[1]) * batch.x.shape[-1] // shape[1]
        heard = np.maximum.reduceat(batch.x.abs().amax(1).cpu().numpy(), edges, axis=1) > 0
        heard |= ~heard.any(1, keepdims=True)
        weight = (heard / heard.sum(1, keepdims=True))[:, None]
        mean = (latents * weight).sum(2)
        spread = np.sqrt((np.square(latents - mean[..., None]) * weight).sum(2))
        return np.concatenate([mean, spread], 1)

    return read


def labels(batch: Batch) -> NDArray[Any]:
    """The classes, `[B]`."""
    assert batch.label is not None
    return batch.label.cpu().numpy()


def clip_field(context: TaskContext, split: str, field: str, positions: Tensor | None = None) -> Reader:
    """Classes `[B]`, in the order of their names, by a field of the names of sounds: of the split's batches in order,
    or of its rows at the ascending `positions`.

    Raises:
        UserError: the data's names have no such field.
    """
    names = getattr(getattr(context.datamodule, "source", None), "names", None)
    known = names.fields if isinstance(names, ClipNames) else []
    require(
        field in known,
        f"field={field} is none of these data's names: "
        + (f"they have {', '.join(known)}" if known else "set datamodule.source.names.pattern, of sound"),
    )

    def values(split: str) -> list[str]:
        assert isinstance(names, ClipNames)
        clips = (str(name).rpartition(":")[0] or str(name) for name in context.datamodule.part(split).names)
        return [names.read(clip)[field] for clip in clips]

    classes, told, read = sorted({*values("train"), *values("test")}), values(split), 0
    told = told if positions is None else [told[row] for row in positions.tolist()]

    def next_classes(batch: Batch) -> NDArray[Any]:
        nonlocal read
        part = told[read : read + len(batch)]
        read += len(batch)
        return np.array([classes.index(value) for value in part])

    return next_classes


def told_the_label(model: Autoencoder) -> str | None:
    """The reason why the latents cannot be judged by labels, if the encoder reads them; else None."""
    told = isinstance(model, ConditionalAutoencoder)
    return "its encoder is told the label that is to be read from the latents" if told else None


def neighbour_hits(codes: Matrix, label: NDArray[Any], test: Matrix, truth: NDArray[Any]) -> Matrix:
    """1. for every test row whose label most of its five nearest training rows have, else 0., `[M]`.

    "Nearest neighbor pattern classification" (Cover and Hart, 1967); Euclidean, ties to the smaller label.
    """
    voters = KNeighborsClassifier(n_neighbors=min(NEIGHBOURS, len(codes))).fit(codes, label)
    return (voters.predict(test) == truth).astype(np.float64)


@dataclass
class LinearProbe:
    """A linear classifier: the class of the largest of `W z + b`."""

    classes: NDArray[Any]
    """The labels that it knows, `[C]`, ascending."""
    weight: Matrix
    """`[C, D]`."""
    bias: Matrix
    """`[C]`."""

    def tell(self, codes: Matrix) -> NDArray[Any]:
        """The labels of codes `[N, D]`, `[N]`."""
        return self.classes[(codes @ self.weight.T + self.bias).argmax(1)]


def fit_probe(codes: Matrix, label: NDArray[Any]) -> LinearProbe:
    """Multinomial logistic regression with an L2 penalty of 1 on codes `[N, D]` that are centred and divided by one
    number, the root of their columns' mean variance.

    So a turn of the axes changes nothing, and a column that hardly varies is not blown up (scaling every column takes
    ten points from 50 principal components of 100 MNIST digits). Of a single label it always says that one.
    "Understanding intermediate layers using linear classifier probes" (Alain and Bengio, 2016).
    """
    classes = np.unique(label)
    if len(classes) == 1:
        return LinearProbe(classes, np.zeros((1, codes.shape[1])), np.zeros(1))
    centre, scale = codes.mean(0), max(float(np.sqrt(codes.var(0).mean())), 1e-12)
    fitted = LogisticRegression(max_iter=ITERATIONS)
    # BLAS kernels that read past a narrow float32 row raise "invalid value" about numbers that are all finite.
    with warnings.catch_warnings(record=True) as caught, np.errstate(invalid="ignore"):
        warnings.simplefilter("always", ConvergenceWarning)
        fitted.fit((codes - centre) / scale, label)
    if any(issubclass(warning.category, ConvergenceWarning) for warning in caught):
        log.info("a linear probe has not converged after %d iterations: its figure is that of the last", ITERATIONS)
    weight, bias = fitted.coef_ / scale, fitted.intercept_
    if len(classes) == 2:
        # scikit-learn keeps the second class's alone.
        weight, bias = np.concatenate([0 * weight, weight]), np.concatenate([0 * bias, bias])
    return LinearProbe(classes, weight, bias - weight @ centre)


def probe_hits(codes: Matrix, label: NDArray[Any], test: Matrix, truth: NDArray[Any]) -> Matrix:
    """1. for every test row that a linear probe of the training rows tells, else 0., `[M]`; see `fit_probe`."""
    return (fit_probe(codes, label).tell(test) == truth).astype(np.float64)


def trust(original: Matrix, codes: Matrix, neighbours: int = NEIGHBOURS) -> float:
    """Trustworthiness: 1 where the nearest `codes` are also near in the original, by rank.

    "Neighborhood Preservation in Nonlinear Projection Methods" (Venna and Kaski, 2001), equation 1.
    """
    return float(trustworthiness(original, codes, n_neighbors=neighbours))


def continuity(original: Matrix, codes: Matrix, neighbours: int = NEIGHBOURS) -> float:
    """Continuity: 1 where what is nearest in the original is also near among the `codes`, by rank.

    Trustworthiness with the two spaces exchanged (Venna and Kaski, 2001, equation 2).
    """
    return trust(codes, original, neighbours)
