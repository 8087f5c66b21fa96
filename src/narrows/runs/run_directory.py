"""A run directory: created once, and written by one process at a time."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from narrows.config.plain_schema import require_fits
from narrows.errors import FULL, UserError, naming
from narrows.files import read_json, write_atomically, write_json
from narrows.runs import directory_lock
from narrows.runs.file_names import CHECKPOINTS, CONFIG, FIGURES, HYDRA, LOCK, MANIFEST, METRICS
from narrows.runs.old_names import current_figures, current_manifest
from narrows.runs.plain_entries import require_plain_entries
from narrows.runs.record_types import Figures, Manifest

ROOM = 1 << 16
"""Bytes by which the manifest may grow until the run ends."""


def read_manifest(run: Path) -> dict[str, Any]:
    """The manifest of a run, with old names replaced by today's.

    Raises:
        UserError: it is missing or damaged.
    """
    manifest = read_json(run / MANIFEST)
    require_fits(Manifest, manifest, str(run / MANIFEST))
    return current_manifest(manifest)


def read_metrics(run: Path) -> dict[str, float]:
    """The figures of a run under today's names; empty if none are recorded yet.

    Raises:
        UserError: the file is damaged.
    """
    if not (run / METRICS).exists():
        return {}
    figures = read_json(run / METRICS)
    require_fits(Figures, figures, str(run / METRICS))
    return current_figures(figures)


def require_new(path: Path) -> None:
    """Refuse a directory that already holds a run, before anything is built for another one.

    Raises:
        UserError: it does.
    """
    if (path / LOCK).exists():
        raise _taken(path)


def _taken(path: Path) -> UserError:
    return UserError(
        f"{path} already holds a run; go on with it (resume={path}), choose another directory "
        "(hydra.run.dir=...), or leave that to narrows"
    )


class RunDirectory:
    """`outputs/<name>/<time>_<id>/`, claimed by this process.

    A run that is resumed is reclaimed and only read at first: what is to be written waits until `begin`, so that an
    attempt that fails before then leaves every file as it was.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.manifest: dict[str, Any] = {}
        self.at_end: list[Callable[[str], object]] = []
        """Called with the status that the record ends with."""
        self.rank: int | None = None
        """Which of several processes has failed."""
        self.fail: Callable[[str, int | None], bool] | None = None
        """Records a failure in the place of a main thread that no longer can; False if that one is about to."""
        self._waiting: list[Callable[[], object]] | None = None

    def claim(self) -> None:
        """Create the directory for a new run and lock it against other processes and runs.

        Raises:
            UserError: the directory cannot be written, already holds a run, holds a link, or is named by no UTF-8.
        """
        try:
            str(self.path).encode()  # as TensorBoard and the record write it
        except UnicodeEncodeError as error:
            shown = str(self.path).encode(errors="replace").decode()
            raise UserError(f"the run directory {shown} has a name that is not UTF-8: choose another one") from error
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            require_plain_entries(self.path)
            directory_lock.hold(self.path, "is writing", new=True)
        except FileExistsError as error:
            raise _taken(self.path) from error
        except OSError as error:
            raise UserError(f"cannot write the run directory {self.path}: {error.strerror}") from error
        for folder in (CHECKPOINTS, FIGURES):
            (self.path / folder).mkdir(exist_ok=True)

    def reclaim(self, wait: bool = False) -> None:
        """Lock the directory of a finished run, or of one that is to be resumed.

        Args:
            wait: write nothing before `begin`.

        Raises:
            UserError: another process is writing it, it cannot be written, its manifest is damaged, or it holds a link.
        """
        require_plain_entries(self.path)
        try:
            directory_lock.hold(self.path, "is writing")
        except OSError as error:
            raise UserError(f"cannot write the run directory {self.path}: {error.strerror}") from error
        self._waiting = [] if wait else None
        try:
            self.manifest = read_manifest(self.path) if (self.path / MANIFEST).exists() else {}
        except UserError:
            directory_lock.release(self.path, unused=True)
            raise

    @property
    def waits(self) -> bool:
        """Whether nothing has been written yet, because the resumed run has not begun."""
        return self._waiting is not None

    def do(self, write: Callable[[], object]) -> None:
        """Call `write`: now, or at `begin` if the directory waits for it."""
        if self._waiting is None:
            write()
        else:
            self._waiting.append(write)

    def begin(self) -> None:
        """Write the manifest and everything that waits, and from now on write at once.

        Raises:
            OSError: there is no room on the disk; nothing has been written then.
        """
        if self._waiting is None:
            return
        self._keep_room(self.manifest)
        waiting, self._waiting = self._waiting, None
        self.update()
        for write in waiting:
            write()

    def release(self) -> None:
        """Release the lock; the end of the process releases it too."""
        directory_lock.release(self.path, unused=self.waits)

    def write_hydra(self, asked: DictConfig, job: DictConfig | None) -> None:
        """Write `.hydra/` as Hydra would, but only once this run owns the directory, because Hydra overwrites what is
        there."""
        folder = self.path / HYDRA
        folder.mkdir(exist_ok=True)
        write_atomically(folder / CONFIG, OmegaConf.to_yaml(asked))
        if job is not None:
            write_atomically(folder / "hydra.yaml", OmegaConf.to_yaml(job))
            write_atomically(folder / "overrides.yaml", OmegaConf.to_yaml(job.hydra.overrides.task))

    def update(self, **values: Any) -> None:
        """Merge `values` into the manifest and write it, unless the directory waits."""
        self.manifest |= values
        if self._waiting is None:
            write_json(self.path / MANIFEST, self.manifest)

    def start(self, **values: Any) -> None:
        """`update` as an attempt starts, once there is room on the disk for `end`; of a directory that waits, at
        `begin`.

        Raises:
            OSError: there is none; the manifest is as it was.
        """
        if self._waiting is None:
            self._keep_room(self.manifest | values)
        self.update(**values)

    def _keep_room(self, manifest: dict[str, Any]) -> None:
        with naming(self.path):
            directory_lock.keep_room(self.path, len(json.dumps(manifest, indent=2)) + ROOM)

    def end(self, **values: Any) -> None:
        """`update` for the last time, also on a full disk, and release the lock."""
        try:
            self.update(**values)
        except OSError as error:
            if error.errno not in FULL:
                raise
            directory_lock.give_room(self.path)
            self.update(**values)
        finally:
            self.release()

    def write_metrics(self, metrics: dict[str, float]) -> None:
        """Write the run's final figures, by name."""
        write_json(self.path / METRICS, metrics)
