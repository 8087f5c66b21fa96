"""The task: whose latents, whose factors, what stands beside them, and what is drawn."""

from __future__ import annotations

from pathlib import Path

import instances
import numpy as np
import pytest
import torch
from PIL import Image
from tasks.standins import PPCA, Rows, context

from narrows.errors import UserError
from narrows.tasks.base import run_tasks
from narrows.tasks.disentanglement import DCI, METRICS, Disentanglement
from narrows.tasks.measures import factor_interventions
from narrows.training.callbacks.pictures import draw
from narrows.types import Batch, DataSpec

SIZES = [4, 8]
# None of whose values lies on the edge of a bin, where rounding would decide.


@pytest.fixture(autouse=True)
def _fewer_points(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(factor_interventions, "TRAIN_POINTS", 500)
    monkeypatch.setattr(factor_interventions, "TEST_POINTS", 500)


def factors(rows: int) -> torch.Tensor:
    return torch.stack([torch.randint(size, (rows,)) for size in SIZES], dim=1)


def mixed(truth: PPCA, mixing: torch.Tensor, rows: int = 800) -> Rows:
    """Examples whose latents under `truth` are the factors, mixed."""

    def split() -> Batch:
        label = factors(rows)
        z = (label - torch.tensor([1.5, 3.5])) / torch.tensor([1.25, 5.25]).sqrt()
        return Batch(x=z @ mixing @ truth.weight.T + truth.bias, label=label)

    spec = {"factor_names": ["hue", "size"], "factor_sizes": SIZES}
    return Rows({name: split() for name in ("train", "validation", "test")}, batch_size=64, **spec)


TURN = torch.tensor([[1.0, 1.0], [-1.0, 1.0]]) / 2**0.5


def test_all_figures_of_a_latent_that_is_the_factors(tmp_path: Path) -> None:
    truth = PPCA(latents=2)
    judged = context(truth.model(), mixed(truth, torch.eye(2)))
    judged.directory = tmp_path
    task = Disentanglement()
    found = run_tasks({"d": task}, judged)
    assert set(task.figures) | {"test/mig/hue", "test/mig/size"} == set(found)
    assert len(task.figures) == 3 * (len(METRICS) + len(DCI))
    assert all(np.isfinite(value) for value in found.values())
    for name in ("mig", "factor_vae", "beta_vae", "modularity", "dci_forest_disentanglement"):
        assert found[f"test/{name}"] == pytest.approx(1, abs=0.03), name
    assert found["test/mig"] == pytest.approx((found["test/mig/hue"] + found["test/mig/size"]) / 2)
    with Image.open(tmp_path / "figures" / "factors.png") as picture:
        assert min(picture.size) > 300
        assert len(picture.getcolors(2**20)) > 50
    assert judged.warnings == []


def test_ica_finds_what_pca_and_a_turned_latent_do_not() -> None:
    # Columns of equal length: the covariance of x tells no direction in their plane.
    truth = PPCA(latents=2)
    truth.weight = torch.linalg.qr(torch.randn(6, 2)).Q
    judged = context(truth.model(), mixed(truth, TURN, rows=1500))
    found = run_tasks({"d": Disentanglement(metrics=["mig"])}, judged)
    assert found["test/ica/mig"] > 0.9
    assert found["test/mig"] < 0.5
    assert found["test/pca/mig"] < 0.9
    assert set(found) == {"test/mig", "test/pca/mig", "test/ica/mig", "test/mig/hue", "test/mig/size"}


def test_samples_are_drawn_and_the_same_every_time() -> None:
    truth = PPCA(latents=2)
    data = mixed(truth, TURN)
    task = Disentanglement(metrics=["mig", "sap"], samples=60)
    first = run_tasks({"d": task}, context(truth.model(), data))
    assert run_tasks({"d": task}, context(truth.model(), data)) == first
    assert run_tasks({"d": task}, context(truth.model(), data, seed=1)) != first


def test_a_factor_that_does_not_vary_is_left_out_and_named() -> None:
    truth = PPCA(latents=2)
    data = mixed(truth, torch.eye(2))
    data.splits["test"].label[:, 1] = 3
    judged = context(truth.model(), data)
    found = run_tasks({"d": Disentanglement(metrics=["mig", "dci", "beta_vae"])}, judged)
    assert "test/mig/size" not in found
    assert found["test/mig"] == found["test/mig/hue"]
    assert "leaves out what does not vary: size" in judged.warnings[0]
    data.splits["test"].label[:] = 0
    again = context(truth.model(), data)
    assert run_tasks({"d": Disentanglement()}, again) == {}
    assert "no factor varies" in again.warnings[0]


def test_what_it_does_not_fit() -> None:
    model = instances.model()
    task = Disentanglement()
    assert "no factors of variation" in str(task.fits(instances.IMAGE, model))
    with_factors = DataSpec((1, 8, 8), "image", 100, factor_names=["a"], factor_sizes=[3])
    assert task.fits(with_factors, model) is None
    wide = instances.model(bottleneck=lambda shape: instances.BOTTLENECKS["gaussian"](shape, dim=300))
    assert task.fits(with_factors, wide) == "300 latents are more than 256"
    assert task.fits(DataSpec((8,), "tokens", 9, factor_sizes=[3]), model) == "tokens have no principal components"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"samples": 5}, "samples must be at least 12, not 5"),
        ({"bins": 1}, "bins must be at least 2, not 1"),
        ({"metrics": []}, "metrics must name at least one"),
        ({"metrics": ["mig", "spa"]}, "no metric 'spa': did you mean 'sap'?"),
        ({"trees": "boost"}, "no trees='boost': did you mean 'boosting'?"),
        ({"max_rows": 0}, "max_rows must be at least 1, not 0"),
    ],
)
def test_options_are_checked(options: dict, said: str) -> None:
    with pytest.raises(UserError, match=said.replace("?", r"\?")):
        Disentanglement(**options)


def test_pictures_of_data_whose_labels_are_factors() -> None:
    label = torch.stack([torch.arange(20) % 3, torch.arange(20) % 4], 1)
    split = Batch(x=torch.rand(20, 1, 8, 8), label=label)
    data = Rows(dict.fromkeys(("train", "validation", "test"), split), kind="image", value_range=(0.0, 1.0))
    drawn = draw(instances.model(), data, torch.device("cpu"))
    assert set(drawn) == {"reconstruction", "latent_map", "samples", "traversal"}
