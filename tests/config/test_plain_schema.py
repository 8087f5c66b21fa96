from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NotRequired, TypedDict

import pytest

from narrows.config.plain_schema import require_fits
from narrows.errors import UserError


@dataclass
class Point:
    name: str
    place: tuple[float, float] | None = None


class Note(TypedDict, total=False):
    texts: list[str]
    point: dict[str, Any] | None


class Whole(TypedDict):
    epoch: int
    later: NotRequired[list[int] | None]


FITTING: list[tuple[Any, Any]] = [
    (int, 3),
    (float, 3),
    (str | None, None),
    (list[int], [1, 2]),
    (tuple[float, float], (0.0, 1)),
    (dict[str, float], {"a": 1.0}),
    (Literal["a", "b"], "b"),
    (Point, Point("x", (0.0, 1.0))),
    (Note, {"texts": ["a"], "later": 3}),
    (Note, {}),
    (Whole, {"epoch": 1}),
    (Any, object()),
]
MISFITS: list[tuple[Any, Any, str]] = [
    (int, True, "it must be a whole number"),
    (int, 2.5, "it must be a whole number"),
    (float, "3", "it must be a number"),
    (str | None, 3, "it must be text or null"),
    (list[int], [1, "2"], r"\[1\] must be a whole number"),
    (list[int], {"a": 1}, "it must be a list of whole numbers"),
    (tuple[float, float], (0.0,), "it must be a list of 2 numbers"),
    (dict[str, float], [1.0], "it must be names and values"),
    (dict[str, float], {"loss": None}, "loss must be a number"),
    (Literal["a", "b"], ["a"], "it must be a or b"),
    (Point, Point(3), "name must be text"),  # type: ignore[arg-type]
    (Point, Point("x", ("a", 1.0)), r"place\[0\] must be a number"),  # type: ignore[arg-type]
    (Point, {"name": "x"}, "it must be a Point"),
    (Note, {"texts": [1]}, r"texts\[0\] must be text"),
    (Note, {"point": 3}, "point must be names and values or null"),
    (Note, [], "it must be names and values"),
    (Whole, {}, "epoch must be there"),
    (Whole, {"epoch": 1, "later": ["a"]}, r"later\[0\] must be a whole number"),
]


@pytest.mark.parametrize(("hint", "value"), FITTING)
def test_what_fits_passes(hint: Any, value: Any) -> None:
    require_fits(hint, value, "run/manifest.json")


@pytest.mark.parametrize(("hint", "value", "said"), MISFITS)
def test_what_does_not_fit_is_named(hint: Any, value: Any, said: str) -> None:
    with pytest.raises(UserError, match=f"^run/manifest.json is damaged: {said}"):
        require_fits(hint, value, "run/manifest.json")
