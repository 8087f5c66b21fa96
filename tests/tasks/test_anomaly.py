"""Anomaly detection by reconstruction error, its threshold and the classics beside it."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import roc_auc_score
from tasks.standins import Rows, context, zero_model

from narrows.errors import UserError
from narrows.tasks.anomaly import Anomaly
from narrows.tasks.base import run_tasks
from narrows.tasks.measures.anomaly_attribution import value_errors
from narrows.tasks.measures.anomaly_scores import SCORES
from narrows.types import Batch


def _data() -> Rows:
    """Normals (label 1) on a line in 4 dimensions, anomalies (label 0) as far out, but off the line."""
    line = torch.tensor([1.0, 1.0, -1.0, 2.0])

    def normals(n: int) -> torch.Tensor:
        return torch.randn(n, 1) * line + 0.1 * torch.randn(n, 4)

    def mixed(n: int) -> Batch:
        x = torch.cat([normals(n), 1.5 * torch.randn(n, 4)])
        return Batch(x, label=torch.cat([torch.ones(n), torch.zeros(n)]).long())

    train = Batch(normals(300), label=torch.ones(300).long())
    return Rows({"train": train, "validation": mixed(200), "test": mixed(200)}, batch_size=64, num_classes=2)


def test_the_classics_stand_beside_the_model_and_the_threshold_comes_from_validation_normals() -> None:
    data = _data()
    found = run_tasks({"a": Anomaly()}, context(zero_model(data), data))
    held = data.splits["validation"]
    score = held.x.square().mean(1)[held.label == 1].numpy()
    assert found["test/anomaly/threshold"] == pytest.approx(float(np.quantile(score, 0.95)), rel=1e-5)
    assert found["test/anomaly/pca/auroc"] > 0.95
    assert found["test/anomaly/mahalanobis/auroc"] > 0.95
    assert found["test/anomaly/mean/auroc"] == pytest.approx(found["test/anomaly/auroc"], abs=0.05)
    assert found["test/anomaly/pca/auroc"] > found["test/anomaly/auroc"] + 0.1
    for prefix in ("test/anomaly", "test/anomaly/pca", "test/anomaly/mahalanobis"):
        assert found[f"{prefix}/false_alarm_rate"] == pytest.approx(0.05, abs=0.06)
    assert found["test/anomaly/prevalence"] == 0.5
    assert set(Anomaly.figures) <= found.keys()


def test_data_that_cannot_be_judged() -> None:
    data = _data()
    model = zero_model(data)
    data.spec.num_classes = None
    assert Anomaly().fits(data.spec, model) == "the data have no labels"
    data.spec.factor_sizes = [3, 4]
    assert Anomaly().fits(data.spec, model) == "the labels are factors, not classes"
    data.spec.factor_sizes = None
    with pytest.raises(UserError, match=r"normal_labels=\[7\]"):
        Anomaly(normal_labels=[7]).run(context(model, data))
    with pytest.raises(UserError, match="all normal"):
        Anomaly(normal_labels=[0, 1]).run(context(model, data))


def test_labels_below_0_are_labels_too() -> None:
    data = _data()
    for split in data.splits.values():
        assert split.label is not None
        split.label = 2 * split.label - 1
    data.spec.num_classes, data.spec.trained_labels = None, [1]
    assert Anomaly().fits(data.spec, zero_model(data)) is None
    found = run_tasks({"a": Anomaly(classics=[])}, context(zero_model(data), data))
    assert found["test/anomaly/pca/auroc"] > 0.95


def test_a_normal_label_that_no_example_has_is_refused_or_said() -> None:
    data = _data()
    with pytest.raises(UserError, match="no example has the label 7: those of these data are 0 to 1"):
        Anomaly(normal_labels=[1, 7]).check(data.spec)
    data.spec.num_classes = 3
    task = Anomaly(normal_labels=[1, 2], classics=[])
    task.check(data.spec)
    judged = context(zero_model(data), data)
    task.run(judged)
    assert "no validation or test example has the label 2 of normal_labels=[1, 2]" in judged.warnings[0]


def test_conformal_thresholds_and_their_promise() -> None:
    data = _data()
    model = zero_model(data)
    found = Anomaly(false_alarms=0.05, classics=[]).run(context(model, data)).named()
    held = data.splits["validation"]
    score = np.sort(held.x.square().mean(1)[held.label == 1].numpy())
    assert found["test/anomaly/threshold"] == pytest.approx(float(score[math.ceil(201 * 0.95) - 1]))
    with pytest.raises(UserError, match="cannot be promised from 200 validation normals"):
        Anomaly(false_alarms=0.001, classics=[]).run(context(model, data)).named()


def test_only_the_classics_that_are_asked_for() -> None:
    data = _data()
    found = Anomaly(classics=["knn"]).run(context(zero_model(data), data)).named()
    assert {name.split("/")[2] for name in found if name.count("/") == 3} == {"pca", "mean", "knn"}
    assert set(Anomaly.figures) <= found.keys()
    assert found["test/anomaly/knn/auroc_stderr"] > 0


def test_outliers_come_from_another_datamodule() -> None:
    data, others = _data(), _data()
    data.spec.num_classes = None
    for batch in data.splits.values():
        batch.label = None
    off = Batch(1.5 * torch.randn(70, 4) + 4)
    others.splits["test"] = off
    task = Anomaly(normal_labels=None, outliers=others, classics=[])
    model = zero_model(data)
    assert task.fits(data.spec, model) is None
    found = task.run(context(model, data)).named()
    assert found["test/anomaly/prevalence"] == pytest.approx(70 / 470)
    both = torch.cat([data.splits["test"].x, off.x]).square().mean(1).numpy()
    assert found["test/anomaly/auroc"] == pytest.approx(roc_auc_score(np.arange(470) >= 400, both))
    others.spec.shape = (5,)
    with pytest.raises(UserError, match=r"the outliers have shape \[5\] .* but the run's data \[4\]"):
        task.run(context(model, data))


def test_labels_beside_outliers() -> None:
    """What the run's own labels call anomalous stays so."""
    data, others = _data(), _data()
    found = Anomaly(outliers=others, classics=[]).run(context(zero_model(data), data)).named()
    assert found["test/anomaly/prevalence"] == 0.75


