"""An attempt to resume that is refused, or fails before its first step, leaves every byte of the run as it was."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command import NARROW, NO_TASKS, TINY, Finished, manifest, recorded_config, run_in_process
from omegaconf import OmegaConf

from narrows.config.plain_yaml import flatten
from narrows.runs import checkpoint_files

MORE = "trainer.max_epochs=3"


def content(folder: Path) -> dict[str, bytes | str]:
    """Every file below a folder by its name, with its bytes; every link with where it leads."""
    found: dict[str, bytes | str] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        found[name] = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else ""
    return found


def write_table(path: Path, rows: int = 60) -> None:
    values = np.random.default_rng(0).normal(size=(60, 4))[:rows]
    np.savetxt(path, values, delimiter=",", header="a,b,c,d", comments="")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a completed run of two epochs of two steps, on a table beside it."""
    folder: Path = tmp_path_factory.mktemp("place")
    write_table(folder / "d.csv")
    settings = ("datamodule=table", "datamodule.source.path=d.csv", "callbacks=early_stopping", "~callbacks.pictures")
    tiny = [text for text in TINY if not text.startswith(("callbacks", "trainer.max_epochs"))]
    quick = (*tiny, *NARROW, *NO_TASKS, "trainer.max_epochs=2")
    done = run_in_process(*quick, *settings, "hydra.run.dir=run", cwd=folder)
    assert done.code == 0, done.err
    return folder


@pytest.fixture
def copy(place: Path, tmp_path: Path) -> Path:
    """A copy of that folder, which a test may change; returns the run in it."""
    shutil.copytree(place, tmp_path / "copy", symlinks=True)
    return tmp_path / "copy" / "run"


def sentence(done: Finished) -> str:
    assert done.code == 2, done.out + done.err
    assert "Traceback" not in done.err
    (said,) = done.complaints
    return said


def refused(run: Path, *arguments: str, cwd: Path | None = None) -> str:
    """The sentence of an attempt that changes nothing."""
    before = content(run)
    said = sentence(run_in_process(f"resume={run}", *arguments, cwd=cwd or run.parent))
    assert content(run) == before
    return said


MISTAKES = {
    "datamodule.loading.device=gpuu": "neither 'auto' nor 'cpu'",
    "datamodule.loading.num_workers=-1": "must be from 0 to 1,024",
    "callbacks.checkpoint.monitor=nope": "there is no figure 'nope'",
    "callbacks.early_stopping.monitor=val/los": "did you mean 'val/loss'?",
    "callbacks.checkpoint.every_n_epochs=0": "must be at least 1, not 0",
    "callbacks.checkpoint.every_n_steps=0": "must be at least 1, not 0",
    "trainer.max_time=banana": "trainer: ",
    "trainer.precision=17": "trainer",
    "trainer.accelerator=tpu": "trainer",
    "trainer.devices=-1": "trainer",
    "trainer.max_epochs=-3": "max_epochs",
    "trainer.max_epochs=2": "run has 2 epochs already: ask for more than 2",
    "trainer.max_epochs=1": "run has 2 epochs already: ask for more than 2",
    "trainer.max_steps=3": "run has 4 steps already: ask for more than 4",
    "trainer.limit_train_batches=1": "says where in an epoch it was",
    "+trainer.gradient_clip_val=1.0": "module.clip_norm= clips",
    "+trainer.fast_dev_run=true": "already",
    "trainer=gpu": "write trainer.accelerator=gpu trainer.deterministic=warn",
    "trainer=gpuu": "there is no trainer 'gpuu': did you mean 'gpu'?",
    "callbacks.progress.refresh=2": "run has 2 epochs already",
    "checkpoint=first": "no checkpoint 'first'",
    "seed=1": "seed cannot be changed",
    "datamodule.source.path=short.csv": "not those that the run was trained on",
    "datamodule.source.path=nowhere.csv": "nowhere.csv does not exist",
}


