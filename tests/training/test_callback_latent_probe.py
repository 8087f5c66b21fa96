"""The probe of latents: its figures, and that training does not notice it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from command import NARROW, NO_TASKS, only_run, run_in_process
from tasks.standins import Rows, zero_model

from narrows.errors import UserError
from narrows.training.callbacks.latent_probe import LatentProbe, effective_rank, probed
from narrows.types import Batch


def rows(**spec: object) -> Rows:
    """Two classes that lie apart along the first of four values, two of which never vary."""

    def split(count: int) -> Batch:
        label = torch.arange(count) % 2
        x = torch.randn(count, 4) * torch.tensor([0.3, 1.0, 0.0, 0.0])
        x[:, 0] += 4 * label
        return Batch(x, label=label)

    return Rows({"train": split(60), "validation": split(40)}, batch_size=16, num_classes=2, **spec)


def test_the_figures_of_latents_that_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    data = rows()
    model = zero_model(data)
    monkeypatch.setattr(model, "embed", lambda batch: batch.x)
    found = probed(model, data, torch.device("cpu"))
    assert found["active_units"] == 2
    assert 1 < found["effective_rank"] < 2
    assert found["knn"] == found["linear"] == 1
    for batch in data.splits.values():
        batch.label = None
    assert set(probed(model, data, torch.device("cpu"))) == {"effective_rank", "active_units"}
    few = probed(model, data, torch.device("cpu"), rows=2)
    assert few["effective_rank"] == pytest.approx(1, abs=1e-6)


def test_effective_rank() -> None:
    basis = np.linalg.qr(np.random.default_rng(0).normal(size=(50, 4)))[0]
    centred = np.concatenate([basis, -basis])
    assert effective_rank(centred) == pytest.approx(4)
    assert effective_rank(centred * [1, 1, 0, 0]) == pytest.approx(2)
    assert effective_rank(centred * [1, 1e-9, 0, 0] + 7) == pytest.approx(1, abs=1e-4)
    assert effective_rank(np.ones((5, 3))) == 0


def test_training_does_not_notice_it_and_the_projector_has_pictures(tmp_path: Path) -> None:
    """Two runs of a few steps, whose weights are the same to the bit."""
    common = ("variant=vae", *NARROW, *NO_TASKS, "trainer.max_epochs=2", "trainer.limit_train_batches=3", "logger=csv")
    quiet = ("callbacks.progress.enable=false", "callbacks.pictures.every_n_epochs=null")
    probe = ("callbacks=probe", "callbacks.probe.rows=100", "callbacks.probe.projector=true")
    losses, runs = [], []
    for name, more in (("plain", ()), ("probed", probe)):
        done = run_in_process(*common, *more, *quiet, f"output_dir={name}", cwd=tmp_path)
        assert done.code == 0, done.err
        runs.append(only_run(tmp_path / name))
        losses.append(json.loads((runs[-1] / "metrics.json").read_text())["test/loss"])
    assert losses[0] == losses[1]
    history = (runs[1] / "metrics.csv").read_text()
    for name in ("effective_rank", "active_units", "knn", "linear"):
        assert f"probe/{name}" in history
    assert "probe/" not in (runs[0] / "metrics.csv").read_text()
    assert list((runs[1] / "projector").rglob("sprite.png"))
    table = next((runs[1] / "projector").rglob("tensors.tsv")).read_text().splitlines()
    assert len(table) == 100
    assert len(table[0].split("\t")) == 8


@pytest.mark.parametrize("settings", [{"every_n_epochs": 0}, {"rows": 1}], ids=str)
def test_settings_that_mean_nothing(settings: dict[str, int]) -> None:
    with pytest.raises(UserError, match=r"callbacks\.probe"):
        LatentProbe(**settings)  # type: ignore[arg-type]
