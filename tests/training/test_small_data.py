"""What small data get where nobody said so, steps enough and networks that start linear; what was asked for wins."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from command import NARROW, NO_TASKS, composed, run_directories, run_in_process
from omegaconf import OmegaConf

from narrows.compare.run_records import read_history
from narrows.config.auto_values import BATCH, DRAWN, EPOCHS, LENGTHS, PCA, SAVED, VALIDATED, decided
from narrows.data import Arrays, DataModule
from narrows.training import small_data
from narrows.training.small_data import DROPOUT, FEW, FLOOR, SPACING, length_of, networks_of

ROWS = (1, 20, 33, 100, 324, 1455, 2559, 2600, 5119, 5120, 60_000)
SMALL = ("datamodule=table", "datamodule.source.path=own.csv")


@pytest.mark.parametrize("batch_size", [32, 128])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_small_data_get_steps_enough_and_are_validated_at_their_end(batch_size: int, accumulate: int) -> None:
    config = composed(*SMALL, f"module.accumulate={accumulate}")
    for rows in ROWS:
        values, told = length_of(config, rows, batch_size)
        steps = math.ceil(math.ceil(rows / batch_size) / accumulate)
        epochs, every = values[EPOCHS], values[VALIDATED]
        assert epochs >= 50
        assert epochs * steps >= FLOOR
        assert epochs % every == 0 == values[DRAWN] % every
        assert values[SAVED] == every
        if told is None:
            assert values == LENGTHS
        else:
            # Rounding up to a validation adds less than its interval.
            assert every * steps >= SPACING
            assert epochs * steps < FLOOR + every * steps
            assert f"{rows:,} training examples: batches of {batch_size}, {epochs:,} epochs of {steps} step" in told
    assert length_of(config, ROWS[-1], batch_size)[1] is None


@pytest.mark.parametrize(
    ("asked", "epochs"),
    [
        ("trainer.max_epochs=3", 3),
        ("trainer.limit_train_batches=2", 50),
        ("trainer.max_steps=1500", 150),
        ("trainer.max_steps=5", 50),
    ],
)
def test_what_was_asked_for_wins(asked: str, epochs: int) -> None:
    config = composed(*SMALL, asked)
    values, told = length_of(config, 300, 32)
    done = decided(config, values)
    assert (done.trainer.max_epochs, done.trainer.check_val_every_n_epoch, told) == (epochs, 1, None)
    assert done.callbacks.checkpoint.every_n_epochs == 1
    assert done.callbacks.pictures.every_n_epochs == 10


def test_an_interval_that_was_asked_for_is_kept_and_meets_the_last_epoch() -> None:
    config = composed(*SMALL, "trainer.check_val_every_n_epoch=7", "callbacks.checkpoint.every_n_epochs=2")
    done = decided(config, length_of(config, 300, 32)[0])
    assert done.trainer.check_val_every_n_epoch == 7
    assert done.trainer.max_epochs == 203
    assert done.callbacks.checkpoint.every_n_epochs == 2


def test_the_digits_are_short_on_purpose() -> None:
    config = composed()
    assert config.trainer.max_epochs == 50
    assert length_of(config, 1455, 64)[1] is None


NETWORKS = [f"{stage}.{option}" for stage in ("encoder", "decoder") for option in ("dropout", "shortcut")]


@pytest.mark.parametrize(
    ("overrides", "rows", "wanted"),
    [
        ((), FEW - 1, [DROPOUT, True, DROPOUT, True, "possible"]),
        ((), FEW, [0.0, False, 0.0, False, "never"]),
        (("variant=linear",), 300, [0.0, False, 0.0, False, "possible"]),
        (("variant=undercomplete", "decoder.tied=true"), 300, [DROPOUT, True, 0.0, False, "possible"]),
        (("variant=topk", "decoder.unit_norm=true"), 300, [DROPOUT, True, 0.0, False, "possible"]),
        (("encoder.dropout=0.3", "decoder.shortcut=false"), 300, [0.3, True, DROPOUT, False, "possible"]),
        (("encoder.widths=[16]", "decoder.widths=[]"), 300, [DROPOUT, True, 0.0, False, "possible"]),
        (("encoder=conv",), 300, [None, None, DROPOUT, True, "possible"]),
    ],
)
def test_perceptrons_start_linear_on_small_data(overrides: tuple[str, ...], rows: int, wanted: list[object]) -> None:
    config = composed(*SMALL, *overrides)
    done = decided(config, networks_of(config, rows))
    assert [OmegaConf.select(done, key) for key in (*NETWORKS, PCA)] == wanted


@pytest.mark.parametrize(("rows", "size"), [(30, 32), (1279, 32), (1280, 64), (2559, 64), (2560, 128), (9000, 128)])
def test_batches_are_smaller_where_data_are_small(rows: int, size: int, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).random((rows + 2, 2)))
    source = Arrays(str(tmp_path / "x.npy"))
    data = DataModule(source, batch_size="auto", validation=1)
    data.source.test.fraction = 1 / (rows + 2)
    data.setup()
    assert data.spec.size == rows
    assert data.batch_size == size
    assert len(next(iter(data.train_dataloader())).x) == min(size, rows)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose length was left to its 41 training rows; the floor is 60 steps here, a validation every 10."""
    place = tmp_path_factory.mktemp("own")
    rows = np.random.default_rng(0).random((50, 3))
    np.savetxt(place / "own.csv", rows, delimiter=",", header="a,b,c", comments="")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(small_data, "FLOOR", 60)
        patch.setattr(small_data, "SPACING", 10)
        patch.setitem(small_data.LENGTHS, EPOCHS, 4)
        done = run_in_process(*SMALL, *NARROW, *NO_TASKS, "callbacks=none", "scheduler=cosine", cwd=place)
    assert done.code == 0, done.err
    assert "41 training examples: batches of 32, 30 epochs of 2 steps, validated every 5 epochs" in done.err
    return next(iter(run_directories(place)))


