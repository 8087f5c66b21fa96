"""The classic detectors: each is what it says it is, sees what the model sees, and is a function of the seed."""

from __future__ import annotations

import importlib.util
import logging
from typing import Any

import numpy as np
import pytest
import torch
from tasks.standins import Rows, context, zero_model

from narrows.tasks.base import TaskContext
from narrows.tasks.classics import anomaly_detectors
from narrows.tasks.classics.anomaly_detectors import NAMES, fit_detectors
from narrows.tasks.classics.mean_pca_ridge import fit_classics
from narrows.types import Batch

ALL = [name for name in NAMES if name != "ecod" or importlib.util.find_spec("pyod")]


def ring(n: int, dims: int = 3) -> torch.Tensor:
    return torch.randn(n, dims) * torch.tensor([1.0, 2.0, 0.1])[:dims]


def judged(train: Batch, seed: int = 0, dim: int = 1) -> TaskContext:
    data = Rows({"train": train})
    return context(zero_model(data, dim), data, seed)


@pytest.mark.parametrize("name", ALL)
def test_far_rows_score_higher_and_the_seed_decides(name: str) -> None:
    train, near, far = ring(200), ring(50), ring(50) + torch.tensor([6.0, 9.0, 3.0])
    both = Batch(torch.cat([near, far]))

    def scores(seed: int) -> np.ndarray:
        return fit_detectors(judged(Batch(train), seed), [name], None, 150)[name](both)

    found = scores(0)
    assert found.shape == (100,)
    assert found[50:].min() > np.median(found[:50])
    assert np.array_equal(found, scores(0))


def test_each_against_its_definition() -> None:
    train, x = ring(60), ring(9)
    found = {name: score(Batch(x)) for name, score in fit_detectors(judged(Batch(train)), NAMES, None, None).items()}
    distances = torch.cdist(x.double(), train.double()).numpy()
    assert found["knn"] == pytest.approx(np.sort(distances, 1)[:, 4], rel=1e-5)
    centred = x - train.mean(0)
    assert found["mean"] == pytest.approx(centred.square().mean(1).numpy(), rel=1e-5)
    axis = torch.linalg.svd(train - train.mean(0)).Vh[0]
    residual = centred - (centred @ axis)[:, None] * axis
    assert found["pca"] == pytest.approx(residual.square().mean(1).numpy(), rel=1e-4)


def test_counts_stay_sparse_and_are_ranked_alike(caplog: pytest.LogCaptureFixture, monkeypatch: Any) -> None:
    # Weights, of which no two distances are equal, and half of them 0.
    train, x = (torch.randn(rows, 9).relu() for rows in (60, 15))

    def scores(kind: str) -> dict[str, np.ndarray]:
        data = Rows({"train": Batch(train)}, kind=kind)
        fitted = fit_detectors(context(zero_model(data), data), NAMES, None, None)
        return {name: score(Batch(x)) for name, score in fitted.items()}

    dense = scores("vector")
    monkeypatch.setattr(anomaly_detectors, "gather_training", None)
    with caplog.at_level(logging.INFO):
        sparse = scores("counts")
    assert set(dense) - set(sparse) == {"mahalanobis", "ecod"} & set(dense)
    assert "Mahalanobis and ECOD left out: sparse rows would be filled with zeros for them" in caplog.messages
    for name, values in sparse.items():
        assert values == pytest.approx(dense[name], rel=1e-4, abs=1e-6), name


def test_pca_that_would_be_exact_keeps_nine_tenths_of_the_variance() -> None:
    torch.manual_seed(0)
    train = torch.randn(500, 3) * torch.tensor([3.0, 1.0, 0.5])
    asked = judged(Batch(train), dim=3)
    classics = fit_classics(asked, None)
    assert (classics.pca.n_components_, classics.leading) == (3, 2)
    x = torch.tensor([[50.0, 0.0, 0.0], [0.0, 0.0, 4.0]])
    usual, odd = fit_detectors(asked, ["pca"], None, None)["pca"](Batch(x))
    assert odd == pytest.approx(16 / 3, rel=0.05)
    assert usual < 0.1


def test_isolation_forest_and_the_seed() -> None:
    rows = Batch(ring(20))
    one, other = (
        fit_detectors(judged(Batch(ring(100)), seed), ["isolation_forest"], None, None)["isolation_forest"](rows)
        for seed in (0, 1)
    )
    assert not np.array_equal(one, other)


def test_missing_values_are_at_the_mean_and_not_in_the_error() -> None:
    train = ring(80)
    observed = torch.ones(2, 3, dtype=torch.bool)
    observed[0, 1] = False
    x = torch.zeros(2, 3)
    x[0, 1] = 1e6
    found = fit_detectors(judged(Batch(train)), ["pca", "mean", "knn", "mahalanobis"], None, None)
    for name, score in found.items():
        assert score(Batch(x, observed=observed))[0] < 10, name


def test_row_budgets(caplog: pytest.LogCaptureFixture) -> None:
    x = Batch(ring(5))
    with caplog.at_level(logging.INFO):
        fit_detectors(judged(Batch(ring(90))), ["knn"], None, 10)
    assert "fitted on 10 of the 90 training rows" in caplog.text
    train = ring(90)
    few = fit_detectors(judged(Batch(train)), ["knn", "mahalanobis"], None, 10)
    many = fit_detectors(judged(Batch(train)), ["knn", "mahalanobis"], None, 90)
    assert (few["knn"](x) >= many["knn"](x)).all()
    assert few["knn"](x).mean() > many["knn"](x).mean()
    assert np.array_equal(few["mahalanobis"](x), many["mahalanobis"](x)), "linear ones read all rows"


def test_without_pyod_ecod_is_absent_and_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("narrows.tasks.classics.anomaly_detectors.find_spec", lambda name: None)
    with caplog.at_level(logging.INFO):
        assert "ecod" not in fit_detectors(judged(Batch(ring(30))), ["ecod"], None, None)
    assert "pip install 'narrows[classics]'" in caplog.text


def test_copies_of_a_row_do_not_disturb_lof() -> None:
    train = Batch(torch.cat([torch.zeros(40, 3), ring(60)]))
    assert np.isfinite(fit_detectors(judged(train), ["lof"], None, None)["lof"](Batch(ring(4)))).all()
