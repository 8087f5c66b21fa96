"""A run directory: made once, owned by one process, its status always the truth."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from narrows.errors import UserError

MANIFEST = "manifest.json"
METRICS = "metrics.json"
CONFIG = "config.yaml"
LOCK = ".lock"


def write_atomically(path: Path, text: str) -> None:
    """Write beside the target and rename over it: a reader sees the old file or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def write_json(path: Path, values: Any) -> None:
    write_atomically(path, json.dumps(values, indent=2, sort_keys=False, allow_nan=True) + "\n")


def read_json(path: Path) -> Any:
    """The content of a JSON file of a run.

    Raises:
        UserError: it is missing or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path.parent} is not a run directory: it has no {path.name}") from error
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is not valid JSON ({error})") from error


class RunDirectory:
    """`outputs/<name>/<time>_<id>/`, claimed by this process.

    Raises:
        UserError: the directory cannot be written, or already holds a run.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.manifest: dict[str, Any] = {}

    def claim(self) -> None:
        """Take the directory: no second process, and no second run, can write it."""
        owner = f"{os.getpid()}@{socket.gethostname()}\n"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.path / LOCK, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError as error:
            raise UserError(
                f"{self.path} already holds a run; choose another directory (hydra.run.dir=...) or leave it to narrows"
            ) from error
        except OSError as error:
            raise UserError(f"cannot write the run directory {self.path}: {error.strerror}") from error
        with os.fdopen(handle, "w") as file:
            file.write(owner)
        for folder in ("checkpoints", "figures"):
            (self.path / folder).mkdir(exist_ok=True)

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