NEIGHBOURS = {
    *("datamodule.loading.num_workers=-1", "callbacks.early_stopping.monitor=val/los", "trainer.precision=17"),
    *("callbacks.checkpoint.every_n_steps=0", "trainer.devices=-1", "trainer.max_epochs=-3", "trainer=gpuu"),
    *("+trainer.fast_dev_run=true", "+trainer.gradient_clip_val=1.0", "checkpoint=first", "seed=1"),
    *("weights that are text", "two optimisers", "no scheduler", "another scheduler", "loops without progress"),
    *("a loop that lacks a part", "no data", "no step", "sizes that are texts", "no weights"),
}
"""Cases that are like others: the fast suite leaves them out."""


def cases(names: Iterable[str]) -> list[Any]:
    return [pytest.param(name, marks=[pytest.mark.slow] if name in NEIGHBOURS else []) for name in names]


@pytest.mark.parametrize("mistake", cases(MISTAKES))
def test_a_mistake_changes_nothing(mistake: str, place: Path) -> None:
    if not (place / "short.csv").exists():
        write_table(place / "short.csv", 40)
    alone = mistake.startswith(("trainer.max_epochs", "callbacks.progress"))
    assert MISTAKES[mistake] in refused(place / "run", *([] if alone else [MORE]), mistake)


def test_case_14_the_data_of_the_moment(copy: Path) -> None:
    """Other data are refused, and then the right ones are still taken."""
    table = copy.parent / "d.csv"
    kept = table.read_bytes()
    write_table(table, 40)
    assert "not those that the run was trained on" in refused(copy, MORE)
    table.write_bytes(kept)
    done = run_in_process("resume=run", MORE, cwd=copy.parent)
    assert done.code == 0, done.err
    assert manifest(copy)["status"] == "completed"
    assert recorded_config(copy).trainer.max_epochs == 3


def test_case_16_data_that_have_moved(copy: Path) -> None:
    """They are found where the run was started, else where one says; the path is recorded so that it stays true."""
    elsewhere = copy.parent / "moved"
    elsewhere.mkdir()
    started = manifest(copy) | {"directory": str(copy.parent)}
    (copy / "manifest.json").write_text(json.dumps(started))
    done = run_in_process("resume=../run", MORE, cwd=elsewhere)
    assert done.code == 0, done.err
    assert recorded_config(copy).datamodule.source.path == "d.csv"
    shutil.move(copy.parent / "d.csv", elsewhere / "d.csv")
    said = refused(copy, "trainer.max_epochs=4")
    assert "the run read datamodule.source.path=d.csv, which is not on this machine" in said
    done = run_in_process("resume=run", "trainer.max_epochs=4", "datamodule.source.path=moved/d.csv", cwd=copy.parent)
    assert done.code == 0, done.err
    assert recorded_config(copy).datamodule.source.path == str(elsewhere.resolve() / "d.csv")


Change = Callable[[dict[str, Any]], Any]


def _another_model(state: dict[str, Any]) -> dict[str, Any]:
    weights = state["state_dict"]
    name = next(iter(weights))
    return state | {"state_dict": weights | {name: weights[name][:-1]}}


def _another_optimiser(state: dict[str, Any]) -> dict[str, Any]:
    state["optimizer_states"][0]["state"][0]["exp_avg"] = torch.zeros(3, 3)
    return state


def _without(*names: str) -> Change:
    def change(state: dict[str, Any]) -> dict[str, Any]:
        node = state
        for name in names[:-1]:
            node = node[name]
        del node[names[-1]]
        return state

    return change


