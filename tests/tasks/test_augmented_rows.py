"""Rows made of few labelled ones: what each way keeps, and samples of a model whose classes are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tasks.standins import PPCA, Rows, context

from narrows.errors import UserError
from narrows.tasks.measures.augmented_rows import augmented_hits, between, jitter, samples, shifts
from narrows.tasks.probe import Probe
from narrows.types import Batch, DataSpec

RANDOM = np.random.default_rng(0)


def test_noise_shifts_and_neighbours() -> None:
    x, label = RANDOM.random((40, 1, 6, 6)), np.repeat([1, 3], 20)
    x[20:] += 10
    noise = jitter(x, label, RANDOM) - x
    assert noise.std() == pytest.approx(0.25 * x.std(), rel=0.1)
    point = np.zeros((200, 1, 5, 5))
    point[:, :, 2, 2] = 1
    moved = shifts(point, np.zeros(200, int), RANDOM)
    assert (moved.sum((1, 2, 3)) == 1).all()
    assert {tuple(place) for place in np.argwhere(moved[:, 0])[:, 1:].tolist()} == {
        (row, column) for row in (1, 2, 3) for column in (1, 2, 3)
    }
    made = between(x, label, RANDOM)
    assert made.shape == x.shape
    assert (made[:20] <= 1).all()
    assert (made[20:] >= 10).all()


def two_classes(n: int) -> tuple[PPCA, Batch]:
    torch.manual_seed(0)
    truth, label = PPCA(dims=6, latents=2, sigma=0.05), torch.arange(n) % 2
    centres = torch.tensor([[2.0, 0.0], [-2.0, 1.0]])
    x = (centres[label] + 0.3 * torch.randn(n, 2)) @ truth.weight.T + truth.bias
    return truth, Batch(x, label=label)


def test_samples_are_of_the_class_that_is_asked_for() -> None:
    truth, rows = two_classes(40)
    model = truth.model().eval()
    model.spec = replace(model.spec, num_classes=2)
    x, label = rows.x.numpy(), rows.label.numpy()  # type: ignore[union-attr]
    with torch.no_grad():
        make = samples(model, x, label, 0)
        wanted = np.repeat([0, 1], 500)
        made = make(x, wanted, RANDOM)
    for kind in (0, 1):
        np.testing.assert_allclose(made[wanted == kind].mean(0), x[label == kind].mean(0), atol=0.15)
    assert not np.array_equal(make(x, wanted, RANDOM), made)
    test = two_classes(200)[1]
    judged = (test.x.numpy(), test.label.numpy())  # type: ignore[union-attr]
    with torch.no_grad():
        hits = augmented_hits(model, model.spec, (x, label), judged, 3, 0, 0)
    assert list(hits) == ["model", "raw", "jitter", "smote"]
    assert all(found.mean() > 0.95 for found in hits.values())


def test_the_probe_reports_them_of_few_labels() -> None:
    truth, rows = two_classes(60)
    data = Rows({"train": rows, "test": rows}, batch_size=64, num_classes=2)
    model = truth.model()
    model.spec = DataSpec(shape=(6,), kind="vector", size=60, num_classes=2)
    found = Probe(sizes=[6], draws=2, networks=False, augment=2).run(context(model.eval(), data)).named()
    names = {name for name in found if name.endswith("augmented")}
    assert names == {f"test/probe/6_labels/{method}augmented" for method in ("", "raw/", "jitter/", "smote/")}
    with pytest.raises(UserError, match="augment must not be negative"):
        Probe(augment=-1)
