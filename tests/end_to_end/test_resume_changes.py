"""What may change when a run goes on, and what a stranger's record may not do meanwhile."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from command import NARROW, NO_TASKS, Finished, composed, manifest, recorded_config, run_command, run_in_process
from omegaconf import OmegaConf
from resume_runs import equal, state
from torchvision import models

from narrows.config.composition import checked
from narrows.config.plain_yaml import read_yaml
from narrows.errors import UserError
from narrows.loading.adapt_config import require_no_download
from narrows.training import resume_and_replay

QUICK = (
    *NARROW,
    *NO_TASKS,
    *("callbacks=early_stopping", "~callbacks.pictures", "callbacks.progress.enable=false"),
    *("datamodule.batch_size=512", "trainer.limit_val_batches=1", "trainer.limit_test_batches=1"),
)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path


def train(place: Path, *arguments: str) -> Finished:
    done = run_in_process(*arguments, cwd=place)
    assert done.code == 0, done.err
    return done


def test_a_longer_run_keeps_its_curves_and_its_record_is_true(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever runs the record again gets the same weights, although the length has changed within the run."""
    share = ("+schedule@loss.kl.weight=linear", "loss.kl.weight.steps=0.9")
    train(place, *QUICK, "scheduler=cosine", *share, "trainer.max_epochs=3", "hydra.run.dir=run")
    train(place, "resume=run", "trainer.max_epochs=5")
    said = caplog.text
    assert "scheduler.T_max=3 was tied to the run's length and stays, although now trainer.max_epochs=5 (it" in said
    assert "the learning rate climbs again, from 0 to " in said
    assert "trainer.max_epochs=5 scheduler.T_max=5" in said
    assert "loss.kl.weight: steps=0.9 stays a share of the 9 optimiser steps" in said
    train(place, "replay=run/config.yaml", "into=again")
    assert equal(state(place / "run"), state(place / "again"))


def test_a_schedule_of_a_fixed_length_is_refused_before_it_ends(place: Path) -> None:
    target = "scheduler._target_=torch.optim.lr_scheduler.OneCycleLR"
    options = ("~scheduler.factor", "~scheduler.total_iters", "+scheduler.max_lr=0.01", "+scheduler.total_steps=4")
    train(place, *QUICK, target, *options, "trainer.max_epochs=2", "hydra.run.dir=run")
    done = run_in_process("resume=run", "trainer.max_epochs=6", cwd=place)
    assert done.code == 2
    assert "the scheduler would fail at the end of epoch 5" in done.complaints[0]
    assert recorded_config(place / "run").trainer.max_epochs == 2


def test_patience_that_is_given_on_resume_is_taken(place: Path) -> None:
    never = ("callbacks.early_stopping.min_delta=100", "trainer.max_epochs=6")
    for name, patience in (("run", 2), ("patient", 4)):
        train(place, *QUICK, *never, f"callbacks.early_stopping.patience={patience}", f"hydra.run.dir={name}")
    assert state(place / "run")["scheduler"][0]["last_epoch"] == 3
    same = run_in_process("resume=run", "callbacks.progress.refresh=3", cwd=place)
    assert same.code == 2
    assert "leaves no step to take" in same.complaints[0]
    train(place, "resume=run", "callbacks.early_stopping.patience=4")
    assert equal(state(place / "run"), state(place / "patient"))


