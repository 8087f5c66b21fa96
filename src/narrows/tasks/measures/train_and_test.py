"""Classifiers trained on one set of rows and judged on another: what synthetic rows are worth in the place of real."""

from __future__ import annotations

import warnings
from statistics import fmean
from typing import Any

import numpy as np
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from narrows.tasks.measures.mixed_rows import MixedRows

ITERATIONS, TREES, LEAF = 300, 100, 20


def classifiers(rows: int, seed: int) -> dict[str, Any]:
    """scikit-learn's, by name: logistic regression of standardised features, a random forest, gradient boosting."""
    leaf = min(LEAF, max(1, rows // LEAF))
    return {
        "logistic": make_pipeline(StandardScaler(), LogisticRegression(max_iter=ITERATIONS)),
        "forest": RandomForestClassifier(TREES, random_state=seed),
        "boosting": HistGradientBoostingClassifier(min_samples_leaf=leaf, early_stopping=False, random_state=seed),
    }


def accuracies(train: MixedRows, test: MixedRows, word: str, seed: int) -> dict[str, float]:
    """Test accuracy of every classifier trained on `train`, `<word>_<classifier>`; their mean, `<word>`, and the mean
    of their balanced accuracies (over classes), `<word>_balanced`."""
    features, label = train.features(False), train.label
    single = len(np.unique(label)) == 1
    found, balanced = {}, []
    for name, classifier in classifiers(len(train), seed).items():
        fitted = DummyClassifier(strategy="most_frequent") if single else classifier
        with warnings.catch_warnings():
            # The iterations are a budget: not having converged is expected.
            warnings.simplefilter("ignore", ConvergenceWarning)
            fitted.fit(features, label)
        hits = (fitted.predict(test.features(False)) == test.label).astype(np.float64)
        found[f"{word}_{name}"] = float(hits.mean())
        balanced.append(fmean(float(hits[test.label == kind].mean()) for kind in np.unique(test.label)))
    return {word: fmean(found.values()), f"{word}_balanced": fmean(balanced)} | found
