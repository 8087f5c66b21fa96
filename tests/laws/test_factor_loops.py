"""Measures of disentanglement are what slow loops and general optimisers say."""

from __future__ import annotations

import math
from collections import Counter
from itertools import product

import numpy as np
import pytest
from factor_tables import factors, noise
from scipy.optimize import minimize
from scipy.stats import entropy
from sklearn.linear_model import LogisticRegression

from narrows.tasks.measures import factor_interventions
from narrows.tasks.measures.disentanglement_scores import (
    Matrix,
    Table,
    Whole,
    dci,
    discretise,
    explicitness,
    mig,
    modularity,
    mutual_information,
    read_by_boosting,
    read_by_forest,
    sap,
    top_gap,
    unspread,
)
from narrows.tasks.measures.factor_interventions import beta_vae, factor_vae


@pytest.fixture(autouse=True)
def _fewer_points(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(factor_interventions, "TRAIN_POINTS", 2000)
    monkeypatch.setattr(factor_interventions, "TEST_POINTS", 2000)


def counted_information(first: Whole, second: Whole) -> float:
    """By the definition, over dictionaries."""
    pairs = list(zip(first.tolist(), second.tolist(), strict=True))
    joint, left, right = Counter(pairs), Counter(first.tolist()), Counter(second.tolist())
    n = len(pairs)
    return sum(c / n * math.log(c * n / (left[a] * right[b])) for (a, b), c in joint.items())


def binned(values: Matrix, bins: int) -> Whole:
    low, high = values.min(), values.max()
    return np.array([min(int((value - low) / (high - low) * bins), bins - 1) for value in values])


def test_information_is_that_of_counted_pairs_and_entropy_that_of_shares() -> None:
    truth = factors(400)
    codes = truth + noise(400, 4)
    table = Table(codes, truth, bins=7)
    for factor, latent in product(range(4), range(4)):
        wanted = counted_information(truth[:, factor], binned(codes[:, latent], 7))
        assert table.information[factor, latent] == pytest.approx(wanted)
    shares = [np.bincount(column) / 400 for column in truth.T]
    np.testing.assert_allclose(table.entropy, [entropy(share) for share in shares])
    assert len(np.unique(discretise(codes[:, 0], 7))) == 7
    assert mutual_information(truth[:, 0], np.zeros(400, int)) == 0


def test_mig_and_modularity_by_loops() -> None:
    truth = factors(500)
    codes = truth @ np.array([[1, 0.2, 0, 0.5, 0], [0, 1, 0, 0, 1], [0.4, 0, 1, 0, 0], [0, 0, 0.3, 1, 1]])
    codes = codes + 0.3 * noise(500, 5)
    table = Table(codes, truth, bins=9)
    information = [[counted_information(f, binned(c, 9)) for c in codes.T] for f in truth.T]
    gaps = []
    for row, factor in zip(information, truth.T, strict=True):
        best, second = sorted(row)[-1], sorted(row)[-2]
        gaps.append((best - second) / entropy(np.bincount(factor) / 500))
    assert mig(table)["mig"] == pytest.approx(np.mean(gaps))
    shares = []
    for latent in range(5):
        column = [row[latent] for row in information]
        best = max(column)
        shares.append(1 - (sum(i * i for i in column) - best**2) / (best**2 * (len(column) - 1)))
    assert modularity(table)["modularity"] == pytest.approx(np.mean(shares))


def test_unspread_by_scipy() -> None:
    weights = np.array([[0.5, 0.5, 0, 0], [0, 3.0, 0, 1.0], [0, 0, 0, 0.0], [0.2, 0.2, 0.2, 0.2]])
    wanted = sum((1 - entropy(row, base=4)) * row.sum() for row in weights if row.sum()) / weights.sum()
    assert unspread(weights) == pytest.approx(wanted)
    assert unspread(np.eye(4)) == pytest.approx(1)
    assert unspread(np.ones((3, 5))) == pytest.approx(0)
    assert unspread(np.zeros((3, 5))) == 0


def test_dci_reads_the_importances_it_is_given() -> None:
    rows = iter([(np.array([1.0, 0.0]), 0.9), (np.array([0.25, 0.75]), 0.5), (np.array([0.0, 1.0]), 0.4)])
    found = dci(Table(noise(30, 2), factors(30, (2, 2, 2))), lambda *_: next(rows))
    read = np.array([[1, 0.25, 0], [0, 0.75, 1]])
    spread = [1 - entropy(row, base=3) for row in read]
    assert found["disentanglement"] == pytest.approx((1.25 * spread[0] + 1.75 * spread[1]) / 3)
    assert found["completeness"] == pytest.approx((2 + 1 - entropy([0.25, 0.75], base=2)) / 3)
    assert found["informativeness"] == pytest.approx(0.6)


def test_boosting_and_the_forest_agree_where_the_answer_is_known() -> None:
    truth = factors(600, (3, 4))
    codes = np.concatenate([truth + 0.2 * noise(600, 2), noise(600, 1)], axis=1)
    for trees in (read_by_boosting, read_by_forest):
        found = dci(Table(codes, truth), trees)
        assert found["disentanglement"] > 0.85, trees
        assert found["completeness"] > 0.85, trees
        assert found["informativeness"] > 0.95, trees


def test_a_forest_of_validated_depth_does_not_read_noise() -> None:
    truth = factors(1500, (8,))[:, 0]
    codes = np.concatenate([truth[:, None] / 4 + noise(1500, 1), noise(1500, 5, seed=2)], axis=1)
    shares, _ = read_by_forest(codes[:1000], truth[:1000], codes[1000:], truth[1000:], 0)
    assert shares[0] > 0.5


def squared_hinge_accuracy(code: Matrix, factor: Whole, new: Matrix, truth: Whole) -> float:
    """One classifier for each value against the others, minimised by a general optimiser."""
    values = np.unique(factor)

    def fitted(value: int) -> Matrix:
        sign = np.where(factor == value, 1, -1)
        # "balanced": each side of a classifier weighs by its share of the multi-class problem's rows.
        weight = np.where(sign > 0, len(sign) / (len(values) * (sign > 0).sum()), 1.0)
        for other in values:
            weight[(factor == other) & (sign < 0)] = 1.0

        def loss(line: Matrix) -> float:
            slack = np.maximum(0, 1 - sign * (line[0] * code + line[1]))
            return float(0.5 * line @ line + 0.01 * (weight * slack**2).sum())

        return np.asarray(minimize(loss, np.zeros(2), method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-10}).x)

    lines = np.stack([fitted(value) for value in values])
    guess = values[(lines[:, :1] * new + lines[:, 1:]).argmax(0)]
    return float((guess == truth).mean())