def test_the_record_holds_the_numbers_that_ran(run: Path) -> None:
    config, asked = OmegaConf.load(run / "config.yaml"), OmegaConf.load(run / ".hydra" / "config.yaml")
    assert {key: OmegaConf.select(config, key) for key in (BATCH, EPOCHS, VALIDATED, SAVED)} == {
        **{BATCH: 32, EPOCHS: 30, VALIDATED: 5, SAVED: 5},
    }
    assert config.scheduler.T_max == 30
    assert OmegaConf.select(asked, EPOCHS) == "auto"
    steps, _ = read_history(run)["val/loss"]
    assert steps == [10, 20, 30, 40, 50, 60]
    rates = read_history(run)["lr"][1]
    assert rates[-1] < 0.01 * rates[0]


def test_a_run_is_repeated_from_the_numbers_that_ran(run: Path) -> None:
    done = run_in_process(f"replay={run / 'config.yaml'}", f"into={run.parent / 'again'}", cwd=run.parents[2])
    assert done.code == 0, done.err
    assert (run.parent / "again" / "metrics.json").read_text() == (run / "metrics.json").read_text()


def test_a_run_that_was_killed_before_its_data_were_read_finds_its_numbers_when_it_goes_on(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(small_data, "FLOOR", 60)
    monkeypatch.setattr(small_data, "SPACING", 10)
    killed = tmp_path / "killed"
    with monkeypatch.context() as patch:
        patch.setattr(DataModule, "setup", lambda self, stage=None: (_ for _ in ()).throw(KeyboardInterrupt))
        arguments = (*SMALL[:1], f"datamodule.source.path={run.parents[2] / 'own.csv'}", *NARROW, *NO_TASKS)
        ended = ("callbacks=none", "scheduler=cosine", f"hydra.run.dir={killed}")
        with pytest.raises(KeyboardInterrupt):
            run_in_process(*arguments, *ended, cwd=tmp_path)
    assert OmegaConf.load(killed / "config.yaml").trainer.max_epochs == "auto"
    monkeypatch.setitem(small_data.LENGTHS, EPOCHS, 4)
    done = run_in_process(f"resume={killed}", cwd=tmp_path)
    assert done.code == 0, done.err
    assert (killed / "metrics.json").read_text() == (run / "metrics.json").read_text()
    config = OmegaConf.load(killed / "config.yaml")
    assert (config.trainer.max_epochs, config.scheduler.T_max, config.datamodule.batch_size) == (30, 30, 32)
