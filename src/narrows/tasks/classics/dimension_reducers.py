"""Classic reductions to as many dimensions as a model's latent has, fitted on the training split's raw values."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import KernelPCA
from sklearn.metrics import euclidean_distances
from sklearn.random_projection import GaussianRandomProjection

from narrows.random import derive
from narrows.tasks.base import TaskContext
from narrows.tasks.classics.mean_pca_ridge import Classics
from narrows.tasks.measures.chosen_rows import drawn
from narrows.tasks.measures.embeddings import Matrix, read_split

log = logging.getLogger(__name__)


@dataclass
class Reducer:
    """One reduction; matrices are `[N, D]` raw and `[N, K]` reduced."""

    encode: Callable[[Matrix], Matrix]
    decode: Callable[[Matrix], Matrix] | None = None
    """The map back to raw values, if the reduction has one."""
    fitted: tuple[Matrix, NDArray[np.int64]] | None = None
    """Codes of the training rows at these positions, if only these may be used."""


def fit_reducers(
    context: TaskContext, classics: Classics, kernel_rows: int, umap_rows: int | None
) -> dict[str, Reducer]:
    """Fit PCA, Gaussian random projection, kernel PCA and, if asked for and installed, UMAP."""
    found = {"pca": Reducer(classics.pca.transform, classics.pca.inverse_transform)}
    found["random_projection"] = _random_projection(context, classics)
    found["kernel_pca"] = _kernel_pca(context, classics, kernel_rows)
    umap = None if umap_rows is None else import_umap()
    if umap is not None and umap_rows is not None:
        found["umap"] = _umap(umap, context, classics, umap_rows)
    return found


def _random_projection(context: TaskContext, classics: Classics) -> Reducer:
    """Of the centred values, and back by the pseudo-inverse: "Random projection in dimensionality reduction" (Bingham
    and Mannila, 2001)."""
    projection = GaussianRandomProjection(
        n_components=_dims(classics),
        compute_inverse_components=True,
        random_state=_state(context, "random projection"),
    ).fit(classics.mean[None])
    return Reducer(
        lambda flat: projection.transform(flat - classics.mean),
        lambda codes: projection.inverse_transform(codes) + classics.mean,
    )


def _kernel_pca(context: TaskContext, classics: Classics, rows: int) -> Reducer:
    """With a Gaussian kernel `exp(-d^2 / median d^2)`: "Nonlinear Component Analysis as a Kernel Eigenvalue Problem"
    (Schölkopf, Smola and Müller, 1998)."""
    flat, _ = _some_rows(context, classics, rows, "kernel PCA")
    squared = euclidean_distances(flat, squared=True)
    middle = float(np.median(squared[np.triu_indices(len(flat), 1)])) if len(flat) > 1 else 1.0
    reduction = KernelPCA(
        n_components=min(_dims(classics), len(flat)),
        kernel="rbf",
        gamma=1 / max(middle, 1e-30),
        eigen_solver="randomized",
        random_state=_state(context, "kernel PCA"),
    ).fit(flat)
    return Reducer(reduction.transform)


def import_umap() -> Any:
    """The umap module; None, and logged, if umap-learn is not installed."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=ImportWarning)
            import umap
    except ImportError:
        log.info("UMAP is left out: umap-learn is not installed (pip install 'narrows[classics]')")
        return None
    return umap


def fit_umap(umap: Any, rows: Matrix, dims: int, seed: int) -> Any:
    """A fitted reduction of `[N, D]` to `dims`, the same for the same seed.

    "UMAP: Uniform Manifold Approximation and Projection" (McInnes, Healy and Melville, 2018).
    """
    # One thread, because several do not give the same map twice, and umap-learn warns of it.
    reduction = umap.UMAP(n_components=dims, n_neighbors=min(15, len(rows) - 1), random_state=seed, n_jobs=1)
    with warnings.catch_warnings():
        # With few rows the spectral initialisation does not converge and is replaced by a random one.
        warnings.filterwarnings("ignore", category=UserWarning)
        return reduction.fit(rows)


def _umap(umap: Any, context: TaskContext, classics: Classics, rows: int) -> Reducer:
    flat, positions = _some_rows(context, classics, rows, "UMAP")
    reduction = fit_umap(umap, flat, _dims(classics), _state(context, "umap"))
    log.info("UMAP's neighbours and probe read the %d training rows that it was fitted on", len(flat))
    return Reducer(reduction.transform, fitted=(reduction.embedding_, positions))


def _some_rows(context: TaskContext, classics: Classics, rows: int, purpose: str) -> tuple[Matrix, NDArray[np.int64]]:
    """Seeded training rows, raw, and their ascending positions."""
    size = context.spec.size
    if rows < size:
        log.info("%s is fitted on %d of the %d training rows", purpose, rows, size)
    positions = drawn(size, rows, context.seed, purpose)
    flat = read_split(context, "train", {"raw": lambda batch: classics.flat(batch.x, batch.judged)}, positions)
    return flat["raw"], positions.numpy()


def _dims(classics: Classics) -> int:
    return int(classics.pca.n_components_)


def _state(context: TaskContext, purpose: str) -> int:
    return derive(context.seed, purpose) % 2**32


def too_many(dims: int, shape: tuple[int, ...]) -> str | None:
    """The reason why the latent is not smaller than examples of that shape; None if it is smaller."""
    values = math.prod(shape)
    return None if dims < values else f"{dims} latents are no reduction of {values} values"
