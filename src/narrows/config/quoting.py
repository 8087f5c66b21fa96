"""Plain values as Hydra's override grammar writes them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser

from narrows.errors import require

PLAIN_KEY = re.compile(r"[A-Za-z_][\w-]*", re.ASCII)
READ_BY_US = ("from", "resume", "replay", "into")
"""Keys whose values never come to Hydra."""
WORD = re.compile(r"(?!(?:true|false|null|nan|inf)$)[A-Za-z_][\w.]*", re.ASCII | re.IGNORECASE)
"""What the grammar reads as a text also without quotes."""
IN_QUOTES = re.compile(r"""'([^'\\]|\\.)*'|"([^"\\]|\\.)*\"""", re.DOTALL)


def quoted(value: Any, bare: bool = False) -> str:
    """A plain value as Hydra's override grammar writes it.

    Args:
        bare: write words without quotes, where they are texts all the same.

    Raises:
        UserError: a key that the grammar cannot express.
    """
    if isinstance(value, dict):
        odd = [key for key in value if not PLAIN_KEY.fullmatch(str(key))]
        require(not odd, f"{str(odd[0] if odd else '')!r} is no name of an option")
        return "{" + ",".join(f"{key}:{quoted(item, bare)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(quoted(item, bare) for item in value) + "]"
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, (int, float)):
        return repr(value)
    if bare and WORD.fullmatch(str(value)):
        return str(value)
    # Backslashes are special only before a quote and at the end.
    text = re.sub(r"(\\*)('|$)", _escaped, str(value))
    return f"'{text}'"


def unquoted(value: str) -> str:
    """The text of a value that stands in quotes, as Hydra reads it; any other, and a path that exists, as it is."""
    if not IN_QUOTES.fullmatch(value) or os.path.exists(value):
        return value
    return str(OverridesParser.create().parse_override(f"key={value}").value())


def quoted_paths(arguments: Iterable[str]) -> list[str]:
    """A command line in whose overrides paths that exist are texts: a run of a sweep is called `dim=16,seed=0`, which
    the grammar would read as a list of pairs."""
    return [_quoted_path(argument) for argument in arguments]


def _quoted_path(argument: str) -> str:
    key, given, value = argument.partition("=")
    odd = given and not key.startswith("-") and key not in READ_BY_US and re.search(r"[^\w./~-]", value)
    return f"{key}={quoted(value)}" if odd and os.path.exists(value) else argument


def _escaped(found: re.Match[str]) -> str:
    return found[1] * 2 + ("\\'" if found[2] else "")
