"""`narrows.train`: the same record as the command's, and a process that is left as it was."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from command import NARROW, NO_TASKS, TINY, manifest, recorded_config, run_in_process
from resume_runs import equal, state

import narrows
from narrows.errors import UserError
from narrows.training.in_python import Run

ASKED = [*TINY, *NARROW, *NO_TASKS, "seed=4"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("python")
    return narrows.train([*ASKED, f"output_dir={folder}"])


def test_it_is_the_run_of_the_command(run: Run, tmp_path: Path) -> None:
    done = run_in_process(*ASKED, f"output_dir={run.directory.parents[1]}", "hydra.run.dir=run", cwd=tmp_path)
    assert done.code == 0, done.err
    other = tmp_path / "run"
    assert equal(state(run.directory), state(other))
    assert recorded_config(run.directory) == recorded_config(other)
    ours, theirs = manifest(run.directory), manifest(other)
    assert ours["status"] == "completed"
    assert ours["data"] == theirs["data"]
    assert ours["choices"] == theirs["choices"]
    assert ours["command"].startswith("narrows train callbacks=none ")
    files = {path.name for path in other.iterdir()}
    assert {path.name for path in run.directory.iterdir() if not path.name.startswith("events")} >= {
        name for name in files if not name.startswith("events")
    }
    assert (run.directory / "train.log").read_text() == (other / "train.log").read_text()


def test_figures_and_model_are_there(run: Run) -> None:
    assert "test/elbo" in run.figures
    assert run.model.sample(3).shape == (3, 1, 8, 8)
    assert run.model is run.model


def test_the_process_is_left_as_it_was(tmp_path: Path) -> None:
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    level, handlers = logging.getLogger("narrows").level, list(logging.getLogger("narrows").handlers)
    first = narrows.train(ASKED, directory=tmp_path / "run")
    assert torch.equal(torch.rand(3), wanted)
    assert (logging.getLogger("narrows").level, logging.getLogger("narrows").handlers) == (level, handlers)
    assert first.directory == tmp_path / "run"
    with pytest.raises(UserError, match="already holds a run"):
        narrows.train(ASKED, directory=tmp_path / "run")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ("variant=vae", r"give a list of overrides, such as \['variant=vae'\]"),
        (["resume=outputs/x"], "'resume=outputs/x' is of the command line"),
        (["seed=1,2"], "seed"),
        (["trainer=ddp"], "several devices take processes of their own"),
        (["encoder.wdths=[3]"], "no config key 'wdths' in 'encoder': did you mean 'widths'"),
    ],
)
def test_what_it_does_not_do_is_refused(overrides: list[str] | str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        narrows.train(overrides, directory=tmp_path / "run")
    assert not (tmp_path / "run").exists()
