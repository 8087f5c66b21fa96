from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import pytest
from omegaconf import OmegaConf

from narrows.config.option_types import accepts, check_types, type_hints
from narrows.errors import UserError
from narrows.schedules import Schedule

ACCEPTED: list[tuple[Any, Any]] = [
    (float, 3),
    (Sequence[int], [1, 2]),
    (tuple[float, float], [0.9, 0.99]),
    (tuple[int, ...], [1, 2, 3]),
    (float | Schedule, 0.5),
    (float | Schedule, {"_target_": "narrows.schedules.Linear"}),
    (Mapping[str, Sequence[float]], {"gaussian": [0.1]}),
    (Callable[..., Any], {"_target_": "narrows.losses.Critic"}),
    (Literal["a", 3], 3),
    (Any, [1]),
]
REFUSED: list[tuple[Any, Any]] = [
    (int, {"a": 1}),
    (int, {"_target_": "narrows.schedules.Linear"}),
    (bool, 1),
    (Sequence[int], {"a": 1}),
    (tuple[float, float], [0.9]),
    (tuple[float, float], [0.9, "a"]),
    (float | Schedule, {"a": 1}),
    (float | Schedule, "abc"),
    (Mapping[str, Sequence[float]], [1]),
    (Mapping[str, Sequence[float]], {"gaussian": 1}),
    (Callable[..., Any], 3),
    (Literal["a", 3], 4),
]


def configured(value: Any) -> Any:
    return OmegaConf.create({"option": value}).option


@pytest.mark.parametrize(("hint", "value"), ACCEPTED)
def test_a_value_of_the_right_type_is_accepted(hint: Any, value: Any) -> None:
    assert accepts(hint, configured(value))


@pytest.mark.parametrize(("hint", "value"), REFUSED)
def test_a_value_of_another_type_is_refused(hint: Any, value: Any) -> None:
    assert not accepts(hint, configured(value))


class OfTheUser:
    def __init__(self, fill: float = 0.0) -> None: ...


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 10**20, [1.0, math.nan], {"a": [math.inf]}])
def test_a_number_that_is_none_is_refused_of_every_library_but_not_of_the_user(value: Any) -> None:
    import torch

    from narrows.losses import KL

    for target, option in ((torch.optim.Adam, "lr"), (KL, "free_bits"), (KL, "weight")):
        with pytest.raises(UserError, match=rf"^place.{option} must "):
            check_types(target, OmegaConf.create({option: value}), "place")
    if isinstance(value, float):
        check_types(OfTheUser, OmegaConf.create({"fill": value}), "place")


def test_options_of_an_inherited_constructor_are_checked_too() -> None:
    from narrows.losses import NegativeLogLikelihood

    with pytest.raises(UserError, match=r"^loss.reconstruction.weight must be a number or a schedule"):
        check_types(NegativeLogLikelihood, OmegaConf.create({"weight": [1]}), "loss.reconstruction")


def test_a_hint_that_only_type_checkers_know_hides_no_other() -> None:
    def made(count: int, source: Unknown) -> None:  # type: ignore[name-defined]  # noqa: F821
        pass

    assert type_hints(made) == {"count": int, "return": type(None)}
