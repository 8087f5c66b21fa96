"""Loggers that write outside the run directory, to a service that keeps runs of its own.

The service's run is as whole as the record: it has the parameters, figures, pictures and texts, and the status that
the record ends with. A run that is resumed goes on with the same run of the service: whatever `metrics.csv` holds and
the service lacks is sent first, and what the service has is not sent again, wherever the run was killed.
"""

from __future__ import annotations

import csv
import logging
from abc import abstractmethod
from argparse import Namespace
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig, OmegaConf

from narrows.drawing.labels import Picture
from narrows.errors import UserError, first_line
from narrows.runs.file_names import HISTORY
from narrows.runs.job import Job
from narrows.runs.run_directory import RunDirectory
from narrows.training.waiting import Waiting

log = logging.getLogger(__name__)
LOGGED = "logged"
"""The manifest's entry for what the services call the run, by logger."""


@dataclass(frozen=True)
class Described:
    """What a service is told of a run before its first step."""

    directory: Path
    name: str
    config: dict[str, Any]
    choices: dict[str, str]
    overrides: list[str]
    """Of this attempt."""
    sweep: Path | None
    """The directory of the sweep that the run is a job of."""

    @classmethod
    def of(cls, config: DictConfig, job: Job) -> Described:
        values: Any = OmegaConf.to_container(config, resolve=True)
        chosen = {group: choice for group, choice in job.choices.items() if choice != "None"}
        sweep = None if job.sweep is None else Path(job.sweep.sweep)
        directory = job.directory.resolve()
        name = directory.name if sweep is None else f"{sweep.name}/{directory.name}"
        return cls(directory, name, values, chosen, list(job.overrides), sweep)

    @property
    def parameters(self) -> dict[str, str]:
        """The choices of groups, and every value of the config by its dotted key."""
        return self.choices | dict(_leaves(self.config))


def _leaves(values: Mapping[str, Any], place: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{place}{key}.")
        else:
            yield f"{place}{key}", str(value)


class Elsewhere(Waiting, Logger):
    """Sends a run's parameters, figures, pictures, texts and status to a service.

    A service that cannot be reached when the run begins is refused; one that fails later is told of in one warning, and
    what it has not taken is sent again with what follows.
    """

    def __init__(self, save_dir: str | Path) -> None:
        super().__init__()
        self.directory = Path(save_dir)
        self._held: set[tuple[str, int]] = set()
        self._unsent: list[tuple[dict[str, Any], int]] = []
        self._failed = False

    @property
    @abstractmethod
    def name(self) -> str:
        """The service, as `logger=` names it."""

    @abstractmethod
    def _open(self, described: Described, known: Mapping[str, str] | None) -> dict[str, str]:
        """Begin a run of the service, or go on with the `known` one; returns what it is known by."""

    @abstractmethod
    def _points(self) -> set[tuple[str, int]]:
        """The figures that the service's run has, by name and step."""

    @abstractmethod
    def _write(self, values: dict[str, Any], step: int) -> None:
        """Send figures."""

    @abstractmethod
    def _write_image(self, name: str, picture: Picture, step: int) -> None: ...

    @abstractmethod
    def _write_text(self, name: str, text: str, step: int) -> None: ...

    @abstractmethod
    def _close(self, status: str) -> None:
        """End the service's run with the status of the record."""

    def known_as(self, name: str) -> str:
        """A figure's name in the service."""
        return name

    @rank_zero_only
    def open(self, described: Described, record: RunDirectory) -> None:
        """Begin or go on with the run of the service, which ends when `record` does.

        Raises:
            UserError: the service cannot be reached, or refuses the run.
        """
        if self._kept(partial(self.open, described, record)):
            return
        logged = dict(record.manifest.get(LOGGED) or {})
        try:
            found = self._open(described, logged.get(self.name))
        except UserError:
            raise
        except Exception as error:  # whatever the service's client raises
            raise UserError(f"logger={self.name}: {first_line(error)}") from error
        record.at_end.append(self.end)
        record.update(**{LOGGED: logged | {self.name: found}})
        if self.name in logged:
            self._send_missing()

    def _send_missing(self) -> None:
        """Send what the history holds and the service lacks."""
        self._held = self._points()
        history = self.directory / HISTORY
        if not history.exists():
            return
        with open(history, newline="", encoding="utf-8") as file:
            for step, rows in groupby(csv.DictReader(file), key=lambda row: int(row["step"])):
                values = {row["metric"]: float(row["value"]) for row in rows}
                self.log_metrics(values, step)
                self._held |= {(self.known_as(name), step) for name in values}

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        step = step or 0
        if self._kept(partial(self.log_metrics, dict(metrics), step)):
            return
        named = {self.known_as(name): float(value) for name, value in metrics.items()}
        self._unsent.append(({name: value for name, value in named.items() if (name, step) not in self._held}, step))
        self._send()

    @rank_zero_only
    def add_image(self, name: str, picture: Picture, step: int) -> None:
        """Send a picture, `[H, W, 3]` in bytes."""
        if not self._kept(partial(self.add_image, name, picture, step)) and (name, step) not in self._held:
            self._tell(partial(self._write_image, name, picture, step), f"the picture {name}")

    @rank_zero_only
    def add_text(self, name: str, text: str, step: int) -> None:
        """Send what a task wrote."""
        if not self._kept(partial(self.add_text, name, text, step)) and (name, step) not in self._held:
            self._tell(partial(self._write_text, name, text, step), f"the text {name}")

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Do nothing: `open` sends the config."""

    def finalize(self, status: str) -> None:
        """Do nothing: Lightning calls it after fitting, and again after testing; the record says how a run ended."""

    def end(self, status: str) -> None:
        """End the service's run as the record ends: completed, pruned, interrupted or failed."""
        self._send()
        if self._unsent:
            log.warning("logger=%s: %d points are missing there; %s has them", self.name, len(self._unsent), HISTORY)
        self._tell(partial(self._close, status), f"that the run is {status}")

    def _send(self) -> None:
        while self._unsent:
            values, step = self._unsent[0]
            try:
                if values:
                    self._write(values, step)
            except Exception as error:  # whatever the service's client raises
                if not self._failed:
                    told = "logger=%s: figures cannot be sent (%s); training goes on, and they are sent with later ones"
                    log.warning(told, self.name, first_line(error))
                self._failed = True
                return
            self._failed = False
            del self._unsent[0]

    def _tell(self, send: partial[None], what: str) -> None:
        try:
            send()
        except Exception as error:  # whatever the service's client raises
            log.warning("logger=%s: %s could not be sent (%s)", self.name, what, first_line(error))
