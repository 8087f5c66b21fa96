"""Reading run directories as plain records: YAML, JSON and CSV under today's names; nothing is executed."""

from __future__ import annotations

import csv
import json
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from narrows.config.old_words import current_figure
from narrows.config.plain_yaml import flatten, read_text, read_yaml
from narrows.errors import UserError, printable
from narrows.runs.directory_lock import is_held
from narrows.runs.file_names import CHECKPOINTS, CONFIG, FOLDERS, HISTORY, MANIFEST, METRICS, SWEEP
from narrows.runs.old_names import current_config, current_figures, current_manifest
from narrows.runs.plain_entries import what_is_no_plain_entry

STATUSES = ("completed", "running", "killed", "failed", "interrupted", "pruned", "unknown")
LARGEST = 16 * 2**20
"""Largest size of a manifest or metrics file in bytes; a longer one is refused."""
LONGEST = 64 * 2**20
"""Most bytes of a history that are read."""

LATER: dict[str, Any] = {
    **dict.fromkeys(("trainer.fast_dev_run", "trainer.detect_anomaly", "trainer.sync_batchnorm"), False),
    **dict.fromkeys(("trainer.min_epochs", "trainer.min_steps", "trainer.limit_predict_batches"), None),
    **dict.fromkeys(("trainer.val_check_interval", "trainer.benchmark", "trainer.profiler"), None),
    **{"trainer.overfit_batches": 0.0, "trainer.num_nodes": 1},
}
"""Options of the Trainer that configs recorded earlier lack, with the values that they had: no difference to others."""


@dataclass
class Record:
    """The record of one run directory.

    `config` has dotted keys. `metrics` are the final figures, or the last logged ones if `final` is false. `notes` say
    which files could not be read, and why.
    """

    path: Path
    name: str = ""
    status: str = "unknown"
    config: dict[str, Any] = field(default_factory=dict)
    manifest: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    final: bool = True
    notes: list[str] = field(default_factory=list)

    @property
    def choices(self) -> dict[str, str]:
        """The choices of config groups by the key that they fill: `loss.kl` for `term@loss.kl`."""
        chosen = self.manifest.get("choices")
        if not isinstance(chosen, dict):
            return {}
        return {key.rpartition("@")[2]: printable(str(value)) for key, value in chosen.items()}

    @property
    def overrides(self) -> list[str]:
        asked = self.manifest.get("overrides")
        return [item for item in asked if isinstance(item, str)] if isinstance(asked, list) else []

    @property
    def source(self) -> str | None:
        """The config file that the run was started from, if it was."""
        found = self.manifest.get("from")
        path = found.get("path") if isinstance(found, dict) else None
        return printable(path) if isinstance(path, str) else None

    @property
    def changed(self) -> list[str]:
        """The keys that were changed against that source."""
        asked = [text.partition("=")[0].lstrip("+~").rpartition("@")[2] for text in self.overrides]
        return [] if self.source is None else [key for key in asked if key != "from"]

    @property
    def usable(self) -> bool:
        """Whether the record has a config to compare."""
        return bool(self.config)


def is_run(folder: Path) -> bool:
    """Whether `folder` is the directory of a run, intact or damaged."""
    if (folder / SWEEP).is_file():
        return False
    if (folder / MANIFEST).is_file():
        return True
    return (folder / CONFIG).is_file() and any((folder / name).exists() for name in (METRICS, HISTORY, CHECKPOINTS))


def find_runs(places: Iterable[Path | str]) -> list[Path]:
    """The run directories at and below `places`, each once; nothing inside a run is searched.

    Raises:
        UserError: a place does not exist, or none holds a run.
    """
    folders = [Path(os.path.abspath(place)) for place in places]
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"there is no directory '{printable(str(folder))}'")
    found = {run.resolve(): run for folder in folders for run in _runs_below(folder)}
    if not found:
        where = ", ".join(printable(str(folder)) for folder in folders)
        raise UserError(f"no run directory at or below {where}: a run has a {MANIFEST} and a {CONFIG}")
    return list(found)


def _runs_below(folder: Path) -> Iterator[Path]:
    if is_run(folder):
        yield folder
        return
    try:
        entries = [entry for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False)]
    except PermissionError:
        # A folder without read permission must not hide the others.
        return
    for entry in sorted(entries, key=lambda entry: natural(entry.name)):
        if not entry.name.startswith(".") and entry.name not in FOLDERS:
            yield from _runs_below(Path(entry.path))


