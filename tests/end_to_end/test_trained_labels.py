"""A run on some labels alone: what its figures are of, through the real command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from command import NARROW, only_run, run_in_process

import narrows
from narrows.compare.figure_names import named
from narrows.types import Batch

SHORT = (
    *("callbacks=none", "trainer.max_epochs=3", "datamodule=arrays", "datamodule.source.path=rows.npz"),
    *("variant=undercomplete", "likelihood=gaussian", "bottleneck.dim=2", *NARROW),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Normal rows lie near the origin, those of the labels 1 and 2 far from it and from one another."""
    folder: Path = tmp_path_factory.mktemp("labels")
    source = np.random.default_rng(0)
    label = source.integers(0, 3, 240)
    x = source.normal(size=(240, 6)).astype(np.float32) + 10.0 * label[:, None].astype(np.float32)
    test = slice(180, None)
    np.savez(folder / "rows.npz", x=x[:180], y=label[:180], x_test=x[test], y_test=label[test])
    return folder


@pytest.fixture(scope="module")
def run(folder: Path) -> Path:
    keys = ("test.x_key=x_test", "test.label_key=y_test", "label_key=y", "train_labels=[0]")
    arguments = [f"datamodule.source.{key}" for key in keys]
    more = ("+task@tasks.anomaly=anomaly", "tasks.anomaly.normal_labels=[0]", "tasks.anomaly.classics=[]")
    done = run_in_process(*SHORT, *arguments, *more, "output_dir=outputs", cwd=folder)
    assert done.code == 0, done.err
    assert "labels not trained on: MSE per value" in done.out
    return only_run(folder / "outputs")


def test_reconstruction_is_of_the_trained_labels_and_of_the_others_apart(run: Path, folder: Path) -> None:
    found = json.loads((run / "metrics.json").read_text())
    with np.load(folder / "rows.npz") as rows:
        x, y = torch.from_numpy(rows["x_test"]), rows["y_test"]
    model = narrows.load(run)
    for place, chosen in {"test": y == 0, "test/other_labels": y != 0}.items():
        truth = x[torch.from_numpy(chosen)]
        error = (model.reconstruct(truth) - truth).square().mean().item()
        nll = -model(Batch(truth)).p_x.log_prob(truth).sum(1).mean().item()
        assert found[f"{place}/mse"] == pytest.approx(error, rel=1e-4)
        # A reconstruction is all that this loss is made of.
        assert found[f"{place}/loss"] == pytest.approx(nll, rel=1e-4)
        unexplained = found[f"{place}/mse"] / found[f"{place}/mean/mse"]
        assert found[f"{place}/variance_unexplained"] == pytest.approx(unexplained, rel=1e-6)
        assert found[f"{place}/pca/variance_unexplained"] < 1
    assert found["test/other_labels/mean/mse"] > 20 * found["test/mean/mse"]
    assert {"test/mse", "test/other_labels/mse"} <= named(found).keys()


def test_who_looks_for_the_others_sees_them_all(run: Path, folder: Path) -> None:
    found = json.loads((run / "metrics.json").read_text())
    with np.load(folder / "rows.npz") as rows:
        assert found["test/anomaly/prevalence"] == pytest.approx((rows["y_test"] != 0).mean())
    assert json.loads((run / "manifest.json").read_text())["data"]["trained_labels"] == [0]


def test_a_test_split_without_a_trained_label_has_the_others_alone(folder: Path) -> None:
    with np.load(folder / "rows.npz") as rows:
        normal, strange = rows["x"][rows["y"] == 0], rows["x_test"][rows["y_test"] != 0]
    label = {"y": np.zeros(len(normal), int), "y_test": np.ones(len(strange), int)}
    np.savez(folder / "apart.npz", x=normal, x_test=strange, **label)
    keys = ("test.x_key=x_test", "test.label_key=y_test", "label_key=y", "train_labels=[0]", "path=apart.npz")
    where = folder / "apart"
    done = run_in_process(*SHORT, *(f"datamodule.source.{key}" for key in keys), f"output_dir={where}", cwd=folder)
    assert done.code == 0, done.err
    found = json.loads((only_run(where) / "metrics.json").read_text())
    assert np.isfinite(found["test/other_labels/loss"])
    assert "test/loss" not in found
    assert "the test split has no example of the labels [0] that were trained on" in done.err
