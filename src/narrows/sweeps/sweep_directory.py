"""A sweep's directory: what was asked, the study, the status table, the logs, and one run directory per job."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from narrows import __version__
from narrows.errors import UserError
from narrows.files import write_atomically
from narrows.runs.directory import LOCK
from narrows.runs.old_names import current_sweep
from narrows.sweeps.plan import Plan

FILE = "sweep.yaml"


def stamp() -> str:
    """Now, in UTC; to the microsecond, because the newest sweep of a second is wanted too."""
    return datetime.now(UTC).isoformat()


class SweepDirectory:
    """`outputs/sweeps/<name>/<time>_<id>/`, held by this process."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self._handle: int | None = None

    def hold(self) -> None:
        """Take the directory; the lock ends with this process, however that ends.

        Raises:
            UserError: another process runs this sweep.
        """
        handle = os.open(self.path / LOCK, os.O_CREAT | os.O_RDWR, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.read(handle, 200).decode(errors="replace").strip()
            os.close(handle)
            raise UserError(
                f"another process ({owner}) runs the sweep {self.path}: wait for it, or stop it first"
            ) from error
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}@{socket.gethostname()}\n".encode(), 0)
        self._handle = handle

    def release(self) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def write(self, plan: Plan, arguments: list[str], command: list[str]) -> None:
        """`sweep.yaml`; what makes a directory a sweep's, so it is written last."""
        (self.path / "logs").mkdir(exist_ok=True)
        record = {
            "narrows": __version__,
            "created": stamp(),
            "command": command,
            "arguments": arguments,
            "trials": plan.trials,
            "plan": plan.identity(),
        }
        write_atomically(self.path / FILE, OmegaConf.to_yaml(OmegaConf.create(record)))


def create(path: Path) -> SweepDirectory:
    """A new sweep's directory, held.

    Raises:
        UserError: there is a sweep in it already.
        OSError: it cannot be written.
    """
    path.mkdir(parents=True, exist_ok=True)
    if (path / FILE).exists():
        raise UserError(f"{path} already holds a sweep; go on with it (sweep.resume=true), or choose another directory")
    directory = SweepDirectory(path)
    directory.hold()
    return directory


def read(path: Path) -> dict[str, Any]:
    """The record of the sweep in `path`, with today's names.

    Raises:
        UserError: there is none.
    """
    if not (path / FILE).is_file():
        raise UserError(f"{path} is not the directory of a sweep: it has no {FILE}")
    record = OmegaConf.to_container(OmegaConf.load(path / FILE))
    assert isinstance(record, dict)
    return current_sweep({str(key): value for key, value in record.items()})


def newest(candidates: Iterator[Path], plan: Plan) -> Path | None:
    """The latest sweep among these directories that was asked to do the same."""
    same = [path for path in candidates if (path / FILE).is_file() and read(path)["plan"] == _plain(plan)]
    return max(same, key=lambda path: (str(read(path)["created"]), path.name), default=None)


def _plain(plan: Plan) -> Any:
    """The plan's identity as YAML gives it back."""
    return OmegaConf.to_container(OmegaConf.create(OmegaConf.to_yaml(OmegaConf.create(plan.identity()))))


def difference(path: Path, plan: Plan) -> str | None:
    """In what the sweep in `path` differs from this plan; None when it is the same."""
    old, new = read(path)["plan"], _plain(plan)
    for key in {**new, **old}:
        if old.get(key) != new.get(key):
            return f"{key} is {new.get(key)} here, but {old.get(key)} there"
    return None
