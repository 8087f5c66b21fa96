"""Schedules: numbers that are pure functions of the optimiser step, so that they resume exactly.

Every schedule is defined for every step; at `narrows.types.FINAL_STEP` it has reached its end, which is
what validation and test use, so that their figures mean the same all through a run.

A length is a whole number of optimiser steps, or a share of those of the run: `0.5` is half of them.
"""

from __future__ import annotations

from typing import ClassVar, Protocol

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


class Timed:
    """A schedule whose lengths may be shares of the run. `span` gives it the run's length, once, before the first
    step; one that was given its `run` keeps that."""

    name: ClassVar[str]

    def __init__(self, *, run: int | None = None, **lengths: int | float) -> None:
        self.lengths = lengths
        self.run, self._given = run, run is not None
        require(run is None or run >= 1, f"schedule {self.name}: run must be at least 1 or null, not {run}")
        for option, length in lengths.items():
            self._check(option, length)

    @property
    def shares(self) -> list[str]:
        """The lengths that are shares of the run, as `option=length`."""
        return [f"{option}={length}" for option, length in self.lengths.items() if isinstance(length, float)]

    def _check(self, option: str, length: int | float) -> None:
        least = 0 if option == "delay" else 1
        right = length >= least if isinstance(length, int) else (option == "delay" or length > 0) and 0 <= length <= 1
        require(
            right,
            f"schedule {self.name}: {option} must be at least {least}, or as a share of the run above 0 and at most "
            f"1.0, not {length}",
        )

    def span(self, run: int | None) -> None:
        """Take shares of a run of `run` optimiser steps; None where the number is not known.

        Raises:
            UserError: a length is a share, and that of the run is not known.
        """
        if self._given:
            return
        require(
            run is not None or not self.shares,
            f"schedule {self.name}: {', '.join(self.shares)} is a share of the run, which has no known length; give a "
            "whole number of steps, or limit trainer.max_epochs or trainer.max_steps",
        )
        self.run = run

    def steps_of(self, option: str) -> float:
        """The length `option`, in optimiser steps."""
        length = self.lengths[option]
        if isinstance(length, int):
            return length
        assert self.run is not None, f"schedule {self.name} was not told how long the run is"
        return length * self.run


class Linear(Timed):
    """From `start` to `end` in a straight line over `steps` steps after `delay` steps, then `end`.

    KL warm-up: "Ladder Variational Autoencoders" (Sonderby et al., 2016, https://arxiv.org/abs/1602.02282),
    section 2.3.

    Args:
        run: optimiser steps of the run of which shares are taken; None: those of the run itself.

    Raises:
        UserError: `steps` below 1 or `delay` below 0, or a share above 1.0.
    """

    name = "linear"

    def __init__(
        self,
        start: float = 0.0,
        end: float = 1.0,
        steps: int | float = 1000,
        delay: int | float = 0,
        run: int | None = None,
    ) -> None:
        super().__init__(steps=steps, delay=delay, run=run)
        self.start, self.end = float(start), float(end)

    def __call__(self, step: int) -> float:
        if step in (0, FINAL_STEP):
            return self.end if step else self.start
        done = min(max((step - self.steps_of("delay")) / self.steps_of("steps"), 0.0), 1.0)
        return self.start + (self.end - self.start) * done


class Cyclical(Timed):
    """`cycles` times over `period` steps each: linear from `start` to `end` in the first `ramp` of a
    period, then `end`; after the last cycle, `end`.

    "Cyclical Annealing Schedule" (Fu et al., 2019, https://arxiv.org/abs/1903.10145), equation 6.

    Args:
        run: optimiser steps of the run of which shares are taken; None: those of the run itself.

    Raises:
        UserError: `period` or `cycles` below 1, a share above 1.0, or `ramp` outside (0, 1].
    """

    name = "cyclical"

    def __init__(
        self,
        start: float = 0.0,
        end: float = 1.0,
        period: int | float = 1000,
        cycles: int = 4,
        ramp: float = 0.5,
        run: int | None = None,
    ) -> None:
        super().__init__(period=period, run=run)
        require(cycles >= 1, f"schedule cyclical: cycles must be at least 1, not {cycles}")
        require(0 < ramp <= 1, f"schedule cyclical: ramp must be in (0, 1], not {ramp}")
        self.start, self.end, self.cycles, self.ramp = float(start), float(end), cycles, ramp

    def __call__(self, step: int) -> float:
        if step in (0, FINAL_STEP):
            return self.end if step else self.start
        period = self.steps_of("period")
        if step >= period * self.cycles:
            return self.end
        position = (step % period) / period
        return self.start + (self.end - self.start) * min(position / self.ramp, 1.0)


def as_schedule(value: float | Schedule, what: str) -> Schedule:
    """The schedule that a number or a schedule stands for, which must not be negative.

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
