"""Splits of counts and interactions as sparse rows, and what a model says of such rows, a few dense ones at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, vstack
from torch import Tensor

from narrows.errors import require
from narrows.likelihoods.elementwise import LaplaceLikelihood
from narrows.likelihoods.normal import GaussianLikelihood, OptimalGaussianLikelihood
from narrows.models.autoencoder import Autoencoder
from narrows.models.conditional import ConditionalAutoencoder
from narrows.tasks.base import TaskContext
from narrows.types import Batch, DataSpec

Matrix = NDArray[np.floating]
CHUNK = 250
"""Rows that are dense at once."""


class Trained(Protocol):
    """What reads rows: the context of a task, or an opened run."""

    @property
    def model(self) -> Autoencoder: ...
    @property
    def device(self) -> torch.device:
        """Where the model is."""
        ...


@dataclass
class SparseSplit:
    """A split `[N, D]`, of which only what is not 0 is held."""

    x: csr_matrix
    held: csr_matrix | None
    """What is judged, where it is not `x`: a user's items that were held out, `[N, D]`."""
    label: NDArray[Any] | None
    """Known classes, `[N]`."""


def read_sparse(context: TaskContext, split: str) -> SparseSplit:
    """A split of the context's data, made sparse batch by batch, once per context.

    Raises:
        UserError: the split is empty, or a value in it is missing, negative or not a number.
    """
    key = f"sparse/{split}"
    if key not in context.memo:
        context.memo[key] = _read(context, split)
    return context.memo[key]


def _read(context: TaskContext, split: str) -> SparseSplit:
    x, held, labels = [], [], []
    for batch in context.datamodule.ordered_loader(split):
        whole = batch.observed is None or bool(batch.observed.all())
        require(whole, f"the {split} split has missing values, which sparse rows cannot tell from zeros")
        x.append(_sparse(batch.x, split))
        if batch.target is not None:
            held.append(_sparse(batch.target, split))
        if batch.label is not None:
            labels.append(batch.label.cpu().numpy())
    require(bool(x), f"the {split} split is empty")
    return SparseSplit(
        vstack(x, format="csr"),
        vstack(held, format="csr") if len(held) == len(x) else None,
        np.concatenate(labels) if len(labels) == len(x) else None,
    )


def _sparse(values: Tensor, split: str) -> csr_matrix:
    found = csr_matrix(values.float().cpu().numpy())
    valid = bool((found.data >= 0).all() and np.isfinite(found.data).all())
    require(valid, f"the {split} split holds a value that is negative or not finite, and so is no count")
    return found


def unfit_for_rows(spec: DataSpec, model: Autoencoder, kinds: tuple[str, ...]) -> str | None:
    """The reason why a model cannot be asked about bare sparse rows of these kinds of data; None if it can."""
    if spec.kind not in kinds:
        return f"it judges data of kind {' or '.join(kinds)}, not {spec.kind}"
    if isinstance(model, ConditionalAutoencoder):
        return "the model wants to be told labels, which rows alone do not have"
    return None


def dense_batches(trained: Trained, rows: csr_matrix) -> Iterator[Batch]:
    """Sparse rows as batches on the device, a few at a time; their library size is that of the rows."""
    for start in range(0, rows.shape[0], CHUNK):
        values = rows[start : start + CHUNK].toarray().astype(np.float32)
        yield Batch(torch.from_numpy(values).to(trained.device))


def read_rows(trained: Trained, rows: csr_matrix, read: Callable[[Batch], Tensor]) -> Matrix:
    """The results of `read` on all rows, `[N, ...]`, float32."""
    return np.concatenate([read(batch).float().cpu().numpy() for batch in dense_batches(trained, rows)])


def codes(trained: Trained, rows: csr_matrix) -> Matrix:
    """The noise-free latents of rows, `[N, K]`.

    Raises:
        UserError: one of them is not finite.
    """
    found = read_rows(trained, rows, trained.model.embed)
    require(bool(np.isfinite(found).all()), "the model's latents are not finite: it has diverged")
    return found


def reconstructions(trained: Trained, rows: csr_matrix) -> Matrix:
    """What the model makes of rows, `[N, D]`, dense: for a few rows at a time."""
    return read_rows(trained, rows, trained.model.reconstruct)


def shares(model: Autoencoder, z: Tensor, batch: Batch) -> Tensor:
    """The mean of p(x|z) as shares of the features, `[B, D]`, float64, each row with the sum 1.

    Of counts that are Poisson given z, or multinomial, these are just the probabilities of the words, given how many
    there are. None is less than the smallest number of single precision, in which a smaller one is lost.
    """
    mean = model.decode(z, batch.given).mean.double()
    return (mean / mean.sum(1, keepdim=True)).clamp_min(torch.finfo(torch.float32).tiny)


def gives_shares(model: Autoencoder) -> bool:
    """Whether the means of p(x|z) are above 0, as shares are: those of real numbers may lie below."""
    return not isinstance(model.likelihood, (GaussianLikelihood, OptimalGaussianLikelihood, LaplaceLikelihood))


def shares_at_the_point(trained: Trained, rows: csr_matrix) -> Matrix:
    """`shares` at the noise-free latents of rows, `[N, D]`, dense: for a few rows at a time."""
    model = trained.model
    found = [shares(model, model.encode(batch).point, batch).cpu().numpy() for batch in dense_batches(trained, rows)]
    return np.concatenate(found)
