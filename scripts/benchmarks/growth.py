"""How the time of a step grows with what the model and data are made of: the exponent p of `time ~ size^p`."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable

import torch

from benchmarks.models import Case
from narrows.types import Batch

MLP = ("variant=vae", "encoder.widths=[256]", "decoder.widths=[256]")
SERIES = ("variant=sequential",)
GROWING: dict[str, tuple[Callable[[int], Case], tuple[int, ...]]] = {
    "examples in the data": (lambda n: Case(MLP, rows=n), (2_000, 8_000, 32_000)),
    "examples in a batch": (lambda n: Case(MLP, batch=n, rows=4_096), (128, 512, 2_048)),
    "width": (lambda n: Case(("variant=vae", f"encoder.widths=[{n}]", f"decoder.widths=[{n}]")), (256, 1_024, 4_096)),
    "latents": (lambda n: Case((*MLP, f"bottleneck.dim={n}")), (16, 128, 1_024)),
    "codes": (lambda n: Case(("variant=vq_vae", f"bottleneck.codes={n}"), batch=32), (64, 512, 4_096)),
    "importance samples": (lambda n: Case(("variant=iwae", f"loss.bound.samples={n}"), batch=32), (2, 8, 32)),
    "steps of a series": (lambda n: Case(SERIES, 32, 640, "series", (1, n)), (32, 128, 512)),
}


def exponents(rounds: int, *, smallest: bool = False) -> dict[str, dict[str, float]]:
    """Milliseconds of a step at the smallest and largest size, and the slope of their logarithms over all sizes."""
    found = {}
    for name, (case, sizes) in GROWING.items():
        chosen = sizes[:2] if smallest else sizes
        times = [_step(case(size), rounds) for size in chosen]
        found[name] = {"first ms": 1e3 * times[0], "last ms": 1e3 * times[-1], "exponent": _slope(chosen, times)}
    return found


def _step(case: Case, rounds: int) -> float:
    data = case.datamodule()
    _, model, objective = case.build(data)
    objective.attach(model)
    objective.span(1000)
    optimizer = torch.optim.Adam([p for p in [*model.parameters(), *objective.parameters()] if p.requires_grad])
    x = Batch(next(iter(data.train_dataloader())).x)
    times = []
    for _ in range(rounds + 2):
        start = time.process_time()
        optimizer.zero_grad()
        objective(model(x), model).total.backward()
        optimizer.step()
        times.append(time.process_time() - start)
    return statistics.median(times[2:])


def _slope(sizes: tuple[int, ...], times: list[float]) -> float:
    x, y = [math.log(size) for size in sizes], [math.log(value) for value in times]
    mean_x, mean_y = statistics.fmean(x), statistics.fmean(y)
    above = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    return above / sum((a - mean_x) ** 2 for a in x)