def test_the_best_by_another_figure_is_chosen_anew(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    train(place, *QUICK, "trainer.max_epochs=1", "hydra.run.dir=run")
    train(place, "resume=run", "trainer.max_epochs=2", "callbacks.checkpoint.monitor=val/kl")
    assert "the best checkpoint is chosen anew, by val/kl (min) instead of val/loss (min)" in caplog.text


def test_loggers_that_write_elsewhere(place: Path) -> None:
    train(place, *QUICK, "trainer.max_epochs=1", "hydra.run.dir=run")
    config = recorded_config(place / "run")
    config.logger.far = {"_target_": "narrows.training.mlflow", "_partial_": True, "tracking_uri": "http://far"}
    OmegaConf.save(config, place / "run" / "config.yaml")
    kept = run_in_process("resume=run", "trainer.max_epochs=2", "keep_loggers=true", cwd=place)
    assert kept.code == 2
    assert "logger=mlflow needs the extra" in kept.complaints[0]
    said = train(place, "resume=run", "trainer.max_epochs=2").err
    assert "left out: logger 'far' writes elsewhere; keep_loggers=true keeps it" in said
    assert "far" in recorded_config(place / "run").logger, "the record still says what was asked for"
    train(place, "replay=run/config.yaml", "into=again")


def recorded(folder: Path, *overrides: str) -> Path:
    """A run directory that holds no more than its record."""
    folder.mkdir()
    config = composed(*overrides, "~sweep")
    OmegaConf.save(config, folder / "config.yaml", resolve=True)
    (folder / "manifest.json").write_text('{"status": "running"}')
    return folder


def test_nothing_is_downloaded_unless_one_says_where_to(tmp_path: Path) -> None:
    run = recorded(tmp_path / "run", "datamodule=mnist", "data_dir=theirs")
    config, job = resume_and_replay._resumed(run, [], [], keep=False)
    assert config.datamodule.source.download is False
    assert job.recorded is not None
    assert job.recorded.datamodule.source.download is True
    config, _ = resume_and_replay._resumed(run, [f"data_dir={tmp_path / 'mine'}"], [], keep=False)
    assert config.datamodule.source.download is True
    assert config.datamodule.source.data_dir == str(tmp_path / "mine")
    config, _ = resume_and_replay._replayed(run / "config.yaml", tmp_path / "new", [], [], keep=False)
    assert config.datamodule.source.download is False


def test_weights_are_not_downloaded_unless_one_names_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = ("encoder=torchvision", "encoder.name=shufflenet_v2_x0_5", "encoder.weights=IMAGENET1K_V1")
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    config = checked(composed(*network))
    with pytest.raises(UserError, match=r"encoder.weights=IMAGENET1K_V1 would be downloaded"):
        require_no_download(config)
    require_no_download(config, ["encoder.weights=IMAGENET1K_V1"])
    require_no_download(checked(composed(*network[:2])))
    (tmp_path / "checkpoints").mkdir()
    url = models.get_model_weights("shufflenet_v2_x0_5")["IMAGENET1K_V1"].url
    (tmp_path / "checkpoints" / url.rpartition("/")[2]).touch()
    require_no_download(config)


@pytest.mark.slow
def test_a_resumed_run_needs_no_file_of_initial_weights(tmp_path: Path) -> None:
    np.savez(tmp_path / "images.npz", x=np.random.default_rng(0).random((40, 3, 32, 32), dtype=np.float32))
    torch.save(models.get_model("shufflenet_v2_x0_5").state_dict(), tmp_path / "net.pth")
    network = ("encoder=torchvision", "encoder.name=shufflenet_v2_x0_5", "encoder.weights=net.pth")
    data = ("datamodule=arrays", "datamodule.source.path=images.npz", "datamodule.source.kind=image")
    settings = (*QUICK[1:], *data, *network, "trainer.max_epochs=1", "hydra.run.dir=run")
    train(tmp_path, *settings)
    (tmp_path / "net.pth").unlink()
    train(tmp_path, "resume=run", "trainer.max_epochs=2")


@pytest.mark.parametrize("arguments", [("resume=run",), ("replay=run/config.yaml", "into=new")])
def test_nothing_is_imported_from_the_working_directory(arguments: tuple[str, ...], tmp_path: Path) -> None:
    recorded(tmp_path / "run", "encoder._target_=theirs.Encoder")
    for name in ("theirs", "yaml", "hydra", "torch"):
        (tmp_path / f"{name}.py").write_text("open('executed', 'w')\n")
    done = run_command("train", *arguments, cwd=tmp_path)
    assert "'theirs.Encoder' is no component that a recorded config may build" in done.err
    assert not (tmp_path / "executed").exists()


def test_the_recorded_config_is_plain(tmp_path: Path) -> None:
    """What a resumed run records can be resumed again."""
    train(tmp_path, *QUICK, "trainer.max_epochs=1", "hydra.run.dir=run")
    for epochs in (2, 3):
        train(tmp_path, "resume=run", f"trainer.max_epochs={epochs}")
        assert read_yaml(tmp_path / "run" / "config.yaml")["trainer"]["max_epochs"] == epochs
    assert [attempt["step"] for attempt in manifest(tmp_path / "run")["attempts"]] == [0, 3, 6]
