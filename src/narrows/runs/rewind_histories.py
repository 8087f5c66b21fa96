"""Cutting a run's histories back to the state in which a checkpoint was written.

A run that resumes from a checkpoint first cuts its histories back to it, so that no step is in them twice and none is
missing.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from narrows.runs.file_names import HISTORY

HISTORIES = (HISTORY, "events.out.tfevents.*")


def take(run_dir: Path, loggers: Iterable[Any]) -> dict[str, int]:
    """Flush the loggers to disk; returns the size in bytes of each history of the run."""
    for logger in loggers:
        logger.save()
    sizes = {}
    for path in _histories(run_dir):
        with open(path, "rb") as file:
            os.fsync(file.fileno())
            sizes[path.name] = os.fstat(file.fileno()).st_size
    return sizes


def rewind(run_dir: Path, sizes: Mapping[str, int]) -> None:
    """Cut the histories back to `sizes`; those that were begun later are removed."""
    for path in _histories(run_dir):
        if path.name in sizes:
            os.truncate(path, min(sizes[path.name], path.stat().st_size))
        else:
            path.unlink()


def _histories(run_dir: Path) -> list[Path]:
    return sorted(path for pattern in HISTORIES for path in run_dir.glob(pattern))
