"""The config keys in which runs differ, without keys that merely follow from another choice."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

from narrows.compare.run_records import Record
from narrows.compare.two_runs import MISSING
from narrows.config.plain_yaml import is_within

BOOKKEEPING = re.compile(
    r"name|tags(\..*)?|notes|output_dir|data_dir|.*\.data_dir|logger(\..*)?|sweep|callbacks|callbacks\.(progress|pictures)(\..*)?"
    r"|tasks(\..*)?|trainer\.(enable_.*|log_every_n_steps)|.*\._partial_"
)
"""Keys of places and displays, on which no figure depends."""
WHOLE = ("experiment", "variant", "datamodule")
"""Groups whose choices set values anywhere in the config."""


def differing_columns(records: Sequence[Record], everything: bool = False) -> dict[str, list[Any]]:
    """The keys in which the runs differ, each with its value for every run and `MISSING` where a run has none.

    A group's choice stands for its `_target_`. A key is left out if no override set it and its value follows from a
    shown choice or equals the value of another shown key; so are keys of places and displays. `everything` keeps all.
    """
    columns = {key: values for key, values in _all_columns(records).items() if _differ(values)}
    if everything:
        return _ordered(columns)
    columns = {key: values for key, values in columns.items() if not BOOKKEEPING.fullmatch(key)}
    asked = _asked(records, columns)
    shown = {key: columns[key] for key in asked}
    for key in sorted(columns, key=_rank):
        if key not in shown and not _follows(key, columns[key], shown):
            shown[key] = columns[key]
    changed = {key for record in records for key in record.changed}
    first = {key: shown[key] for key in shown if any(is_within(key, one) for one in changed)}
    return _ordered(first) | _ordered({key: shown[key] for key in shown if key not in first})


def _all_columns(records: Sequence[Record]) -> dict[str, list[Any]]:
    """All choices and config keys of the runs; a `_target_` goes under the key of its component."""
    rows = [_row(record) for record in records]
    keys = dict.fromkeys(key for row in rows for key in row)
    return {key: [row.get(key, MISSING) for row in rows] for key in keys}


def _row(record: Record) -> dict[str, Any]:
    config, choices = record.config, record.choices
    row: dict[str, Any] = {key: choices[key] for key in WHOLE if choices.get(key, "None") != "None"}
    root = config.get("data_dir")
    for key, value in config.items():
        component, _, last = key.rpartition(".")
        if last == "_target_":
            row.setdefault(component, choices.get(component) or str(value).rpartition(".")[2])
        else:
            row[key] = _below(value, root)
    return row


def _below(value: Any, root: Any) -> Any:
    """A path within the data directory, relative to it."""
    if isinstance(value, str) and isinstance(root, str) and root and value.startswith(f"{root}/"):
        return value.removeprefix(f"{root}/")
    return value


def key_of(value: Any) -> Hashable:
    """A hashable key for a recorded value: equal for equal values, where `true` is not 1."""
    return (type(value).__name__ if isinstance(value, bool) else "", repr(value) if _compound(value) else value)


def _compound(value: Any) -> bool:
    return isinstance(value, (list, dict)) or value != value


def _differ(values: Iterable[Any]) -> bool:
    return len({key_of(value) for value in values}) > 1


def _asked(records: Sequence[Record], columns: Iterable[str]) -> list[str]:
    """The columns that the command line of some run sets."""
    named: dict[str, None] = {}
    for record in records:
        for item in [*record.overrides, *_varied(record)]:
            key = item.partition("=")[0].lstrip("+~")
            named[key.rpartition("@")[2]] = None
    return [key for key in columns if key in named]


def _varied(record: Record) -> list[str]:
    sweep = record.manifest.get("sweep")
    varied = sweep.get("varied") if isinstance(sweep, dict) else None
    return [key for key in varied if isinstance(key, str)] if isinstance(varied, list) else []


def _rank(key: str) -> tuple[int, int]:
    """The rank of a key: choices of wide effect first, then outer before inner; each can explain those after it."""
    return (WHOLE.index(key) if key in WHOLE else len(WHOLE), key.count("."))


def _follows(key: str, values: Sequence[Any], shown: dict[str, list[Any]]) -> bool:
    """Whether `values` follow from one shown choice, or equal those of another shown key."""
    for other, known in shown.items():
        explains = other in WHOLE or key.startswith(f"{other}.")
        if explains and _is_function_of(values, known):
            return True
        if list(map(key_of, values)) == list(map(key_of, known)):
            return True
    return False


def _is_function_of(values: Sequence[Any], known: Sequence[Any]) -> bool:
    pairs = {(key_of(a), key_of(b)) for a, b in zip(known, values, strict=True)}
    return len(pairs) == len({a for a, _ in pairs})


def _ordered(columns: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """The columns in order: choices, then values, the seed last."""
    return dict(sorted(columns.items(), key=lambda item: (item[0] == "seed", _rank(item[0])[0])))
