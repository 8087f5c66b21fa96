"""Figures of a detector, their standard errors, and thresholds from normals, each against a slow definition."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from narrows.errors import UserError
from narrows.tasks.measures.auroc_and_thresholds import (
    Ranking,
    conformal_threshold,
    detection_figures,
    f1,
    precision,
    quantile_threshold,
    recall,
)

SCORES = np.array([0.1, 0.4, 0.35, 0.8, 0.9])
ANOMALOUS = np.array([False, False, True, True, True])


def test_figures_against_slow_counts() -> None:
    found = detection_figures(SCORES, ANOMALOUS, threshold=0.38)
    pairs = [(a > n) for a in SCORES[ANOMALOUS] for n in SCORES[~ANOMALOUS]]
    assert found["auroc"] == pytest.approx(np.mean(pairs))
    # Of the ranks 1, 2, 4 at which the three anomalies stand.
    assert found["average_precision"] == pytest.approx(np.mean([1 / 1, 2 / 2, 3 / 4]))
    assert found["false_alarm_rate"] == 0.5
    assert found["recall"] == pytest.approx(2 / 3)
    assert found["precision"] == pytest.approx(2 / 3)
    assert found["f1"] == pytest.approx(2 / 3)
    assert found["threshold"] == 0.38


def test_an_alarm_is_strictly_above_and_nothing_flagged_is_precision_zero() -> None:
    found = detection_figures(SCORES, ANOMALOUS, threshold=0.9)
    assert (found["recall"], found["precision"], found["f1"], found["false_alarm_rate"]) == (0, 0, 0, 0)
    nothing = np.zeros(5, dtype=bool)
    assert (recall(nothing, ANOMALOUS), precision(nothing, ANOMALOUS), f1(nothing, ANOMALOUS)) == (0, 0, 0)


@pytest.mark.parametrize("levels", [3, 1000])
def test_a_ranking_of_drawn_rows_is_scikit_learn_s_on_those_rows(levels: int) -> None:
    source = np.random.default_rng(0)
    scores, anomalous = source.integers(levels, size=40).astype(float), source.random(40) < 0.3
    ranking = Ranking(scores, anomalous)
    for _ in range(20):
        drawn = source.integers(40, size=40)
        assert ranking.auroc(drawn) == pytest.approx(roc_auc_score(anomalous[drawn], scores[drawn]))
        expected = average_precision_score(anomalous[drawn], scores[drawn])
        assert ranking.average_precision(drawn) == pytest.approx(expected)


def test_a_draw_of_one_class_has_no_auroc() -> None:
    ranking = Ranking(SCORES, ANOMALOUS)
    assert np.isnan(ranking.auroc(np.array([0, 1, 1])))
    assert np.isnan(ranking.auroc(np.array([2, 3])))
    assert np.isnan(ranking.average_precision(np.array([0, 1])))


def test_standard_errors_are_the_spread_over_fresh_test_sets() -> None:
    source = np.random.default_rng(1)

    def fresh() -> tuple[np.ndarray, np.ndarray]:
        anomalous = source.random(400) < 0.3
        return source.normal(size=400) + 1.2 * anomalous, anomalous

    many = [detection_figures(*fresh(), threshold=1.0) for _ in range(150)]
    one = detection_figures(*fresh(), threshold=1.0, seed=0)
    for name in ("auroc", "average_precision", "false_alarm_rate", "recall", "precision", "f1"):
        spread = np.std([found[name] for found in many])
        assert one[f"{name}_stderr"] == pytest.approx(spread, rel=0.35), name
    assert "threshold_stderr" not in one
    assert not [name for name in many[0] if name.endswith("_stderr")]


def test_the_conformal_threshold_is_the_named_order_statistic() -> None:
    normals = np.arange(1.0, 20.0)[::-1]  # 19 of them: ceil(20 * 0.95) = 19, ceil(20 * 0.9) = 18
    assert conformal_threshold(normals, 0.05) == 19.0
    assert conformal_threshold(normals, 0.1) == 18.0
    with pytest.raises(UserError, match=r"false_alarms=0\.04 cannot be promised from 19 validation normals: .* 24 of"):
        conformal_threshold(normals, 0.04)
    assert conformal_threshold(np.arange(24.0), 0.04) == 23.0


def test_the_conformal_threshold_keeps_its_promise_where_the_quantile_does_not() -> None:
    """Few normals: over many draws a new normal is above the quantile too often, above the conformal one never."""
    source = np.random.default_rng(2)
    draws = source.normal(size=(4000, 40))
    new = source.normal(size=4000)
    plain = np.mean([value > quantile_threshold(row, 0.95) for value, row in zip(new, draws, strict=True)])
    kept = np.mean([value > conformal_threshold(row, 0.05) for value, row in zip(new, draws, strict=True)])
    assert plain > 0.06
    assert kept < 0.055
