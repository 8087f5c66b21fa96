"""A run directory: created once, and written by one process at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from narrows.config.plain_schema import require_fits
from narrows.errors import UserError
from narrows.files import read_json, write_atomically, write_json
from narrows.runs import directory_lock
from narrows.runs.file_names import CHECKPOINTS, CONFIG, FIGURES, HYDRA, MANIFEST, METRICS
from narrows.runs.old_names import current_figures, current_manifest
from narrows.runs.record_types import Figures, Manifest


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


class RunDirectory:
    """`outputs/<name>/<time>_<id>/`, claimed by this process."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.manifest: dict[str, Any] = {}

    def claim(self) -> None:
        """Create the directory for a new run and lock it against other processes and runs.

        Raises:
            UserError: the directory cannot be written, or already holds a run.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            directory_lock.hold(self.path, "is writing", new=True)
        except FileExistsError as error:
            raise UserError(
                f"{self.path} already holds a run; go on with it (resume={self.path}), choose another directory "
                "(hydra.run.dir=...), or leave that to narrows"
            ) from error
        except OSError as error:
            raise UserError(f"cannot write the run directory {self.path}: {error.strerror}") from error
        for folder in (CHECKPOINTS, FIGURES):
            (self.path / folder).mkdir(exist_ok=True)

    def reclaim(self) -> None:
        """Lock the directory of a run that is to be resumed.

        Raises:
            UserError: another process is writing it, or it cannot be written.
        """
        try:
            directory_lock.hold(self.path, "is writing")
        except OSError as error:
            raise UserError(f"cannot write the run directory {self.path}: {error.strerror}") from error
        self.manifest = read_manifest(self.path) if (self.path / MANIFEST).exists() else {}

    def release(self) -> None:
        """Release the lock; the end of the process releases it too."""
        directory_lock.release(self.path)

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
        """Merge `values` into the manifest and write it."""
        self.manifest |= values
        write_json(self.path / MANIFEST, self.manifest)

    def write_metrics(self, metrics: dict[str, float]) -> None:
        """Write the run's final figures, by name."""
        write_json(self.path / METRICS, metrics)
