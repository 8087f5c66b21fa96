"""Names that tell runs apart where they are shown together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from narrows.compare.run_records import Record
from narrows.compare.two_runs import MISSING
from narrows.config.run_names import LIMIT, plain, shortest, told


def short_names(records: Sequence[Record], columns: Mapping[str, Sequence[Any]]) -> list[str]:
    """A name for each run: its own `name=`, else what it differs in; equal ones are numbered."""
    short = shortest(list(columns))
    found: list[str] = []
    for place, record in enumerate(records):
        pairs = [(short[key], values[place]) for key, values in columns.items() if values[place] is not MISSING]
        asked = ",".join(f"{key}={told(str(value))}" for key, value in pairs)[:LIMIT]
        given = record.config.get("name")
        found.append(plain(given, also="_") if isinstance(given, str) else asked or plain(record.path.name, also="_"))
    total, seen, names = Counter(found), Counter[str](), []
    for name in found:
        seen[name] += 1
        names.append(f"{name}_{seen[name]}" if total[name] > 1 else name)
    return names
