"""Deciding whether the figures of two runs are bitwise equal, equal within a tolerance, or different.

Metrics below `throughput/` are wall-clock time and are never judged.
"""

from __future__ import annotations

import csv
import json
import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from narrows.config.old_words import current_figure
from narrows.errors import UserError
from narrows.runs.old_names import current_figures

if TYPE_CHECKING:
    from torch import Tensor

TIMING = "throughput/"
CSV_FIELDS = ["step", "metric", "value"]
Row = tuple[int, str, int]
"""A step, a metric, and the number of the value, if the metric has several at that step."""


class Verdict(IntEnum):
    """The verdict on a figure, sorted from best to worst."""

    EQUAL = 0
    CLOSE = 1
    DIFFERENT = 2
    MISSING = 3
    EXTRA = 4

    @property
    def words(self) -> str:
        return {
            Verdict.EQUAL: "bitwise equal",
            Verdict.CLOSE: "equal within the tolerance",
            Verdict.DIFFERENT: "different",
            Verdict.MISSING: "missing in the reproduction",
            Verdict.EXTRA: "only in the reproduction",
        }[self]


@dataclass(frozen=True)
class Comparison:
    """One figure, in the run and in its reproduction."""

    name: str
    verdict: Verdict
    before: float | None = None
    after: float | None = None
    relative: float | None = None
    """The difference divided by the larger of both values."""


@dataclass
class Judgement:
    """All comparisons of one kind."""

    kind: str
    comparisons: list[Comparison] = field(default_factory=list)

    @property
    def verdict(self) -> Verdict:
        return max((c.verdict for c in self.comparisons), default=Verdict.EQUAL)

    def count(self, verdict: Verdict) -> int:
        return sum(c.verdict is verdict for c in self.comparisons)

    def worst(self, number: int) -> list[Comparison]:
        """The comparisons that are not bitwise equal, largest difference first."""
        unequal = [c for c in self.comparisons if c.verdict is not Verdict.EQUAL]
        return sorted(unequal, key=lambda c: (-c.verdict, -(c.relative or 0)))[:number]

    def sentence(self) -> str:
        """The counts in words, such as `420 history rows: 3 different, 417 bitwise equal`."""
        if self.verdict is Verdict.EQUAL:
            return f"{len(self.comparisons):,} {self.kind} bitwise equal" if self.comparisons else f"no {self.kind}"
        counted = (f"{self.count(v):,} {v.words}" for v in sorted(Verdict, reverse=True) if self.count(v))
        return f"{len(self.comparisons):,} {self.kind}: {', '.join(counted)}"

    def to_dict(self) -> dict[str, Any]:
        """The counts and every figure that is not bitwise equal, for `reproduction.json`."""
        counts = {v.name.lower(): self.count(v) for v in Verdict}
        unequal = [
            {"name": c.name, "verdict": c.verdict.name.lower(), "before": c.before, "after": c.after}
            | ({} if c.relative is None else {"relative": c.relative})
            for c in self.worst(len(self.comparisons))
        ]
        return {"counts": counts, "unequal": unequal}


def judge_value(name: str, before: float, after: float, tolerance: float) -> Comparison:
    """Compare two figures. NaN equals NaN; zero and minus zero differ in a bit."""
    if struct.pack("<d", before) == struct.pack("<d", after) or (math.isnan(before) and math.isnan(after)):
        return Comparison(name, Verdict.EQUAL, before, after, 0.0)
    relative = relative_difference(before, after)
    return Comparison(name, Verdict.CLOSE if relative <= tolerance else Verdict.DIFFERENT, before, after, relative)


def relative_difference(before: float, after: float) -> float:
    """|a - b| / max(|a|, |b|); infinite if the figures differ and one is not finite."""
    if not (math.isfinite(before) and math.isfinite(after)):
        return math.inf
    largest = max(abs(before), abs(after))
    return abs(before / largest - after / largest) if largest else 0.0


