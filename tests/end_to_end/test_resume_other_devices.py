"""A run goes on in another number of processes, on the batches that it would have had."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from command import NARROW, free_port, manifest, run_command, run_in_process

from narrows.runs import checkpoint_files

# No noise, which each process draws for itself, and no start at PCA, where the gradients are of roundings; 1455
# training examples make six batches of 242 and one of three.
RUN = (
    *NARROW,
    *("variant=undercomplete", "encoder.dropout=0", "decoder.dropout=0", "datamodule=digits"),
    *("encoder.shortcut=false", "decoder.shortcut=false"),
    *("datamodule.batch_size=242", "optimizer.lr=0.01", "trainer.precision=64-true", "trainer.log_every_n_steps=5"),
    *("callbacks=none", "callbacks.checkpoint.every_n_steps=4", "~tasks.latent", "~tasks.reconstruction"),
    "hydra.run.dir=run",
)
EPOCHS = 3
STOPS = '''
import lightning


class Stops(lightning.Callback):
    """Fails within the second epoch, of seven steps: the last checkpoint is from behind step 8."""

    def __init__(self, at):
        self.at = at

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if trainer.global_step == self.at:
            raise ArithmeticError("enough")
'''


def trained(place: Path, devices: int, strategy: str = "ddp") -> Path:
    """A run in so many processes that has failed within its second epoch."""
    (place / "stops.py").write_text(STOPS)
    asked = (f"trainer={strategy}", "trainer.accelerator=cpu", f"trainer.devices={devices}")
    stops = (f"trainer.max_epochs={EPOCHS}", "+callbacks.stops._target_=stops.Stops", "+callbacks.stops.at=9")
    done = run_command("train", *RUN, *asked, *stops, cwd=place, env={"MASTER_PORT": free_port()}, timeout=400)
    assert done.code == 2, done.err
    assert manifest(place / "run")["status"] == "failed"
    return place / "run"


def resumed(run: Path, devices: int, place: Path, *strategy: str) -> Path:
    """A copy of the run that went on in so many processes."""
    (place / "stops.py").write_text(STOPS)
    copy = Path(shutil.copytree(run, place / "run"))
    asked = (f"resume={copy}", f"trainer.devices={devices}", *strategy, "callbacks.stops.at=-1", "allow=stops")
    done = run_command("train", *asked, cwd=place, env={"MASTER_PORT": free_port()}, timeout=400)
    assert done.code == 0, done.err
    record = manifest(copy)
    assert (record["status"], record.get("error"), record.get("rank")) == ("completed", None, None)
    assert record["attempts"][1]["step"] == 8
    return copy


def require_same(run: Path, whole: Path) -> None:
    now, then = (checkpoint_files.read(path / "checkpoints" / "last.ckpt") for path in (run, whole))
    for name, value in then["state_dict"].items():
        torch.testing.assert_close(now["state_dict"][name], value, rtol=0, atol=1e-10)
    now, then = (json.loads((path / "metrics.json").read_text()) for path in (run, whole))
    assert now == pytest.approx(then, rel=1e-9)
    histories = [(path / "metrics.csv").read_text().splitlines() for path in (run, whole)]
    now, then = (
        {tuple(row.split(",")[:2]): float(row.split(",")[2]) for row in rows[1:] if "throughput" not in row}
        for rows in histories
    )
    assert now == pytest.approx(then, rel=1e-9)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What never stopped, in one process."""
    place = tmp_path_factory.mktemp("whole")
    (place / "stops.py").write_text(STOPS)
    one = ("trainer=cpu", f"trainer.max_epochs={EPOCHS}")
    done = run_in_process(*RUN, *one, cwd=place)
    assert done.code == 0, done.err
    return place / "run"


@pytest.fixture(scope="module")
def of_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("two"), 2)


def test_from_two_processes_to_one(of_two: Path, whole: Path, tmp_path: Path) -> None:
    require_same(resumed(of_two, 1, tmp_path), whole)


def test_from_two_that_divide_the_weights_to_one(whole: Path, tmp_path: Path) -> None:
    (tmp_path / "two").mkdir()
    (tmp_path / "one").mkdir()
    two = trained(tmp_path / "two", 2, "fsdp")
    require_same(resumed(two, 1, tmp_path / "one", "trainer.strategy=auto"), whole)


@pytest.mark.slow
def test_from_one_process_to_two_that_divide_the_weights(whole: Path, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    one = trained(tmp_path / "one", 1)
    require_same(resumed(one, 2, tmp_path / "two", "trainer.strategy=fsdp"), whole)


@pytest.mark.slow
def test_from_two_processes_to_three(of_two: Path, whole: Path, tmp_path: Path) -> None:
    require_same(resumed(of_two, 3, tmp_path), whole)


@pytest.mark.slow
@pytest.mark.parametrize("devices", [2, 3])
def test_from_one_process_to_more(devices: int, whole: Path, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "more").mkdir()
    require_same(resumed(trained(tmp_path / "one", 1), devices, tmp_path / "more"), whole)


def test_more_processes_than_the_last_batch_has_rows_are_refused(whole: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(whole, tmp_path / "run"))
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file() and path.name != ".lock"}
    more = ("trainer.strategy=ddp", "trainer.devices=4", "trainer.max_epochs=9")
    done = run_in_process(f"resume={copy}", *more, cwd=tmp_path)
    assert done.code == 2
    assert "4 processes would have 6: the last one, of 3 examples" in done.err
    assert "go on with trainer.devices of at most 3" in done.err
    assert before == {path: path.read_bytes() for path in copy.rglob("*") if path.is_file() and path.name != ".lock"}