CHECKPOINTS: dict[str, tuple[Change, str]] = {
    "a list": (lambda state: [1, 2], "it must be names and values"),
    "another model": (_another_model, "holds the weights of another model: "),
    "no weights": (lambda state: state | {"state_dict": {}}, "holds the weights of another model: "),
    "weights that are text": (lambda state: state | {"state_dict": {"a": "b"}}, "holds the weights of another model: "),
    "no optimiser": (_without("optimizer_states"), "it lacks 'optimizer_states'"),
    "another optimiser": (_another_optimiser, "its exp_avg has not the shape of "),
    "two optimisers": (lambda state: state | {"optimizer_states": []}, "the state of another optimiser"),
    "no scheduler": (lambda state: state | {"lr_schedulers": [{}]}, "the state of another optimiser or scheduler"),
    "another scheduler": (
        lambda state: state | {"lr_schedulers": [state["lr_schedulers"][0] | {"T_max": 3}]},
        "ConstantLR has no ['T_max']",
    ),
    "no loops": (_without("loops"), "it lacks 'loops'"),
    "loops without progress": (lambda state: state | {"loops": {}}, "does not say how far training was"),
    "a loop that lacks a part": (
        _without("loops", "fit_loop", "epoch_loop.manual_optimization.optim_step_progress", "total"),
        "training cannot go on from ",
    ),
    "no data": (_without("DataModule"), "it lacks 'DataModule'"),
    "another batch size": (
        lambda state: state | {"DataModule": state["DataModule"] | {"batch_size": 3}},
        "trained with data of batch_size 3, but now it is 16",
    ),
    "a callback's state without a value": (_without("callbacks", "Checkpoint", "best"), "training cannot go on from "),
    "no step": (_without("global_step"), "it lacks 'global_step'"),
    "planned steps that are a tensor": (
        lambda state: state | {"planned_steps": torch.zeros(3, 3)},
        "its 'planned_steps' is a Tensor",
    ),
    "planned steps below 1": (lambda state: state | {"planned_steps": -3}, "its 'planned_steps' are -3"),
    "sizes that are texts": (lambda state: state | {"histories": {"metrics.csv": "x"}}, "are no sizes of files"),
    "unlogged rows that fit no names": (
        lambda state: state | {"unlogged": {"names": ["loss"], "steps": [3], "rows": torch.zeros(1, 2)}},
        "'unlogged' steps are no rows of figures",
    ),
}


@pytest.mark.parametrize("kind", cases(CHECKPOINTS))
def test_a_checkpoint_of_another_kind(kind: str, copy: Path) -> None:
    change, said = CHECKPOINTS[kind]
    folder = copy / "checkpoints"
    state = change(checkpoint_files.read(folder / "last.ckpt"))
    for name in ("last", "previous"):
        checkpoint_files.save_as(state, folder / f"{name}.ckpt")
    assert said in refused(copy, MORE)


def test_no_checkpoint_to_go_on_from(copy: Path) -> None:
    """Never a silent start at step 0: `best` alone, a link to nothing, and nothing at all are refused by name."""
    folder = copy / "checkpoints"
    for name in ("last", "previous"):
        (folder / f"{name}.ckpt").unlink(missing_ok=True)
    assert "holds best.ckpt, but neither last.ckpt nor previous.ckpt" in refused(copy, MORE)
    (folder / "last.ckpt").symlink_to("nowhere.ckpt")
    assert f"{folder / 'last.ckpt'} is a link" in refused(copy, MORE)
    shutil.rmtree(folder)
    assert "was trained, but" in refused(copy, MORE)
    record = manifest(copy)
    record |= {"status": "running", "attempts": [record["attempts"][0] | {"status": "running"}]}
    (copy / "manifest.json").write_text(json.dumps(record))
    assert "was trained, but" in refused(copy), "its history goes on after the first checkpoint was due"


def test_a_copy_of_best_is_a_place_to_go_on_from(copy: Path) -> None:
    folder = copy / "checkpoints"
    for name in ("last", "previous"):
        (folder / f"{name}.ckpt").unlink(missing_ok=True)
    shutil.copy(folder / "best.ckpt", folder / "last.ckpt")
    done = run_in_process("resume=run", MORE, cwd=copy.parent)
    assert done.code == 0, done.err


