"""`narrows evaluate RUN [RUN ...] task=NAME`: judge finished runs by a task, beside classic methods.

    narrows evaluate RUN [RUN ...] task=NAME[,NAME] | task=all [task.OPTION=VALUE ...] [KEY=VALUE ...] [--allow PKG]

A task reads the run's own data and its chosen weights; it does not train the model. Its options are those of the run's
config if that has the same task, else those that narrows ships; task.OPTION=VALUE changes them. The figures are
printed, written to the run's `tasks/NAME.json` together with what they depend on, and merged into its `metrics.json`,
so that `narrows compare` and sweeps can rank by them. Pictures go to the run's `figures/`; a task may draw one more
that compares all runs, in the first run's `figures/`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from narrows.commands import command_line
from narrows.commands.command_line import add_allow, new_parser, packages, places_and_overrides, print_paths
from narrows.errors import nearest, require

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from narrows.loading.open_run import OpenRun
    from narrows.runs.run_directory import RunDirectory
    from narrows.tasks.base import Task, TaskContext

DESCRIPTION = "Judge finished runs by a task, beside classic methods on the same split."
EPILOG = """\
examples
  narrows evaluate RUN task=generation                     its figures, tasks/generation.json, pictures
  narrows evaluate RUN task=likelihood task.samples=1000   an option of the task
  narrows evaluate RUN_A RUN_B task=all                    every task that fits
  narrows evaluate RUN task=reconstruction data_dir=DIR    data that lie elsewhere here
"""
ALL = "all"


@dataclass
class Asked:
    """The parts of a command line."""

    runs: list[Path]
    tasks: list[str]
    options: list[str] = field(default_factory=list)
    """`OPTION=VALUE` of the one task."""
    overrides: list[str] = field(default_factory=list)
    """`KEY=VALUE` for the runs' configs: where their data lie."""
    allow: list[str] = field(default_factory=list)
    every: bool = False
    """Whether tasks that do not fit are skipped."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = new_parser("evaluate", DESCRIPTION, EPILOG)
    made.add_argument("arguments", nargs="+", metavar="RUN KEY=VALUE", help="run directories, task=NAME, and options")
    add_allow(made, "a run's config")
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; a user's mistake is one sentence and exit code 2."""
    command_line.run(parser(), lambda options: evaluate(parse_arguments(options.arguments, options.allow)), arguments)


def parse_arguments(arguments: Sequence[str], allow: Sequence[str] = ()) -> Asked:
    """Sort a command line into runs, tasks, options of the task and overrides.

    Raises:
        UserError: no run, no task, or an option without its one task.
    """
    places, overrides = places_and_overrides(arguments)
    runs, pairs = [Path(place) for place in places], [override.partition("=") for override in overrides]
    for key, _, value in pairs:
        bare = key.lstrip("+~")
        mistaken = bare != key and (bare == "task" or bare.startswith("task."))
        require(not mistaken, f"'{key}={value}': options of a task are changed, not added; write {bare}={value}")
    known = choices()
    named = [value for key, _, value in pairs if key == "task"]
    require(bool(runs), "name the runs to evaluate: narrows evaluate RUN task=NAME")
    require(len(named) == 1, f"say which task once: task=NAME ({', '.join(known)}) or task=all")
    tasks = list(known) if named[0] == ALL else named[0].split(",")
    for name in tasks:
        require(bool(name), f"'task={named[0]}' leaves out the name of a task: {', '.join(known)}, or all")
        require(name in known, f"there is no task '{name}': {nearest(name, [*known, ALL])}")
    for place in runs:
        require(place.is_dir(), f"there is no run directory {place}")
    options = [f"{key.removeprefix('task.')}={value}" for key, _, value in pairs if key.startswith("task.")]
    require(
        not options or len(tasks) == 1,
        f"task.{options[0] if options else ''} belongs to one task, but {len(tasks)} were named",
    )
    others = [f"{key}={value}" for key, _, value in pairs if key != "task" and not key.startswith("task.")]
    return Asked(runs, tasks, options, others, packages(allow), every=named[0] == ALL)


def choices() -> dict[str, Path]:
    """The tasks that narrows ships, by name."""
    from narrows.config.composition import choice_files

    return choice_files("task")


def evaluate(asked: Asked) -> None:
    """Judge one run after another; print the table.

    Raises:
        UserError: a run or its data that cannot be read, or a task that does not fit.
    """
    from narrows.compare.run_summary import print_figures

    tasks = {name: _configure(name, asked.options) for name in asked.tasks}
    found = {place: evaluate_run(place, asked) for place in asked.runs}
    print_figures({str(place): figures for place, figures in found.items()})
    if len(asked.runs) > 1:
        for path in _draw_all_runs(tasks, asked.runs):
            print_paths(path)


