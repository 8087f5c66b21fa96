"""Checking the values of a config against the type hints of the constructors."""

from __future__ import annotations

import contextlib
import math
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin

from omegaconf import DictConfig, ListConfig, OmegaConf

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
MAPPINGS = (dict, Mapping)
LIBRARIES = ("narrows", "torch", "lightning", "torchvision")
"""The packages whose components have no option that may be NaN or infinite."""
LARGEST = 2**63
RANGES: dict[str, dict[str, tuple[float, bool]]] = {
    "torch.optim.lr_scheduler": {"factor": (0, False), "gamma": (0, False), "eta_min": (0, True)},
    "lightning.pytorch.trainer.trainer": {"devices": (1, True), "max_steps": (-1, True)},
}
"""By module, the least value of options that a library does not check, and whether it is itself allowed."""
REPEATED = {"narrows": ("blocks", "depth", "layers", "levels", "transforms"), "lightning": ("devices",)}
"""By library, options that count parts which are built, or processes which are started, one after another."""
MOST = 1000
"""More of them is a slip, which would take memory until none is left."""


def check_types(target: Any, node: DictConfig, path: str) -> None:
    """Refuse values of the wrong type, such as a number where a list is expected, and numbers that are none.

    Raises:
        UserError: names the option, its value, and what it must be.
    """
    hints, ours = type_hints(target), _home(target) in LIBRARIES
    if not isinstance(node.get("_args_", ListConfig([])), ListConfig):
        raise UserError(f"{path}._args_ must be a list, not {_shown(node['_args_'])}")
    require_hinted(hints, node, path)
    for key in node:
        # A user's own component may give NaN and infinity a meaning; those of the libraries have no option where they
        # have one.
        if ours and (bad := _unusable(node[key])) is not None:
            raise UserError(f"{path}.{key!s} must hold finite numbers below 2^63, not {_shown(bad)}")
        _check_range(target, str(key), node[key], path)


def require_hinted(hints: Mapping[str, Any], node: DictConfig, path: str) -> None:
    """Refuse a value that does not satisfy its hint.

    Raises:
        UserError: names the option, its value, and what it must be.
    """
    for key in node:
        if key in hints and not accepts(hints[str(key)], node[key]):
            wanted = describe(hints[str(key)])
            raise UserError(f"{path}.{key!s} must be {wanted}, not {_shown(node[key])}")


def _check_range(target: Any, key: str, value: Any, path: str) -> None:
    if key in REPEATED.get(_home(target), ()) and isinstance(value, int) and value > MOST:
        raise UserError(f"{path}.{key} must be at most {MOST:,}, not {value:,}")
    least, allowed = RANGES.get(str(getattr(target, "__module__", "")), {}).get(key, (None, True))
    if least is None or isinstance(value, bool) or not isinstance(value, (int, float)):
        return
    if value < least or (value == least and not allowed):
        raise UserError(f"{path}.{key} must be {'at least' if allowed else 'above'} {least}, not {value}")


def _home(target: Any) -> str:
    return str(getattr(target, "__module__", "")).partition(".")[0]


def _unusable(value: Any) -> float | None:
    """The first number in `value` that is not finite, or too large for a machine's integers; components inside it are
    judged by themselves."""
    if isinstance(value, DictConfig):
        items = [] if "_target_" in value else [value[key] for key in value]
        return next((bad for item in items if (bad := _unusable(item)) is not None), None)
    if isinstance(value, ListConfig):
        return next((bad for item in value if (bad := _unusable(item)) is not None), None)
    if isinstance(value, int):
        return value if abs(value) >= LARGEST else None
    return value if isinstance(value, float) and not math.isfinite(value) else None


def type_hints(target: Any) -> dict[str, Any]:
    """The type hints of a callable's arguments; empty if they cannot be evaluated."""
    called = target.__init__ if isinstance(target, type) else target  # type: ignore[misc]
    try:
        return typing.get_type_hints(called)
    except (NameError, TypeError, AttributeError):
        return _known_hints(called)


def _known_hints(called: Any) -> dict[str, Any]:
    """The hints that can be evaluated, where one of them names what its module imports for type checkers alone."""
    known: dict[str, Any] = {}
    for key, hint in getattr(called, "__annotations__", {}).items():
        alone = types.SimpleNamespace(__annotations__={key: hint})
        with contextlib.suppress(NameError, TypeError, AttributeError):
            known |= typing.get_type_hints(alone, globalns=getattr(called, "__globals__", {}))
    return known


def accepts(hint: Any, value: Any) -> bool:
    """Whether `value` satisfies `hint`; what a hint of a user's own class takes is left to the constructor."""
    origin = get_origin(hint) or hint
    if origin in (Union, types.UnionType):
        return any(accepts(part, value) for part in get_args(hint))
    if origin in LISTS:
        return isinstance(value, ListConfig) and _fits_items(origin, get_args(hint), value)
    if origin in MAPPINGS:
        inner = get_args(hint)[1:]
        return isinstance(value, DictConfig) and all(accepts(inner[0], value[key]) for key in value if inner)
    if origin in PLAIN:
        return isinstance(value, PLAIN[origin][1]) and (origin is bool or not isinstance(value, bool))
    if origin is Literal:
        # Of an unknown word the constructor says the nearest one that it knows.
        return isinstance(value, str) or value in get_args(hint)
    if isinstance(value, DictConfig) and "_target_" in value:
        return True
    return not _is_component(origin)


def _fits_items(origin: Any, inner: tuple[Any, ...], value: ListConfig) -> bool:
    if origin is tuple and inner and inner[-1] is not Ellipsis:
        return len(value) == len(inner) and all(map(accepts, inner, value))
    return all(accepts(inner[0], item) for item in value if inner)


def _is_component(hint: Any) -> bool:
    """Whether a hint asks for an object that no plain value of a config stands for."""
    return hint is Callable or (isinstance(hint, type) and _home(hint) in (*LIBRARIES, "datetime"))


def describe(hint: Any) -> str:
    """A type hint in words."""
    origin = get_origin(hint) or hint
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(word for part in get_args(hint) if (word := describe(part))))
    if origin is Literal:
        return " or ".join(map(str, get_args(hint)))
    if origin in LISTS:
        inner = [part for part in get_args(hint) if part is not Ellipsis]
        count = f"{len(inner)} " if origin is tuple and len(inner) == len(get_args(hint)) > 1 else ""
        return " of ".join(["a list", *(count + _plural(part) for part in inner[:1])])
    if origin in MAPPINGS:
        return "names and values"
    if _is_component(origin):
        # A tensor or a span of time cannot be written in a config.
        name = getattr(origin, "__name__", "component")
        word = name.lower() if name[1:].islower() else f"component of class {name}"
        return "a component" if origin is Callable else f"a {word}" if _home(origin) == "narrows" else ""
    return PLAIN[origin][0] if origin in PLAIN else ""


def _plural(hint: Any) -> str:
    return describe(hint).removeprefix("a ") + "s"


def _shown(value: Any) -> str:
    plain = OmegaConf.to_container(value) if isinstance(value, (DictConfig, ListConfig)) else value
    shown = "null" if value is None else repr(plain)
    return shown if len(shown) <= 100 else f"{shown[:100]}..."
