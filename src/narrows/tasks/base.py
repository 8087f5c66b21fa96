"""What a task is, and how tasks are run on a trained model."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from narrows.errors import UserError
from narrows.models.autoencoder import Autoencoder
from narrows.random import Counter, seed_default
from narrows.types import Batch, DataSpec, row_sums

if TYPE_CHECKING:
    from narrows.drawing.canvas import Picture

log = logging.getLogger(__name__)

OTHER_LABELS = "test/other_labels"
"""Where the figures of test examples stand whose labels were not trained on."""


class EvaluationData(Protocol):
    """What a task needs of a datamodule: its spec, and each split once, in order."""

    spec: DataSpec

    def ordered_loader(self, split: str) -> Iterable[Batch]: ...

    def revealed_loader(self, split: str) -> Iterable[Batch]:
        """With what is missing on purpose; asked for only where something is missing."""
        ...


class TrainedLabels:
    """Data whose test split is cut down to the labels that were trained on: what their model is judged by."""

    def __init__(self, whole: EvaluationData) -> None:
        self.whole, self.spec = whole, whole.spec

    def ordered_loader(self, split: str) -> Iterable[Batch]:
        return self._kept(split, self.whole.ordered_loader(split))

    def revealed_loader(self, split: str) -> Iterable[Batch]:
        return self._kept(split, self.whole.revealed_loader(split))

    def _kept(self, split: str, loader: Iterable[Batch]) -> Iterable[Batch]:
        # The rows of the other splits were chosen by these labels.
        return filter(len, (by_label(batch, self.spec)[0] for batch in loader)) if split == "test" else loader


def by_label(batch: Batch, spec: DataSpec) -> tuple[Batch, Batch]:
    """The rows whose label was trained on (all, where labels are not known or did not matter), and the others."""
    if spec.trained_labels is None or batch.label is None:
        return batch, select(batch, slice(0, 0))
    trained = torch.isin(batch.label, torch.tensor(spec.trained_labels, device=batch.label.device))
    return select(batch, trained), select(batch, ~trained)


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

            save(picture, self.directory / "figures" / f"{name}.png")

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


@contextmanager
def evaluating(model: nn.Module, seed: int, *counters: Counter) -> Iterator[None]:
    """Evaluation mode, no gradients, default generators seeded by `counters`; all restored afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    cuda = torch.cuda.is_available() and torch.cuda.is_initialized()
    with torch.random.fork_rng(devices=list(range(torch.cuda.device_count())) if cuda else []), torch.no_grad():
        model.eval()
        seed_default(seed, *counters)
        try:
            yield
        finally:
            for module, training in modes:
                module.training = training


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
        with evaluating(context.model, context.seed, "task", name):
            found = _run(name, task, context)
        yield name, found


def _run(name: str, task: Task, context: TaskContext) -> dict[str, float]:
    try:
        return task.run(context)
    except UserError as mistake:
        context.warn(f"task {name} gave no figures: {mistake}")
        return {}


def select(batch: Batch, rows: Tensor | slice) -> Batch:
    """The part of a batch that `rows` (a mask, positions or a slice) names."""
    if isinstance(rows, Tensor):
        rows = rows.to(batch.x.device)
    parts: dict[str, Any] = {
        f.name: value[rows] for f in fields(batch) for value in [getattr(batch, f.name)] if isinstance(value, Tensor)
    }
    return replace(batch, **parts)


def subset(loader: Iterable[Batch], positions: Tensor) -> Iterator[Batch]:
    """The rows of an ordered loader at the ascending `positions`, batch by batch; empty batches are left out."""
    start = 0
    for batch in loader:
        here = positions[(positions >= start) & (positions < start + len(batch))] - start
        if len(here):
            yield select(batch, here)
        start += len(batch)


def per_example(values: Tensor, observed: Tensor | None = None) -> Tensor:
    """Sum over each example's observed values, `[B, *shape] -> [B]`, float64 on the CPU."""
    if observed is not None:
        values = values.masked_fill(~observed, 0.0)
    return row_sums(values).cpu().double()
