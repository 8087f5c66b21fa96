"""`narrows train -m`: from the composed config to a finished sweep."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from narrows.config.building import build
from narrows.config.origin import split_origin
from narrows.errors import UserError, explained, naming, printable, require
from narrows.sweeps import sweep_directory as directories
from narrows.sweeps.composition_check import check_jobs, check_sweep, config_folders
from narrows.sweeps.job_scheduler import Command, Scheduler
from narrows.sweeps.job_table import Table
from narrows.sweeps.jobs_view import Progress
from narrows.sweeps.optuna_study import FILE as STUDY
from narrows.sweeps.optuna_study import Study, explained_storage
from narrows.sweeps.proposals import Grid, Proposal, Proposer
from narrows.sweeps.sweep_plan import OURS, Plan, make_plan
from narrows.sweeps.sweep_summary import exit_code, print_summary
from narrows.sweeps.workers import Workers


def sweep(loader: ConfigLoader, config: DictConfig, arguments: list[str], options: Mapping[str, Any]) -> None:
    """Run or resume the sweep that the config's `sweep` node and the overrides describe.

    Raises:
        SystemExit: 1 when a job failed or was interrupted, 2 for a user's mistake, 128 + n when stopped by signal n.
    """
    with explained():
        require(
            not options,
            f"hydra.sweeper.{next(iter(options), '')} is not read: its place is sweep.params",
        )
        code = run(loader, config, list(arguments))
    if code:
        raise SystemExit(code)


def run(loader: ConfigLoader, config: DictConfig, arguments: list[str]) -> int:
    """Run or resume the sweep; returns its exit code."""
    check_sweep(config)
    config, arguments = _as_before(loader, config, _as_typed(arguments))
    plan = make_plan(config.sweep, arguments, loader)
    check_jobs(plan, config, loader)
    workers: Workers = build(config.sweep.workers, "sweep.workers")
    if _only_shows(config):
        _show_jobs(plan)
        return 0
    where = _find(config, plan) if config.sweep.resume else Path(config.sweep.dir or config.hydra.sweep.dir)
    with naming(where), explained_storage(where / STUDY):
        return _held(config, where, plan, arguments, workers, loader)


def _only_shows(config: DictConfig) -> bool:
    asked = config.sweep.get("dry_run", False)
    require(isinstance(asked, bool), f"sweep.dry_run must be true or false, not {asked!r}")
    return bool(asked)


def _show_jobs(plan: Plan) -> None:
    """Print the overrides of every job, or, of jobs that are yet to be proposed, the values to choose from."""
    shared = [text for text in plan.fixed if not text.startswith("hydra")]
    if shared:
        print(f"every job: {printable(shlex.join(shared))}")
    if not plan.samples:
        for number, overrides in enumerate(plan.jobs()):
            print(f"{number:>5}  {printable(shlex.join(overrides))}")
    else:
        for item in plan.parameters:
            print(f"  {printable(item.key)}={printable(item.text)}")
    told = f" that {plan.method} proposes" if plan.samples else ""
    print(f"{plan.size} jobs{told}; nothing was trained: leave sweep.dry_run or --cfg away to start them")


def _held(
    config: DictConfig, where: Path, plan: Plan, arguments: list[str], workers: Workers, loader: ConfigLoader
) -> int:
    """Run the sweep in a directory that no other process writes; returns its exit code."""
    held = directories.create(where) if not config.sweep.resume else directories.SweepDirectory(where)
    if config.sweep.resume:
        held.hold()
    try:
        workers.prepare(held.path)
        again = ["narrows", "train", "-m", *_again(config)]
        if not config.sweep.resume:
            held.write(plan, arguments, again)
        return conduct(
            plan,
            held.path,
            workers,
            TrainCommand(plan, outer_options(config, loader)),
            devices=devices(config),
            retry_failed=config.sweep.retry_failed,
            again=shlex.join(again),
        )
    finally:
        held.release()


def conduct(
    plan: Plan,
    path: Path,
    workers: Workers,
    command: Command,
    *,
    devices: int | None = 1,
    retry_failed: bool = False,
    again: str = "",
) -> int:
    """Run the remaining jobs of the sweep in `path`, which this process has locked, and print the results.

    Args:
        command: gives the command line of a job.
        devices: GPUs per job; 0 for none, None if jobs use all that they are given.
        again: the command of this sweep, shown to the user for resuming.
    """
    proposer: Proposer = Study(plan, path / STUDY, workers.shared) if plan.samples else Grid(plan)
    table = Table(path, list(plan.objectives))
    directions = list(plan.objectives.values())
    progress = Progress(plan.size, directions)
    scheduler = Scheduler(table, proposer, workers, command, progress, plan.varied, devices, retry_failed)
    try:
        stopped = scheduler.run()
    finally:
        workers.close()
    print_summary(table, directions, again)
    return exit_code(table) if stopped is None else 128 + stopped


def _again(config: DictConfig) -> list[str]:
    """The overrides of this command, without those that ask to resume."""
    overrides = [*config.hydra.overrides.hydra, *_as_typed(list(config.hydra.overrides.task))]
    return [o for o in map(str, overrides) if not o.startswith(("sweep.resume=", "sweep.retry_failed=", "hydra.mode="))]


def _as_typed(overrides: list[str]) -> list[str]:
    """The overrides with `from=` in place of what it stands for: every job reads the source anew, beside its own
    choices."""
    origin, asked = split_origin(overrides)
    return [*([] if origin is None else origin.arguments()), *asked]


def _as_before(loader: ConfigLoader, config: DictConfig, arguments: list[str]) -> tuple[DictConfig, list[str]]:
    """For `sweep.dir=DIR sweep.resume=true` alone, the arguments with which the sweep was started."""
    ours = ("sweep.dir=", "sweep.resume=", "sweep.retry_failed=", "sweep.workers.", "sweep/workers=", "sweep.trials=")
    if not config.sweep.resume or config.sweep.dir is None or not all(a.startswith(ours) for a in arguments):
        return config, arguments
    before = [a for a in directories.read(Path(config.sweep.dir))["arguments"] if not a.startswith(ours[:3])]
    together = [*before, *arguments]
    overrides = [*OmegaConf.to_container(config.hydra.overrides.hydra), *together]  # type: ignore[misc]
    name = config.hydra.job.config_name
    return loader.load_configuration(name, overrides, RunMode.MULTIRUN), together


def _find(config: DictConfig, plan: Plan) -> Path:
    """The directory of the sweep that is to be resumed.

    Raises:
        UserError: there is no such directory, or it holds another sweep.
    """
    if config.sweep.dir is not None:
        path = Path(config.sweep.dir)
        other = directories.difference(path, plan)
        require(other is None, f"{path} is another sweep: {other}")
        return path
    usual = Path(config.hydra.sweep.dir)
    found = directories.newest(_candidates(usual), plan)
    if found is None:
        raise UserError(
            f"there is no sweep with these arguments in {usual.parent} to go on with; leave sweep.resume=true away to "
            "start one, or name one with sweep.dir=DIR"
        )
    return found


def _candidates(usual: Path) -> Iterator[Path]:
    yield usual
    if usual.parent.is_dir():
        yield from (path for path in usual.parent.iterdir() if path != usual)


def outer_options(config: DictConfig, loader: ConfigLoader) -> tuple[str, ...]:
    """The options of this command that its jobs need too: config folders, and how Hydra logs."""
    options = [f"--config-dir={folder}" for folder in config_folders(loader)]
    return (*options, *(str(o) for o in config.hydra.overrides.hydra if not str(o).startswith(OURS)))


def devices(config: DictConfig) -> int | None:
    """GPUs per job; 0 if jobs use none, None if they use all that they find."""
    trainer = config.get("trainer") or {}
    if trainer.get("accelerator") == "cpu":
        return 0
    wanted = trainer.get("devices", 1)
    if isinstance(wanted, int) and wanted >= 0:
        return wanted
    return None if isinstance(wanted, (int, str)) else len(wanted)


class TrainCommand:
    """Makes the command line of a job, which is a single run in its own process."""

    def __init__(self, plan: Plan, options: tuple[str, ...]) -> None:
        self._start = (sys.executable, "-m", "narrows.commands.train")
        self._options, self._fixed = options, plan.fixed

    def __call__(self, proposal: Proposal, directory: Path, resume: bool) -> tuple[str, ...]:
        if resume:
            return (*self._start, f"resume={directory}")
        place = QuotedString(str(directory), Quote.single).with_quotes()
        return (*self._start, *self._options, *self._fixed, *proposal.overrides, f"hydra.run.dir={place}")
