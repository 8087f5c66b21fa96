"""Checking plain values, such as those of a JSON file, against type hints: of lists, mappings and dataclasses too."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Literal, Union, get_args, get_origin

from narrows.config.option_types import PLAIN, describe
from narrows.errors import UserError


def require_fits(hint: Any, value: Any, where: str) -> None:
    """Refuse a value that is not of the type `hint`.

    Args:
        hint: of plain types, lists, mappings, unions, literals, dataclasses (instances of them) and typed dictionaries,
            whose fields may be missing where they are not required, and may be more than are known.
        where: what the message begins with: the file, and the field in it.

    Raises:
        UserError: names the field, and says what it must be.
    """
    for place, wanted in _misfits(hint, value, ""):
        raise UserError(f"{where} is damaged: {place.lstrip('.') or 'it'} must be {wanted}")


def _misfits(hint: Any, value: Any, place: str) -> Iterator[tuple[str, str]]:
    """Every place at which the value does not fit, and what should be there."""
    origin, inner = get_origin(hint) or hint, get_args(hint)
    if origin is Any:
        return
    if origin in (Union, types.UnionType):
        yield from _misfits_of_all(inner, value, place)
    elif typing.is_typeddict(origin):
        yield from _misfits_of_fields(origin, value, place)
    elif dataclasses.is_dataclass(origin):
        if not isinstance(value, origin):  # type: ignore[arg-type]
            yield place, f"a {getattr(origin, '__name__', origin)}"
            return
        hints = typing.get_type_hints(origin)
        for field in dataclasses.fields(origin):
            yield from _misfits(hints[field.name], getattr(value, field.name), f"{place}.{field.name}")
    elif origin in (list, tuple):
        yield from _misfits_of_items(origin, inner, value, place)
    elif origin in (dict, Mapping):
        yield from _misfits_of_values(inner, value, place)
    elif origin is Literal:
        if value not in inner:
            yield place, describe(hint)
    elif origin not in PLAIN:
        if not isinstance(value, origin):
            yield place, f"a {getattr(origin, '__name__', origin)}"
    elif not isinstance(value, PLAIN[origin][1]) or (isinstance(value, bool) and origin is not bool):
        yield place, describe(hint)


def _misfits_of_all(members: tuple[Any, ...], value: Any, place: str) -> Iterator[tuple[str, str]]:
    found = [list(_misfits(member, value, place)) for member in members]
    if all(found):
        # What lies inside the value says more than that the value as a whole is none of these.
        inner = [misfit for misfits in found for misfit in misfits if misfit[0] != place]
        yield (inner or [(place, " or ".join(dict.fromkeys(misfits[0][1] for misfits in found)))])[0]


def _misfits_of_fields(hint: Any, value: Any, place: str) -> Iterator[tuple[str, str]]:
    if not isinstance(value, dict):
        yield place, "names and values"
        return
    for name, kind in typing.get_type_hints(hint, include_extras=True).items():
        # Written as texts (`from __future__ import annotations`), they all count as required in `__required_keys__`.
        optional = get_origin(kind) is typing.NotRequired
        if name in value:
            yield from _misfits(get_args(kind)[0] if optional else kind, value[name], f"{place}.{name}")
        elif not optional and name in hint.__required_keys__:
            yield f"{place}.{name}", "there"


def _misfits_of_items(origin: Any, inner: tuple[Any, ...], value: Any, place: str) -> Iterator[tuple[str, str]]:
    fixed = origin is tuple and bool(inner) and inner[-1] is not Ellipsis
    if not isinstance(value, (list, tuple)) or (fixed and len(value) != len(inner)):
        yield place, describe(origin[inner] if inner else origin)
        return
    for i, item in enumerate(value):
        if inner:
            yield from _misfits(inner[i] if fixed else inner[0], item, f"{place}[{i}]")


def _misfits_of_values(inner: tuple[Any, ...], value: Any, place: str) -> Iterator[tuple[str, str]]:
    if not isinstance(value, dict):
        yield place, "names and values"
        return
    for key, item in value.items():
        if inner:
            yield from _misfits(inner[1], item, f"{place}.{str(key)[:40]}")
