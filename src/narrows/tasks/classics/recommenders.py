"""Recommenders without a network: popularity, item k-NN, PureSVD, EASE and implicit ALS.

Each is a function from training users `[U, I]` and the hyper-parameters to be tried to fitted candidates, which share
whatever can be computed once. A candidate scores users that it was not trained on, from the items they have seen.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, diags
from sklearn.utils.extmath import randomized_svd

from narrows.tasks.measures.ranking_figures import NDCG, Scorer, rank, with_judged

log = logging.getLogger(__name__)

Matrix = NDArray[np.floating]
MAX_ITEMS = 10_000
"""Most items for EASE, which holds matrices of items by items (0.8 GB each) in float64."""
BLOCK = 500
"""Items whose similarities to all others are held at once."""
SWEEPS = 15


@dataclass
class Candidate:
    """A fitted recommender: what it was fitted with, in words, and the function that scores."""

    setting: str
    scores: Scorer


Fit = Callable[[csr_matrix, int], Iterator[Candidate]]


def fit_recommenders(
    train: csr_matrix, seen: csr_matrix, judged: csr_matrix, names: Sequence[str], seed: int
) -> dict[str, Candidate]:
    """Every classic of these `names` with the setting whose NDCG@100 on validation users is highest.

    Args:
        train: users by items, `[U, I]`.
        seen: items of the validation users that are shown, `[V, I]`.
        judged: their items that were held out, `[V, I]`. If there are none, the first setting is taken, and logged.
    """
    found = {}
    for name in names:
        if name == "ease" and train.shape[1] > MAX_ITEMS:
            log.info("EASE is left out: %d items are more than %d", train.shape[1], MAX_ITEMS)
            continue
        found[name] = _best(name, FITS[name](train, seed), seen, judged)
    return found


def _best(name: str, candidates: Iterator[Candidate], seen: csr_matrix, judged: csr_matrix) -> Candidate:
    if not len(with_judged(judged)):
        first = next(candidates)
        log.info("%s is not tuned, as no validation user has held-out items: %s", name, first.setting)
        return first
    figure, best = -1.0, None
    for candidate in candidates:
        value = float(rank(candidate.scores, seen, judged, NDCG, ())[f"ndcg_{NDCG[0]}"].mean())
        if value > figure:
            figure, best = value, candidate
    assert best is not None
    log.info("%s: %s, validation NDCG@%d %.4f", name, best.setting, NDCG[0], figure)
    return best


def popularity(train: csr_matrix, seed: int = 0) -> Iterator[Candidate]:
    """The number of training users of each item."""
    users = np.asarray((train > 0).sum(0), dtype=np.float64).ravel()
    yield Candidate("number of users", lambda seen: np.broadcast_to(users, seen.shape))


def item_neighbours(
    train: csr_matrix, seed: int = 0, neighbours: Sequence[int] = (100, 20, 50, 200)
) -> Iterator[Candidate]:
    """Sum over the seen items of their cosine with an item, over the k seen or unseen items most similar to it.

    "Item-Based Top-N Recommendation Algorithms" (Deshpande and Karypis, 2004).
    """
    norms = np.sqrt(np.asarray(train.multiply(train).sum(0)).ravel())
    unit = (train @ diags(1 / np.maximum(norms, 1e-12))).tocsc()
    # The largest number first, from which the smaller ones are cut.
    widest = _nearest(unit, min(max(neighbours), train.shape[1]))
    for k in neighbours:
        yield Candidate(f"{k} neighbours", partial(_product, weight=_cut(widest, k)))


def _product(seen: csr_matrix, weight: csr_matrix | Matrix) -> Matrix:
    found = seen @ weight
    return found if isinstance(found, np.ndarray) else found.toarray()


Nearest = tuple[NDArray[np.int64], Matrix]


def _nearest(unit: csr_matrix, k: int) -> Nearest:
    """Of each column, the k others of the highest cosine, most similar first: positions and cosines, `[I, k]`."""
    places, values = [], []
    for start in range(0, unit.shape[1], BLOCK):
        cosines = (unit[:, start : start + BLOCK].T @ unit).toarray()
        rows = np.arange(len(cosines))
        cosines[rows, start + rows] = 0
        # Sorting all items of a large catalogue takes much longer than finding the nearest.
        near = np.argpartition(-cosines, k - 1, axis=1)[:, :k]
        found = np.take_along_axis(cosines, near, 1)
        order = np.argsort(-found, axis=1, kind="stable")
        places.append(np.take_along_axis(near, order, 1))
        values.append(np.take_along_axis(found, order, 1))
    return np.concatenate(places), np.concatenate(values)


def _cut(nearest: Nearest, k: int) -> csr_matrix:
    """The similarities `[I, I]`, column j holding the k nearest of item j."""
    places, values = (part[:, :k] for part in nearest)
    items = len(places)
    column = np.repeat(np.arange(items), places.shape[1])
    found = csr_matrix((values.ravel(), (places.ravel(), column)), shape=(items, items))
    found.eliminate_zeros()
    return found


def pure_svd(train: csr_matrix, seed: int = 0, factors: Sequence[int] = (50, 10, 20, 30, 100)) -> Iterator[Candidate]:
    """The users' rows projected on the first right singular vectors of the training matrix, missing items being 0.

    "Performance of Recommender Algorithms on Top-N Recommendation Tasks" (Cremonesi et al., 2010).
    """
    most = min(max(factors), min(train.shape))
    _, _, right = randomized_svd(train, most, n_iter=7, random_state=seed % 2**32)
    for k in factors:
        yield Candidate(f"{k} factors", partial(_projected, axes=right[:k]))


def _projected(seen: csr_matrix, axes: Matrix) -> Matrix:
    return (seen @ axes.T) @ axes


def ease(
    train: csr_matrix, seed: int = 0, penalties: Sequence[float] = (300, 50, 100, 200, 500, 1000)
) -> Iterator[Candidate]:
    """EASE, the linear autoencoder of items without self-similarity: `min |X - X B|^2 + l |B|^2`, `diag(B) = 0`.

    In closed form `B = I - P diag(1 / diag(P))` with `P = (X^T X + l I)^-1`.

    "Embarrassingly Shallow Autoencoders for Sparse Data" (Steck, 2019), https://arxiv.org/abs/1905.03375.
    """
    gram = np.asarray((train.T @ train).todense(), dtype=np.float64)
    for penalty in penalties:
        inverse = scipy.linalg.inv(gram + penalty * np.eye(len(gram)), overwrite_a=True)
        weight = -inverse / np.diag(inverse)
        np.fill_diagonal(weight, 0)
        yield Candidate(f"penalty {penalty:g}", partial(_product, weight=weight))


def implicit_als(
    train: csr_matrix,
    seed: int = 0,
    factors: Sequence[int] = (32, 64),
    confidences: Sequence[float] = (2, 10),
    penalty: float = 10.0,
) -> Iterator[Candidate]:
    """Factors of users and items, fitted by turns to 1 for what is in `train` with confidence `1 + a x`, and to 0 with
    confidence 1 for all else; a new user's factors are solved for.

    "Collaborative Filtering for Implicit Feedback Datasets" (Hu et al., 2008).
    """
    transposed = train.T.tocsr()
    for number in factors:
        for confidence in confidences:
            items: Matrix = np.random.default_rng(seed).normal(scale=0.1, size=(train.shape[1], number))
            for _ in range(SWEEPS):
                users = solve_factors(train, items, confidence, penalty)
                items = solve_factors(transposed, users, confidence, penalty)
            scores = partial(_of_factors, items=items, confidence=confidence, penalty=penalty)
            yield Candidate(f"{number} factors, confidence {confidence:g}", scores)


def solve_factors(rows: csr_matrix, others: Matrix, confidence: float, penalty: float) -> Matrix:
    """The factors `[N, K]` of rows `[N, M]` that minimise the weighted squares, given those of the columns, `[M, K]`.

    `x_n = (Y^T C_n Y + l I)^-1 Y^T C_n p_n`, where `C_n` is diagonal and `Y^T Y` is computed once for all rows.
    """
    common = others.T @ others + penalty * np.eye(others.shape[1])
    found = np.zeros((rows.shape[0], others.shape[1]))
    for row, (start, end) in enumerate(zip(rows.indptr[:-1], rows.indptr[1:], strict=True)):
        if start == end:
            continue  # nothing draws it away from 0
        own, weight = others[rows.indices[start:end]], confidence * rows.data[start:end]
        found[row] = scipy.linalg.solve(
            common + (own.T * weight) @ own, own.T @ (1 + weight), assume_a="pos", check_finite=False
        )
    return found


def _of_factors(seen: csr_matrix, items: Matrix, confidence: float, penalty: float) -> Matrix:
    return solve_factors(seen, items, confidence, penalty) @ items.T


FITS: dict[str, Fit] = {
    "popularity": popularity,
    "item_knn": item_neighbours,
    "pure_svd": pure_svd,
    "ease": ease,
    "als": implicit_als,
}
"""The classics by the names of their figures."""
