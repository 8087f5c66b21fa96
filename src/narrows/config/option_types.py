"""Checking the values of a config against the type hints of the constructors."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable, Sequence
from typing import Any, Literal, Union, get_args, get_origin

from omegaconf import DictConfig, ListConfig

from narrows.errors import UserError

PLAIN: dict[Any, tuple[str, tuple[type, ...]]] = {
    bool: ("true or false", (bool,)),
    int: ("a whole number", (int,)),
    float: ("a number", (int, float)),
    str: ("text", (str,)),
    type(None): ("null", (type(None),)),
}
"""By type hint, its name in messages and the types that satisfy it."""
LISTS = (list, tuple, Sequence, Iterable)


def check_types(target: Any, node: DictConfig, path: str) -> None:
    """Refuse values of the wrong type, such as a number where a list is expected.

    Raises:
        UserError: names the option, its value, and what it must be.
    """
    hints = type_hints(target)
    for key in node:
        if key in hints and not accepts(hints[str(key)], node[key]):
            wanted = describe(hints[str(key)])
            raise UserError(f"{path}.{key!s} must be {wanted}, not {_shown(node[key])}")


def type_hints(target: Any) -> dict[str, Any]:
    """The type hints of a callable's arguments; empty if they cannot be evaluated."""
    try:
        return typing.get_type_hints(vars(target).get("__init__", target) if isinstance(target, type) else target)
    except (NameError, TypeError, AttributeError):
        return {}


def accepts(hint: Any, value: Any) -> bool:
    """Whether `value` satisfies `hint`; hints of classes that configs cannot write are left to the constructor."""
    if isinstance(value, DictConfig):
        return True
    origin = get_origin(hint) or hint
    if origin in (Union, types.UnionType):
        return any(accepts(part, value) for part in get_args(hint))
    if origin in LISTS:
        inner = get_args(hint)[:1]
        return isinstance(value, ListConfig) and all(accepts(inner[0], item) for item in value if inner)
    if origin in PLAIN:
        return isinstance(value, PLAIN[origin][1]) and (origin is bool or not isinstance(value, bool))
    # A tensor cannot be written in a config: as a member of a union it must not let text pass.
    return getattr(origin, "__module__", "") != "torch"


def describe(hint: Any) -> str:
    """A type hint in words."""
    origin = get_origin(hint) or hint
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(word for part in get_args(hint) if (word := describe(part))))
    if origin is Literal:
        return " or ".join(map(str, get_args(hint)))
    if origin in LISTS:
        return " of ".join(["a list", *map(_plural, get_args(hint)[:1])])
    return PLAIN[origin][0] if origin in PLAIN else ""


def _plural(hint: Any) -> str:
    return describe(hint).removeprefix("a ") + "s"


def _shown(value: Any) -> str:
    return "null" if value is None else repr(list(value) if isinstance(value, ListConfig) else value)
