"""A schedule is a function of the step alone."""

from __future__ import annotations

import pytest
from instances import SCHEDULES

from narrows.errors import UserError
from narrows.losses import Objective
from narrows.losses.divergence import KL, Capacity
from narrows.schedules import Cyclical, Linear, Timed
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


SHARES = [
    (Linear(0, 2, steps=0.5, delay=0.25), Linear(0, 2, steps=20, delay=10)),
    (Linear(0, 2, steps=1.0), Linear(0, 2, steps=40)),
    (Linear(0, 2, steps=0.5, delay=3), Linear(0, 2, steps=20, delay=3)),
    (Cyclical(0, 1, period=0.25, cycles=3), Cyclical(0, 1, period=10, cycles=3)),
]


@pytest.mark.parametrize(("shared", "counted"), SHARES)
def test_a_share_of_a_run_is_so_many_of_its_steps(shared: Timed, counted: Timed) -> None:
    assert (shared(0), shared(FINAL_STEP)) == (counted(0), counted(FINAL_STEP)), "known before the run is"
    shared.span(40)
    counted.span(40)
    steps = [*range(60), FINAL_STEP]
    assert [shared(s) for s in steps] == pytest.approx([counted(s) for s in steps])


def test_a_share_of_a_run_without_an_end_is_refused() -> None:
    with pytest.raises(UserError, match=r"steps=0\.5 is a share of the run, which has no known length"):
        Linear(steps=0.5).span(None)
    Linear(steps=5).span(None)


def test_an_objective_tells_every_schedule_of_its_terms() -> None:
    objective = Objective({"kl": KL(Linear(steps=0.5)), "capacity": Capacity(capacity=Linear(0, 8, steps=0.25))})
    objective.span(40)
    assert objective.weights(10)["kl"] == 0.5
    assert objective["capacity"].capacity(5) == 4


@pytest.mark.parametrize("weight", [-1.0, Linear(0, -1, 10), "heavy", True])
def test_weights_are_numbers_or_schedules_that_are_not_negative(weight: object) -> None:
    with pytest.raises(UserError, match=r"weight of term KL must"):
        KL(weight=weight)


@pytest.mark.parametrize("options", [{"steps": 0}, {"delay": -1}, {"steps": 0.0}, {"steps": 2.0}, {"delay": 1.5}])
def test_linear_refuses(options: dict[str, float]) -> None:
    with pytest.raises(UserError, match="schedule linear"):
        Linear(**options)


@pytest.mark.parametrize("options", [{"period": 0}, {"period": 1.5}, {"cycles": 0}, {"ramp": 0.0}, {"ramp": 1.5}])
def test_cyclical_refuses(options: dict[str, float]) -> None:
    with pytest.raises(UserError, match="schedule cyclical"):
        Cyclical(**options)