def test_a_model_worse_than_the_mean_is_a_loud_warning() -> None:
    data = _data()
    model = zero_model(data)
    judged = context(model, data)
    Anomaly(classics=[]).run(judged)
    judged.model.decoder.values += 5
    judged.warnings.clear()
    Anomaly(classics=[]).run(judged)
    assert "WORSE THAN PREDICTING THE TRAINING MEAN" in judged.warnings[0]
    judged.warnings.clear()
    Anomaly(classics=[], score="latent").run(judged)
    assert not judged.warnings, "a latent distance says nothing of reconstruction"


def test_a_score_that_the_model_has_not() -> None:
    data = _data()
    reason = Anomaly(score="elbo").fits(data.spec, zero_model(data))
    assert reason == "score=elbo needs a posterior and a prior, which Deterministic has not"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"score": "latnt"}, "no score 'latnt': did you mean 'latent'"),
        ({"classics": ["nkk"]}, "no classic 'nkk'"),
        ({"quantile": 1.0}, r"quantile must be in \(0, 1\)"),
        ({"false_alarms": 0.0}, r"false_alarms must be in \(0, 1\)"),
        ({"pair_rows": 0}, "pair_rows must be at least 1"),
        ({"normal_labels": None}, "normal_labels must name at least one label"),
        ({"normal_labels": []}, "normal_labels must name at least one label"),
    ],
)
def test_options_that_are_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        Anomaly(**options)


@pytest.mark.parametrize(
    ("kind", "shape"), [("vector", (4,)), ("image", (1, 2, 2)), ("series", (1, 4)), ("series", (2, 2))]
)
def test_pictures_of_every_kind(kind: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    source = _data()
    splits = {name: replace(part, x=part.x.reshape(-1, *shape)) for name, part in source.splits.items()}
    data = Rows(splits, batch_size=64, num_classes=2, kind=kind)
    Anomaly(classics=["knn"]).run(replace(context(zero_model(data), data), directory=tmp_path))
    for name in ("anomaly_scores", "anomaly_roc", "anomaly_top"):
        pixels = np.asarray(Image.open(tmp_path / "figures" / f"{name}.png"))
        assert pixels.shape[2] == 3
        assert len(np.unique(pixels)) > 10


def test_the_error_map_s_mean_over_observed_values_is_the_score() -> None:
    data = _data()
    rows = data.splits["test"]
    rows.observed = torch.rand(rows.x.shape) < 0.8
    judged = context(zero_model(data), data)
    guess, error = value_errors(judged, rows)
    assert error[~rows.observed.numpy()].max() == 0
    mean = error.sum(1) / rows.observed.sum(1).clamp_min(1).numpy()
    assert mean == pytest.approx(SCORES["reconstruction"](judged)(rows), rel=1e-5)
    assert guess.shape == error.shape == rows.x.shape
