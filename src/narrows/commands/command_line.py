"""What stands on a command line beside its options: places and `KEY=VALUE`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


def places_and_overrides(arguments: Iterable[str]) -> tuple[list[str], list[str]]:
    """What exists is a place, whatever its name: sweeps name runs by their overrides, equals signs and all."""
    places: list[str] = []
    overrides: list[str] = []
    for argument in arguments:
        (overrides if "=" in argument and not Path(argument).exists() else places).append(argument)
    return places, overrides
