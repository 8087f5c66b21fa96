"""The directory of a sweep: its plan, the study, the status table, the logs, and one run directory per job."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from narrows import __version__
from narrows.errors import UserError
from narrows.files import write_atomically
from narrows.runs import directory_lock
from narrows.runs.file_names import LOGS, SWEEP
from narrows.runs.old_names import current_sweep
from narrows.runs.plain_entries import require_plain_entries
from narrows.sweeps.sweep_plan import Plan


def stamp() -> str:
    """The time in UTC, to the microsecond, so that sweeps started in one second can be ordered."""
    return datetime.now(UTC).isoformat()


class SweepDirectory:
    """`outputs/sweeps/<name>/<time>_<id>/`, locked by this process."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()

    def hold(self) -> None:
        """Lock the directory; the lock ends with this process, however that ends.

        Raises:
            UserError: another process runs this sweep, or its record holds a link.
        """
        require_plain_entries(self.path, linked_runs=True)
        directory_lock.hold(self.path, "runs the sweep")

    def release(self) -> None:
        directory_lock.release(self.path)

    def write(self, plan: Plan, arguments: list[str], command: list[str]) -> None:
        """Write the plan and command; written last, because this file marks the directory as a sweep's."""
        (self.path / LOGS).mkdir(exist_ok=True)
        record = {
            "narrows": __version__,
            "created": stamp(),
            "command": command,
            "arguments": arguments,
            "trials": plan.trials,
            "plan": plan.identity(),
        }
        write_atomically(self.path / SWEEP, OmegaConf.to_yaml(OmegaConf.create(record)))


def create(path: Path) -> SweepDirectory:
    """Create and lock the directory of a new sweep.

    Raises:
        UserError: it already holds a sweep.
        OSError: it cannot be written.
    """
    path.mkdir(parents=True, exist_ok=True)
    if (path / SWEEP).exists():
        raise UserError(f"{path} already holds a sweep; go on with it (sweep.resume=true), or choose another directory")
    directory = SweepDirectory(path)
    directory.hold()
    return directory


def read(path: Path) -> dict[str, Any]:
    """The record of the sweep in `path`, with old names replaced by today's.

    Raises:
        UserError: `path` is not the directory of a sweep.
    """
    if not (path / SWEEP).is_file():
        raise UserError(f"{path} is not the directory of a sweep: it has no {SWEEP}")
    record = OmegaConf.to_container(OmegaConf.load(path / SWEEP))
    assert isinstance(record, dict)
    return current_sweep({str(key): value for key, value in record.items()})


def newest(candidates: Iterator[Path], plan: Plan) -> Path | None:
    """The newest of these directories whose sweep has the same plan; None if there is none."""
    same = [path for path in candidates if (path / SWEEP).is_file() and read(path)["plan"] == _plain(plan)]
    return max(same, key=lambda path: (str(read(path)["created"]), path.name), default=None)


def _plain(plan: Plan) -> Any:
    """The identity of the plan, in the form in which YAML reads it back."""
    return OmegaConf.to_container(OmegaConf.create(OmegaConf.to_yaml(OmegaConf.create(plan.identity()))))


def difference(path: Path, plan: Plan) -> str | None:
    """How the sweep in `path` differs from this plan; None if it does not."""
    old, new = read(path)["plan"], _plain(plan)
    for key in {**new, **old}:
        if old.get(key) != new.get(key):
            return f"{key} is {new.get(key)} here, but {old.get(key)} there"
    return None
