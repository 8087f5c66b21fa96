"""`narrows train`: compose a config, train, test and record a run; with `-m`, a sweep of runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from itertools import islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, cast

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from narrows.config.auto_values import decided
from narrows.config.composition import config_dir, laid_out, register_resolvers, targets
from narrows.config.hydra_versions import VERSION_BASE, composed_once, quieten
from narrows.config.leftovers import clear
from narrows.config.option_types import require_hinted
from narrows.config.origin import split_origin
from narrows.config.overrides import check_overrides
from narrows.config.quoting import quoted_paths
from narrows.config.written_hints import written_hints
from narrows.errors import explained, printable, require
from narrows.launching import is_main_process
from narrows.loading.run_places import require_run
from narrows.loading.start_from import expand, require_permitted, starts_from
from narrows.runs.job import Job, SweepJob
from narrows.runs.run_directory import require_new
from narrows.standard_streams import make_dependable
from narrows.training import resume_and_replay
from narrows.training.freed_memory import keep_freed_memory
from narrows.training.heavy_imports import uncollected
from narrows.training.library_options import check_scheduler_options, check_trainer_options

if TYPE_CHECKING:
    from narrows.training.experiment import Figures


def task(config: DictConfig) -> Figures:
    """Run one job, whose config and run directory Hydra has prepared."""
    # Also here, inside Hydra, which would print a line of its own before any other exception.
    with explained():
        job = _job()
        refuse_at_once(config, job)
        keep_freed_memory()
        # After what can be refused without it, because importing torch takes seconds.
        with uncollected():
            from narrows.training.experiment import run

        return run(config, job)


def refuse_at_once(config: DictConfig, job: Job) -> None:
    """Refuse what can be seen without torch: keys, settings, ranges, and a directory that holds a run.

    Raises:
        UserError: names it.
    """
    values = decided(laid_out(config))
    for path, node in targets(values):
        require_hinted(written_hints(str(node._target_)), node, path)
    check_trainer_options(values.trainer)
    check_scheduler_options(values.scheduler)
    if values.get("init_from") is not None:
        require_run(values.init_from)
    if is_main_process():
        require_new(job.directory)


def _job() -> Job:
    hydra_config = HydraConfig.get()
    origin, asked = split_origin(list(hydra_config.overrides.task))
    require(
        hydra_config.mode is not RunMode.MULTIRUN,
        "narrows starts every job of a sweep as a process of its own: leave hydra/sweeper and hydra/launcher alone",
    )
    choices = {key: str(value) for key, value in hydra_config.runtime.choices.items() if not key.startswith("hydra/")}
    return Job(
        directory=Path(hydra_config.runtime.output_dir),
        overrides=[*([] if origin is None else [f"from={origin.path}"]), *asked],
        choices={key: value for key, value in choices.items() if key != "sweep"},
        hydra=cast(DictConfig | None, HydraConfig.instance().cfg),
        notes={} if origin is None else {"from": {"path": origin.path, "sha256": origin.sha256}},
        sweep=SweepJob.from_environment(),
    )


def options_first(arguments: list[str]) -> list[str]:
    """The arguments with the common options before the overrides, because argparse refuses them in between."""
    options, overrides = [], []
    rest = iter(arguments)
    for argument in rest:
        if argument in ("-cd", "--config-dir"):
            options += [argument, *islice(rest, 1)]
        elif argument in ("-m", "--multirun") or argument.startswith("--config-dir="):
            options.append(argument)
        else:
            overrides.append(argument)
    return options + overrides


def _clear_leftovers(arguments: list[str]) -> list[str]:
    """The arguments with the overrides that clear leftovers; in a sweep, each job adds its own."""
    if {"-m", "--multirun"} & set(arguments):
        return arguments
    found = clear([text for text in arguments if not text.startswith("-")], _folders(arguments))
    for note in found.notes:
        print(printable(note), file=sys.stderr)
    place = next((i for i, text in enumerate(arguments) if "=" in text and text[0] != "-"), len(arguments))
    return [*arguments[:place], *found.overrides, *arguments[place:]]


def _folders(arguments: list[str]) -> list[str]:
    """Further config folders that the command line names."""
    folders = [text.partition("=")[2] for text in arguments if text.startswith("--config-dir=")]
    return folders + [after for text, after in pairwise(arguments) if text in ("-cd", "--config-dir")]


def _expand(arguments: list[str]) -> list[str]:
    """The arguments with what `from=` stands for in its place; in a sweep, that of the choices all jobs share."""
    if not starts_from(arguments):
        split_origin(arguments)  # to refuse a mapping that only looks like what stands for a source
        return arguments
    asked = [text for text in arguments if text[0] == "~" or ("=" in text and text[0] != "-")]
    options = [text for text in arguments if text not in asked]
    found = expand(asked, _folders(arguments))
    origin, _ = split_origin(found.overrides)
    assert origin is not None
    if not {"-m", "--multirun"} & set(options):
        for note in found.notes:
            print(printable(note), file=sys.stderr)
        require_permitted(found.overrides, _folders(arguments), origin.allow)
    sys.path[:0] = [os.getcwd()] if origin.allow and os.getcwd() not in sys.path else []
    return [*options, *found.overrides]


def _refuse_rerun(arguments: list[str]) -> None:
    """Refuse Hydra's `--experimental-rerun`, which reads a pickle, and a pickle can run anything.

    Raises:
        UserError: it is given, whole or shortened.
    """
    options = [argument.partition("=")[0] for argument in arguments]
    given = [option for option in options if len(option) > 2 and "--experimental-rerun".startswith(option)]
    require(
        not given,
        f"{''.join(given[:1])} would execute what a file says: narrows reproduce RUN runs a run again from its record",
    )


def _shows_config(arguments: list[str]) -> bool:
    return any(text in ("--cfg", "-c", "--help", "-h") or text.startswith(("--cfg=", "-c=")) for text in arguments)


def _jobs_instead_of_config(arguments: list[str]) -> list[str]:
    """The arguments of a sweep, which has no one config, with `--cfg` turned into a look at its jobs."""
    if not {"-m", "--multirun"} & set(arguments) or {"--help", "-h"} & set(arguments) or not _shows_config(arguments):
        return arguments
    kept, rest = [], iter(arguments)
    for text in rest:
        option, given, _ = text.partition("=")
        if option in ("--cfg", "-c", "--package", "-p"):
            list(islice(rest, 0 if given else 1))
        elif option != "--resolve":
            kept.append(text)
    return [*kept, "sweep.dry_run=true"]


def _check_display_options(arguments: list[str]) -> None:
    """Refuse options that only change how a config is shown, where none is shown.

    Raises:
        UserError: names the option.
    """
    for text in arguments:
        option = text.partition("=")[0]
        displays = option in ("--package", "-p", "--resolve")
        require(not displays or _shows_config(arguments), f"{option} is of a config that is shown: add --cfg=job")


def _run_or_show(entry: Callable[[], None]) -> None:
    try:
        entry()
    except SystemExit as end:
        # Hydra itself ends so for a --package that the config does not have.
        if end.code == 1 and _shows_config(sys.argv[1:]):
            raise SystemExit(2) from end
        raise


def main() -> None:
    """Run the command line."""
    make_dependable()
    # Hydra would report every error in its own text and with exit code 1; narrows reports it itself.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    # Spinning threads make a small network ten times slower as soon as anything else uses the cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    sys.argv[1:] = quoted_paths(options_first(sys.argv[1:]))
    register_resolvers()
    quieten()
    with explained():
        _refuse_rerun(sys.argv[1:])
        _check_display_options(sys.argv[1:])
        check_overrides(sys.argv[1:], recorded=resume_and_replay.is_asked(sys.argv[1:]))
    sys.argv[1:] = _jobs_instead_of_config(sys.argv[1:])
    if resume_and_replay.is_asked(sys.argv[1:]):
        with explained():
            resume_and_replay.main(sys.argv[1:])
            sys.stdout.flush()
        return
    with explained():
        sys.argv[1:] = _clear_leftovers(_expand(sys.argv[1:]))
    entry = hydra.main(config_path=str(config_dir()), config_name="train", **VERSION_BASE)
    with explained(), composed_once(sys.argv[1:]):
        _run_or_show(entry(task))
        sys.stdout.flush()


if __name__ == "__main__":
    main()
