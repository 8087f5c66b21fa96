"""How like real rows synthetic ones are: marginals, associations, detection, and closeness to the training rows."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import ks_2samp, rankdata
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from narrows.tasks.measures.chosen_rows import drawn
from narrows.tasks.measures.mixed_rows import Matrix, MixedRows

TREES, FOLDS = 100, 3
FEWEST = 10
"""Rows of either kind below which nothing can be told of detection."""
CHUNK = 1000


def marginal_distances(real: MixedRows, made: MixedRows) -> Matrix:
    """By column, `[R]`, from 0 (equal) to 1: the Kolmogorov-Smirnov statistic of numbers, the total variation distance
    of categories."""
    found = []
    for place, column in enumerate(real.columns):
        a, b = real.values[:, place], made.values[:, place]
        if column.levels == 0:
            found.append(float(ks_2samp(a, b, method="asymp").statistic))
        else:
            shares = [np.bincount(cells.astype(int), minlength=column.levels) / len(cells) for cells in (a, b)]
            found.append(float(np.abs(shares[0] - shares[1]).sum()) / 2)
    return np.array(found)


def associations(rows: MixedRows) -> Matrix:
    """How strongly every two columns depend on each other, `[R, R]`: Spearman's rank correlation of two columns of
    numbers, from -1 to 1; Cramér's V of two of categories and the correlation ratio of ranks by category of one each,
    from 0 to 1. A column that does not vary depends on nothing."""
    numeric = rows.numeric
    ranks = rankdata(rows.values, axis=0)
    ranks = ranks - ranks.mean(0)
    norms = np.linalg.norm(ranks, axis=0)
    unit = np.divide(ranks, norms, out=np.zeros_like(ranks), where=norms > 1e-9)
    found = unit.T @ unit
    for place in np.flatnonzero(~numeric):
        codes, levels = rows.values[:, place].astype(int), rows.columns[place].levels
        hot = np.eye(levels)[codes]
        counts = np.maximum(hot.sum(0), 1)
        ratio = np.sqrt(((hot.T @ unit) ** 2 / counts[:, None]).sum(0).clip(0, 1))
        found[place, numeric] = found[numeric, place] = ratio[numeric]
        for other in np.flatnonzero(~numeric):
            table = hot.T @ np.eye(rows.columns[other].levels)[rows.values[:, other].astype(int)]
            found[place, other] = _cramers_v(table)
    return found


def _cramers_v(table: Matrix) -> float:
    table = table[table.sum(1) > 0][:, table.sum(0) > 0]
    if min(table.shape) < 2:
        return 0.0
    expected = np.outer(table.sum(1), table.sum(0)) / table.sum()
    chi2 = float(((table - expected) ** 2 / expected).sum())
    return float(np.sqrt(chi2 / (table.sum() * (min(table.shape) - 1))))


def association_difference(real: MixedRows, made: MixedRows) -> float:
    """The mean absolute difference of the `associations` of every two columns; 0 where there is one column."""
    rows, columns = np.triu_indices(len(real.columns), 1)
    if not len(rows):
        return 0.0
    return float(np.abs(associations(real) - associations(made))[rows, columns].mean())


def detection_auc(real: MixedRows, made: MixedRows, seed: int) -> float | None:
    """AUROC with which a random forest tells synthetic rows from real ones that it has not been trained on (the scores
    of three folds together): 0.5 where it cannot. As many of either are drawn. None of fewer than ten.

    "Revisiting Classifier Two-Sample Tests" (Lopez-Paz and Oquab, 2017, https://arxiv.org/abs/1610.06545).
    """
    size = min(len(real), len(made))
    if size < FEWEST:
        return None
    both = np.concatenate([rows.features(True)[_as_many(rows, size, seed).numpy()] for rows in (real, made)])
    is_made = np.repeat([0, 1], size)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    forest = RandomForestClassifier(TREES, min_samples_leaf=2, random_state=seed)
    scores = cross_val_predict(forest, both, is_made, cv=folds, method="predict_proba")[:, 1]
    return float(roc_auc_score(is_made, scores))


def _as_many(rows: MixedRows, size: int, seed: int) -> torch.Tensor:
    """Positions of `size` rows, drawn because files are often sorted by class."""
    return drawn(len(rows), size, seed, "as many rows")


class Closeness:
    """Distances to the nearest training row: Euclidean, numbers in standard deviations of the training rows, and 1
    between two categories.

    Args:
        train, holdout: real rows that a generator has read, and that it has not.
        seed: of the rows drawn where one part has more than the other.
    """

    def __init__(self, train: MixedRows, holdout: MixedRows, seed: int) -> None:
        self._scale = _scales(train)
        self._train, self._holdout = self._scaled(train), self._scaled(holdout)
        size = min(len(train), len(holdout))
        self._few = self._train[_as_many(train, size, seed)]
        self._others = self._holdout[_as_many(holdout, size, seed)]
        self._usual = float(_nearest(self._holdout, self._train).mean())

    def figures(self, made: MixedRows) -> dict[str, float]:
        """`closer_to_train`: the share of synthetic rows that lie nearer to a training row than to one of as many
        holdout rows, ties as half: 0.5 where nothing was copied. `closest`: their mean distance to the nearest training
        row over that of holdout rows: far below 1, they are copies; left out where holdout rows are copies."""
        rows = self._scaled(made)
        train, holdout = _nearest(rows, self._few), _nearest(rows, self._others)
        same = torch.isclose(train, holdout, rtol=1e-6, atol=1e-9)
        share = torch.where(same, 0.5, (train < holdout).double()).mean()
        found = {"closer_to_train": float(share)}
        if self._usual > 0:
            found["closest"] = float(_nearest(rows, self._train).mean()) / self._usual
        return found

    def _scaled(self, rows: MixedRows) -> torch.Tensor:
        return torch.from_numpy(rows.features(True) / self._scale)


def _scales(rows: MixedRows) -> NDArray[np.float64]:
    found: list[float] = []
    for place, column in enumerate(rows.columns):
        deviation = float(rows.values[:, place].std())
        found += [2**0.5] * column.levels if column.levels else [deviation if deviation > 0 else 1.0]
    return np.array(found)


def _nearest(rows: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    exact = "donot_use_mm_for_euclid_dist"
    return torch.cat([torch.cdist(part, others, compute_mode=exact).amin(1) for part in rows.split(CHUNK)])
