"""The table of a comparison, and its formats: terminal, CSV, JSON and Markdown."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console, ConsoleOptions
from rich.segment import Segment
from rich.table import Table as RichTable
from rich.text import Text

from narrows.compare.higher_is_better import higher_is_better
from narrows.compare.run_records import finite
from narrows.compare.two_runs import MISSING
from narrows.errors import printable

MARK = "★"
LABEL = 28
"""Characters of a run's name that stand on one line at least."""
FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""The characters with which a formula may begin, also in full width."""


@dataclass
class Row:
    """One run, or the mean over a group of runs, with standard deviations and counts by metric."""

    name: str
    status: str
    keys: dict[str, Any]
    metrics: dict[str, float]
    deviations: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    runs: list[str] = field(default_factory=list)
    data: frozenset[str] = frozenset()
    """The fingerprints of the data of its runs; empty if none is recorded."""

    @property
    def counted(self) -> bool:
        """Whether training has finished, so that the row may be marked as best."""
        return self.status == "completed"


@dataclass
class Table:
    """Runs as rows, differing config keys and metrics as columns; `best` has the positions of each metric's best rows,
    among which none is if the rows are of different data.

    `metrics` are the metrics shown; `every` are all metrics of the runs.
    """

    rows: list[Row]
    keys: list[str]
    metrics: list[str]
    every: list[str]
    grouped: tuple[str, ...] = ()
    directions: dict[str, bool] = field(default_factory=dict)
    best: dict[str, set[int]] = field(default_factory=dict)
    data_sets: int = 0
    """The number of different data sets of the rows that may be marked as best, as far as they are recorded."""

    def higher(self, metric: str) -> bool | None:
        """Whether more of `metric` is better: as the user said, else by its name."""
        return self.directions.get(metric, higher_is_better(metric))

    def sort(self, column: str) -> None:
        """Sort by a metric, best first, or by a key, ascending. Rows without a value come last."""
        descending = column not in self.keys and bool(self.higher(column))
        self.rows.sort(key=lambda row: _order(_value(row, column), descending))
        self.mark()

    def mark(self) -> None:
        """Find the best rows of every metric again."""
        self.data_sets = len({row.data for row in self.rows if row.counted and row.data})
        self.best = {name: set() if self.data_sets > 1 else self._best(name) for name in self.every}

    def _best(self, metric: str) -> set[int]:
        higher = self.higher(metric)
        values = {i: row.metrics[metric] for i, row in enumerate(self.rows) if row.counted and metric in row.metrics}
        values = {i: value for i, value in values.items() if finite(value)}
        if higher is None or len(set(values.values())) < 2:
            return set()
        top = max(values.values()) if higher else min(values.values())
        return {i for i, value in values.items() if value == top}


def _value(row: Row, column: str) -> Any:
    return row.metrics.get(column) if column in row.metrics else row.keys.get(column)


def _order(value: Any, descending: bool) -> tuple[int, float, str]:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return (0, -value if descending else value, "") if finite(value) else (2, 0.0, "")
    return (3, 0.0, "") if value is None or value is MISSING else (1, 0.0, str(value))


def shown(value: Any) -> str:
    """A config value as text for a person."""
    if value is MISSING:
        return ""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return f"[{', '.join(map(shown, value))}]"
    return printable(str(value))


def number(value: float | None, deviation: float | None = None) -> str:
    """A figure with four significant digits, or a mean up to the second digit of its standard deviation."""
    if value is None:
        return ""
    if deviation is None or not finite(value) or not finite(deviation):
        if finite(value) and value == int(value) and abs(value) < 1e6:
            return f"{value:.0f}"
        return f"{value:.4g}" if not 1000 <= abs(value) < 1e6 else f"{value:.1f}"
    if deviation == 0:
        return f"{number(value)} ± 0"
    places = 1 - math.floor(math.log10(abs(deviation)))
    if places > 6 or max(abs(value), deviation) >= 1e6:
        return f"{value:.3g} ± {deviation:.2g}"
    return f"{value:.{max(0, places)}f} ± {deviation:.{max(0, places)}f}"


class PrintableConsole(Console):
    """A console that replaces the control characters of all it prints: a run's names may be a stranger's."""

    def render(self, renderable: Any, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        for segment in super().render(renderable, options):
            text, style, control = segment
            yield segment if control or text == "\n" else Segment(_lines(text), style)


def _lines(text: str) -> str:
    return "\n".join(map(printable, text.split("\n")))


def console(width: int = 160) -> Console:
    """The console for tables, `width` columns wide outside a terminal; text of runs is never read as markup."""
    return PrintableConsole(highlight=False, markup=False, emoji=False, width=None if os.isatty(1) else width)


def csv_text(rows: Iterable[Sequence[Any]]) -> str:
    """Rows as CSV for people, the same on every system; no text in it is a spreadsheet's formula."""
    out = io.StringIO()
    safe = ([as_cell(printable(cell)) if isinstance(cell, str) else cell for cell in row] for row in rows)
    csv.writer(out, lineterminator="\n").writerows(safe)
    return out.getvalue()


