"""Killed and continued is never stopped, to the bit, wherever it is killed."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from command import manifest
from forks import KillAt, Server
from resume_runs import SETTINGS, assert_same, equal, state

MODULE = "narrows.training.lightning_module:AutoencoderModule"
FILES = "narrows.runs.checkpoint_files"
PLACES = {
    "the first step": KillAt(f"{MODULE}.training_step", 1),
    "while gradients wait": KillAt(f"{MODULE}.training_step", 5),
    "the first step of an epoch": KillAt(f"{MODULE}.training_step", 13),
    "the last step of an epoch": KillAt(f"{MODULE}.training_step", 24),
    "validation": KillAt(f"{MODULE}.validation_step", 2),
    "the end of validation": KillAt(f"{MODULE}.on_validation_epoch_end", 2),
    "writing a checkpoint's bytes": KillAt(f"{FILES}:_Hashing.write", 150),
    "best is in place, last is not": KillAt(f"{FILES}:_place", 5),
    "previous is in place, last is not": KillAt(f"{FILES}:_place", 6),
    "all files are in place": KillAt(f"{FILES}:_synchronise", 4),
    "a row of the history": KillAt("narrows.training.loggers:CSVHistory.log_metrics", 6),
    "the test after training": KillAt(f"{MODULE}.test_step", 1),
}
# Where the signal comes, and the optimiser steps (of three batches each) that it must not cost.
SIGNALS = {
    "SIGTERM in a step": (KillAt(f"{MODULE}.training_step", 5, signal.SIGTERM), 2),
    "SIGINT in an epoch's last step": (KillAt(f"{MODULE}.training_step", 12, signal.SIGINT), 4),
    "SIGHUP in validation": (KillAt(f"{MODULE}.validation_step", 1, signal.SIGHUP), 4),
    "SIGUSR1 while a checkpoint is written": (KillAt(f"{FILES}:_Hashing.write", 150, signal.SIGUSR1), 2),
}


def stopped(server: Server, folder: Path, kill: KillAt) -> Path:
    ended = server.run(*SETTINGS, "hydra.run.dir=run", cwd=folder, kill=kill)
    assert ended.code == 128 + kill.number, ended.out
    return folder / "run"


def go_on(server: Server, run: Path, **options: str) -> None:
    ended = server.run(f"resume={run}", cwd=run.parent, **options)
    assert ended.code == 0, ended.out
    assert manifest(run)["status"] == "completed"


# Neighbours of the others in time.
SLOW = {
    *("the test after training", "SIGUSR1 while a checkpoint is written"),
    *("the first step", "validation", "SIGINT in an epoch's last step", "SIGHUP in validation"),
    *("the first step of an epoch", "the last step of an epoch", "the end of validation"),
    *("previous is in place, last is not", "all files are in place", "a row of the history"),
}


def cases(table: dict[str, Any]) -> list[Any]:
    return [pytest.param(*case, id=n, marks=[pytest.mark.slow] if n in SLOW else []) for n, case in table.items()]


@pytest.mark.parametrize("kill", cases({name: (kill,) for name, kill in PLACES.items()}))
def test_killed_and_continued_is_never_stopped(kill: KillAt, server: Server, whole: Path, tmp_path: Path) -> None:
    run = stopped(server, tmp_path, kill)
    assert manifest(run)["status"] == "running", "nobody could write what SIGKILL did"
    go_on(server, run)
    assert_same(whole, run)
    assert not list((run / "checkpoints").glob(".*")), "nothing half-written is left"


@pytest.mark.parametrize(("kill", "step"), cases(SIGNALS))
def test_a_signal_saves_at_once_and_is_recorded(
    kill: KillAt, step: int, server: Server, whole: Path, tmp_path: Path
) -> None:
    run = stopped(server, tmp_path, kill)
    record = manifest(run)
    assert (record["status"], record["error"]) == ("interrupted", signal.Signals(kill.number).name)
    go_on(server, run)
    first, second = manifest(run)["attempts"]
    assert (first["status"], first["step"], second["checkpoint"]) == ("interrupted", 0, "last.ckpt")
    assert second["step"] == step
    assert_same(whole, run)


@pytest.mark.parametrize(
    "mechanism",
    [
        "narrows.training.lightning_module:seed_default",
        pytest.param("narrows.runs.rewind_histories:rewind", marks=pytest.mark.slow),
        pytest.param("narrows.training.step_history:StepHistory.restore", marks=pytest.mark.slow),
    ],
)
def test_the_comparison_fails_without(mechanism: str, server: Server, whole: Path, tmp_path: Path) -> None:
    run = stopped(server, tmp_path, KillAt(f"{MODULE}.training_step", 9))
    go_on(server, run, without=mechanism)
    with pytest.raises(AssertionError):
        assert_same(whole, run)


def test_a_finished_run_can_be_made_longer(server: Server, tmp_path: Path) -> None:
    short = [setting for setting in SETTINGS if not setting.startswith(("trainer.max_epochs", "callbacks", "sched"))]
    for name, epochs in (("run", 1), ("long", 2)):
        ended = server.run(*short, f"hydra.run.dir={name}", f"trainer.max_epochs={epochs}", cwd=tmp_path)
        assert ended.code == 0, ended.out
    refused = server.run("resume=run", cwd=tmp_path)
    assert refused.code == 2
    assert "run is completed: there is nothing to go on with" in refused.out
    ended = server.run("resume=run", "trainer.max_epochs=2", cwd=tmp_path)
    assert ended.code == 0, ended.out
    assert equal(state(tmp_path / "run"), state(tmp_path / "long"))
    assert manifest(tmp_path / "run")["attempts"][1]["overrides"] == ["trainer.max_epochs=2"]


@pytest.mark.slow
def test_killed_within_the_first_save(server: Server, tmp_path: Path) -> None:
    """`best` is in place and `last` has never been: the run goes on from what was saved."""
    settings = [text for text in SETTINGS if not text.startswith("callbacks.checkpoint.every_n_steps")]
    # A start at PCA would be saved before.
    settings.append("callbacks.start_at_pca.when=never")
    assert server.run(*settings, "hydra.run.dir=whole", cwd=tmp_path).code == 0
    second = KillAt(f"{FILES}:_place", 2)
    assert server.run(*settings, "hydra.run.dir=run", cwd=tmp_path, kill=second).code == 137
    names = {path.name for path in (tmp_path / "run" / "checkpoints").glob("[a-z]*")}
    assert names == {"best.ckpt"}
    ended = server.run("resume=run", cwd=tmp_path)
    assert ended.code == 0, ended.out
    assert manifest(tmp_path / "run")["attempts"][1]["checkpoint"] == "best.ckpt"
    assert_same(tmp_path / "whole", tmp_path / "run")


def _but(settings: Iterable[str], *left_out: str) -> list[str]:
    """The settings but those of these keys and below."""
    return [text for text in settings if not text.startswith(left_out)]


# Two epochs of 12 batches, of which every second ends a step: a critic starts with step 6 of 12.
VQGAN = (
    *("variant=vqgan", "encoder.channels=[4,4]", "encoder.blocks=1", "decoder.channels=[4,4]", "decoder.blocks=1"),
    *("loss.adversary.start=6", "module.accumulate=2", "datamodule.batch_size=128", "callbacks=none"),
    *("callbacks.checkpoint.every_n_steps=1", "trainer.max_epochs=2", "trainer.log_every_n_steps=3"),
    *("~tasks.latent", "~tasks.reconstruction"),
)
TEN = random.Random(0)
MANY = {
    "averaged weights, ten times": (
        [
            *_but(SETTINGS, "callbacks", "trainer.max_epochs"),
            *("callbacks=ema", "callbacks.averaged.decay=0.9", "callbacks.pictures.every_n_epochs=2"),
            *("callbacks.checkpoint.every_n_steps=1", "trainer.max_epochs=8"),
        ],
        [TEN.randint(4, 11) for _ in range(10)],
    ),
    # Batches 9, 12 and 17 of 24: before the step at which the critic begins, in it, and after it.
    "an adversary, before, at and after its start": (VQGAN, [9, 4, 6]),
}
"""Settings, and the batch of each attempt in which it is killed."""


@pytest.mark.slow
@pytest.mark.parametrize(("settings", "kills"), MANY.values(), ids=MANY)
def test_killed_again_and_again_is_never_stopped(
    settings: list[str], kills: list[int], server: Server, tmp_path: Path
) -> None:
    ended = server.run(*settings, "hydra.run.dir=whole", cwd=tmp_path)
    assert ended.code == 0, ended.out
    run, command = tmp_path / "run", [*settings, "hydra.run.dir=run"]
    for count in kills:
        ended = server.run(*command, cwd=tmp_path, kill=KillAt(f"{MODULE}.training_step", count))
        assert ended.code == 137, ended.out
        command = ["resume=run"]
    go_on(server, run)
    begun = [attempt["step"] for attempt in manifest(run)["attempts"]]
    assert begun == sorted(begun)
    assert begun[-1] > len(kills), "every attempt came further"
    assert_same(tmp_path / "whole", run)


@pytest.mark.slow
def test_twenty_random_kills(server: Server, tmp_path: Path) -> None:
    """One training, killed twenty times whenever it happened to be; and twenty, killed once each."""
    settings = [*_but(SETTINGS, "callbacks"), "callbacks=default", "trainer.max_epochs=8"]
    begun = time.monotonic()
    assert server.run(*settings, "hydra.run.dir=whole", cwd=tmp_path).code == 0
    # Moments are shares of what a whole run takes here: on a busy machine nothing would have begun after a second.
    span = time.monotonic() - begun
    source, again = random.Random(0), tmp_path / "again"
    for number in range(20):
        once = tmp_path / f"once{number}"
        _killed_after(server, source.uniform(0.1, 1) * span, *settings, f"hydra.run.dir={once}", cwd=tmp_path)
        _finished(server, once, settings)
        assert_same(tmp_path / "whole", once)
        command = [f"resume={again}"] if (again / "config.yaml").exists() else [*settings, f"hydra.run.dir={again}"]
        _killed_after(server, source.uniform(0.25, 0.5) * span, *command, cwd=tmp_path)
    _finished(server, again, settings)
    assert_same(tmp_path / "whole", again)


def _killed_after(server: Server, seconds: float, *arguments: str, cwd: Path) -> None:
    pid = server.start(*arguments, cwd=cwd)
    time.sleep(seconds)
    os.kill(pid, signal.SIGKILL)
    server.wait(pid)


def _finished(server: Server, run: Path, settings: list[str]) -> None:
    begun = (run / "config.yaml").exists()
    if begun and manifest(run).get("status") == "completed":
        return
    if not begun:
        shutil.rmtree(run, ignore_errors=True)
    ended = server.run(*([f"resume={run}"] if begun else [*settings, f"hydra.run.dir={run}"]), cwd=run.parent)
    assert ended.code == 0, ended.out
