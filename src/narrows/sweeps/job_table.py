"""The table of a sweep's jobs and their states, which are taken from each run's own record and lock."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from narrows.compare.table_formats import csv_text
from narrows.config.old_words import current_override
from narrows.config.run_names import LIMIT, plain, shortest
from narrows.files import write_atomically, write_json
from narrows.runs.file_names import CONFIG, LOGS, MANIFEST, METRICS
from narrows.runs.old_names import current_figures
from narrows.sweeps.proposals import ENDED, Proposal, State

JSON, CSV = "status.json", "status.csv"
PLACES = ("overrides", "directory", "started", "ended", "error")
KILLED = (-9, 137)
INTERRUPTIONS = {-1, -2, -10, -15, 129, 130, 138, 143}


@dataclass
class Row:
    """The row of one job in the status table."""

    number: int
    state: State
    overrides: tuple[str, ...]
    directory: str
    values: dict[str, float] = field(default_factory=dict)
    """The values of the objectives, by metric."""
    started: str | None = None
    ended: str | None = None
    error: str | None = None
    token: str | None = None
    """A token by which the workers find the job again if it outlives its sweep."""

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Row:
        overrides = tuple(map(current_override, values["overrides"]))
        figures = current_figures(values.get("values", {}))
        return cls(**{**values, "state": State(values["state"]), "overrides": overrides, "values": figures})


@dataclass(frozen=True)
class Outcome:
    """The state of a run, as its files tell it."""

    state: State
    error: str | None = None


def job_name(number: int, overrides: Sequence[str]) -> str:
    """The name of a job's directory, such as `007_seed=1_dim=8`, valid on every file system."""
    pairs = [override.lstrip("+").partition("=")[::2] for override in overrides]
    short = shortest([key for key, _ in pairs])
    parts = [f"{short[key]}={plain(value)}" for key, value in pairs]
    return "_".join([f"{number:03d}", *parts])[:LIMIT].rstrip("_=-.")


def read_if_sound(path: Path) -> dict[str, Any]:
    """A JSON object of a run; empty if the file is missing or damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
        return {}
    return content if isinstance(content, dict) else {}


def outcome(directory: Path, log: Path, code: int | None) -> Outcome:
    """The outcome of a run that no process has locked.

    Args:
        directory: the run's.
        log: the output of its processes.
        code: its exit code (negative: the signal that ended it); None if unknown.
    """
    manifest = read_if_sound(directory / MANIFEST)
    status, error = manifest.get("status"), manifest.get("error")
    if status in ENDED:
        return Outcome(State(status))
    if code is None:
        if status == State.FAILED:
            return Outcome(State.FAILED, error)
        return Outcome(State.INTERRUPTED if directory.exists() else State.QUEUED)
    # A run that was restarted and ended early still has the manifest of the attempt before.
    if code in INTERRUPTIONS:
        return Outcome(State.INTERRUPTED)
    return Outcome(State.FAILED, error if status == State.FAILED and error else last_words(log, code))


def last_words(log: Path, code: int | None) -> str:
    """The cause of a failure, if the manifest has none: narrows' own sentence in the log, else its last line."""
    if code in KILLED:
        return "killed (exit code 137), probably because the machine was out of memory"
    try:
        with open(log, "rb") as file:
            file.seek(max(0, log.stat().st_size - 20_000))
            lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    except FileNotFoundError:
        lines = []
    said = [line.removeprefix("narrows: ") for line in lines if line.startswith("narrows: ")]
    last = (said or lines or ["it printed nothing"])[-1]
    return last if said else f"exit code {code}: {last}"


def can_resume(directory: Path) -> bool:
    """Whether the run can be resumed; else it must start again."""
    return (directory / CONFIG).is_file()


class Table:
    """The files `status.json` and `status.csv` in the sweep's directory, rewritten at each change."""

    def __init__(self, sweep: Path, objectives: Sequence[str]) -> None:
        self.sweep, self.objectives = sweep, list(objectives)
        self.rows: dict[int, Row] = {}
        self._before = {row.number: row for row in self._read()}

    def _read(self) -> list[Row]:
        return [Row.read(values) for values in read_if_sound(self.sweep / JSON).get("jobs", [])]

    def add(self, proposal: Proposal) -> Row:
        """The row of this job, with what earlier processes of the sweep recorded."""
        fresh = Row(proposal.number, State.QUEUED, proposal.overrides, job_name(proposal.number, proposal.overrides))
        row = self._before.get(proposal.number, fresh)
        self.rows[proposal.number] = row
        return row

    def path(self, row: Row) -> Path:
        return self.sweep / row.directory

    def log(self, row: Row) -> Path:
        return self.sweep / LOGS / f"{row.number:03d}.log"

    def lock(self, row: Row) -> Path:
        return self.sweep / LOGS / f"{row.number:03d}.lock"

    def figures(self, row: Row) -> dict[str, float]:
        """The final figures of a job's run."""
        return current_figures(read_if_sound(self.path(row) / METRICS))

    def count(self, *states: State) -> int:
        return sum(row.state in states for row in self.rows.values())

    def write(self) -> None:
        rows = [self.rows[number] for number in sorted(self.rows)]
        write_json(self.sweep / JSON, {"objectives": self.objectives, "jobs": [_for_people(row) for row in rows]})
        lines: list[list[Any]] = [["number", "state", *self.objectives, *PLACES]]
        for row in rows:
            figures = [row.values.get(metric, "") for metric in self.objectives]
            place = (" ".join(row.overrides), row.directory, row.started, row.ended, row.error)
            lines.append([row.number, row.state, *figures, *place])
        write_atomically(self.sweep / CSV, csv_text(lines))


def _for_people(row: Row) -> dict[str, Any]:
    return asdict(row) | {"state": str(row.state), "overrides": list(row.overrides)}
