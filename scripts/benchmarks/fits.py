"""What a whole fit costs beside a bare loop: the default run's on digits, with its pictures, checkpoints, progress bar
and histories. The bare loop trains the same modules for as many epochs and validates after each; once with the run's
own optimiser, and once with Adam as torch has it by default, as one would write by hand."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.models import built
from benchmarks.steps import spread
from narrows.config.building import build_later
from narrows.runs.job import Job
from narrows.training.experiment import recording
from narrows.training.fit_in_memory import composition
from narrows.training.preparation import Prepared, check_composition, prepare
from narrows.types import Batch

Optimiser = Callable[..., torch.optim.Optimizer]


def ratios(rounds: int, overrides: Sequence[str] = ()) -> dict[str, dict[str, float]]:
    """The median, least and largest ratio of the fit to each bare loop."""
    found: dict[str, list[float]] = {"the same optimiser": [], "torch's Adam by default": []}
    for _ in range(rounds):
        seconds, ready = _fit(overrides)
        optimisers = build_later(ready.config.optimizer, "optimizer"), torch.optim.Adam
        for values, optimiser in zip(found.values(), optimisers, strict=True):
            values.append(seconds / _bare(ready, optimiser))
    return {name: spread(values) for name, values in found.items()}


def _fit(overrides: Sequence[str]) -> tuple[float, Prepared]:
    """Seconds of the fit that `narrows train` makes, from what is prepared to what is trained."""
    config, choices = composition(tuple(overrides))
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as nowhere, redirect_stderr(nowhere):
        job = Job(Path(folder) / "run", list(overrides), choices)
        with recording(config, job, config) as record:
            ready = prepare(config, check_composition(config), job, record, None)
            start = time.perf_counter()
            ready.trainer.fit(ready.module, datamodule=ready.data)
            return time.perf_counter() - start, ready


def _bare(ready: Prepared, optimiser: Optimiser) -> float:
    """Seconds of as many epochs and validations in the loop that one would write by hand."""
    config, data = ready.config, ready.data
    model, objective = built(config, data)
    objective.attach(model)
    objective.span(1000)
    learns = optimiser([*model.parameters(), *objective.parameters()], lr=config.optimizer.lr)
    x, held_out = (torch.cat([batch.x for batch in data.ordered_loader(split)]) for split in ("train", "validation"))

    def loss(rows: Tensor) -> Any:
        return objective(model(Batch(rows)), model).total

    start = time.perf_counter()
    for _ in range(config.trainer.max_epochs):
        model.train()
        for rows in torch.randperm(len(x)).split(config.datamodule.batch_size):
            value = loss(x[rows])
            learns.zero_grad()
            value.backward()
            learns.step()
        model.eval()
        with torch.no_grad():
            for part in held_out.split(1000):
                loss(part)
    return time.perf_counter() - start