def test_sap_by_a_general_optimiser() -> None:
    truth = factors(900, (3, 3))
    truth[:450, 1] = 0  # unbalanced
    codes = truth @ np.array([[1.0, 0.3], [0.2, 1.0]]) + 0.5 * noise(900, 2)
    table = Table(codes, truth)
    accuracy = [
        [
            squared_hinge_accuracy(code[table.train], factor[table.train], code[table.test], factor[table.test])
            for code in table.standard.T
        ]
        for factor in truth.T
    ]
    assert sap(table)["sap"] == pytest.approx(np.mean([abs(a - b) for a, b in accuracy]), abs=0.02)


def test_explicitness_of_one_latent_is_the_share_of_pairs_in_order() -> None:
    truth = factors(240, (2,))
    codes = truth + noise(240, 1)
    table = Table(codes, truth)
    code, label = codes[table.test, 0], truth[table.test, 0]
    pairs = [float(high > low) for high in code[label == 1] for low in code[label == 0]]
    assert explicitness(table)["explicitness"] == pytest.approx(np.mean(pairs))


def drawn_slowly(truth: Whole, random: np.random.Generator, factor: int, like: int) -> int:
    same = [row for row, value in enumerate(truth[:, factor]) if value == truth[like, factor]]
    return same[int(random.integers(len(same)))]


def test_factor_vae_by_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(factor_interventions, "DRAWN", 12)
    truth = factors(60, (3, 4))
    codes = truth @ np.array([[1.0, 0.4, 0.6], [0.5, 0.6, 0.6]]) + noise(60, 3)
    random = np.random.default_rng(5)
    spread = codes.var(0, ddof=1)

    def votes(number: int) -> Whole:
        table = np.zeros((2, 3), int)
        for _ in range(number):
            factor, like = int(random.integers(2)), int(random.integers(60))
            rows = [drawn_slowly(truth, random, factor, like) for _ in range(factor_interventions.DRAWN)]
            table[factor, np.argmin(codes[rows].var(0, ddof=1) / spread)] += 1
        return table

    train, test = votes(300), votes(300)
    wanted = sum(test[train[:, latent].argmax(), latent] for latent in range(3)) / 300
    assert 0.55 < wanted < 0.95
    assert factor_vae(Table(codes, truth))["factor_vae"] == pytest.approx(wanted, abs=0.08)


def test_beta_vae_by_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(factor_interventions, "DRAWN", 12)
    truth = factors(60, (3, 4, 3))
    codes = truth @ np.linalg.qr(noise(3, 3, seed=3))[0] + 0.5 * noise(60, 3)
    random = np.random.default_rng(5)

    def points(number: int) -> tuple[Matrix, Whole]:
        x, y = np.zeros((number, 3)), random.integers(3, size=number)
        standard = Table(codes, truth).standard
        for point in range(number):
            first = random.integers(60, size=factor_interventions.DRAWN)
            second = [drawn_slowly(truth, random, y[point], like) for like in first]
            x[point] = np.abs(standard[first] - standard[second]).mean(0)
        return x, y

    wanted = LogisticRegression(max_iter=1000).fit(*points(400)).score(*points(200))
    found = beta_vae(Table(codes, truth))["beta_vae"]
    assert 0.4 < found < 0.95
    assert found == pytest.approx(wanted, abs=0.1)


def test_a_draw_agrees_in_its_factor_and_is_uniform_among_those_rows() -> None:
    truth = factors(60, (2, 5))
    draw = factor_interventions._Fixed(truth, np.random.default_rng(0))
    rows = np.full(20_000, 7)
    drawn = draw.like(rows, 1)
    same = np.flatnonzero(truth[:, 1] == truth[7, 1])
    assert set(drawn.tolist()) == set(same.tolist())
    np.testing.assert_allclose(np.bincount(drawn, minlength=60)[same] / 20_000, 1 / len(same), atol=0.02)
    counts = draw.points(1234)
    assert sum(points for _, points in counts) == 1234
    assert {factor for factor, _ in counts} == {0, 1}


def test_the_gap_is_between_the_two_best_latents() -> None:
    np.testing.assert_allclose(top_gap(np.array([[0.2, 0.9, 0.5], [0.1, 0.1, 0.0]])), [0.4, 0.0])
    np.testing.assert_allclose(top_gap(np.array([[0.7]])), [0.7])
