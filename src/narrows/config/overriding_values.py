"""The overrides that turn one composed config into another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from narrows.config.quoting import quoted

MISSING = object()
"""The value of a key that is not there, which equals no value."""


def differing_overrides(now: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, list[str]]:
    """By dotted key, the overrides that turn the values `now` into `wanted`, both flat.

    A key that is to go is written with a plain value first: Hydra deletes neither null nor a broken reference.
    """
    changes: dict[str, list[str]] = {}
    for key, value in now.items():
        if same(wanted.get(key, MISSING), value):
            continue
        place = outermost(key, wanted)
        if place in wanted and place == key and not isinstance(wanted[key], Mapping):
            changes[key] = [f"{key}={quoted(wanted[key])}"]
        elif place in wanted:
            changes[place] = [f"{place}=0", f"~{place}", f"++{place}={quoted(wanted[place])}"]
        else:
            changes[place] = [f"{place}=0", f"~{place}"]
    for key, value in wanted.items():
        if key not in now and key not in changes:
            changes[key] = [f"++{key}={quoted(value)}"]
    return changes


def same(a: Any, b: Any) -> bool:
    """Whether two plain values are equal, where `true` is not 1, 1 not 1.0, and NaN is NaN."""
    return a is b or (a is not MISSING and b is not MISSING and repr(a) == repr(b))


def outermost(key: str, wanted: Mapping[str, Any], least: int = 1) -> str:
    """The shortest prefix of a key, of `least` words or more, that is itself in `wanted`, or below which `wanted` has
    nothing."""
    parts = key.split(".")
    for size in range(least, len(parts) + 1):
        place = ".".join(parts[:size])
        if place in wanted or not any(other.startswith(f"{place}.") for other in wanted):
            return place
    return key
