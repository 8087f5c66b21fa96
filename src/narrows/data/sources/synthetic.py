"""A generated signal of several correlated sensors, so that a series experiment runs without any file.

Nothing here is measured; the log line at loading and `DataSpec.feature_names` say "synthetic" to anyone who sees the
data.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from narrows.random import generator

SEED = 0
SENSORS = 6
SOURCES = 4
LENGTH = 24_000
NOISE = 0.1
REGIME_CHANGE = 0.4
"""When the second regime begins, as a fraction of the time before the test part."""
ANOMALY_EVERY = 400
ANOMALY_LENGTH = (16, 64)
GRID = 2.0**-12
"""Values are rounded to multiples of this. Sines, normal draws and sums differ by 1e-15 between processors and numbers
of threads, which never carries a value across the midpoint between two multiples."""


@dataclass
class Signal:
    """A signal `values [C, T]`, and whether an anomaly was injected at each time step, `anomalous [T]`."""

    values: Tensor
    anomalous: Tensor
    names: list[str]


def generate(test_start: int, length: int = LENGTH) -> Signal:
    """Generate the signal; anomalies lie only at or after `test_start`.

    `x(t) = A(t) s(t) + noise`. The sources s are sines with drifting frequencies, which all sensors share through the
    mixing matrix A. At the regime change, before `test_start`, A passes smoothly to a second matrix. Anomalies are of
    four kinds, each on one sensor: a shift, a stuck value, a burst of noise, and a sensor that no longer follows the
    others. The values are the same on every machine.
    """
    values, anomalous = unrounded(test_start, length)
    names = [f"synthetic_{sensor}" for sensor in range(SENSORS)]
    return Signal((values / GRID).round().mul(GRID).float(), anomalous, names)


def unrounded(test_start: int, length: int) -> tuple[Tensor, Tensor]:
    """The unrounded values in double precision, `[C, T]`, and where an anomaly is, `[T]`."""
    source = generator(SEED, "synthetic series")
    waves = _waves(length, source)
    first, second = _normal((2, SENSORS, SOURCES), source)
    time = torch.arange(length, dtype=torch.float64)
    change = torch.sigmoid((time - REGIME_CHANGE * test_start) / 200)
    values = first @ waves * (1 - change) + second @ waves * change
    values = values + NOISE * _normal(tuple(values.shape), source)
    anomalous = _inject(values, test_start, source)
    return values, anomalous


def _normal(shape: tuple[int, ...], source: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=source, dtype=torch.float64)


def _waves(length: int, source: torch.Generator) -> Tensor:
    periods = torch.tensor([24.0, 37.0, 61.0, 110.0], dtype=torch.float64).unsqueeze(1)
    drift = _normal((SOURCES, length), source).cumsum(1) * 0.002
    phase = (2 * torch.pi / periods * torch.exp(0.2 * torch.tanh(drift))).cumsum(1)
    start = torch.rand(SOURCES, 1, generator=source, dtype=torch.float64)
    return torch.sin(phase + 2 * torch.pi * start)


def _inject(values: Tensor, test_start: int, source: torch.Generator) -> Tensor:
    """Write anomalies into `values`; returns where they are, `[T]`."""
    anomalous = torch.zeros(values.shape[1], dtype=torch.bool)
    shortest, longest = ANOMALY_LENGTH
    for number, start in enumerate(range(test_start + ANOMALY_EVERY // 2, values.shape[1] - longest, ANOMALY_EVERY)):
        duration = int(torch.randint(shortest, longest, (), generator=source))
        sensor = int(torch.randint(len(values), (), generator=source))
        span = slice(start, start + duration)
        deviation = values[sensor, :test_start].std()
        values[sensor, span] = _spoiled(values[sensor], span, number % 4, deviation, source)
        anomalous[span] = True
    return anomalous


def _spoiled(x: Tensor, span: slice, kind: int, deviation: Tensor, source: torch.Generator) -> Tensor:
    good = x[span]
    if kind == 0:
        return good + 3 * deviation
    if kind == 1:
        return good[0].expand_as(good)
    if kind == 2:
        return good + 1.5 * deviation * _normal(tuple(good.shape), source)
    return -1.5 * good
