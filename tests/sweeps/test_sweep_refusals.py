"""A sweep that cannot work is refused in one sentence, before anything is written or started."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import Any

import pytest
from command import composed, run_in_process
from omegaconf import DictConfig, OmegaConf

from narrows.errors import UserError
from narrows.sweeps.sweep_plan import make_plan

COMMANDS: dict[str, tuple[tuple[str, ...], str]] = {
    "unknown key": (
        ("encoder.widhts=[8],[16]",),
        "no config key 'widhts' in 'encoder': did you mean 'widths'",
    ),
    "unknown fixed key": (("seed=0,1", "sed=3"), "there is no config key 'sed': did you mean 'seed'"),
    "unknown choice": (("encoder=mpl,conv",), "there is no encoder 'mpl': did you mean 'mlp'"),
    "a later value": (("bottleneck.dim=4,wide",), "bottleneck.dim must be a whole number, not 'wide'"),
    "interval of a list": (("sweep=random", "encoder.widths=interval(1,2)"), "encoder.widths must be a list"),
    "empty glob": (("encoder=glob(x*)",), "encoder=glob(x*) holds no value"),
    "sweep": (("sweep=optuma",), "there is no sweep 'optuma': did you mean 'optuna'"),
    "option": (("seed=0,1", "sweep.trails=3"), "there is no config key 'trails' in 'sweep': did you mean 'trials'"),
    "workers": (("seed=0,1", "sweep.workers.jobs=0"), "sweep.workers.jobs must be at least 1, not 0"),
    "workers' type": (("seed=0,1", "sweep.workers.jobs=many"), "sweep.workers.jobs must be a whole number"),
    "dry run": (("seed=0,1", "sweep.dry_run=perhaps"), "sweep.dry_run must be true or false, not 'perhaps'"),
    "no config": (("seed=0,1", "sed=3", "--cfg", "job"), "there is no config key 'sed': did you mean 'seed'"),
    "objective": (
        ("seed=0,1", "sweep.objective=val/los"),
        "no run will have the figure 'val/los': did you mean 'val/loss'",
    ),
    "objective without a stage": (
        ("sweep=optuna", "sweep.objective=nope"),
        "no run will have the figure 'nope': valid: ",
    ),
    "objective of training": (
        ("seed=0,1", "sweep.objective=train/loss"),
        "figure 'train/loss': did you mean 'val/loss'",
    ),
    "objective of a task": (
        ("seed=0,1", "sweep.objective=test/anomaly/auroc"),
        "it is one of task anomaly, which these runs do not have: +task@tasks.anomaly=anomaly",
    ),
    "objective of no task": (("seed=0,1", "sweep.objective=test/pnsr"), "did you mean 'test/psnr'"),
    "objective of a density": (("seed=0,1", "sweep.objective=density/log_prob_val"), "no density is fitted"),
    "nothing to resume": (("seed=0,1", "sweep.resume=true"), "no sweep with these arguments in outputs/sweeps/vae"),
    "no sweep": (("seed=0,1", "sweep.resume=true", "sweep.dir=nowhere"), "nowhere is not the directory of a sweep"),
    "hydra's place": (("seed=0,1", "hydra.sweeper.max_batch_size=2"), "hydra.sweeper.max_batch_size is not read"),
}
PLANS: dict[str, tuple[str, dict[str, Any], tuple[str, ...], str]] = {
    "twice": ("grid", {}, ("seed=1,1",), "seed=1,1 lists 1 twice"),
    "empty range": ("grid", {}, ("seed=range(3,3)",), "seed=range(3,3) holds no value"),
    "empty interval": ("random", {}, ("a=interval(2,1)",), "its first end must be below its second"),
    "log of nothing": ("random", {}, ("a=tag(log,interval(0,1))",), "must begin above 0, not at 0"),
    "tag": ("random", {}, ("a=tag(lin,interval(0,1))",), "the only tag with a meaning is log"),
    "endless grid": ("grid", {}, ("a=interval(1,2)",), "a grid cannot enumerate a=interval(1,2)"),
    "direction": ("grid", {"direction": "down"}, (), "no direction 'down' for val/loss: valid: maximize, minimize"),
    "objective": ("grid", {"objective": None}, (), "sweep.objective must name a metric"),
    "option": ("grid", {"trails": 3}, (), "sweep has no option 'trails': did you mean 'trials'"),
    "method": ("optuna", {"method": "tep"}, (), "there is no method 'tep': did you mean 'tpe'"),
    "class": ("optuna", {"method": "optuna.samplers.TP"}, (), "optuna.samplers has no 'TP'"),
    "sampler": ("optuna", {"sampler": {"gama": 1}}, (), "sweep.sampler has no option 'gama': did you mean 'gamma'"),
    "population": ("pareto", {"sampler": {"population_size": 1}}, (), "must be greater than or equal to 2"),
    "seed": ("grid", {"seed": "x"}, (), "sweep.seed must be a whole number, not 'x'"),
    "trials": ("random", {"trials": 0}, (), "sweep.trials must be at least 1"),
    "trials of a grid": ("grid", {"trials": 3}, (), "a grid runs every combination"),
    "nothing to search": ("random", {"params": None}, (), "nothing to search"),
    "pruned grid": ("grid", {"pruner": {"method": "median"}}, (), "a grid runs every job to its end"),
    "pruned front": ("pareto", {"pruner": {"method": "median"}}, (), "with several objectives cannot be pruned"),
    "pruner": ("optuna", {"pruner": {"method": "medain"}}, (), "there is no method 'medain': did you mean 'median'"),
    "late objective": ("optuna", {"objective": "test/psnr"}, (), "known only when a run has ended"),
    "tpe": ("optuna", {"objectives": {"a": "minimize", "b": "minimize"}, "pruner": None}, (), "one objective, not 2"),
}


@pytest.fixture(autouse=True)
def _no_job_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    def conduct(*args: Any, **kwargs: Any) -> int:
        raise AssertionError("it was not refused")

    monkeypatch.setattr("narrows.sweeps.sweep_command.conduct", conduct)


@pytest.mark.parametrize(("overrides", "sentence"), COMMANDS.values(), ids=COMMANDS)
def test_refused_in_one_sentence(overrides: tuple[str, ...], sentence: str, tmp_path: Path) -> None:
    done = run_in_process("-m", *overrides, cwd=tmp_path)
    assert done.code == 2, done.err
    assert len(done.complaints) == 1, done.err
    assert sentence in done.complaints[0]
    assert "Traceback" not in done.err
    assert not list(tmp_path.iterdir())


@functools.cache
def node(choice: str) -> DictConfig:
    return composed(f"sweep={choice}").sweep


@pytest.mark.parametrize(("choice", "options", "arguments", "sentence"), PLANS.values(), ids=PLANS)
def test_a_plan_without_sense(choice: str, options: dict[str, Any], arguments: tuple[str, ...], sentence: str) -> None:
    config = OmegaConf.create({**OmegaConf.to_container(node(choice)), **options})  # type: ignore[dict-item]
    with pytest.raises(UserError) as refusal:
        make_plan(config, arguments)
    assert sentence in str(refusal.value)


LIBRARIES = {"optuna": "sweep=random", "submitit": "sweep/workers=slurm", "ray": "sweep/workers=ray"}


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_missing_library_is_named_with_its_command(
    library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    done = run_in_process("-m", "seed=0,1", LIBRARIES[library], cwd=tmp_path)
    assert done.code == 2
    assert done.err.strip().endswith(f"pip install {library}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "asked", [("sweep.dry_run=true",), ("--cfg", "job"), ("--cfg=job", "--resolve"), ("-c", "job")]
)
def test_the_jobs_are_shown_and_nothing_is_trained(asked: tuple[str, ...], tmp_path: Path) -> None:
    done = run_in_process("-m", "seed=0,1", "bottleneck.dim=8,16", "optimizer.lr=0.1", *asked, cwd=tmp_path)
    lines = done.out.splitlines()
    assert (done.code, lines[0], len(lines)) == (0, "every job: optimizer.lr=0.1", 6)
    assert [line.split(maxsplit=1)[1] for line in lines[1:5]] == [
        f"seed={seed} bottleneck.dim={dim}" for seed in (0, 1) for dim in (8, 16)
    ]
    assert "nothing was trained" in lines[-1]
    assert list(tmp_path.iterdir()) == []


def test_what_a_sampler_will_propose_from_is_shown(tmp_path: Path) -> None:
    done = run_in_process("-m", "sweep=optuna", "sweep.trials=7", "sweep.dry_run=true", cwd=tmp_path)
    assert "bottleneck.dim=tag(log, int(interval(2, 64)))" in done.out
    assert "7 jobs that tpe proposes" in done.out
    assert list(tmp_path.iterdir()) == []
