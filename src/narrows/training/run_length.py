"""What is tied to the length of a run, when the run is resumed with another length.

A run keeps the curves that it began with: a learning rate or a weight that had decayed would otherwise jump, and no
config could say what ran. What stays is recorded in the config, so that it remains true, and said aloud.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from torch.optim.lr_scheduler import ReduceLROnPlateau

from narrows.config.building import build
from narrows.config.composition import targets
from narrows.config.plain_yaml import nodes, read_yaml
from narrows.errors import UserError, first_line
from narrows.loading.permitted_classes import shown
from narrows.runs.file_names import CONFIG, HYDRA
from narrows.runs.job import Job
from narrows.schedules import Timed
from narrows.training.lightning_module import AutoencoderModule
from narrows.training.starting_point import StartingPoint

LIMITS = ("trainer.max_epochs", "trainer.max_steps")
TIED = ("T_max", "total_iters", "total_steps", "epochs")
"""Options of torch's schedulers that are usually the run's length."""
MOST_EPOCHS = 100_000
"""Up to which number of epochs the learning rate is looked at beforehand."""
log = logging.getLogger(__name__)


def keep(start: StartingPoint, module: AutoencoderModule, job: Job) -> None:
    """Let a run whose length changes keep its curves: record the length that shares are taken of, and say what stays.

    Raises:
        UserError: the scheduler cannot go on for so long.
    """
    if job.before is None or job.recorded is None:
        return
    now, then = ({key: OmegaConf.select(config, key) for key in LIMITS} for config in (job.recorded, job.before))
    if now == then:
        return
    if start.path is not None:
        _record_planned(job.recorded, start.state.get("planned_steps"))
    changed = ", ".join(f"{key}={now[key]} (it was {then[key]})" for key in LIMITS if now[key] != then[key])
    tied = dict(_tied(job.directory, job.before))
    for place, value in tied.items():
        log.warning("%s=%s was tied to the run's length and stays, although now %s", place, shown(str(value)), changed)
    cure = [f"{place}={now['trainer.max_epochs']}" for place in tied if place.startswith("scheduler.")]
    _look_ahead(module, job, now["trainer.max_epochs"], start.epochs, cure)


def _record_planned(config: DictConfig, planned: Any) -> None:
    for path, node in targets(config):
        if not str(node._target_).startswith("narrows.schedules."):
            continue
        schedule = build(node, path)
        if isinstance(schedule, Timed) and schedule.shares and node.get("run") is None and isinstance(planned, int):
            OmegaConf.update(config, f"{path}.run", planned, force_add=True)
            log.warning(
                "%s: %s stays a share of the %s optimiser steps that the run was planned for",
                *(path, ", ".join(schedule.shares), planned),
            )


def _tied(directory: Path, before: DictConfig) -> Iterator[tuple[str, Any]]:
    """Every option that was made of the run's length: as its unresolved config says, or as its name and value do."""
    found = {f"scheduler.{name}" for name in TIED if before.scheduler.get(name) in _lengths(before)}
    try:
        asked = read_yaml(directory / HYDRA / CONFIG)
        found |= {
            path
            for path, _, value in nodes(asked)
            if isinstance(value, str) and any(key in value for key in LIMITS) and not path.startswith("trainer.")
        }
    except (OSError, ValueError):
        pass  # Without that file the names have to do.
    for path in sorted(found):
        if (value := OmegaConf.select(before, path)) is not None:
            yield path, value


def _lengths(config: DictConfig) -> list[int]:
    values = (OmegaConf.select(config, key) for key in LIMITS)
    return [value for value in values if isinstance(value, int) and value > 1]


def _look_ahead(module: AutoencoderModule, job: Job, epochs: Any, done: int, cure: list[str]) -> None:
    """Follow the learning rate to the new end: refuse what fails on the way, and warn where a tied one climbs again."""
    if not isinstance(epochs, int) or not done < epochs <= MOST_EPOCHS:
        return
    (optimizer,), (scheduler,) = module.configure_optimizers()
    if isinstance(scheduler, ReduceLROnPlateau):
        return
    rates = [optimizer.param_groups[0]["lr"]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that no optimiser steps in between
        for epoch in range(1, epochs + 1):
            try:
                scheduler.step()
            except Exception as error:  # of any scheduler
                told = f"the scheduler would fail at the end of epoch {epoch} ({first_line(error)})"
                raise UserError(f"{told}: it was made for a shorter run; start a new one") from error
            rates.append(optimizer.param_groups[0]["lr"])
    rest = rates[max(done, 1) - 1 : -1]
    lowest = min(rest)
    if cure and done and (highest := max(rest[rest.index(lowest) :])) > lowest * (1 + 1e-6):
        log.warning(
            "the learning rate climbs again, from %.3g to %.3g: for one curve over %s epochs start a new run: narrows "
            "train from=%s trainer.max_epochs=%s %s",
            *(lowest, highest, epochs, job.directory, epochs, " ".join(cure)),
        )
