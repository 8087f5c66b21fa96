"""`narrows train` from a recorded config, without Hydra: resuming a run, or replaying it in a new directory.

    narrows train resume=RUN [KEY=VALUE ...]
    narrows train from_config=FILE into=DIR [allow=PACKAGE,...] [KEY=VALUE ...]

A recorded config may come from a stranger: `narrows.loading.permitted_classes` decides what it may execute.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from narrows.config.overrides import override
from narrows.errors import PrintableFormatter, UserError, require
from narrows.loading.permitted_classes import read_config, require_trusted
from narrows.runs.file_names import CONFIG, LOG, MANIFEST
from narrows.runs.job import Job, SweepJob
from narrows.runs.plain_entries import require_plain_entries
from narrows.runs.run_directory import read_manifest

OPTIONS = ("resume", "from_config", "into", "allow")
CONTINUABLE = ("trainer", "callbacks", "logger", "tasks", "data_dir", "datamodule.loading", "checkpoint")
"""The keys that may change when a run is resumed, because they do not change its figures so far."""


def is_asked(arguments: list[str]) -> bool:
    """Whether this command line starts from a recorded config."""
    return any(argument.startswith(("resume=", "from_config=")) for argument in arguments)


def main(arguments: list[str]) -> None:
    """Run what the command line says.

    Raises:
        UserError: no such run or config, one that is not trusted or cannot be resumed, or a bad override.
    """
    pairs = [argument.partition("=") for argument in arguments]
    options = {key: value for key, _, value in pairs if key in OPTIONS}
    overrides = [argument for argument, (key, _, _) in zip(arguments, pairs, strict=True) if key not in OPTIONS]
    allow = [name for name in options.get("allow", "").split(",") if name]
    if "resume" in options:
        require("into" not in options, "resume= goes on in the run's own directory: leave into= out")
        config, job = _resumed(Path(options["resume"]), overrides, allow)
    else:
        require("into" in options, "from_config= needs into=, the directory of the new run")
        config, job = _replayed(Path(options["from_config"]), Path(options["into"]), overrides, allow)
    _log_to(job.directory)

    from narrows.training.experiment import run

    run(config, job)


def _resumed(directory: Path, overrides: list[str], allow: list[str]) -> tuple[DictConfig, Job]:
    if directory.is_dir():
        require_plain_entries(directory)
    config, sweep = _composed(directory / CONFIG, overrides), SweepJob.from_environment()
    if sweep is None or directory.resolve().parent != Path(sweep.sweep):
        require_trusted(config, allow)  # jobs of a sweep were composed by the sweep itself
    manifest = read_manifest(directory) if (directory / MANIFEST).exists() else {}
    choices = _choices(manifest)
    if manifest.get("status") in ("completed", "pruned"):
        require(
            bool(overrides),
            f"{directory} is {manifest['status']}: there is nothing to go on with, unless more is asked for, such as "
            "trainer.max_epochs=200",
        )
    for key in map(_key, overrides):
        require(
            any(key == part or key.startswith(f"{part}.") for part in CONTINUABLE),
            f"{key} cannot be changed when a run goes on, it would be another run; what can: {', '.join(CONTINUABLE)}",
        )
    job = Job(
        directory=directory,
        overrides=overrides,
        choices=choices,
        resume=True,
        sweep=sweep,
    )
    return config, job


def _replayed(file: Path, into: Path, overrides: list[str], allow: list[str]) -> tuple[DictConfig, Job]:
    config = _composed(file, overrides)
    require_trusted(config, allow)
    manifest = read_manifest(file.parent) if (file.parent / MANIFEST).exists() else {}
    notes = {"from_config": str(file.resolve())}
    return config, Job(directory=into, overrides=overrides, choices=_choices(manifest), notes=notes)


def _choices(manifest: dict[str, Any]) -> dict[str, str]:
    choices = manifest.get("choices", {})
    if not isinstance(choices, dict):
        raise UserError(f"the {MANIFEST} of this run is damaged: it has no mapping of choices")
    return {str(group): str(choice) for group, choice in choices.items()}


def _composed(file: Path, overrides: list[str]) -> DictConfig:
    config = read_config(file)
    for text in overrides:
        override(config, text)
    return config


def _key(override: str) -> str:
    return override.partition("=")[0].lstrip("+~")


def _log_to(directory: Path) -> None:
    """Log to stderr and to the run's `train.log`, as Hydra does for other runs."""
    # The file is opened at the first message: the directory may not exist yet, or belong to another run.
    handlers: list[logging.Handler] = [
        logging.StreamHandler(sys.stderr),
        logging.FileHandler(directory / LOG, delay=True),
    ]
    for handler in handlers:
        handler.setFormatter(PrintableFormatter("%(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=handlers)
