"""A schedule is a function of the step alone."""

from __future__ import annotations

import pytest
from instances import SCHEDULES

from narrows.errors import UserError
from narrows.losses.divergence import KL
from narrows.schedules import Cyclical, Linear
from narrows.types import FINAL_STEP


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_same_step_gives_the_same_number_in_any_order(name: str) -> None:
    schedule = SCHEDULES[name]()
    forwards = [schedule(step) for step in range(50)]
    backwards = [schedule(step) for step in reversed(range(50))]
    assert forwards == backwards[::-1]
    assert forwards == [SCHEDULES[name]()(step) for step in range(50)]


def test_linear_waits_rises_and_stays() -> None:
    schedule = Linear(start=0, end=2, steps=10, delay=5)
    assert [schedule(s) for s in (0, 5, 10, 15, 100, FINAL_STEP)] == [0, 0, 1, 2, 2, 2]


def test_cyclical_ramps_again_and_ends_high() -> None:
    schedule = Cyclical(start=0, end=1, period=10, cycles=2, ramp=0.5)
    assert [schedule(s) for s in (0, 1, 5, 9, 10, 12, 19, 20, FINAL_STEP)] == [0, 0.2, 1, 1, 0, 0.4, 1, 1, 1]


@pytest.mark.parametrize("weight", [-1.0, Linear(0, -1, 10), "heavy", True])
def test_weights_are_numbers_or_schedules_that_are_not_negative(weight: object) -> None:
    with pytest.raises(UserError, match=r"weight of term KL must"):
        KL(weight=weight)


@pytest.mark.parametrize("options", [{"steps": 0}, {"delay": -1}])
def test_linear_refuses(options: dict[str, int]) -> None:
    with pytest.raises(UserError, match="schedule linear"):
        Linear(**options)


@pytest.mark.parametrize("options", [{"period": 0}, {"cycles": 0}, {"ramp": 0.0}, {"ramp": 1.5}])
def test_cyclical_refuses(options: dict[str, float]) -> None:
    with pytest.raises(UserError, match="schedule cyclical"):
        Cyclical(**options)
