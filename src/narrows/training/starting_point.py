"""The checkpoint from which a run is resumed, checked against everything that was built before anything is changed."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from omegaconf import DictConfig

from narrows.compare.run_records import read_history
from narrows.data.datamodule import DataModule
from narrows.errors import UserError, first_line, nearest, require
from narrows.runs import checkpoint_files
from narrows.runs.file_names import CHECKPOINTS, HISTORY
from narrows.runs.job import Job
from narrows.runs.old_names import current_figures
from narrows.training.lightning_module import AutoencoderModule

NEEDED: dict[str, Any] = {
    **{"global_step": int, "state_dict": dict, "loops": dict, "callbacks": dict},
    **{"optimizer_states": list, "lr_schedulers": list, "unlogged": dict, "validated": dict},
    "planned_steps": int | None,
}
"""What a checkpoint must hold so that training can go on from it."""


@dataclass
class StartingPoint:
    """A checkpoint file and its content; no file and no content where a run begins again at its first step."""

    path: Path | None
    state: dict[str, Any]
    fingerprint: str | None = None
    """Of the data that the run was begun with, as its manifest says."""

    @property
    def step(self) -> int:
        """Optimiser steps taken."""
        return int(self.state.get("global_step", 0))

    @property
    def epochs(self) -> int:
        """Epochs trained to their end."""
        loops = self.state.get("loops")
        return 0 if loops is None else int(loops["fit_loop"]["epoch_progress"]["current"]["processed"])

    def release(self) -> dict[str, Any]:
        """The content, which is not kept here any longer, because it is as large as model and optimiser."""
        state, self.state = self.state, {}
        return state

    @property
    def histories(self) -> dict[str, int]:
        """The size that each history had when the checkpoint was written."""
        return dict(self.state.get("histories", {}))


def find(directory: Path, manifest: Mapping[str, Any], config: DictConfig) -> StartingPoint:
    """The newest undamaged checkpoint of a run.

    Raises:
        UserError: the checkpoints are damaged, hold something else, or are gone; a history that has lost rows.
    """
    path = checkpoint_files.newest(directory)
    data = manifest.get("data")
    fingerprint = data.get("fingerprint") if isinstance(data, dict) else None
    if path is None:
        _require_none_lost(directory, manifest, config)
        return StartingPoint(None, {}, fingerprint)
    state = checkpoint_files.read(path)
    for name, kind in NEEDED.items():
        require(name in state, f"{path} is no checkpoint from which training can go on: it lacks '{name}'")
        require(isinstance(state[name], kind), f"{path} is damaged: its '{name}' is a {type(state[name]).__name__}")
    planned = state["planned_steps"]
    require(planned is None or planned >= 1, f"{path} is damaged: its 'planned_steps' are {planned}")
    _require_progress(path, state["loops"])
    _require_history(directory, state.get("histories", {}), path)
    return StartingPoint(path, state, fingerprint)


def _require_none_lost(directory: Path, manifest: Mapping[str, Any], config: DictConfig) -> None:
    """Refuse to begin again at the first step where a checkpoint had been written."""
    folder = directory / CHECKPOINTS
    names = [name for name in ("last.ckpt", "previous.ckpt", "best.ckpt") if (folder / name).exists()]
    trained = manifest.get("status") == "completed" or any(
        isinstance(attempt, dict) and attempt.get("step") for attempt in manifest.get("attempts", [])
    )
    if names and (trained or not _is_early(folder / names[0], config.callbacks.checkpoint)):
        raise UserError(
            f"{folder} holds {names[0]}, but neither last.ckpt nor previous.ckpt, from which a run goes on: put one "
            f"back, or copy {names[0]} to last.ckpt to go on from there"
        )
    require(
        not trained and not _is_past_first(directory, config),
        f"{directory} was trained, but {folder} holds no checkpoint to go on from: put last.ckpt back, or train anew: "
        f"narrows train from={directory}",
    )


def _is_early(best: Path, options: DictConfig) -> bool:
    """Whether `best` was written by a validation within the first epochs, before the first `last` was due."""
    state = checkpoint_files.read(best)
    every = options.get("every_n_steps")
    try:
        loops = state["loops"]["fit_loop"]
        within = not loops["epoch_loop.batch_progress"]["is_last_batch"]
        epochs = loops["epoch_progress"]["current"]["processed"]
        return within and epochs < options.get("every_n_epochs", 1) and (every is None or state["global_step"] < every)
    except (KeyError, TypeError):
        return False


def _is_past_first(directory: Path, config: DictConfig) -> bool:
    """Whether the history goes on after the moment at which the first checkpoint was due."""
    options, curves = config.callbacks.checkpoint, read_history(directory)
    furthest = max((step for steps, _ in curves.values() for step in steps), default=0)
    every_step, last = options.get("every_n_steps"), options.get("every_n_epochs", 1) - 1
    if every_step is not None and furthest > every_step:
        return True
    within = config.trainer.get("val_check_interval") is not None  # epochs with several validations
    ends = list(zip(*curves.get("epoch", ([], [])), strict=True))
    return any(epoch > last or (epoch == last and furthest > step and not within) for step, epoch in ends)


def _require_progress(path: Path, loops: dict[str, Any]) -> None:
    try:
        loop = loops["fit_loop"]
        epochs, batches = loop["epoch_progress"]["current"], loop["epoch_loop.batch_progress"]["total"]
        counts = [epochs["ready"], epochs["processed"], epochs["completed"], batches["processed"]]
    except (KeyError, TypeError) as error:
        raise UserError(f"{path} does not say how far training was: its 'loops' lack {error}") from error
    sound = all(type(count) is int and count >= 0 for count in counts)
    require(sound, f"{path} does not say how far training was: its 'loops' count {counts}")


def _require_history(directory: Path, sizes: dict[str, int], path: Path) -> None:
    """Refuse a history without the rows that it had when the checkpoint was written."""
    sound = isinstance(sizes, dict) and all(type(size) is int and size >= 0 for size in sizes.values())
    require(sound, f"{path} is damaged: its 'histories' are no sizes of files")
    size, history = sizes.get(HISTORY, 0), directory / HISTORY
    if size == 0:
        return
    there = history.stat().st_size if history.is_file() else 0
    cure = "put back the file that belongs to this run"
    require(there >= size, f"{history} has lost rows: {there} bytes of the {size} that {path.name} knows of; {cure}")
    with open(history, "rb") as file:
        text = file.read(size).decode(errors="replace")
    number = 0
    try:
        for number, row in enumerate(csv.reader(io.StringIO(text, newline="")), 1):
            header = number == 1 and row == ["step", "metric", "value"]
            require(header or (number > 1 and _is_point(row)), f"{history} is damaged in line {number}; {cure}")
    except csv.Error as error:
        raise UserError(f"{history} is damaged after line {number} ({error}); {cure}") from error


def _is_point(row: list[str]) -> bool:
    try:
        int(row[0]), float(row[2])
    except (ValueError, IndexError):
        return False
    return len(row) == 3


def require_room(start: StartingPoint, trainer: L.Trainer, job: Job) -> None:
    """Refuse limits that a resumed run has passed, or has reached if it was completed.

    Raises:
        UserError: says what the run has and what to ask for.
    """
    directory, epochs, steps = job.directory, start.epochs, start.step
    if start.path is None:
        return
    begun = start.state["loops"]["fit_loop"]["epoch_progress"]["current"]["ready"] > epochs
    most = trainer.max_epochs
    if most is not None and most >= 0:
        few = epochs > most or (epochs == most and (job.done or begun))
        plural = "epoch" if epochs == 1 else "epochs"
        require(not few, f"{directory} has {epochs} {plural} already: ask for more than {epochs} (trainer.max_epochs)")
    if trainer.max_steps >= 0:
        few = steps > trainer.max_steps or (steps == trainer.max_steps and job.done)
        require(not few, f"{directory} has {steps} steps already: ask for more than {steps} (trainer.max_steps)")


def require_fit(start: StartingPoint, module: AutoencoderModule, data: DataModule, trainer: L.Trainer) -> None:
    """Refuse a checkpoint that does not belong to this model, optimiser and data.

    Raises:
        UserError: names what does not fit.
    """
    require(
        start.fingerprint in (None, data.spec.fingerprint),
        "the data found are not those that the run was trained on, so it cannot go on: put them back, say where they "
        "lie (datamodule.source.path=... or data_dir=...), or start a new run",
    )
    if start.path is None:
        return
    state, path = start.state, start.path
    name = type(data).__qualname__
    require(isinstance(state.get(name), dict), f"{path} does not say which data it was trained on: it lacks '{name}'")
    data.require_state(state[name], trainer.world_size)
    try:
        module.load_state_dict(state["state_dict"])
    except Exception as error:  # whatever stands in the place of weights
        raise UserError(f"{path} holds the weights of another model: {first_line(error)}") from error
    _require_optimiser(state, path, module)
    _require_unlogged(state["unlogged"], path)
    known = list(current_figures({name: 0.0 for name in state["validated"] if isinstance(name, str)}))
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        monitor = getattr(callback, "monitor", None)
        if isinstance(monitor, str) and known and monitor not in known:
            raise UserError(f"{type(callback).__name__}: there is no figure '{monitor}': {nearest(monitor, known)}")


def _require_optimiser(state: dict[str, Any], path: Path, module: AutoencoderModule) -> None:
    (optimizer,), (scheduler,) = module.configure_optimizers()
    try:
        (saved,), (schedule,) = state["optimizer_states"], state["lr_schedulers"]
        optimizer.load_state_dict(saved)
        schedule["last_epoch"] + 0
    except Exception as error:  # whatever stands in the place of a state
        raise UserError(f"{path} holds the state of another optimiser or scheduler: {first_line(error)}") from error
    strange = sorted(map(str, schedule.keys() - scheduler.state_dict().keys()))
    require(not strange, f"{path} holds the state of another scheduler: {type(scheduler).__name__} has no {strange}")
    named = {id(parameter): name for name, parameter in module.named_parameters()}
    for parameter, values in optimizer.state.items():
        for key, value in values.items():
            fits = not isinstance(value, torch.Tensor) or value.ndim == 0 or _fits(value, parameter)
            where = named[id(parameter)]
            require(fits, f"{path} holds the state of another optimiser: its {key} has not the shape of {where}")


def _require_unlogged(unlogged: dict[str, Any], path: Path) -> None:
    names, steps, rows = (unlogged.get(name) for name in ("names", "steps", "rows"))
    listed = isinstance(names, list) and isinstance(steps, list)
    fits = rows is None or (isinstance(rows, torch.Tensor) and rows.ndim == 2 and rows.shape[1] == len(names or ()))
    enough = listed and len(steps or ()) <= (0 if rows is None else len(rows))
    require(listed and fits and enough, f"{path} is damaged: its 'unlogged' steps are no rows of figures")


def _fits(value: torch.Tensor, parameter: torch.Tensor) -> bool:
    # Adafactor keeps sums over rows and columns.
    pairs = zip(value.shape, parameter.shape, strict=False)
    return value.ndim == parameter.ndim and all(mine in (1, theirs) for mine, theirs in pairs)
