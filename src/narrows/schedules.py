"""Schedules: numbers that are pure functions of the optimiser step, so that they resume exactly.

Every schedule is defined for every step; at `narrows.types.FINAL_STEP` it has reached its end, which is
what validation and test use, so that their figures mean the same all through a run.
"""

from __future__ import annotations

from typing import Protocol

from narrows.errors import UserError, require
from narrows.types import FINAL_STEP


class Schedule(Protocol):
    """A number for every step."""

    def __call__(self, step: int) -> float: ...


class Constant:
    """The same number at every step."""

    def __init__(self, value: float) -> None:
        self.value = float(value)

    def __call__(self, step: int) -> float:
        return self.value


class Linear:
    """From `start` to `end` in a straight line over `steps` steps after `delay` steps, then `end`.

    KL warm-up: "Ladder Variational Autoencoders" (Sonderby et al., 2016), section 2.3.

    Raises:
        UserError: `steps` below 1 or `delay` below 0.
    """

    def __init__(self, start: float = 0.0, end: float = 1.0, steps: int = 1000, delay: int = 0) -> None:
        require(steps >= 1, f"schedule linear: steps must be at least 1, not {steps}")
        require(delay >= 0, f"schedule linear: delay must be at least 0, not {delay}")
        self.start, self.end, self.steps, self.delay = float(start), float(end), steps, delay

    def __call__(self, step: int) -> float:
        done = min(max((step - self.delay) / self.steps, 0.0), 1.0)
        return self.start + (self.end - self.start) * done


class Cyclical:
    """`cycles` times over `period` steps each: linear from `start` to `end` in the first `ramp` of a
    period, then `end`; after the last cycle, `end`.

    "Cyclical Annealing Schedule" (Fu et al., 2019), equation 6.

    Raises:
        UserError: `period` or `cycles` below 1, or `ramp` outside (0, 1].
    """

    def __init__(
        self, start: float = 0.0, end: float = 1.0, period: int = 1000, cycles: int = 4, ramp: float = 0.5
    ) -> None:
        require(period >= 1, f"schedule cyclical: period must be at least 1, not {period}")
        require(cycles >= 1, f"schedule cyclical: cycles must be at least 1, not {cycles}")
        require(0 < ramp <= 1, f"schedule cyclical: ramp must be in (0, 1], not {ramp}")
        self.start, self.end = float(start), float(end)
        self.period, self.cycles, self.ramp = period, cycles, ramp

    def __call__(self, step: int) -> float:
        if step >= self.period * self.cycles:
            return self.end
        position = (step % self.period) / self.period
        return self.start + (self.end - self.start) * min(position / self.ramp, 1.0)


def as_schedule(value: float | Schedule, what: str) -> Schedule:
    """A number or a schedule, as a schedule that is never negative.

    Raises:
        UserError: the value is neither, or is negative at its start or end.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        value = Constant(value)
    if not callable(value):
        raise UserError(f"{what} must be a number or a schedule, not {value!r}")
    for step in (0, FINAL_STEP):
        require(value(step) >= 0, f"{what} must not be negative, but it is {value(step):g} at step {step}")
    return value
