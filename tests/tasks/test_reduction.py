"""Reductions whose figures are known: an isometry keeps neighbourhoods, what is separable is told, noise is not."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from instances import BOTTLENECKS, CORRUPTIONS, DECODER, ENCODER, LIKELIHOODS
from instances import model as small_model
from PIL import Image
from sklearn.decomposition import PCA
from tasks.standins import PPCA, Rows, context

from narrows.errors import UserError
from narrows.models.conditional import ConditionalAutoencoder
from narrows.models.stages import Stages
from narrows.tasks.base import run_tasks
from narrows.tasks.measures.embeddings import continuity, neighbour_hits, probe_hits, trust
from narrows.tasks.reduction import Reduction
from narrows.types import Batch, DataSpec


class Umap:
    """Stands for umap.UMAP, whose import alone takes longer than these tests."""

    def __init__(self, n_components: int, n_neighbors: int, random_state: int, n_jobs: int) -> None:
        self.inner = PCA(n_components)
        self.transform = self.inner.transform

    def fit(self, x: np.ndarray) -> Umap:
        self.embedding_ = self.inner.fit_transform(x)
        return self


@pytest.fixture(autouse=True)
def _umap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "umap", SimpleNamespace(UMAP=Umap))


def isometry(points: np.ndarray) -> np.ndarray:
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(points.shape[1],) * 2))[0]
    return 3 * points @ turn + 7


def test_an_isometry_keeps_every_neighbourhood() -> None:
    points = np.random.default_rng(0).normal(size=(120, 4))
    assert trust(points, isometry(points)) == 1
    assert continuity(points, isometry(points)) == 1


def ranks_among(points: np.ndarray) -> np.ndarray:
    distances = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(distances, -1)
    return distances.argsort(1).argsort(1)


def test_trustworthiness_and_continuity_by_their_definition() -> None:
    """Venna and Kaski (2001), equations 1 and 2, written out."""
    random = np.random.default_rng(3)
    points = random.normal(size=(60, 5))
    codes = points[:, :2] + 0.3 * random.normal(size=(60, 2))
    original, reduced = ranks_among(points), ranks_among(codes)
    n, k = 60, 5

    def penalty(near: np.ndarray, judged: np.ndarray) -> float:
        total = sum(
            max(0, judged[i, j] - k) for i in range(n) for j in range(n) if 1 <= near[i, j] <= k and judged[i, j] > k
        )
        return 1 - 2 * total / (n * k * (2 * n - 3 * k - 1))

    assert trust(points, codes) == pytest.approx(penalty(reduced, original))
    assert continuity(points, codes) == pytest.approx(penalty(original, reduced))
    assert trust(points, codes) != pytest.approx(continuity(points, codes), abs=1e-3)


def test_gluing_is_untrusted_and_tearing_is_discontinuous() -> None:
    line = np.linspace(0, 1, 200)[:, None]
    folded = np.abs(line - 0.5) + 1e-4 * line
    torn = np.where(line < 0.5, line, line + 10)[np.random.default_rng(0).permutation(200)]
    assert trust(line, folded) < 0.9
    assert continuity(line, folded) > 0.98
    assert continuity(line, torn) < 0.7


@pytest.mark.parametrize("measure", [neighbour_hits, probe_hits])
def test_what_is_separable_is_told_and_permuted_labels_are_chance(measure: object) -> None:
    random = np.random.default_rng(4)
    label = random.integers(0, 4, 800)
    codes = 6 * np.eye(4)[label] + 0.3 * random.normal(size=(800, 4))
    split = slice(None, 400), slice(400, None)
    assert measure(codes[split[0]], label[split[0]], codes[split[1]], label[split[1]]).mean() == 1
    mixed = random.permutation(label)
    hits = measure(codes[split[0]], mixed[split[0]], codes[split[1]], mixed[split[1]])
    # Four standard errors about one in four.
    assert hits.mean() == pytest.approx(0.25, abs=4 * np.sqrt(0.25 * 0.75 / 400))


def test_a_probe_does_not_depend_on_the_axes() -> None:
    random = np.random.default_rng(5)
    label = random.integers(0, 3, 300)
    codes = random.normal(size=(300, 4)) * [5, 1, 1, 0.01] + np.eye(3, 4)[label]
    turned = isometry(codes)
    hits = [probe_hits(rows[:200], label[:200], rows[200:], label[200:]) for rows in (codes, turned)]
    assert 0.4 < hits[0].mean() < 0.95
    np.testing.assert_array_equal(*hits)


def test_a_probe_of_one_label_says_that_label() -> None:
    hits = probe_hits(np.zeros((3, 2)), np.array([1, 1, 1]), np.zeros((4, 2)), np.array([1, 0, 1, 1]))
    assert hits.tolist() == [1, 0, 1, 1]


def plane(labels: bool = True) -> tuple[PPCA, Rows]:
    """Examples near a plane that the model knows exactly; the label is the quadrant."""
    truth = PPCA(dims=8, latents=2, sigma=0.05)

    def split(n: int) -> Batch:
        z = 3 * torch.randn(n, 2)
        x = z @ truth.weight.T + truth.bias + truth.sigma * torch.randn(n, 8)
        return Batch(x=x, label=(z[:, 0] > 0).long() + 2 * (z[:, 1] > 0).long() if labels else None)

    splits = {"train": split(400), "validation": split(50), "test": split(150)}
    return truth, Rows(splits, batch_size=64, num_classes=4 if labels else None)


def test_figures_beside_every_classic(tmp_path: Path) -> None:
    truth, data = plane()
    judged = context(truth.model(), data)
    judged.directory = tmp_path
    task = Reduction(kernel_rows=100, umap_rows=80, map_rows=60)
    found = run_tasks({"r": task}, judged)
    kinds = {key.split("/")[2] for key in found if key.count("/") == 3}
    assert kinds == {"pca", "random_projection", "kernel_pca", "umap"}
    assert set(task.figures) <= set(found)
    assert all(np.isfinite(value) for value in found.values())
    # The model is the optimum, which PCA finds too; a random plane is none.
    assert found["test/reduction/mse"] == pytest.approx(6 / 8 * 0.05**2, rel=0.1)
    assert found["test/reduction/pca/mse"] == pytest.approx(found["test/reduction/mse"], rel=0.05)
    assert found["test/reduction/explained_variance"] > 0.99
    assert found["test/reduction/random_projection/explained_variance"] < 0.8
    assert found["test/reduction/knn"] > 0.9
    assert found["test/reduction/probe"] > 0.9
    hits = found["test/reduction/knn"]
    assert found["test/reduction/knn_stderr"] == pytest.approx(np.sqrt(hits * (1 - hits) / 149))
    assert found["test/reduction/trustworthiness"] > 0.95
    # On a plane PCA is an isometry; the model's latents are scaled.
    assert found["test/reduction/pca/trustworthiness"] > 0.99
    with Image.open(tmp_path / "figures" / "reduction_map.png") as picture:
        assert min(picture.size) > 300
        assert len(picture.getcolors(2**20)) > 50
    assert judged.warnings == []


def test_the_same_every_time_and_without_labels_no_accuracy() -> None:
    truth, data = plane(labels=False)
    task = Reduction(kernel_rows=50, umap_rows=50, neighbour_rows=100, max_rows=90)
    first = run_tasks({"r": task}, context(truth.model(), data))
    assert run_tasks({"r": task}, context(truth.model(), data)) == first
    assert not [key for key in first if "knn" in key or "probe" in key]


def test_without_umap_its_column_is_absent_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    truth, data = plane()
    unasked = run_tasks({"r": Reduction(kernel_rows=50, umap_rows=None)}, context(truth.model(), data))
    assert "umap" not in caplog.text
    monkeypatch.setitem(sys.modules, "umap", None)
    with caplog.at_level("INFO"):
        found = run_tasks({"r": Reduction(kernel_rows=50)}, context(truth.model(), data))
    assert not [key for key in found if "umap" in key]
    assert unasked == found
    assert "umap-learn is not installed" in caplog.text
    assert "kernel PCA is fitted on 50 of the 400 training rows" in caplog.text


def test_a_latent_of_more_than_two_has_three_maps(tmp_path: Path) -> None:
    spec = {"kind": "image", "value_range": (0.0, 1.0)}
    split = Batch(x=torch.rand(60, 1, 8, 8))
    judged = context(
        small_model(bottleneck=BOTTLENECKS["gaussian"]), Rows(dict.fromkeys(("train", "test"), split), **spec)
    )
    judged.directory = tmp_path
    found = run_tasks({"r": Reduction(kernel_rows=20, umap_rows=20)}, judged)
    assert found["test/reduction/explained_variance"] < 0
    assert "WORSE THAN PREDICTING THE TRAINING MEAN" in judged.warnings[0]
    with Image.open(tmp_path / "figures" / "reduction_map.png") as picture:
        assert picture.width > 3 * picture.height


def test_a_model_that_is_told_the_label_is_not_asked_for_it(caplog: pytest.LogCaptureFixture) -> None:
    spec = DataSpec((1, 8, 8), "image", 60, num_classes=3, value_range=(0.0, 1.0))
    stages = Stages(ENCODER, BOTTLENECKS["gaussian"], DECODER, LIKELIHOODS["bernoulli"], CORRUPTIONS["none"])
    told = ConditionalAutoencoder(spec, stages)
    split = Batch(x=torch.rand(60, 1, 8, 8), label=torch.arange(60) % 3)
    data = Rows(dict.fromkeys(("train", "test"), split), kind="image", num_classes=3, value_range=(0.0, 1.0))
    with caplog.at_level("INFO"):
        found = run_tasks({"r": Reduction(kernel_rows=20, umap_rows=20)}, context(told, data))
    assert found
    assert not [key for key in found if "knn" in key]
    assert "its encoder is told the label" in caplog.text


def test_what_it_does_not_fit_and_options_out_of_range() -> None:
    assert "no reduction of 5 values" in str(Reduction().fits(DataSpec((5,), "vector", 9), small_model()))
    assert Reduction().fits(DataSpec((9,), "tokens", 9), small_model()) == "tokens have no distances"
    for option, value, least in (("kernel_rows", 14, 15), ("umap_rows", 0, 15), ("max_rows", 0, 1), ("map_rows", 2, 3)):
        with pytest.raises(UserError, match=f"{option} must be at least {least}, not {value}"):
            Reduction(**{option: value})
    truth, data = plane()
    data.splits["test"] = Batch(x=data.splits["test"].x[:9], label=data.splits["test"].label[:9])
    judged = context(truth.model(), data)
    assert run_tasks({"r": Reduction(kernel_rows=50)}, judged) == {}
    assert "9 test rows are too few" in judged.warnings[0]
