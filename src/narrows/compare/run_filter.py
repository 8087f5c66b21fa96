"""Choosing runs by what they hold: `tags has baseline and bottleneck.dim>8`."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from narrows.compare.run_records import Record
from narrows.config.old_words import refuse_old_names
from narrows.config.plain_yaml import parse_yaml
from narrows.errors import UserError, nearest

HELP = "only runs of which this holds, such as 'tags has baseline and bottleneck.dim>8 and val/loss<20'"
CONDITION = re.compile(r"(?P<key>[^\s<>=!]+)\s*(?P<word><=|>=|!=|==|=|<|>|\bhas\b|\blike\b)\s*(?P<value>.+)")


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _ordered(holds: Callable[[float, float], bool]) -> Callable[[Any, Any], bool]:
    def test(found: Any, wanted: Any) -> bool:
        ours, theirs = _number(found), _number(wanted)
        return ours is not None and theirs is not None and holds(ours, theirs)

    return test


def _equal(found: Any, wanted: Any) -> bool:
    ours, theirs = _number(found), _number(wanted)
    return ours == theirs if ours is not None and theirs is not None else str(found) == str(wanted)


TESTS: dict[str, Callable[[Any, Any], bool]] = {
    "=": _equal,
    "==": _equal,
    "!=": lambda found, wanted: not _equal(found, wanted),
    "<": _ordered(lambda ours, theirs: ours < theirs),
    "<=": _ordered(lambda ours, theirs: ours <= theirs),
    ">": _ordered(lambda ours, theirs: ours > theirs),
    ">=": _ordered(lambda ours, theirs: ours >= theirs),
    "has": lambda found, wanted: any(_equal(item, wanted) for item in (found if isinstance(found, list) else [found])),
    "like": lambda found, wanted: fnmatch.fnmatchcase(str(found), str(wanted)),
}


@dataclass(frozen=True)
class Condition:
    """One condition on a run: a key or figure, a comparison, and the value that it is held against."""

    key: str
    word: str
    value: Any

    def holds(self, record: Record) -> bool:
        """Whether the run has the key, and its value passes."""
        found = _values(record)
        return self.key in found and TESTS[self.word](found[self.key], self.value)


def choose(records: Sequence[Record], text: str | None, option: str = "--where") -> list[Record]:
    """The runs of which every condition of the text holds; all of them if it is None.

    Args:
        option: that the text was given to, in messages.

    Raises:
        UserError: a condition that cannot be read, a key that no run has, or no run that passes.
    """
    if text is None:
        return list(records)
    conditions = [_condition(part, option) for part in re.split(r"\s+and(?:\s+|$)", text.strip())]
    known = {key for record in records for key in _values(record)}
    for condition in conditions:
        if condition.key not in known:
            raise UserError(f"{option}: no run has '{condition.key}'; {nearest(condition.key, known)}")
    chosen = [record for record in records if all(condition.holds(record) for condition in conditions)]
    if not chosen:
        raise UserError(f"{option} '{text}' holds of none of the {len(records)} runs")
    return chosen


def _condition(text: str, option: str) -> Condition:
    match = CONDITION.fullmatch(text.strip())
    if match is None:
        raise UserError(
            f"{option}: '{text}' is no condition: write KEY, one of {' '.join(TESTS)}, and a value; 'and' joins several"
        )
    refuse_old_names([match["key"]])
    try:
        return Condition(match["key"], match["word"], parse_yaml(match["value"]))
    except ValueError as error:
        raise UserError(f"{option}: the value of '{text}' {error}") from error


def _values(record: Record) -> dict[str, Any]:
    """What a run can be chosen by: its config, its choices, its final figures, its name and status."""
    return {**record.config, **record.choices, **record.metrics, "run": record.name, "status": record.status}
