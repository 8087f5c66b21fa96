"""Refusing to write over a run. Imports no torch and no omegaconf, because `narrows compare` uses it."""

from __future__ import annotations

from pathlib import Path

from narrows.errors import require
from narrows.runs.file_names import CONFIG, MANIFEST, RECORD


def require_not_recorded(target: Path, *runs: Path) -> None:
    """Refuse to write over a file of a run's record.

    Raises:
        UserError: names both.
    """
    place = target.resolve()
    for run in (run.resolve() for run in runs):
        first = place.relative_to(run).parts[:1] if place.is_relative_to(run) else ()
        theirs = target.is_file() and any(name in RECORD or name.startswith("events.out.") for name in first)
        require(not theirs, f"{target} is a part of the run {run}, and would be overwritten: name another file")


def require_outside_runs(target: Path) -> None:
    """Refuse to write into the directory of any run, whose files are its record.

    Raises:
        UserError: names both.
    """
    place = target.resolve()
    for folder in (place, *place.parents):
        recorded = all((folder / name).is_file() for name in (MANIFEST, CONFIG))
        require(not recorded, f"{target} lies in the run {folder}, to which nothing is added: name another place")
