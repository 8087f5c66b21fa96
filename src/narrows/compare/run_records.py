"""Run directories as plain records: YAML, JSON and CSV are read, nothing is imported or executed."""

from __future__ import annotations

import csv
import functools
import json
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from narrows.compare.two_runs import flatten
from narrows.errors import UserError
from narrows.runs.upgrade import upgraded

CONFIG, MANIFEST, METRICS, HISTORY = "config.yaml", "manifest.json", "metrics.json", "metrics.csv"
SWEEP = "sweep.yaml"
STATUSES = ("completed", "running", "killed", "failed", "interrupted", "pruned", "unknown")
LARGEST = 16 * 2**20
"""Bytes of a config, manifest or metrics file; a longer one is no record of a run."""
LONGEST = 64 * 2**20
"""Bytes of a history that are read."""
HARMLESS = 5_000
"""Characters in which YAML cannot be nested deeply enough to overflow the stack of the compiled loader."""
DEEPEST = 100
"""Levels of a config."""
BELOW_RUNS = {"checkpoints", "figures", "priors", "samples", "tasks"}


@dataclass
class Record:
    """What one run directory says.

    `config` is flat. `metrics` are the final figures, or the last logged ones where `final` is false. `notes`
    say which files could not be read, and why.
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
        """The config groups' choices by the place that they fill: `loss.kl` for `term@loss.kl`."""
        chosen = self.manifest.get("choices")
        if not isinstance(chosen, dict):
            return {}
        return {key.rpartition("@")[2]: printable(str(value)) for key, value in chosen.items()}

    @property
    def overrides(self) -> list[str]:
        asked = self.manifest.get("overrides")
        return [item for item in asked if isinstance(item, str)] if isinstance(asked, list) else []

    @property
    def usable(self) -> bool:
        """Whether there is a config to compare."""
        return bool(self.config)


def is_run(folder: Path) -> bool:
    """Whether `folder` is the directory of one run, whole or damaged."""
    if (folder / SWEEP).is_file():
        return False
    if (folder / MANIFEST).is_file():
        return True
    return (folder / CONFIG).is_file() and any((folder / name).exists() for name in (METRICS, HISTORY, "checkpoints"))


def find_runs(places: Iterable[Path | str]) -> list[Path]:
    """The run directories at and below `places`, each once; runs are not searched for further runs.

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
        # Somebody else's folder among the user's own must not hide these.
        return
    for entry in sorted(entries, key=lambda entry: natural(entry.name)):
        if not entry.name.startswith(".") and entry.name not in BELOW_RUNS:
            yield from _runs_below(Path(entry.path))


def natural(name: str) -> list[tuple[int, int, str]]:
    """A sorting key that puts job 10 after job 9."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.findall(r"[0-9]+|[^0-9]+", name)]


def read_runs(places: Iterable[Path | str]) -> list[Record]:
    """A record of every run at and below `places`, named by the shortest path that tells them apart.

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
    """The record of one run; what cannot be read is named in its notes."""
    record = Record(path, name=printable(path.name))
    record.manifest = _noted(record, MANIFEST, _json_mapping) or {}
    record.status = _status(record)
    record.config = _noted(record, CONFIG, _config) or {}
    if record.status in ("completed", "unknown") or (path / METRICS).exists():
        metrics = _noted(record, METRICS, _json_mapping)
        record.metrics = _numbers(metrics or {})
    else:
        record.final = False
        record.metrics = {name: values[-1] for name, (_, values) in read_history(path).items()}
    return record


def _noted(record: Record, name: str, read: Callable[[str], dict[str, Any]]) -> dict[str, Any] | None:
    try:
        return read(_text(record.path / name))
    except (ValueError, RecursionError, OSError) as error:
        reason = str(error) if type(error) is ValueError else _reason(error)
        record.notes.append(f"{name} {printable(reason)}")
    return None


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "is missing"
    if isinstance(error, OSError):
        return f"cannot be read ({error.strerror})"
    if isinstance(error, UnicodeDecodeError):
        return "is not text"
    if isinstance(error, json.JSONDecodeError):
        return f"is not valid JSON (line {error.lineno}: {error.msg})"
    return "is nested too deeply"


def _text(path: Path) -> str:
    if path.exists() and not path.is_file():
        raise ValueError("is not a file")
    if path.stat().st_size > LARGEST:
        raise ValueError(f"is longer than {LARGEST // 2**20} MB")
    return path.read_text(encoding="utf-8")


def _json_mapping(text: str) -> dict[str, Any]:
    values = json.loads(text)
    if not isinstance(values, dict):
        raise ValueError(f"holds a {type(values).__name__} where names and values should be")
    return values


def _config(text: str) -> dict[str, Any]:
    values = parse_yaml(text)
    if not isinstance(values, dict) or not values:
        raise ValueError("is empty" if not values else "is no config")
    return {key: _bounded(value) for key, value in flatten(upgraded(values)).items()}


def _bounded(value: Any) -> Any:
    """An integer beyond the floating-point numbers as infinity: Python refuses to print or to compare it."""
    if isinstance(value, list):
        return [_bounded(item) for item in value]
    if isinstance(value, int) and value.bit_length() > 1000:
        return math.inf if value > 0 else -math.inf
    return value


def parse_yaml(text: str) -> Any:
    """Plain values of a YAML text.

    Raises:
        ValueError: it is not YAML, uses aliases, with which a few lines can name billions of values, or is
            nested so deeply that the compiled loader would overflow its stack.
    """
    loader = _loader()
    try:
        if "*" in text or len(text) > HARMLESS:
            _refuse_bombs(text, loader)
        return yaml.load(text, Loader=loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark else ""
        raise ValueError(f"is not valid YAML ({where}{getattr(error, 'problem', None) or error})") from error


def _refuse_bombs(text: str, loader: Any) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=loader):
        if isinstance(event, yaml.AliasEvent):
            raise ValueError("uses YAML aliases, which no recorded config has")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise ValueError("is nested too deeply")


@functools.cache
def _loader() -> Any:
    """A safe loader, compiled where PyYAML has it, that reads a date as the text that it is."""

    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
        pass

    Loader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in rules if tag != "tag:yaml.org,2002:timestamp"]
        for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    return Loader


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    return {
        printable(name): float(_bounded(value))
        for name, value in values.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    }


def _status(record: Record) -> str:
    status = record.manifest.get("status", "unknown")
    if status == "running":
        from narrows.runs.directory import is_held

        return "running" if is_held(record.path) else "killed"
    return status if status in STATUSES else "unknown"


def read_history(path: Path) -> dict[str, tuple[list[int], list[float]]]:
    """The steps and values of every metric in `metrics.csv`; a torn last row is left out, a missing file is empty."""
    curves: dict[str, tuple[list[int], list[float]]] = {}
    if not (path / HISTORY).is_file():
        return curves
    try:
        with open(path / HISTORY, newline="", encoding="utf-8", errors="replace") as file:
            for row in csv.reader(file.readlines(LONGEST)):
                if (point := _point(row)) is not None:
                    steps, values = curves.setdefault(printable(row[1]), ([], []))
                    steps.append(point[0])
                    values.append(point[1])
    except (OSError, csv.Error):
        # What was read so far stands; a history is never the only record of a figure.
        return curves
    return curves


def _point(row: list[str]) -> tuple[int, float] | None:
    try:
        step, _, value = row
        return int(step), float(value)
    except ValueError:
        return None


def printable(text: str) -> str:
    """`text` without control characters, which could write to a terminal what no run said."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
