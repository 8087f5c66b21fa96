"""`narrows diff RUN_A RUN_B`: what differs between two runs, section by section."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from narrows.commands.command_line import new_parser, run
from narrows.compare.run_records import Record, is_run, read_run
from narrows.compare.table_formats import console, shown
from narrows.compare.two_runs import MISSING, Pair, pairs, surroundings_differences
from narrows.config.plain_yaml import is_within
from narrows.errors import UserError, printable, require
from narrows.runs.file_names import METRICS

DESCRIPTION = """\
What differs between two runs: config, command, code, versions, hardware, data, status and figures.
Nothing that is equal is shown. Exit code 0 either way, unless --exit-code asks for 1 where something differs.
A run whose config or manifest cannot be read is refused (exit code 2).
"""
WALL_CLOCK = "throughput/"
"""Figures of speed, which differ between any two runs."""
LONGEST = 400
"""Lines shown of the difference between two uncommitted changes."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = new_parser("diff", DESCRIPTION)
    options.add_argument("runs", nargs=2, metavar="RUN", help="a run directory")
    options.add_argument("--exit-code", action="store_true", help="exit with 1 when something differs, as diff does")
    options.add_argument("--patch", action="store_true", help="also how the uncommitted changes differ, line by line")
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; a user's mistake is one sentence and exit code 2."""
    run(parser(), _diff, arguments)


def _diff(options: argparse.Namespace) -> None:
    first, second = map(_read, options.runs)
    if _print(first, second, options.patch) and options.exit_code:
        raise SystemExit(1)


def _read(place: str) -> Record:
    path = Path(place)
    if not path.is_dir():
        raise UserError(f"there is no directory '{printable(place)}'")
    if not is_run(path):
        raise UserError(f"{printable(place)} is not a run directory: it has no manifest.json and config.yaml")
    record = read_run(path.absolute())
    unread = [note for note in record.notes if not note.startswith(METRICS)]
    require(not unread, f"{path} cannot be compared: {'; '.join(unread)}")
    return record


def sections(a: Record, b: Record) -> dict[str, dict[str, Pair]]:
    """The differences by section; a section without differences is empty."""
    around = surroundings_differences(a.manifest, b.manifest)
    config = _choices(a, b) | pairs(a.config, b.config)
    # What was changed against the source comes first.
    asked = [key for record in (a, b) for key in record.changed]
    first = [key for key in config if any(is_within(key.removesuffix(" (choice)"), one) for one in asked)]
    return {
        "config": {key: config[key] for key in (*first, *(key for key in config if key not in first))},
        "command": pairs(_overrides(a), _overrides(b)),
        **around,
        "status": pairs(_status(a), _status(b)),
        "metrics": pairs(_figures(a), _figures(b)),
    }


def _choices(a: Record, b: Record) -> dict[str, Pair]:
    """The config groups whose choices differ, under names that no config key has."""
    return {f"{group} (choice)": pair for group, pair in pairs(a.choices, b.choices).items()}


def _overrides(record: Record) -> dict[str, Any]:
    """The overrides of the command line by key, because the order of different keys does not matter."""
    split = (item.partition("=") for item in record.overrides)
    return {key: value if equals else "(removed)" for key, equals, value in split}


def _status(record: Record) -> dict[str, Any]:
    error = record.manifest.get("error")
    return {"status": record.status} | ({} if error is None else {"error": error})


def _figures(record: Record) -> dict[str, float]:
    return {name: value for name, value in record.metrics.items() if not name.startswith(WALL_CLOCK)}


def _print(a: Record, b: Record, patch: bool) -> bool:
    out = console()
    found = sections(a, b)
    for mark, record in (("a", a), ("b", b)):
        out.print(f"{mark}  {printable(str(record.path))}", soft_wrap=True)
        if record.source is not None:
            changed = ", ".join(map(printable, record.changed)) or "nothing"
            out.print(f"   from {record.source}; changed against it: {changed}", soft_wrap=True)
        for note in _notes(record):
            out.print(f"   note: {note}", soft_wrap=True)
    unread = {"metrics": [record.path for record in (a, b) if _without_figures(record)]}
    for name, differing in found.items():
        out.print()
        if missing := unread.get(name):
            out.print(f"{name}: not compared, because those of {' and '.join(map(str, missing))} cannot be read")
            continue
        out.print(Text(name, style="bold") if differing else f"{name}: no difference")
        if differing:
            out.print(_metrics(differing) if name == "metrics" else _table(differing))
    if patch and "uncommitted changes" in found["code"]:
        for line in patch_lines(a, b):
            out.print(printable(line), soft_wrap=True)
    return any(found.values()) or any(unread.values())


def _without_figures(record: Record) -> bool:
    return any(note.startswith(METRICS) for note in record.notes)


def _notes(record: Record) -> list[str]:
    return record.notes + ([] if record.final else ["the run is not finished, its figures are the last logged ones"])


def _table(differing: Mapping[str, Pair]) -> Table:
    table = _columns("", "a", "b")
    for key, pair in differing.items():
        table.add_row(printable(key), *map(_shortened, pair))
    return table


def _metrics(differing: Mapping[str, Pair]) -> Table:
    table = _columns("", "a", "b", "b - a", "relative", right=True)
    for key, (x, y) in differing.items():
        change, relative = ("", "") if MISSING in (x, y) else (f"{y - x:+.6g}", relative_change(x, y))
        table.add_row(key, _full(x), _full(y), change, relative)
    return table


def _columns(*names: str, right: bool = False) -> Table:
    table = Table(box=None, show_header=True, header_style="dim", pad_edge=False, padding=(0, 3, 0, 0))
    for number, name in enumerate(names):
        table.add_column(name, overflow="fold", justify="right" if right and number else "left")
    return table


def relative_change(a: float, b: float) -> str:
    """`(b - a) / |a|` in percent; empty if `a` is zero or a value is not finite."""
    try:
        share = (b - a) / abs(a)
    except ZeroDivisionError:
        return ""
    return f"{100 * share:+.3g}%" if share == share and abs(share) != float("inf") else ""


def _full(value: Any) -> str:
    """A value with all its digits, to see where two figures differ."""
    return "(absent)" if value is MISSING else f"{value:.9g}"


def _shortened(value: Any, most: int = 300) -> str:
    if value is MISSING:
        return "(absent)"
    text = shown(value)
    return text if len(text) <= most else f"{text[: most - 4]} ..."


def patch_lines(a: Record, b: Record) -> Iterable[str]:
    """How the recorded uncommitted changes of two runs differ, as a unified diff."""
    texts = [str(git.get("diff", "")) if isinstance(git := r.manifest.get("git"), dict) else "" for r in (a, b)]
    first, second = (text.splitlines() for text in texts)
    lines = list(difflib.unified_diff(first, second, "a", "b", lineterm="", n=2))
    yield from lines[:LONGEST]
    if len(lines) > LONGEST:
        yield f"... and {len(lines) - LONGEST} lines more"


if __name__ == "__main__":
    main()
