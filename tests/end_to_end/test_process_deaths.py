"""Of two processes one dies: the run ends within seconds, says which one and why, and leaves none behind.

That it can go on then is asked in `test_resume_other_devices`.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from command import NARROW, Finished, free_port, manifest, run_command

RUN = (
    *NARROW,
    *("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "trainer.max_epochs=3"),
    *("datamodule.batch_size=242", "callbacks=none", "~tasks.latent", "~tasks.reconstruction", "hydra.run.dir=run"),
)
# In the second epoch of seven steps each.
STEP = 9
DIES = '''
import os
import signal
import time

import lightning


class Dies(lightning.Callback):
    """Ends the process of one rank behind a step, while the other waits for it or is busy with something endless."""

    def __init__(self, rank, how, other):
        self.rank, self.how, self.other = rank, how, other

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if trainer.global_step < STEP:
            return
        if trainer.global_rank != self.rank:
            if self.other == "busy":
                time.sleep(1000)
        elif self.how == "raises":
            raise ArithmeticError("the ninth step is unlucky")
        else:
            time.sleep(1)
            os.kill(os.getpid(), signal.SIGKILL)
'''


def died(place: Path, rank: int, how: str, other: str) -> Finished:
    (place / "unlucky.py").write_text(DIES.replace("STEP", str(STEP)))
    options = {"_target_": "unlucky.Dies", "rank": rank, "how": how, "other": other}
    asked = [f"+callbacks.dies.{key}={value}" for key, value in options.items()]
    done = run_command("train", *RUN, *asked, cwd=place, env={"MASTER_PORT": free_port()}, timeout=400)
    assert done.code != 0
    return done


def left_behind(place: Path) -> list[str]:
    """The commands of the processes that were started in this folder and live."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if Path(os.readlink(process / "cwd")) == place and int(process.name) != os.getpid():
                found.append((process / "cmdline").read_text().replace("\0", " "))
        except OSError:  # it has ended meanwhile, or is another user's
            continue
    return found


def require_recorded(run: Path, rank: int, error: str) -> None:
    record = manifest(run)
    (attempt,) = record["attempts"]
    for entry in (record, attempt):
        assert (entry["status"], entry["rank"]) == ("failed", rank)
        assert error in entry["error"]
    assert left_behind(run.parent) == []


def test_one_that_raises_takes_the_run_with_it(tmp_path: Path) -> None:
    done = died(tmp_path, 1, "raises", "waits")
    require_recorded(tmp_path / "run", 1, "ArithmeticError: the ninth step is unlucky")
    assert "rank 1 of 2 processes failed, and the run with it: ArithmeticError" in done.err
    assert "gloo" not in done.err


@pytest.mark.slow
@pytest.mark.parametrize("other", ["waits", "busy"])
@pytest.mark.parametrize(
    ("rank", "how", "error"),
    [
        (1, "is killed", "killed by SIGKILL"),
        (0, "is killed", "was killed"),
        (0, "raises", "ArithmeticError: the ninth"),
    ],
)
def test_whoever_dies_is_named(rank: int, how: str, error: str, other: str, tmp_path: Path) -> None:
    done = died(tmp_path, rank, how, other)
    require_recorded(tmp_path / "run", rank, error)
    assert "gloo" not in done.err
    if how == "is killed":
        assert f"narrows: rank {rank} of 2 processes failed, and the run with it: " in done.err
