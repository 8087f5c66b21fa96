"""`narrows train -m` with real runs, each its own process; tests/test_documents.py has a small one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command import NARROW, NO_TASKS, TINY, manifest, recorded_config, run_command, run_directories


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