def _draw_all_runs(tasks: dict[str, Any], runs: Sequence[Path]) -> Iterator[Path]:
    """The pictures that compare all runs, from the tasks that have judged every one of them."""
    from narrows.config.building import build
    from narrows.runs.file_names import TASKS

    for name, node in tasks.items():
        if all((run / TASKS / f"{name}.json").is_file() for run in runs):
            path = build(node, f"task {name}").across(runs)
            if path is not None:
                yield path


def _configure(name: str, options: Sequence[str], run: DictConfig | None = None) -> Any:
    """A task's options: those of the run's own config, else as shipped, and then those of the command line."""
    from omegaconf import OmegaConf

    from narrows.config.composition import check_keys
    from narrows.config.overrides import override

    shipped: Any = OmegaConf.load(choices()[name])
    recorded = ((run and run.get("tasks")) or {}).values()
    same = [node for node in recorded if node.get("_target_") == shipped._target_]
    # With two tasks of the same class in the config, it is unclear which is meant.
    config: Any = OmegaConf.create({"task": same[0] if len(same) == 1 else shipped})
    for text in options:
        override(config, f"task.{text}")
    check_keys(config)
    return config.task


def evaluate_run(place: Path, asked: Asked) -> dict[str, float]:
    """Run the tasks on one run, record their figures in its directory, and return them.

    Raises:
        UserError: see `evaluate`; also a run that another process is writing.
    """
    from narrows.loading.open_run import OpenRun
    from narrows.runs.recorded_threads import as_recorded

    run = OpenRun(place, asked.allow)
    with as_recorded(run.path):
        return _figures(run, asked)


def _figures(run: OpenRun, asked: Asked) -> dict[str, float]:
    from narrows.config.building import build
    from narrows.data.splits import HOLD_OUT
    from narrows.loading.model_from_config import untrained
    from narrows.runs.run_directory import read_metrics
    from narrows.tasks.base import TaskContext

    model = run.model
    run.find_data(asked.overrides)
    tasks = {name: _configure(name, asked.options, run.config) for name in asked.tasks}
    built: dict[str, Task] = {name: build(node, f"task {name}") for name, node in tasks.items()}
    data = run.data
    require(
        data.has("test"),
        f"tasks judge the test split, and the data of {run.path} have none: train with rows held out, {HOLD_OUT}",
    )
    for task in built.values():
        if not asked.every:
            task.check(data.spec)
    with run.writing() as directory:
        read_metrics(directory.path)  # here, to refuse a damaged file before anything is written
        context = TaskContext(
            model=model,
            datamodule=data,
            directory=directory.path,
            seed=run.config.seed,
            device=run.device,
            untrained=partial(untrained, run.path, data.spec),
        )
        figures: dict[str, float] = {}
        for name, found in _run_tasks(built, context, asked.every):
            record(directory, name, tasks[name], found, context, run.checksum)
            figures |= found
        return figures


def _run_tasks(tasks: dict[str, Task], context: TaskContext, every: bool) -> Iterator[tuple[str, dict[str, float]]]:
    from narrows.tasks.base import run_each

    for name, task in tasks.items():
        reason = task.fits(context.spec, context.model)
        require(reason is None or every, f"task {name} does not fit {context.directory}: {reason}")
        context.warnings.clear()
        for _, figures in run_each({name: task}, context):
            # What was recorded before stays.
            if figures:
                yield name, figures
            else:
                reasons = context.warnings or [f"task {name} gave no figures"]
                require(every, f"{context.directory}: {reasons[-1]}")


def record(
    directory: RunDirectory, name: str, node: DictConfig, figures: dict[str, float], context: TaskContext, weights: str
) -> None:
    """Write `tasks/NAME.json`, and merge the figures into the run's own."""
    from omegaconf import OmegaConf

    from narrows.files import write_json
    from narrows.runs.file_names import TASKS
    from narrows.runs.provenance import versions
    from narrows.runs.run_directory import read_metrics

    folder = directory.path / TASKS
    folder.mkdir(exist_ok=True)
    write_json(
        folder / f"{name}.json",
        {
            "task": name,
            "options": OmegaConf.to_container(node),
            "figures": figures,
            "warnings": list(context.warnings),
            "seed": context.seed,
            "weights": weights,
            "data": context.spec.fingerprint,
            "versions": versions(),
        },
    )
    directory.write_metrics(read_metrics(directory.path) | figures)
    directory.update(evaluated=sorted({*(directory.manifest.get("evaluated") or []), *figures}))


if __name__ == "__main__":
    main()
