"""What one run is told by whoever started it."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from narrows.config.composition import title

VARIABLE = "NARROWS_JOB"
"""The environment variable in which a sweep tells its child which job it is, as JSON."""


@dataclass
class SweepJob:
    """A job's place in its sweep."""

    sweep: str
    """The sweep's directory."""
    number: int
    varied: list[str] = field(default_factory=list)
    """The keys in which the sweep's jobs differ."""
    trial: dict[str, Any] | None = None
    """Where to report to, so that the sweep can give up on this run; see `narrows.sweeps.pruning`."""

    @classmethod
    def from_environment(cls) -> SweepJob | None:
        text = os.environ.get(VARIABLE)
        return cls(**json.loads(text)) if text else None

    def to_manifest(self) -> dict[str, Any]:
        return {"directory": self.sweep, "number": self.number, "varied": self.varied}


@dataclass
class Job:
    """Where a run is written, and how it was asked for."""

    directory: Path
    overrides: list[str] = field(default_factory=list)
    choices: dict[str, str] = field(default_factory=dict)
    """Which file was chosen from each config group."""
    hydra: DictConfig | None = None
    """Hydra's own config, where Hydra composed the run's."""
    resume: bool = False
    notes: dict[str, Any] = field(default_factory=dict)
    """More for the manifest."""
    sweep: SweepJob | None = None

    @property
    def title(self) -> str:
        """The experiment's name, else the variant's."""
        return title(self.choices)
