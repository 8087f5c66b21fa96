"""The job of a run: where it writes, how it was started, and its place in a sweep."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from narrows.config.composition import title

VARIABLE = "NARROWS_JOB"
"""The environment variable in which a sweep describes the job to its process, as JSON."""


@dataclass
class SweepJob:
    """A job's place in its sweep."""

    sweep: str
    """The sweep's directory."""
    number: int
    varied: list[str] = field(default_factory=list)
    """The keys in which the sweep's jobs differ."""
    trial: dict[str, Any] | None = None
    """Where to report figures, so that the sweep can prune this run; see `narrows.sweeps.pruning`."""

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
    """The choice made from each config group."""
    hydra: DictConfig | None = None
    """Hydra's own config, if Hydra composed the run's config."""
    resume: bool = False
    done: bool = False
    """Whether the run that is resumed was completed."""
    before: DictConfig | None = None
    """The config of a resumed run as it was recorded, before `overrides`."""
    notes: dict[str, Any] = field(default_factory=dict)
    """Further entries of the manifest."""
    sweep: SweepJob | None = None
    recorded: DictConfig | None = None
    """The config to record, where it differs from the one that runs in what this machine alone needs."""
    begun: Callable[[], None] | None = None
    """Called once the run's directory may be written."""

    @property
    def title(self) -> str:
        """The experiment's name, else the variant's."""
        return title(self.choices)
