"""Runs on data of several parts under every command that takes a run: gone on with, reproduced, compared, packed,
judged, drawn from, and given new data."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from command import TINY, reproduce_in_process, run_in_process

import narrows
from narrows.commands import compare, diff, embed, evaluate, pack, reconstruct, sample, score

DATA = ("datamodule=halves", "encoder.default.widths=[12]", "decoder.default.widths=[12]", "bottleneck.dim=3")
WHOLE = tuple(option for option in TINY if "limit_test" not in option)
RUNS = {"mopoe": (), "mvae": ("seed=1",)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs, each of two epochs."""
    made = tmp_path_factory.mktemp("parts")
    for name, options in RUNS.items():
        done = run_in_process(
            *DATA, *WHOLE, f"variant={name}", "trainer.max_epochs=2", *options, f"hydra.run.dir={name}", cwd=made
        )
        assert done.code == 0, done.err
    return made


@pytest.fixture
def place(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    found = Path(shutil.copytree(folder, tmp_path / "parts"))
    monkeypatch.chdir(found)
    return found


def figures(run: str) -> dict[str, float]:
    found: dict[str, float] = json.loads(Path(run, "metrics.json").read_text())
    return found


def test_a_longer_run_is_the_one_that_never_stopped(place: Path) -> None:
    done = run_in_process("resume=mopoe", "trainer.max_epochs=3", cwd=place)
    assert done.code == 0, done.err
    whole = run_in_process(*DATA, *WHOLE, "variant=mopoe", "trainer.max_epochs=3", "hydra.run.dir=whole", cwd=place)
    assert whole.code == 0, whole.err
    one, other = narrows.load("mopoe", "last").state_dict(), narrows.load("whole", "last").state_dict()
    assert all(torch.equal(values, other[name]) for name, values in one.items())
    assert {name: value for name, value in figures("mopoe").items() if not name.startswith("throughput/")} == {
        name: value for name, value in figures("whole").items() if not name.startswith("throughput/")
    }


def test_a_run_is_reproduced_to_the_bit(place: Path) -> None:
    done = reproduce_in_process("mvae", "--into", "again", cwd=place)
    assert done.code == 0, done.out + done.err
    assert "bitwise equal" in done.out


def test_runs_are_compared(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    compare.main(["mopoe", "mvae", "--csv", "both.csv"])
    with Path("both.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2
    assert any("test/" in name for name in rows[0])
    capsys.readouterr()
    diff.main(["mopoe", "mvae"])
    said = capsys.readouterr().out
    assert "narrows.bottlenecks.MixtureOfProductsOfExperts" in said
    assert "data: no difference" in said


@pytest.mark.parametrize("run", RUNS)
def test_tasks_that_are_of_any_data_judge_parts(place: Path, run: str) -> None:
    evaluate.main([run, "task=reconstruction"])
    evaluate.main([run, "task=latent"])
    found = json.loads(Path(run, "tasks", "reconstruction.json").read_text())["figures"]
    assert found["test/mse"] > 0
    assert found["test/pca/mse"] > 0
    latent = json.loads(Path(run, "tasks", "latent.json").read_text())["figures"]
    assert 0 <= latent["test/active_units"] <= 3
    # Judged again, they are what training has recorded.
    recorded = figures(run)
    assert {name: recorded[name] for name in latent} == latent


def test_a_packed_run_is_the_run(place: Path) -> None:
    pack.main(["mopoe", "-o", "digits.narrows"])
    shutil.move("mopoe", "elsewhere")
    ours, theirs = narrows.load("digits.narrows"), narrows.load("elsewhere")
    assert all(torch.equal(values, theirs.state_dict()[name]) for name, values in ours.state_dict().items())
    sample.main(["digits.narrows", "-n", "5", "--density", "own", "-o", "drawn.npz"])
    drawn = np.load("drawn.npz")
    assert {drawn[name].shape for name in ("left", "right")} == {(5, 1, 8, 4)}


def test_new_examples_of_parts_are_embedded_rebuilt_and_scored(place: Path) -> None:
    random = np.random.default_rng(0)
    halves = {name: random.random((4, 1, 8, 4)).astype(np.float32) for name in ("left", "right")}
    np.savez("new.npz", **halves)
    embed.main(["mopoe", "new.npz", "-o", "z.npz"])
    assert np.load("z.npz")["latents"].shape == (4, 3)
    reconstruct.main(["mopoe", "new.npz", "-o", "back.npz"])
    back = np.load("back.npz")
    assert {name: back[name].shape for name in back.files} == dict.fromkeys(halves, (4, 1, 8, 4))
    score.main(["mopoe", "new.npz", "-o", "scores.csv"])
    with Path("scores.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 4
