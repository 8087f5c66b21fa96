"""What a task is, and how tasks are run on a trained model."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from narrows.errors import UserError
from narrows.evaluation import EvaluationData, TrainedLabels, by_label, evaluating
from narrows.models.autoencoder import Autoencoder
from narrows.runs.file_names import FIGURES
from narrows.types import Batch, DataSpec

if TYPE_CHECKING:
    from narrows.drawing.canvas import Picture

log = logging.getLogger(__name__)

OTHER_LABELS = "test/other_labels"
"""Where the figures of test examples stand whose labels were not trained on."""
STREAMS = {"probe": "features"}
"""Tasks whose random numbers are those of an earlier name: their figures stay what they were."""


@dataclass
class TaskContext:
    """What a task judges and where it may write.

    The test split that tasks are given holds the labels that were trained on; `everything` has all of it.
    """

    model: Autoencoder
    datamodule: EvaluationData
    directory: Path | None
    """The run's directory; None where nothing is to be written."""
    seed: int
    device: torch.device
    untrained: Callable[[int], Autoencoder] | None = field(default=None, kw_only=True)
    """The model as it was before training, its random initial weights those of a seed; None where no run tells how."""
    warnings: list[str] = field(default_factory=list)
    """What a reader of the figures must know; also logged as warnings."""
    memo: dict[str, Any] = field(default_factory=dict)
    """What tasks share so that it is computed once (the fitted classics)."""

    everything: EvaluationData = field(init=False)
    """The data with test examples of all labels, for those who ask about what was never trained on."""

    def __post_init__(self) -> None:
        # A copy of a context comes with data that are cut down already.
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
        """Keep a picture as `figures/<name>.png`, where anything may be written."""
        if self.directory is not None:
            # Whoever only loads a model should not wait for what draws.
            from narrows.drawing.canvas import save

            save(picture, self.directory / FIGURES / f"{name}.png")

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
        """Warn, loudly, where an error of the model is above that of predicting the training mean; whether it is.

        Args:
            subject: and verb, such as "the model is".
            figure: what is compared, such as "test MSE".
        """
        worse = not model <= mean * (1 + 1e-6)
        if worse:
            against = f"{figure} {model:.6g} against {mean:.6g}"
            self.warn(f"{subject} WORSE THAN PREDICTING THE TRAINING MEAN: {against}; {moral}")
        return worse


class Task:
    """A plug-in evaluator: `run(context)` gives flat, named figures; nothing of it enters the training module."""

    name: ClassVar[str]
    figures: tuple[str, ...] = ()
    """Names that are reported whenever the task fits: columns that must be declared before training."""

    def fits(self, spec: DataSpec, model: Autoencoder) -> str | None:
        """None if this task can judge that model on such data, otherwise the reason why not."""
        return None

    def run(self, context: TaskContext) -> dict[str, float]:
        raise NotImplementedError

    def across(self, runs: Sequence[Path]) -> Path | None:
        """A picture of several runs that this task has judged, where there is one: its file."""
        return None


def run_tasks(tasks: Mapping[str, Task], context: TaskContext) -> dict[str, float]:
    """Every fitting task's figures in one dictionary.

    A task that does not fit is passed over with its reason in the log. One that finds a user's mistake
    (`UserError`) is left out of the figures and named in `context.warnings`, so that the others are kept.
    """
    figures: dict[str, float] = {}
    for name, found in run_each(tasks, context):
        doubled = sorted(figures.keys() & found.keys())
        if doubled:
            context.warn(f"task {name} reports {', '.join(doubled)} again; its values replace the earlier ones")
        figures.update(found)
    return figures


def run_each(tasks: Mapping[str, Task], context: TaskContext) -> Iterator[tuple[str, dict[str, float]]]:
    """Name and figures of one fitting task after another; see `run_tasks`."""
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
        return task.run(context)
    except UserError as mistake:
        context.warn(f"task {name} gave no figures: {mistake}")
        return {}
