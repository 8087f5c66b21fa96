"""Measures of how a latent carries known factors of variation, in the definitions of `disentanglement_lib`.

"Challenging Common Assumptions in the Unsupervised Learning of Disentangled Representations" (Locatello et al.,
2019). Where its figures depend on the scale of a latent (SAP, BetaVAE), latents are standardised first.

Legend for shapes: N examples, D latents, K factors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.svm import LinearSVC

Matrix = NDArray[np.floating]
Whole = NDArray[np.integer]
Importances = Callable[..., tuple[Matrix, float]]

TEST_SHARE = 1 / 3
"""Of the examples, on which predictors are judged: the reference trains on 10,000 and judges on 5,000."""
DEPTHS = (2, 4, 6, 8, 12)
ITERATIONS = 2000


@dataclass
class Table:
    """Examples with their noise-free latents and their factors, in random order.

    Args:
        codes: `[N, D]`.
        factors: `[N, K]`, each of at least two values.
        bins: of equal width, into which each latent is cut where mutual information is counted.
        seed: of trees and draws.
    """

    codes: Matrix
    factors: Whole
    bins: int = 20
    seed: int = 0

    @property
    def train(self) -> slice:
        """The rows on which predictors are trained."""
        return slice(0, len(self.codes) - self._held)

    @property
    def test(self) -> slice:
        """The rows on which predictors are judged."""
        return slice(len(self.codes) - self._held, None)

    @property
    def _held(self) -> int:
        return round(len(self.codes) * TEST_SHARE)

    @cached_property
    def standard(self) -> Matrix:
        """The codes with mean 0 and standard deviation 1 on the training rows; a constant latent is 0."""
        rows = self.codes[self.train]
        deviation = rows.std(0)
        constant = deviation <= 1e-12 * np.abs(rows).max(0)
        return np.where(constant, 0, (self.codes - rows.mean(0)) / np.where(constant, 1, deviation))

    @cached_property
    def information(self) -> Matrix:
        """Mutual information of each factor and each binned latent in nats, `[K, D]`."""
        binned = np.stack([discretise(column, self.bins) for column in self.codes.T])
        return np.array([[mutual_information(factor, code) for code in binned] for factor in self.factors.T])

    @cached_property
    def entropy(self) -> Matrix:
        """Of each factor in nats, `[K]`."""
        return np.array([mutual_information(factor, factor) for factor in self.factors.T])


def discretise(values: Matrix, bins: int) -> Whole:
    """The number of the bin of equal width that holds each value, `[N]`; of a constant, one bin."""
    return np.digitize(values, np.histogram_bin_edges(values, bins)[:-1])


def mutual_information(first: Whole, second: Whole) -> float:
    """Of two discrete variables' joint frequencies `[N]`, in nats."""
    rows, columns = (np.unique(values, return_inverse=True)[1] for values in (first, second))
    # Whole counts, not shares: of a constant the quotient is exactly 1, and the information exactly 0.
    joint = np.zeros((rows.max() + 1, columns.max() + 1))
    np.add.at(joint, (rows, columns), 1)
    apart = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    seen = joint > 0
    logs = np.log(joint[seen] * len(rows) / apart[seen])
    return max(float((joint[seen] * logs).sum()) / len(rows), 0.0)


def top_gap(scores: Matrix) -> Matrix:
    """By how much the best latent surpasses the second best (0 where there is but one), `[K, D] -> [K]`."""
    padded = np.sort(np.pad(scores, ((0, 0), (1, 0))), axis=1)
    return padded[:, -1] - padded[:, -2]


def mig(table: Table) -> dict[str, float]:
    """Mutual information gap: the gap between the two latents that tell most of a factor, as a share of its entropy.

    "Isolating Sources of Disentanglement in Variational Autoencoders" (Chen et al., 2018), equation 6.
    """
    return {"mig": float((top_gap(table.information) / table.entropy).mean())}


def modularity(table: Table) -> dict[str, float]:
    """Mean over the latents of 1 - (sum of I^2 over all factors but its best) / ((K - 1) its best I^2); a latent
    that tells nothing counts 0.

    "Learning Deep Disentangled Embeddings With the F-Statistic Loss" (Ridgeway and Mozer, 2018), equation 2.
    """
    squares = table.information**2
    best, others = squares.max(0), max(len(squares) - 1, 1)
    rest = squares.sum(0) - best
    told = best > 0
    return {"modularity": float(np.where(told, 1 - rest / np.where(told, best * others, 1), 0).mean())}