def test_a_logger_without_partial(copy: Path) -> None:
    config = recorded_config(copy)
    config.logger.csv = {"_target_": "narrows.training.CSVHistory", "save_dir": str(copy.parent / "theirs")}
    OmegaConf.save(config, copy / "config.yaml")
    assert "logger.csv names a class of kind Logger, with _partial_: true" in refused(copy, MORE)
    assert not (copy.parent / "theirs").exists()


def test_a_lock_that_was_not_there_is_not_left(copy: Path) -> None:
    (copy / ".lock").unlink()
    refused(copy, MORE, "trainer.max_time=banana")
    assert not (copy / ".lock").exists()


@pytest.mark.parametrize("place_of_failure", ["training_step", "on_train_start"])
def test_what_fails_before_the_first_step_is_over(
    place_of_failure: str, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory that does not suffice shows in the first step, when everything has been restored."""

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("[enforce fail] can't allocate memory: you tried to allocate 1 bytes")

    monkeypatch.setattr(f"narrows.training.lightning_module.AutoencoderModule.{place_of_failure}", fail)
    assert "out of memory" in refused(copy, MORE)


# For every key of the config a wrong value, for every file of the run a damaged one.

WRONG = {bool: ("banana",), int: ("banana", "-7"), float: ("banana", "nan"), str: ("banana", "7"), list: ("banana",)}


def wrong_values(run: Path) -> Iterator[str]:
    for key, value in flatten(OmegaConf.to_container(recorded_config(run))).items():
        for text in WRONG.get(type(value), ("banana",)):
            yield f"{key}={text}"


def restore(copy: Path, place: Path) -> None:
    shutil.rmtree(copy)
    shutil.copytree(place / "run", copy, symlinks=True)


def check_values(values: list[str], place: Path, copy: Path) -> None:
    wrong = []
    for text in values:
        before = content(copy)
        more = [] if text.startswith("trainer.max_epochs") else [MORE]
        done = run_in_process("resume=run", *more, text, cwd=copy.parent)
        if "Traceback" in done.err or done.code not in (0, 2) or (done.code == 2 and content(copy) != before):
            wrong.append((text, done.code, done.err.splitlines()[-1]))
        if content(copy) != before:
            restore(copy, place)
    assert wrong == []


def test_some_wrong_values(place: Path, copy: Path) -> None:
    check_values(random.Random(0).sample(sorted(wrong_values(copy)), 12), place, copy)


@pytest.mark.slow
def test_a_wrong_value_for_every_key(place: Path, copy: Path) -> None:
    check_values(list(wrong_values(copy)), place, copy)


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "half": lambda data: data[: len(data) // 2],
    "garbage": lambda data: b"\xff\x00 {[garbage" + data[12:],
    "another kind": lambda data: b"[1, 2]\n",
}


def check_files(chosen: list[tuple[str, str]], place: Path, copy: Path) -> None:
    for name, kind in chosen:
        path = copy / name
        data = path.read_bytes()
        path.unlink()  # a hard link may be another checkpoint
        path.write_bytes(DAMAGES[kind](data))
        before = content(copy)
        done = run_in_process("resume=run", MORE, cwd=copy.parent)
        assert "Traceback" not in done.err, (name, kind, done.err)
        assert done.code in (0, 2), (name, kind, done.err)
        if done.code == 2:
            assert content(copy) == before, (name, kind)
            assert len(done.complaints) == 1, (name, kind)
        restore(copy, place)


def files(run: Path) -> list[tuple[str, str]]:
    names = sorted(str(path.relative_to(run)) for path in run.rglob("*") if path.is_file())
    return [(name, kind) for name in names for kind in DAMAGES]


def test_some_damaged_files(place: Path, copy: Path) -> None:
    needed = {"config.yaml", "manifest.json", "metrics.csv", "checkpoints/last.ckpt"}
    chosen = [(name, kind) for name, kind in files(copy) if name in needed and kind in ("half", "another kind")]
    check_files(chosen, place, copy)


@pytest.mark.slow
def test_every_file_damaged(place: Path, copy: Path) -> None:
    check_files(files(copy), place, copy)