def natural(name: str) -> list[tuple[int, int, str]]:
    """A sort key that puts job 10 after job 9."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.findall(r"[0-9]+|[^0-9]+", name)]


def read_runs(places: Iterable[Path | str]) -> list[Record]:
    """The records of all runs at and below `places`, named by the shortest paths that tell them apart.

    Raises:
        UserError: a place does not exist, or none holds a run.
    """
    paths = find_runs(places)
    root = Path(os.path.commonpath([path.parent for path in paths]))
    records = [read_run(path) for path in paths]
    for record in records:
        record.name = printable(str(record.path.relative_to(root)))
    return records


def read_run(path: Path) -> Record:
    """The record of one run; its notes name the files that could not be read."""
    record = Record(path, name=printable(path.name))
    if (found := _foreign(path)) is not None:
        record.notes.append(f"{printable(found)}, which no record holds")
        return record
    record.manifest = current_manifest(_noted(record, MANIFEST, _json_mapping) or {})
    record.status = _status(record)
    record.config = _noted(record, CONFIG, _config) or {}
    if record.status in ("completed", "unknown") or (path / METRICS).exists():
        metrics = _noted(record, METRICS, _json_mapping)
        record.metrics = _numbers(current_figures(metrics or {}))
    else:
        record.final = False
        record.metrics = {name: values[-1] for name, (_, values) in read_history(path).items()}
    return record


def _foreign(path: Path) -> str | None:
    try:
        return what_is_no_plain_entry(path)
    except OSError as error:
        return f"{error.filename} cannot be read ({error.strerror})"


def _noted(record: Record, name: str, read: Callable[[Path], dict[str, Any]]) -> dict[str, Any] | None:
    try:
        return read(record.path / name)
    except (ValueError, RecursionError, OSError) as error:
        record.notes.append(f"{name} {printable(_reason(error))}")
    return None


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "is missing"
    if isinstance(error, OSError):
        return f"cannot be read ({error.strerror})"
    if isinstance(error, json.JSONDecodeError):
        return f"is not valid JSON (line {error.lineno}: {error.msg})"
    return "is nested too deeply" if isinstance(error, RecursionError) else str(error)


def _json_mapping(path: Path) -> dict[str, Any]:
    values = json.loads(read_text(path, LARGEST))
    if not isinstance(values, dict):
        raise ValueError(f"holds a {type(values).__name__} where names and values should be")
    return values


def _config(path: Path) -> dict[str, Any]:
    values = read_yaml(path)
    if not isinstance(values, dict) or not values:
        raise ValueError("is empty" if not values else "is no config")
    flat = flatten(current_config(values))
    later = LATER if "trainer.max_epochs" in flat else {}
    return {key: _bounded(value) for key, value in (later | flat).items()}


def _bounded(value: Any) -> Any:
    """A value with integers beyond the range of floats replaced by infinity, because Python cannot print them."""
    if isinstance(value, list):
        return [_bounded(item) for item in value]
    if isinstance(value, int) and value.bit_length() > 1000:
        return math.inf if value > 0 else -math.inf
    return value


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    return {
        printable(name): float(_bounded(value))
        for name, value in values.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    }


def _status(record: Record) -> str:
    status = record.manifest.get("status", "unknown")
    if status == "running":
        return "running" if is_held(record.path) else "killed"
    return status if status in STATUSES else "unknown"


def read_history(path: Path) -> dict[str, tuple[list[int], list[float]]]:
    """The steps and values of every metric in `metrics.csv`, without an incomplete last row; empty if it is missing."""
    curves: dict[str, tuple[list[int], list[float]]] = {}
    if not (path / HISTORY).is_file():
        return curves
    try:
        with open(path / HISTORY, newline="", encoding="utf-8", errors="replace") as file:
            for row in csv.reader(file.readlines(LONGEST)):
                if (point := _point(row)) is not None:
                    steps, values = curves.setdefault(printable(current_figure(row[1])), ([], []))
                    steps.append(point[0])
                    values.append(point[1])
    except (OSError, csv.Error):
        # Keep what was read so far; a history is never the only record of a figure.
        return curves
    return curves


def _point(row: list[str]) -> tuple[int, float] | None:
    try:
        step, _, value = row
        return int(step), float(value)
    except ValueError:
        return None


def finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
