"""A run directory: made once, owned by one process at a time, its status always the truth."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import time
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from narrows.errors import UserError, require
from narrows.files import read_json, write_atomically, write_json
from narrows.runs.old_names import current_manifest

MANIFEST = "manifest.json"
METRICS = "metrics.json"
CONFIG = "config.yaml"
LOCK = ".lock"


def read_manifest(run: Path) -> dict[str, Any]:
    """A run's manifest, with today's names.

    Raises:
        UserError: it is missing or damaged.
    """
    manifest = read_json(run / MANIFEST)
    require(isinstance(manifest, dict), f"{run / MANIFEST} is damaged: it must hold names and values")
    return current_manifest(manifest)


_held: dict[Path, int] = {}
"""Run directories whose lock this process holds, with the lock's open file.

A POSIX lock ends with its process, however that ends, and is not inherited by loader workers; closing any
other handle of the file would give it up, so a held lock file is never opened again here.
"""


def _lock(handle: int) -> bool:
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            return False
        raise
    return True


def _lock_soon(handle: int) -> bool:
    """Whether the lock could be taken within a second: `is_held` of another process takes it for a moment."""
    for _ in range(20):
        if _lock(handle):
            return True
        time.sleep(0.05)
    return False


def is_held(path: Path) -> bool:
    """Whether another live process is writing the run in `path`."""
    path = path.resolve()
    if path in _held:
        return False
    try:
        handle = os.open(path / LOCK, os.O_RDWR)
    except OSError:
        return False
    try:
        return not _lock(handle)
    finally:
        os.close(handle)


class RunDirectory:
    """`outputs/<name>/<time>_<id>/`, claimed by this process."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.manifest: dict[str, Any] = {}

    def claim(self) -> None:
        """Take a new directory: no second process, and no second run, can write it.

        Raises:
            UserError: the directory cannot be written, or already holds a run.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.path / LOCK, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o644)
            self._hold(handle)
        except FileExistsError as error:
            raise UserError(
                f"{self.path} already holds a run; go on with it (resume={self.path}), choose another directory "
                "(hydra.run.dir=...), or leave that to narrows"
            ) from error
        except OSError as error:
            raise UserError(f"cannot write the run directory {self.path}: {error.strerror}") from error
        for folder in ("checkpoints", "figures"):
            (self.path / folder).mkdir(exist_ok=True)

    def reclaim(self) -> None:
        """Take a directory again whose run ended before it was done.

        Raises:
            UserError: another process is writing it, or it cannot be written.
        """
        try:
            self._hold(os.open(self.path / LOCK, os.O_CREAT | os.O_RDWR, 0o644))
        except OSError as error:
            raise UserError(f"cannot write the run directory {self.path}: {error.strerror}") from error
        self.manifest = read_manifest(self.path) if (self.path / MANIFEST).exists() else {}

    def _hold(self, handle: int) -> None:
        if not _lock_soon(handle):
            owner = os.read(handle, 200).decode(errors="replace").strip()
            os.close(handle)
            raise UserError(f"another process ({owner}) is writing {self.path}: wait for it, or stop it first")
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}@{socket.gethostname()}\n".encode(), 0)
        _held[self.path] = handle

    def release(self) -> None:
        """Give the directory up; a process that ends does so too."""
        if (handle := _held.pop(self.path, None)) is not None:
            os.close(handle)

    def write_hydra(self, asked: DictConfig, job: DictConfig | None) -> None:
        """`.hydra/`, as Hydra writes it, but not before this run owns the directory: Hydra writes over
        whatever is there."""
        folder = self.path / ".hydra"
        folder.mkdir(exist_ok=True)
        write_atomically(folder / "config.yaml", OmegaConf.to_yaml(asked))
        if job is not None:
            write_atomically(folder / "hydra.yaml", OmegaConf.to_yaml(job))
            write_atomically(folder / "overrides.yaml", OmegaConf.to_yaml(job.hydra.overrides.task))

    def update(self, **values: Any) -> None:
        """Merge `values` into the manifest and write it."""
        self.manifest |= values
        write_json(self.path / MANIFEST, self.manifest)

    def write_metrics(self, metrics: dict[str, float]) -> None:
        """`metrics.json`: the run's final figures, flat."""
        write_json(self.path / METRICS, metrics)
