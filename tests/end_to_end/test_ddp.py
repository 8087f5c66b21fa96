"""Two processes are one: the real command, with gloo on the CPU."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command import NARROW, free_port, only_run, run_command, run_in_process

# 1455 training examples, of whose last batch of 3 one process has 2, and chunks of 45 test examples: nothing
# divides evenly. A small sigma makes the figures depend on what was learned.
RUN = (
    *NARROW,
    # What is dropped is drawn for a batch, of which each process has a part.
    *("encoder.dropout=0", "decoder.dropout=0"),
    "variant=undercomplete",
    "datamodule=digits",
    "datamodule.loading.eval_batch_size=50",
    "datamodule.batch_size=242",
    "likelihood=gaussian",
    "likelihood.sigma=0.1",
    "optimizer.lr=0.01",
    "callbacks=none",
    "trainer.max_epochs=4",
    "trainer.log_every_n_steps=5",
)
TWO = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2")

WATCH = '''
from pathlib import Path

import lightning


class Rows(lightning.Callback):
    """Writes down which rows a process is given."""

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if trainer.current_epoch == 1:
            self.note(trainer, "train", batch)

    def on_validation_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if trainer.current_epoch == 1:
            self.note(trainer, "val", batch)

    def on_test_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.note(trainer, "test", batch)

    def note(self, trainer, stage, batch):
        with open(Path(trainer.default_root_dir) / f"{stage}_{trainer.global_rank}.rows", "a") as file:
            file.writelines(f"{row}\\n" for row in batch.index.tolist())
'''


def figures(run: Path) -> dict[str, float]:
    return json.loads((run / "metrics.json").read_text())


def history(run: Path) -> dict[tuple[str, str], float]:
    rows = [line.split(",") for line in (run / "metrics.csv").read_text().splitlines()[1:]]
    return {(step, name): float(value) for step, name, value in rows if name.startswith("train/")}


def rows(run: Path, stage: str, rank: int) -> list[int]:
    return [int(line) for line in (run / f"{stage}_{rank}.rows").read_text().split()]


def in_two_processes(place: Path, *overrides: str) -> Path:
    """The run directory, the only one, of a job of two processes."""
    (place / "watch_rows.py").write_text(WATCH)
    watch = "+callbacks.rows._target_=watch_rows.Rows"
    done = run_command("train", *RUN, *TWO, watch, *overrides, cwd=place, env={"MASTER_PORT": free_port()})
    assert done.code == 0, done.err
    assert "sync_dist" not in done.err
    return only_run(place)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("alone")
    done = run_in_process(*RUN, "trainer=cpu", cwd=place)
    assert done.code == 0, done.err
    return only_run(place)


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return in_two_processes(tmp_path_factory.mktemp("together"))


def test_figures_are_those_of_one_process(alone: Path, together: Path) -> None:
    expected = figures(alone)
    assert {"val/loss", "test/loss", "test/mse"} <= expected.keys()
    assert figures(together) == pytest.approx(expected, rel=1e-5)


def test_the_history_of_training_is_that_of_one_process(alone: Path, together: Path) -> None:
    assert history(alone)
    assert history(together) == pytest.approx(history(alone), rel=1e-5)


@pytest.mark.parametrize(("stage", "size"), [("train", 1455), ("val", 162), ("test", 180)])
def test_every_example_is_seen_once(together: Path, stage: str, size: int) -> None:
    first, second = rows(together, stage, 0), rows(together, stage, 1)
    assert len(first) + len(second) == len({*first, *second}) == size
    # Each chunk of odd length leaves one row more to the first process.
    assert 0 <= len(first) - len(second) <= 5


def test_one_process_keeps_the_record(together: Path) -> None:
    record = json.loads((together / "manifest.json").read_text())
    assert record["status"] == "completed"
    assert len(list(together.glob("events.out.tfevents.*"))) == 1
    files = sorted(path.name for path in (together / "checkpoints").iterdir())
    assert files == ["best.ckpt", "last.ckpt", "previous.ckpt"]


@pytest.mark.slow
def test_accumulation_in_two_processes_is_the_global_batch(alone: Path, tmp_path: Path) -> None:
    """Half the batch and twice the batches to a step."""
    run = in_two_processes(tmp_path, "module.accumulate=2", "datamodule.batch_size=121")
    assert figures(run) == pytest.approx(figures(alone), rel=1e-5)
