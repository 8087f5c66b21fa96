"""`narrows train -m` with real runs, each its own process."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from command import NARROW, NO_TASKS, TINY, manifest, recorded_config, run_command, run_directories, run_in_process
from omegaconf import OmegaConf

from narrows.runs.file_names import SWEEP


def test_a_sweep_and_its_resumption(tmp_path: Path) -> None:
    command = ("-m", "bottleneck.dim=2,3", "sweep.workers.jobs=2", *TINY, *NARROW, *NO_TASKS)
    done = run_in_process(*command, cwd=tmp_path)
    assert done.code == 0, done.err
    runs = run_directories(tmp_path)
    assert [run.name for run in runs] == ["000_dim=2", "001_dim=3"]
    (sweep,) = {run.parent for run in runs}
    assert sweep.parent == tmp_path / "outputs" / "sweeps" / "vae"
    for number, run in enumerate(runs):
        assert manifest(run)["status"] == "completed"
        assert manifest(run)["sweep"] == {"directory": str(sweep), "number": number, "varied": ["bottleneck.dim"]}
        assert recorded_config(run).bottleneck.dim == number + 2
        assert not {"sweep", "hydra"} & set(recorded_config(run))
    losses = [json.loads((run / "metrics.json").read_text())["val/loss"] for run in runs]
    with open(sweep / "status.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["state"], float(row["val/loss"])) for row in rows] == [("completed", loss) for loss in losses]
    assert OmegaConf.load(sweep / SWEEP).plan.parameters == ["bottleneck.dim=2,3"]
    assert f"narrows compare {sweep.relative_to(tmp_path)}" in done.out
    assert f"narrows tensorboard {sweep.relative_to(tmp_path)}" in done.out
    assert "2/2 done" in done.err

    # The arguments of the first time are known to the directory.
    done = run_in_process("-m", f"sweep.dir={sweep}", "sweep.resume=true", cwd=tmp_path)
    assert done.code == 0, done.err
    assert "standard deviation" in done.out
    assert run_directories(tmp_path) == runs
    assert [len(manifest(run)["attempts"]) for run in runs] == [1, 1]


@pytest.mark.slow
def test_jobs_of_two_processes_each(tmp_path: Path) -> None:
    """Both ranks of a job train what the job says: Hydra's own multirun gave them different values."""
    devices = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2")
    arguments = ("bottleneck.dim=2,3", "sweep.workers.jobs=2", *devices, *TINY, *NARROW, *NO_TASKS)
    done = run_command("train", "-m", *arguments, cwd=tmp_path, timeout=600)
    assert done.code == 0, done.err
    runs = run_directories(tmp_path)
    assert [recorded_config(run).bottleneck.dim for run in runs] == [2, 3]
    for run in runs:
        alone = run_command(
            "train", f"bottleneck.dim={recorded_config(run).bottleneck.dim}", *devices, *TINY, *NARROW, *NO_TASKS,
            f"hydra.run.dir={tmp_path}/alone_{run.name.partition('=')[2]}", cwd=tmp_path, timeout=600,
        )  # fmt: skip
        assert alone.code == 0, alone.err
        figures = json.loads((run / "metrics.json").read_text())
        expected = json.loads((tmp_path / f"alone_{run.name.partition('=')[2]}" / "metrics.json").read_text())
        assert {k: v for k, v in figures.items() if not k.startswith("throughput/")} == {
            k: v for k, v in expected.items() if not k.startswith("throughput/")
        }


@pytest.mark.slow
@pytest.mark.parametrize("pruner", ["median", "successive_halving"])
def test_a_search_prunes_hopeless_runs(pruner: str, tmp_path: Path) -> None:
    budget = ("trainer.max_epochs=6", "callbacks=none", "datamodule.batch_size=64")
    options = {"median": "sweep.pruner.n_startup_trials=2", "successive_halving": "sweep.pruner.reduction_factor=2"}
    search = ("sweep=optuna", f"sweep/pruner={pruner}", options[pruner], "sweep.trials=8", "sweep.workers.jobs=2")
    space = ("optimizer.lr=tag(log,interval(1e-6,1e-2))", "bottleneck.dim=4")
    done = run_command("train", "-m", *search, *space, *budget, *NARROW, *NO_TASKS, cwd=tmp_path, timeout=900)
    assert done.code == 0, done.err
    states = [manifest(run)["status"] for run in run_directories(tmp_path)]
    assert len(states) == 8
    assert set(states) == {"completed", "pruned"}