def judge(kind: str, before: Mapping[Any, float], after: Mapping[Any, float], tolerance: float) -> Judgement:
    """Compare figures by name, in the order in which they were recorded."""
    found = []
    for key in dict.fromkeys([*before, *after]):
        name = key if isinstance(key, str) else _row_name(key)
        if key not in after:
            found.append(Comparison(name, Verdict.MISSING, before=before[key]))
        elif key not in before:
            found.append(Comparison(name, Verdict.EXTRA, after=after[key]))
        else:
            found.append(judge_value(name, before[key], after[key], tolerance))
    return Judgement(kind, found)


def _row_name(row: Row) -> str:
    step, metric, occurrence = row
    return f"{metric} at step {step}" + (f" (value {occurrence + 1})" if occurrence else "")


def read_judged_metrics(path: Path) -> dict[str, float]:
    """The figures of a `metrics.json` under today's names, without wall-clock figures.

    Raises:
        UserError: it is missing or damaged.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): there are no figures to judge") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid JSON ({error})") from error
    if not isinstance(values, dict) or not all(_is_number(value) for value in values.values()):
        raise UserError(f"{path} is damaged: it must hold one number for each metric")
    return {name: float(value) for name, value in current_figures(values).items() if not name.startswith(TIMING)}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def read_judged_history(path: Path) -> dict[Row, float]:
    """The figures of a `metrics.csv` under today's names, without wall-clock figures; empty if the run has none.

    Raises:
        UserError: a line that is not a step, metric and value.
    """
    if not path.is_file():
        return {}
    try:
        with open(path, newline="", encoding="utf-8", errors="replace") as file:
            lines = list(csv.reader(file))
    except csv.Error as error:
        raise UserError(f"{path} is damaged: {error}") from error
    if not lines or lines[0] != CSV_FIELDS:
        raise UserError(f"{path} is damaged: its first line must be {','.join(CSV_FIELDS)}")
    return _history(lines[1:], path)


def _history(lines: Iterable[Sequence[str]], path: Path) -> dict[Row, float]:
    rows: dict[Row, float] = {}
    seen: dict[tuple[int, str], int] = {}
    for number, line in enumerate(lines, start=2):
        try:
            step, metric, value = line
            place = int(step), current_figure(metric)
            figure = float(value)
        except ValueError as error:
            raise UserError(f"{path} is damaged in line {number}: it is no step, metric and value") from error
        if not metric.startswith(TIMING):
            rows[*place, seen.setdefault(place, 0)] = figure
            seen[place] += 1
    return rows


def judge_weights(before: Mapping[str, Tensor], after: Mapping[str, Tensor], tolerance: float) -> Judgement:
    """Compare tensors by name; the relative difference of two is |a - b| / max(|a|, |b|) in norms."""
    found = []
    for name in dict.fromkeys([*before, *after]):
        if name not in after or name not in before:
            found.append(Comparison(name, Verdict.MISSING if name in before else Verdict.EXTRA))
        else:
            found.append(_judge_tensor(name, before[name], after[name], tolerance))
    return Judgement("weight tensors", found)


def _judge_tensor(name: str, before: Tensor, after: Tensor, tolerance: float) -> Comparison:
    import torch

    if before.dtype != after.dtype or before.shape != after.shape:
        return Comparison(name, Verdict.DIFFERENT)
    # Compare bytes: NaN then equals itself, and minus zero differs from zero.
    bits = [tensor.detach().contiguous().reshape(-1).view(torch.uint8) for tensor in (before, after)]
    if torch.equal(*bits):
        return Comparison(name, Verdict.EQUAL, relative=0.0)
    a, b = before.to(torch.float64), after.to(torch.float64)
    largest = max(float(a.norm()), float(b.norm()))
    relative = float((a - b).norm()) / largest if largest else 0.0
    relative = relative if math.isfinite(relative) else math.inf
    return Comparison(name, Verdict.CLOSE if relative <= tolerance else Verdict.DIFFERENT, relative=relative)