def as_cell(text: str) -> str:
    """A text for a spreadsheet: one that would be a formula gets an apostrophe before it, and a number stays.

    "CSV Injection" (OWASP), https://owasp.org/www-community/attacks/CSV_Injection.
    """
    begins = text[:1] in ("\t", "\r", "\n") or text.lstrip()[:1] in FORMULA
    return f"'{text}" if begins and len(text) > 1 and not _is_number(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def row_label(table: Table) -> str:
    return "n" if table.grouped else "run"


def terminal(table: Table) -> RichTable:
    """The table for a terminal, with the best figure of each metric in bold and starred."""
    drawn = RichTable(header_style="bold")
    widest = max((len(row.name) for row in table.rows), default=0)
    side = "right" if table.grouped else "left"
    drawn.add_column(row_label(table), overflow="fold", justify=side, min_width=min(widest, LABEL))  # type: ignore[arg-type]
    statuses = any(not row.counted for row in table.rows)
    if statuses:
        drawn.add_column("status", no_wrap=True)
    for key in table.keys:
        drawn.add_column(_heading(printable(key), "."), overflow="fold")
    for metric in table.metrics:
        drawn.add_column(_heading(metric, "/"), justify="right", overflow="fold")
    for position, row in enumerate(table.rows):
        cells = [Text(row.name)]
        if statuses:
            cells.append(Text(row.status, style="" if row.counted else "yellow"))
        cells += [Text(shown(row.keys.get(key, MISSING))) for key in table.keys]
        cells += [_figure(table, position, metric) for metric in table.metrics]
        drawn.add_row(*cells)
    return drawn


def _heading(name: str, separator: str) -> Text:
    """A heading with the last part of the name on its own line, so that columns stay narrow."""
    parent, _, last = name.rpartition(separator)
    return Text(f"{parent}{separator}\n{last}" if parent else name)


def _figure(table: Table, position: int, metric: str) -> Text:
    row = table.rows[position]
    text = number(row.metrics.get(metric), row.deviations.get(metric))
    return Text(f"{MARK} {text}", style="bold green") if position in table.best.get(metric, ()) else Text(text)


def as_csv(table: Table, metrics: Sequence[str]) -> str:
    """The table as CSV: figures with all digits, config values as JSON unless they are text."""
    columns = [f"{metric}{part}" for metric in metrics for part in (("", ".sd", ".n") if table.grouped else ("",))]
    lines = [[row_label(table), "status", *table.keys, *columns]]
    for row in table.rows:
        figures: list[str] = []
        for metric in metrics:
            figures.append(_full(row.metrics.get(metric)))
            if table.grouped:
                figures += [_full(row.deviations.get(metric)), str(row.counts.get(metric, 0))]
        lines.append([row.name, row.status, *(_plain(row.keys.get(key, MISSING)) for key in table.keys), *figures])
    return csv_text(lines)


def _full(value: float | None) -> str:
    return "" if value is None else repr(value)


def _plain(value: Any) -> str:
    if value is MISSING:
        return ""
    return value if isinstance(value, str) else json.dumps(value, default=str)


def as_json(
    table: Table, metrics: Sequence[str], notes: Sequence[str], paired: Sequence[Mapping[str, Any]] = ()
) -> str:
    """The table and its paired tests as JSON, without keys that a run does not have; NaN is null."""
    return json.dumps(
        {
            "keys": table.keys,
            "metrics": list(metrics),
            "grouped_by": list(table.grouped),
            "higher_is_better": {metric: table.higher(metric) for metric in metrics},
            "rows": [_row(table, i, metrics) for i in range(len(table.rows))],
            **({"paired": list(paired)} if paired else {}),
            "notes": list(notes),
        },
        indent=2,
        allow_nan=False,
        default=str,
    )


def _row(table: Table, position: int, metrics: Sequence[str]) -> dict[str, Any]:
    row = table.rows[position]
    values: dict[str, Any] = {
        "name": row.name,
        "status": row.status,
        "config": plain_keys(row.keys),
        "metrics": _chosen(row.metrics, metrics),
        "best": [metric for metric in metrics if position in table.best.get(metric, ())],
    }
    if table.grouped:
        values["sd"] = _chosen(row.deviations, metrics)
        values["n"] = {metric: row.counts[metric] for metric in metrics if metric in row.counts}
        values["runs"] = row.runs
    return values


def _chosen(figures: Mapping[str, float], metrics: Sequence[str]) -> dict[str, float | None]:
    return {metric: plain(figures[metric]) for metric in metrics if metric in figures}


def plain(value: Any) -> Any:
    """A value as JSON can hold it; figures that are not finite become null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


def plain_keys(keys: Mapping[str, Any]) -> dict[str, Any]:
    """The config keys that a run has, with their values as JSON can hold them."""
    return {key: plain(value) for key, value in keys.items() if value is not MISSING}


def as_markdown(table: Table) -> str:
    """The table as Markdown, with the best figure of each metric in bold."""
    head = [row_label(table), "status", *table.keys, *table.metrics]
    rule = [*["---"] * (2 + len(table.keys)), *["---:"] * len(table.metrics)]
    lines = [head, rule]
    for position, row in enumerate(table.rows):
        figures = []
        for metric in table.metrics:
            text = number(row.metrics.get(metric), row.deviations.get(metric))
            figures.append(f"**{text}**" if position in table.best.get(metric, ()) else text)
        lines.append([row.name, row.status, *(shown(row.keys.get(key, MISSING)) for key in table.keys), *figures])
    return "".join(f"| {' | '.join(map(_cell, line))} |\n" for line in lines)


def _cell(text: str) -> str:
    for special, safe in (("\\", "\\\\"), ("|", "\\|"), ("<", "&lt;"), ("`", "\\`"), ("[", "\\[")):
        text = text.replace(special, safe)
    return printable(text)
