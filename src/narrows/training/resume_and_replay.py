"""`narrows train` from a recorded config, without Hydra: resuming a run, or replaying it in a new directory.

    narrows train resume=RUN [allow=PACKAGE,...] [KEY=VALUE ...]
    narrows train replay=FILE into=DIR [allow=PACKAGE,...] [KEY=VALUE ...]     what narrows reproduce calls

A recorded config may come from a stranger: `narrows.loading.permitted_classes` decides what it may execute. Nothing is
imported from the working directory without `allow=`, nothing is downloaded unless `data_dir=` says where to, and
loggers that write elsewhere are left out without `keep_loggers=true`.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from narrows.config.composition import checked
from narrows.config.overrides import override
from narrows.config.quoting import unquoted
from narrows.errors import PrintableFormatter, UserError, printable, require
from narrows.loading.adapt_config import (
    adapt,
    find_weights,
    is_place,
    made_absolute,
    require_no_download,
    require_weights,
)
from narrows.loading.permitted_classes import read_config, require_trusted
from narrows.runs.file_names import CONFIG, LOG, MANIFEST
from narrows.runs.job import Job, SweepJob
from narrows.runs.plain_entries import require_plain_entries
from narrows.runs.run_directory import read_manifest, require_new
from narrows.runs.train_log import TrainLog
from narrows.training.heavy_imports import uncollected

OPTIONS = ("resume", "replay", "into", "allow", "keep_loggers")
CONTINUABLE = ("trainer", "callbacks", "logger", "tasks", "data_dir", "datamodule.loading", "checkpoint")
"""The keys that may change when a run is resumed, because they do not change its figures so far. So may the paths of
data: a checksum of their content decides whether they are the same."""
FIXED = ("trainer.limit_train_batches", "trainer.overfit_batches")
"""Those of them that may not: they say where in an epoch a checkpoint was."""


def is_asked(arguments: list[str]) -> bool:
    """Whether this command line starts from a recorded config."""
    return any(argument.startswith(("resume=", "replay=")) for argument in arguments)


def main(arguments: list[str]) -> None:
    """Run what the command line says.

    Raises:
        UserError: no such run or config, one that is not trusted or cannot be resumed, or a bad override.
    """
    pairs = [argument.partition("=") for argument in arguments]
    options = {key: unquoted(value) for key, _, value in pairs if key in OPTIONS}
    overrides = [argument for argument, (key, _, _) in zip(arguments, pairs, strict=True) if key not in OPTIONS]
    allow = [name for name in options.get("allow", "").split(",") if name]
    keep = options.get("keep_loggers", "false")
    require(keep in ("true", "false"), f"keep_loggers must be true or false, not '{keep}'")
    if "resume" in options:
        require("into" not in options, "resume= goes on in the run's own directory: leave into= out")
        config, job = _resumed(Path(options["resume"]), overrides, allow, keep == "true")
    else:
        require("into" in options, "replay= needs into=, the directory of the new run")
        config, job = _replayed(Path(options["replay"]), Path(options["into"]), overrides, allow, keep == "true")

    with uncollected():
        from narrows.training.experiment import run

    run(config, job)


def _resumed(directory: Path, overrides: list[str], allow: list[str], keep: bool) -> tuple[DictConfig, Job]:
    if directory.is_dir():
        require_plain_entries(directory)
    before, overrides = read_config(directory / CONFIG), [made_absolute(text) for text in overrides]
    recorded, sweep = _overridden(before, overrides), SweepJob.from_environment()
    manifest = read_manifest(directory)
    done = manifest.get("status") in ("completed", "pruned")
    require(
        not done or bool(overrides),
        f"{directory} is {manifest.get('status')}: there is nothing to go on with, unless more is asked for, such as "
        "trainer.max_epochs=200",
    )
    _require_continuable(before, recorded, overrides)
    own = sweep is not None and directory.resolve().parent == Path(sweep.sweep)
    if not own:
        require_trusted(recorded, allow)  # jobs of a sweep were composed by the sweep itself
    needed = {} if own else _needed(before, manifest, overrides, keep)
    config = _overridden(recorded, [f"{key}={value}" for key, value in needed.items()])
    # What the user's own data_dir= changes holds for good, what else is needed holds on this machine.
    asked = [f"{key}={value}" for key, value in needed.items() if "data_dir" in _keys(overrides) and is_place(key)]
    recorded = _overridden(recorded, asked)
    job = Job(
        directory=directory,
        overrides=overrides,
        choices=_choices(manifest),
        resume=True,
        done=done,
        before=before,
        sweep=sweep,
        recorded=checked(recorded),
        begun=_log_to(directory),
    )
    return config, job


def _require_continuable(before: DictConfig, recorded: DictConfig, overrides: list[str]) -> None:
    for key in _keys(overrides):
        place = key.startswith("datamodule.") and (is_place(key) or key.endswith(".download"))
        require(
            place or any(key == part or key.startswith(f"{part}.") for part in CONTINUABLE),
            f"{key} cannot be changed when a run goes on, it would be another run; what can: {', '.join(CONTINUABLE)}, "
            "and paths of data",
        )
    for key in FIXED:
        then, now = (OmegaConf.select(config, key) for config in (before, recorded))
        require(then == now, f"{key}={then} cannot be changed when a run goes on: it says where in an epoch it was")


def _replayed(file: Path, into: Path, overrides: list[str], allow: list[str], keep: bool) -> tuple[DictConfig, Job]:
    before = read_config(file)
    require_new(into)
    config = _overridden(before, overrides)
    require_trusted(config, allow)
    manifest = read_manifest(file.parent) if (file.parent / MANIFEST).exists() else {}
    needed = _needed(before, manifest, overrides, keep)
    needed |= find_weights(before, str(manifest.get("directory") or "."), overrides)
    config = _overridden(config, [f"{key}={value}" for key, value in needed.items()])
    require_no_download(config, overrides)
    require_weights(config, manifest)
    notes = {"from_config": str(file.resolve())}
    job = Job(directory=into, overrides=overrides, choices=_choices(manifest), notes=notes, begun=_log_to(into))
    return config, job


def _needed(before: DictConfig, manifest: dict[str, Any], overrides: list[str], keep: bool) -> dict[str, str]:
    """What must change on this machine, by key: where data lie, no downloads, no loggers that write elsewhere.

    Raises:
        UserError: the data are not on this machine.
    """
    values, left_out = adapt(before, str(manifest.get("directory") or "."), overrides, "outputs", keep)
    for name in left_out if "logger" in values else ():
        print(f"left out: logger '{printable(name)}' writes elsewhere; keep_loggers=true keeps it", file=sys.stderr)
    return {key: value for key, value in values.items() if key != "output_dir"}


def _choices(manifest: dict[str, Any]) -> dict[str, str]:
    choices = manifest.get("choices", {})
    if not isinstance(choices, dict):
        raise UserError(f"the {MANIFEST} of this run is damaged: it has no mapping of choices")
    return {str(group): str(choice) for group, choice in choices.items()}


def _overridden(config: DictConfig, overrides: list[str]) -> DictConfig:
    changed = config.copy()
    for text in overrides:
        override(changed, text)
    return changed


def _keys(overrides: list[str]) -> list[str]:
    return [text.partition("=")[0].lstrip("+~") for text in overrides]


class _RunLog(TrainLog):
    """Writes the run's `train.log`, from `begin` on: until then the directory may not exist yet, belong to another run,
    or be one that an attempt must leave as it is."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._kept: list[logging.LogRecord] | None = []

    def emit(self, record: logging.LogRecord) -> None:
        if self._kept is None:
            super().emit(record)
        else:
            self._kept.append(record)

    def begin(self) -> None:
        kept, self._kept = self._kept or [], None
        for record in kept:
            super().emit(record)


def _log_to(directory: Path) -> Callable[[], None]:
    """Log to stderr and, once the returned function is called, to the run's `train.log`, as Hydra does for other
    runs."""
    record = _RunLog(directory / LOG)
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr), record]
    for handler in handlers:
        handler.setFormatter(PrintableFormatter("%(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=handlers)
    return record.begin
