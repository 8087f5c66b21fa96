"""Figures of a full ranking of items: NDCG and recall of the items that were held out, user by user."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from narrows.compare.figure_names import STDERR
from narrows.errors import require
from narrows.random import derive
from narrows.tasks.measures.standard_errors import standard_error

Matrix = NDArray[np.floating]
Scorer = Callable[[csr_matrix], Matrix]
"""A function from the items that users have seen, `[U, I]`, to a score of every item, `[U, I]`: the higher, the rather
it is recommended."""
NDCG, RECALL = (100,), (20, 50)
CHUNK = 200
"""Users whose scores are held at once."""


def rank(
    scores: Scorer, seen: csr_matrix, judged: csr_matrix, ndcg: Sequence[int] = NDCG, recall: Sequence[int] = RECALL
) -> dict[str, Matrix]:
    """`ndcg_<k>` and `recall_<k>` of every user who has judged items (`with_judged`), `[U]` each, in order.

    All items are ranked by their scores, without those that the user has `seen`; an item is relevant if its value in
    `judged` is above 0. With n relevant items,

    - `NDCG@k = sum over relevant items in the first k places of 1 / log2(place + 1)`, divided by the same sum of the
      best ranking, whose first min(k, n) places are relevant;
    - `recall@k = relevant items in the first k places / min(k, n)`.

    Items of equal score share their places: each counts with the mean over all orders of them. So a constant score has
    just the figures that random rankings have on average, whatever the order of the items in the file.

    "Variational Autoencoders for Collaborative Filtering" (Liang et al., 2018), section 4.2; ties as in "Computing
    Information Retrieval Performance Measures Efficiently in the Presence of Tied Scores" (McSherry and Najork, 2008).

    Raises:
        UserError: a score that is not finite, or an item that is judged although the user has seen it.
    """
    users = with_judged(judged)
    found: dict[str, list[float]] = {name: [] for name in figure_names(ndcg, recall)}
    for start in range(0, len(users), CHUNK):
        part = users[start : start + CHUNK]
        for places in _places(scores(seen[part]), seen[part], judged[part]):
            for k in ndcg:
                found[f"ndcg_{k}"].append(_gain(places, k))
            for k in recall:
                found[f"recall_{k}"].append(_hits(places, k))
    return {name: np.array(values, dtype=np.float64) for name, values in found.items()}


def best_items(
    scores: Scorer, seen: csr_matrix, number: int, known: csr_matrix | None = None
) -> Iterator[tuple[NDArray[np.int64], Matrix]]:
    """For each user, in order, the items of the `number` highest scores, best first, and their scores.

    What the user has `seen`, or what is above 0 in `known`, is no item for them, so there may be fewer. Items of equal
    score come in the order of their columns.

    Raises:
        UserError: a score that is not finite.
    """
    known = seen if known is None else known
    for start in range(0, seen.shape[0], CHUNK):
        values = _without(scores(seen[start : start + CHUNK]), known[start : start + CHUNK])
        for row in values:
            best = np.argsort(-row, kind="stable")[:number]
            best = best[np.isfinite(row[best])]
            yield best, row[best]


def figure_names(ndcg: Sequence[int] = NDCG, recall: Sequence[int] = RECALL) -> list[str]:
    """The names of the figures of `rank`."""
    return [*(f"ndcg_{k}" for k in ndcg), *(f"recall_{k}" for k in recall)]


def with_judged(judged: csr_matrix) -> NDArray[np.int64]:
    """Ascending positions of the users who have an item to be judged by; the others have no figures."""
    return np.flatnonzero(np.asarray((judged > 0).sum(1)).ravel())


def lead(ours: Matrix, theirs: Matrix, name: str) -> dict[str, float]:
    """Mean of the differences `ours - theirs` of the same users `[U]` under `name`, and its standard error.

    The error is that of paired differences: users whom both methods serve badly do not widen it.
    """
    assert len(ours) == len(theirs), "figures of different users are no pairs"
    difference = ours - theirs
    return {name: float(difference.mean()), f"{name}{STDERR}": standard_error(difference)}


def fold_in(rows: csr_matrix, seed: int, share: float = 0.8) -> tuple[csr_matrix, csr_matrix]:
    """Two parts of every row's items: those that are shown, and those that are held out to be judged.

    Of n items `ceil(share * n)` are shown, drawn by (seed, row). A row of few items (at 0.8, fewer than five) has none
    held out.
    """
    shown = np.ones(rows.nnz, dtype=bool)
    for row, (start, end) in enumerate(zip(rows.indptr[:-1], rows.indptr[1:], strict=True)):
        # A share of 0.8 of five items is four, although 0.8 * 5 may be more by a rounding error.
        kept = int(np.ceil(share * (end - start) - 1e-9))
        order = np.random.default_rng(derive(seed, "fold-in", row)).permutation(end - start)
        shown[start + order[kept:]] = False
    return _masked(rows, shown), _masked(rows, ~shown)


def _masked(rows: csr_matrix, kept: NDArray[np.bool_]) -> csr_matrix:
    part = csr_matrix((np.where(kept, rows.data, 0), rows.indices.copy(), rows.indptr.copy()), shape=rows.shape)
    part.eliminate_zeros()
    return part


def _without(scores: Matrix, seen: csr_matrix) -> Matrix:
    """The scores `[U, I]`, in double precision, those of items that users have seen being minus infinity."""
    scores = np.array(scores, dtype=np.float64)
    require(bool(np.isfinite(scores).all()), "a score of an item is not finite, so the items have no ranking")
    scores[(seen > 0).nonzero()] = -np.inf
    return scores


Places = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Of every relevant item of a user, how many items are above it, and how many are above it or level with it, itself
included; the first it shares places with is the one behind the former."""


def _places(scores: Matrix, seen: csr_matrix, judged: csr_matrix) -> Iterator[Places]:
    scores = _without(scores, seen)
    require(
        (seen > 0).multiply(judged > 0).nnz == 0,
        "an item is to be judged that the user has already seen, which is never recommended; hold out other items",
    )
    ascending, items = np.sort(scores, axis=1), scores.shape[1]
    for user in range(len(scores)):
        relevant = judged[user].indices[judged[user].data > 0]
        own = scores[user, relevant]
        above = items - np.searchsorted(ascending[user], own, side="right")
        yield above, items - np.searchsorted(ascending[user], own, side="left")


def _gain(places: Places, k: int) -> float:
    discounts = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(2, k + 2)))])
    return _sum(places, discounts) / float(discounts[min(k, len(places[0]))])


def _hits(places: Places, k: int) -> float:
    return _sum(places, np.arange(k + 1, dtype=np.float64)) / min(k, len(places[0]))


def _sum(places: Places, worth: Matrix) -> float:
    """Sum over relevant items of the mean worth of the places that each shares; `worth[i]` is that of the first i."""
    k = len(worth) - 1
    above, level = places
    return float(((worth[np.minimum(level, k)] - worth[np.minimum(above, k)]) / (level - above)).sum())
