"""Anomaly detection by reconstruction error, its threshold and the classics beside it."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from tasks.standins import Always, Rows, Same, context

from narrows.bottlenecks.deterministic import Deterministic
from narrows.corruptions import Clean
from narrows.errors import UserError
from narrows.likelihoods import GaussianLikelihood
from narrows.model import Autoencoder, Stages
from narrows.tasks.anomaly import Anomaly, detection_figures
from narrows.tasks.base import run_tasks
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


def _zero_model(data: Rows) -> Autoencoder:
    return Autoencoder(
        data.spec,
        Stages(
            encoder=Same,
            bottleneck=partial(Deterministic, dim=1),
            decoder=partial(Always, values=torch.zeros(4)),
            likelihood=GaussianLikelihood,
            corruption=Clean,
        ),
    )


def test_figures_against_slow_counts() -> None:
    scores, anomalous = np.array([0.1, 0.4, 0.35, 0.8, 0.9]), np.array([False, False, True, True, True])
    found = detection_figures(scores, anomalous, threshold=0.38)
    pairs = [(a > n) for a in scores[anomalous] for n in scores[~anomalous]]
    assert found["auroc"] == pytest.approx(np.mean(pairs))
    assert found["false_alarm_rate"] == 0.5
    assert found["recall"] == pytest.approx(2 / 3)
    assert found["precision"] == pytest.approx(2 / 3)
    assert found["f1"] == pytest.approx(2 / 3)


def test_the_classics_stand_beside_the_model_and_the_threshold_comes_from_validation_normals() -> None:
    data = _data()
    found = run_tasks({"a": Anomaly()}, context(_zero_model(data), data))
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
    model = _zero_model(data)
    data.spec.num_classes = None
    assert Anomaly().fits(data.spec, model) == "the data have no labels"
    data.spec.factor_sizes = [3, 4]
    assert Anomaly().fits(data.spec, model) == "the labels are factors, not classes"
    data.spec.factor_sizes = None
    with pytest.raises(UserError, match=r"normal_labels=\[7\]"):
        Anomaly(normal_labels=[7]).run(context(model, data))
    with pytest.raises(UserError, match="all normal"):
        Anomaly(normal_labels=[0, 1]).run(context(model, data))
