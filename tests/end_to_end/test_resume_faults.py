"""What a damaged, foreign or busy run directory is told."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

import pytest
from command import manifest
from forks import KillAt, Server
from resume_runs import SETTINGS, assert_same

from narrows.runs.directory_lock import is_held

STEP = "narrows.training.lightning_module:AutoencoderModule.training_step"


@pytest.fixture(scope="module")
def killed_once(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("killed")
    assert server.run(*SETTINGS, "hydra.run.dir=run", cwd=folder, kill=KillAt(STEP, 30)).code == 137
    return folder / "run"


@pytest.fixture
def killed(killed_once: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(killed_once, tmp_path / "run"))


def flip(path: Path, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    os.remove(path)  # a hard link may be another checkpoint
    path.write_bytes(content)


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(server: Server, killed: Path, whole: Path) -> None:
    last = killed / "checkpoints" / "last.ckpt"
    flip(last, 8 * (last.stat().st_size // 2) + 3)
    ended = server.run(f"resume={killed}", cwd=killed.parent)
    assert ended.code == 0, ended.out
    assert f"{last} is damaged: its checksum does not fit; the one before it is used" in ended.out
    assert manifest(killed)["attempts"][1]["checkpoint"] == "previous.ckpt"
    assert_same(whole, killed)


def test_when_all_are_torn_nothing_is_guessed(server: Server, killed: Path) -> None:
    folder = killed / "checkpoints"
    for name in ("last", "previous"):
        content = (folder / f"{name}.ckpt").read_bytes()
        os.remove(folder / f"{name}.ckpt")
        (folder / f"{name}.ckpt").write_bytes(content[: len(content) // 2])
    before = (killed / "metrics.csv").read_bytes()
    ended = server.run(f"resume={killed}", cwd=killed.parent)
    assert ended.code == 2
    assert "last.ckpt is cut short" in ended.out
    assert "previous.ckpt is cut short" in ended.out
    assert "Traceback" not in ended.out
    assert (killed / "metrics.csv").read_bytes() == before


def test_two_processes_never_write_one_run(server: Server, tmp_path: Path) -> None:
    run = tmp_path / "run"
    pid = server.start(*SETTINGS, "hydra.run.dir=run", cwd=tmp_path, kill=KillAt(STEP, 9, signal.SIGSTOP))
    while not (run / "metrics.csv").exists():
        time.sleep(0.05)
    try:
        assert is_held(run)
        second = server.run("resume=run", cwd=tmp_path)
        third = server.run(*SETTINGS, "hydra.run.dir=run", cwd=tmp_path)
    finally:
        os.kill(pid, signal.SIGKILL)
        server.wait(pid)
    assert (second.code, third.code) == (2, 2)
    assert f"another process ({pid}@" in second.out
    assert f"is writing {run}: wait for it, or stop it first" in second.out
    assert "already holds a run" in third.out
    assert not is_held(run)


@pytest.mark.parametrize(
    ("argument", "sentence"),
    [
        ("seed=1", "seed cannot be changed when a run goes on, it would be another run; what can: trainer, "),
        ("trainer.max_epoch=9", "the config has no 'trainer.max_epoch': trainer.max_epochs= is the number of epochs"),
        ("trainer.max_epochs=1,2", "takes one value"),
        ("into=elsewhere", "resume= goes on in the run's own directory: leave into= out"),
    ],
)
def test_what_cannot_be_asked_of_a_continued_run(argument: str, sentence: str, server: Server, killed: Path) -> None:
    before = manifest(killed)
    ended = server.run(f"resume={killed}", argument, cwd=killed.parent)
    assert ended.code == 2
    assert sentence in ended.out
    assert manifest(killed) == before


def test_a_directory_without_a_run(server: Server, tmp_path: Path) -> None:
    ended = server.run("resume=nowhere", cwd=tmp_path)
    assert ended.code == 2
    assert "nowhere" in ended.out
    assert not (tmp_path / "nowhere").exists()


def test_killed_before_its_first_step_nothing_has_changed(server: Server, whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "run")
    before = {path: path.read_bytes() for path in sorted((tmp_path / "run").rglob("*")) if path.is_file()}
    step = KillAt(STEP, 1)
    more = ("callbacks.early_stopping.patience=9", "trainer.max_epochs=9")
    assert server.run("resume=run", *more, cwd=tmp_path, kill=step).code == 137
    after = {path: path.read_bytes() for path in sorted((tmp_path / "run").rglob("*")) if path.is_file()}
    lock = tmp_path / "run" / ".lock"  # which names the process that was killed
    assert before | {lock: after[lock]} == after
