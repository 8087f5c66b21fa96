"""The base class of tasks, and running tasks on a trained model."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from narrows.data.sound_files import write_sound
from narrows.data.splits import HOLD_OUT
from narrows.errors import UserError, require
from narrows.evaluation import EvaluationData, TrainedLabels, by_label, evaluating
from narrows.files import write_atomically
from narrows.models.autoencoder import Autoencoder
from narrows.runs.file_names import FIGURES
from narrows.tasks.figure_table import FigureTable
from narrows.types import COUNTED, Batch, DataSpec

if TYPE_CHECKING:
    from narrows.drawing.labels import Picture

log = logging.getLogger(__name__)

OTHER_LABELS = "other_labels"
"""The condition of figures of test examples whose labels were not trained on."""
STREAMS = {"probe": "features"}
"""Renamed tasks, by the old name that still seeds their random numbers, so that figures stay the same."""


@dataclass
class TaskContext:
    """The model and data that a task judges, and the directory that it may write to.

    The test split of `datamodule` holds only the labels that were trained on; `everything` has all labels.
    """

    model: Autoencoder
    datamodule: EvaluationData
    directory: Path | None
    """The run's directory; None if nothing may be written."""
    seed: int
    device: torch.device
    untrained: Callable[[int], Autoencoder] | None = field(default=None, kw_only=True)
    """Builds the untrained model from a seed; None if there is no run to read its config from."""
    warnings: list[str] = field(default_factory=list)
    """Warnings for the reader of the figures, which are also logged."""
    texts: dict[str, str] = field(default_factory=dict)
    """What tasks wrote for people to read, in Markdown, by name: see `write`."""
    sounds: dict[str, tuple[NDArray[np.float32], int]] = field(default_factory=dict)
    """Sounds `[C, T]` that tasks made for people to hear, with their sampling rates, by name: see `play`."""
    memo: dict[str, Any] = field(default_factory=dict)
    """Results that tasks share, such as the fitted classics, so that they are computed once."""

    everything: EvaluationData = field(init=False)
    """The data with test examples of all labels, including those that were not trained on."""

    def __post_init__(self) -> None:
        # The data of a copied context are reduced already.
        self.everything = self.datamodule.whole if isinstance(self.datamodule, TrainedLabels) else self.datamodule
        if self.spec.trained_labels is not None:
            self.datamodule = TrainedLabels(self.everything)

    @property
    def spec(self) -> DataSpec:
        return self.datamodule.spec

    def other_labels(self) -> Iterator[Batch]:
        """The batches of test examples whose labels were not trained on, on the device."""
        for batch in self.everything.ordered_loader("test"):
            _, others = by_label(batch, self.spec)
            if len(others):
                yield others.to(self.device)

    def batches(self, split: str) -> Iterator[Batch]:
        """The split's batches in order, on the device."""
        for batch in self.datamodule.ordered_loader(split):
            yield batch.to(self.device)

    def show(self, name: str, picture: Picture) -> None:
        """Save a picture as `figures/<name>.png`, if there is a directory."""
        if self.directory is not None:
            # Imported here, so that loading a model does not import matplotlib.
            from narrows.drawing.canvas import save

            save(picture, self.directory / FIGURES / f"{name}.png")

    def write(self, name: str, text: str) -> None:
        """Keep a text in Markdown, which training also logs, and save it as `figures/<name>.md`, if there is a
        directory."""
        self.texts[name] = text
        if self.directory is not None:
            path = self.directory / FIGURES / f"{name}.md"
            path.parent.mkdir(exist_ok=True)
            write_atomically(path, text + "\n")

    def play(self, name: str, samples: NDArray[np.float32], rate: int) -> None:
        """Keep a sound `[C, T]`, which training also logs, and save it as `figures/<name>.wav`, if there is a
        directory."""
        self.sounds[name] = samples, rate
        if self.directory is not None:
            write_sound(self.directory / FIGURES / f"{name}.wav", samples, rate)

    def warn(self, message: str) -> None:
        log.warning(message)
        self.warnings.append(message)

    def warn_if_worse_than_mean(
        self,
        subject: str,
        figure: str,
        model: float,
        mean: float,
        moral: str = "it has learned nothing, whatever its other figures say",
    ) -> bool:
        """Warn if an error of the model exceeds that of predicting the training mean; returns whether it does.

        Args:
            subject: subject and verb of the message, such as "the model is".
            figure: name of the error, such as "test MSE".
        """
        worse = not model <= mean * (1 + 1e-6)
        if worse:
            against = f"{figure} {model:.6g} against {mean:.6g}"
            self.warn(f"{subject} WORSE THAN PREDICTING THE TRAINING MEAN: {against}; {moral}")
        return worse