def explicitness(table: Table) -> dict[str, float]:
    """Area under the ROC curve of logistic regression for each value of a factor against the others, mean over
    values and then factors; 0.5 is chance. Ridgeway and Mozer (2018), section 3."""
    x, found = table.standard, []
    for factor in table.factors.T:
        model = LogisticRegression(max_iter=ITERATIONS).fit(x[table.train], factor[table.train])
        chances, truth = model.predict_proba(x[table.test]), factor[table.test]
        areas = [
            roc_auc_score(truth == value, chance)
            for value, chance in zip(model.classes_, chances.T, strict=True)
            if 0 < (truth == value).sum() < len(truth)
        ]
        found.append(np.mean(areas) if areas else 0.5)
    return {"explicitness": float(np.mean(found))}


def sap(table: Table) -> dict[str, float]:
    """Separated attribute predictability: how much better the best latent alone predicts a factor's value than
    the second best does, by the test accuracy of a balanced linear support vector classifier (C = 0.01).

    "Variational Inference of Disentangled Latent Concepts from Unlabeled Observations" (Kumar et al., 2018),
    section 3, with every factor as a discrete one.
    """
    scores = np.zeros((table.factors.shape[1], table.codes.shape[1]))
    for place in np.ndindex(scores.shape):
        factor, code = table.factors[:, place[0]], table.standard[:, place[1] : place[1] + 1]
        model = LinearSVC(C=0.01, class_weight="balanced", dual=False)
        scores[place] = model.fit(code[table.train], factor[table.train]).score(code[table.test], factor[table.test])
    return {"sap": float(top_gap(scores).mean())}


def dci(table: Table, importances: Importances) -> dict[str, float]:
    """Disentanglement, completeness and informativeness from how much trees read each latent to tell each factor.

    `importances(codes, factor, test codes, test factor, seed)` gives the shares `[D]` and the test accuracy.
    "A Framework for the Quantitative Evaluation of Disentangled Representations" (Eastwood and Williams, 2018).
    """
    rows = []
    for factor in table.factors.T:
        x, y = (part[table.train] for part in (table.codes, factor))
        rows.append(importances(x, y, table.codes[table.test], factor[table.test], table.seed))
    read = np.stack([shares for shares, _ in rows], axis=1)
    return {
        "disentanglement": unspread(read),
        "completeness": unspread(read.T),
        "informativeness": float(np.mean([accuracy for _, accuracy in rows])),
    }


def unspread(weights: Matrix) -> float:
    """1 - entropy / log(columns) of each row as a distribution, averaged with the rows' sums as weights: 1 where
    every row has one entry, 0 where all are even. 0 without any weight."""
    total, columns = weights.sum(), weights.shape[1]
    if total == 0:
        return 0.0
    rows = weights[weights.sum(1) > 0]
    shares = rows / rows.sum(1, keepdims=True)
    logs = np.log(shares, out=np.zeros_like(shares), where=shares > 0)
    spread = -(shares * logs).sum(1) / np.log(max(columns, 2))
    return float(((1 - spread) * rows.sum(1)).sum() / total)


def read_by_forest(x: Matrix, y: Whole, test_x: Matrix, test_y: Whole, seed: int) -> tuple[Matrix, float]:
    """Ten bagged trees on all latents, as shallow as predicts a held quarter of the training rows as well as the
    best depth does, within its standard error: deeper trees read noise. Eastwood and Williams (2018) validate the
    depth of their random forests so."""
    held = max(len(x) // 4, 1)
    forests = [
        RandomForestClassifier(10, max_features=None, max_depth=depth, random_state=seed).fit(x[held:], y[held:])
        for depth in DEPTHS
    ]
    accuracies = [forest.score(x[:held], y[:held]) for forest in forests]
    best = max(accuracies)
    enough = best - np.sqrt(best * (1 - best) / held)
    chosen = next(forest for forest, found in zip(forests, accuracies, strict=True) if found >= enough)
    return chosen.feature_importances_, float(chosen.score(test_x, test_y))


def read_by_boosting(x: Matrix, y: Whole, test_x: Matrix, test_y: Whole, seed: int) -> tuple[Matrix, float]:
    """A hundred rounds of gradient boosting with trees of depth three, as the reference does: a tree for each
    value of the factor in each round, minutes for a factor of 32 values."""
    model = GradientBoostingClassifier(random_state=seed).fit(x, y)
    return model.feature_importances_, float(model.score(test_x, test_y))


TREES: dict[str, Importances] = {"forest": read_by_forest, "boosting": read_by_boosting}