class Task:
    """An evaluator of trained models: `run(context)` returns a table of figures. Training knows nothing of tasks."""

    name: ClassVar[str]
    figures: tuple[str, ...] = ()
    """Full names of figures that are reported whenever the task fits, and so can be declared before training."""
    part_of_every_run: ClassVar[bool] = False
    """Whether runs have this task unless told otherwise; those whose data have no test split go without it."""

    def fits(self, spec: DataSpec, model: Autoencoder) -> str | None:
        """None if this task can judge that model on such data, else the reason why not."""
        return None

    def declared(self, spec: DataSpec) -> tuple[str, ...]:
        """The `figures` that the task reports of such data."""
        return self.figures

    def check(self, spec: DataSpec) -> None:
        """Refuse options that can give no figures on such data, before anything is trained.

        Raises:
            UserError: names the option.
        """

    def run(self, context: TaskContext) -> FigureTable:
        raise NotImplementedError

    def across(self, runs: Sequence[Path]) -> Path | None:
        """Draw a picture that compares several judged runs; returns its file, or None if the task draws none."""
        return None


def counts_have_no(what: str, spec: DataSpec) -> str | None:
    """Why a task cannot judge counts or interactions; None if the data are none."""
    return f"{spec.kind} have no {what}" if spec.kind in COUNTED else None


def without_test_split(tasks: Mapping[str, Task]) -> dict[str, Task]:
    """The tasks of a run whose data have no test split, which every task judges: none.

    Raises:
        UserError: one of them was asked for.
    """
    asked = [name for name, task in tasks.items() if not task.part_of_every_run]
    require(
        not asked,
        f"task {', '.join(asked)} judges the test split, and these data have none: hold rows out, {HOLD_OUT}, or leave "
        f"the task out with ~tasks.{''.join(asked[:1])}",
    )
    log.info("these data have no test split: the run is judged on its validation split, by its loss alone")
    return {}


def run_tasks(tasks: Mapping[str, Task], context: TaskContext) -> dict[str, float]:
    """Run every task that fits; returns the figures of all.

    A task that does not fit is skipped, and the reason is logged. A task that raises `UserError` is left out and named
    in `context.warnings`, so that the figures of the others are kept.
    """
    figures: dict[str, float] = {}
    for name, found in run_each(tasks, context):
        doubled = sorted(figures.keys() & found.keys())
        if doubled:
            context.warn(f"task {name} reports {', '.join(doubled)} again; its values replace the earlier ones")
        figures.update(found)
    return figures


def run_each(tasks: Mapping[str, Task], context: TaskContext) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield name and figures of every task that fits, one after another; see `run_tasks`."""
    context.model.to(context.device)
    for name, task in tasks.items():
        reason = task.fits(context.spec, context.model)
        if reason is not None:
            log.info("task %s is left out: %s", name, reason)
            continue
        with evaluating(context.model, context.seed, "task", STREAMS.get(name, name)):
            found = _run(name, task, context)
        yield name, found


def _run(name: str, task: Task, context: TaskContext) -> dict[str, float]:
    try:
        found = task.run(context)
        require(
            isinstance(found, FigureTable),
            f"its run() returned {type(found).__name__}, not a narrows.tasks.FigureTable, which names figures",
        )
        return found.named()
    except UserError as mistake:
        context.warn(f"task {name} gave no figures: {mistake}")
        return {}
