"""A comparison as one HTML file that needs no network, because data, plots and pictures are embedded in it."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import json
from collections.abc import Sequence
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Any

from narrows.compare.comparison_table import default_sort, status_note
from narrows.compare.key_importance import importances
from narrows.compare.run_records import Record, finite, read_history
from narrows.compare.table_formats import Row, Table, number, shown
from narrows.compare.two_runs import MISSING
from narrows.errors import UserError
from narrows.files import write_atomically
from narrows.runs.file_names import FIGURES

SCRIPTS = ("table.js", "charts.js", "parallel.js", "start.js")
POINTS = 40_000
"""Points of all curves together that a browser can draw without delay."""
BEST = 4
"""Number of runs whose pictures are shown side by side."""
PICTURE = 1_500_000
"""Largest size of one picture in bytes; all pictures of a run may take four times as much."""
PNG = b"\x89PNG\r\n\x1a\n"
JUDGED = 3
"""Number of figures for which the importance of config keys is computed."""


def write_report(
    path: Path, table: Table, groups: Table | None, records: Sequence[Record], notes: Sequence[str], sort: str | None
) -> None:
    """Write the report of `table`, and of its means `groups` if the runs were grouped."""
    write_atomically(path, report(table, groups, records, notes, sort))


def report(
    table: Table, groups: Table | None, records: Sequence[Record], notes: Sequence[str], sort: str | None
) -> str:
    """The HTML of the report."""
    known = {record.name: record for record in records}
    shown_records = [known[row.name] for row in table.rows]
    sort = sort or default_sort(table)
    pictures, left_out = _pictures(table, known, sort)
    curves = _curves(shown_records, table)
    scatter = _scatter(table)
    data = {
        "keys": table.keys,
        "metrics": table.metrics,
        "every": table.every,
        "higher": {metric: table.higher(metric) for metric in table.every},
        "sort": sort or "run",
        "colour": "run" if len(table.rows) <= 12 else (default_sort(table) or "run"),
        "summary": status_note(shown_records) or _count(len(table.rows), "run"),
        "runs": [_run(table, i, known[row.name]) for i, row in enumerate(table.rows)],
        "groups": None if groups is None else _groups(groups),
        "curves": curves,
        "curve": _first(["val/loss", "train/loss", *curves], curves),
        "scatter": scatter,
        "importance": [asdict(found) for found in importances(table, table.metrics[:JUDGED])],
        "pictures": pictures,
        "notes": [*notes, *left_out],
    }
    return _page(data)


def _page(data: dict[str, Any]) -> str:
    # Inside a script element only "</" and "<!--" are special, and JSON can escape every "<".
    text = json.dumps(data, allow_nan=False, default=str, separators=(",", ":")).replace("<", "\\u003c")
    assets = resources.files("narrows.compare") / "html_assets"
    parts = {
        "style": (assets / "style.css").read_text(encoding="utf-8"),
        "script": "\n".join((assets / name).read_text(encoding="utf-8") for name in SCRIPTS),
        "plotly": _plotly(),
        # The page runs only scripts with this nonce, which nothing in a run's files can know.
        "nonce": hashlib.sha256(text.encode()).hexdigest()[:32],
        "data": text,
    }
    pieces = (assets / "page.html").read_text(encoding="utf-8").split("{{")
    filled = [pieces[0]]
    for piece in pieces[1:]:
        name, _, rest = piece.partition("}}")
        filled += [parts[name], rest]
    return "".join(filled)


def _plotly() -> str:
    """The text of plotly.js from the data of the Python package, which is slow to import."""
    spec = importlib.util.find_spec("plotly")
    if spec is None or not spec.submodule_search_locations:
        raise UserError("--html needs plotly: pip install plotly")
    return (Path(spec.submodule_search_locations[0]) / "package_data" / "plotly.min.js").read_text(encoding="utf-8")


def _run(table: Table, position: int, record: Record) -> dict[str, Any]:
    row = table.rows[position]
    return {
        "name": row.name,
        "path": shown(str(record.path)),
        "status": row.status,
        "keys": _keys(row, table.keys),
        "metrics": {name: _figure(row.metrics[name]) for name in table.every if name in row.metrics},
        "best": [name for name in table.every if position in table.best.get(name, ())],
    }


def _keys(row: Row, keys: Sequence[str]) -> dict[str, Any]:
    """Config values: numbers as numbers, so that they sort and scale, and everything else as text."""
    present = {key: row.keys[key] for key in keys if row.keys[key] is not MISSING}
    return {key: _figure(value) if _is_number(value) else shown(value) for key, value in present.items()}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _figure(value: float) -> float | str:
    return value if finite(value) else str(value)


def _groups(table: Table) -> dict[str, Any]:
    rows = [
        {
            "n": row.name,
            "keys": _keys(row, table.keys),
            "figures": {name: number(row.metrics.get(name), row.deviations.get(name)) for name in table.metrics},
            "best": [name for name in table.metrics if position in table.best.get(name, ())],
        }
        for position, row in enumerate(table.rows)
    ]
    return {"by": table.grouped, "keys": table.keys, "metrics": table.metrics, "rows": rows}


def _curves(records: Sequence[Record], table: Table) -> dict[str, list[Any]]:
    """Histories by metric, headline figures first, thinned to what a browser can draw."""
    histories = [read_history(record.path) for record in records]
    wanted = {name for name in table.every if name.startswith("val/")}
    names = dict.fromkeys(name for curves in histories for name in curves if name.startswith(("train/", "val/")))
    ordered = sorted(names, key=lambda name: (not name.startswith("val/"), name not in wanted, name != "val/loss"))
    most = max(20, POINTS // max(1, len(records) * len(ordered)))
    return {
        name: [[i, *_thinned(*curves[name], most)] for i, curves in enumerate(histories) if name in curves]
        for name in ordered
    }


def _thinned(steps: list[int], values: list[float], most: int) -> tuple[list[int], list[float | None]]:
    """At most about `most` points of a curve, including the last; None where a value is not finite."""
    stride = -(-len(steps) // most)
    kept = sorted({*range(0, len(steps), stride), len(steps) - 1})
    return [steps[i] for i in kept], [float(f"{values[i]:.6g}") if finite(values[i]) else None for i in kept]


def _scatter(table: Table) -> tuple[str | None, str | None]:
    """The axes of the scatter plot: rate and distortion if the runs have both, else a varying number and a figure."""
    if {"test/kl", "test/reconstruction"} <= set(table.every):
        return "test/kl", "test/reconstruction"
    numeric = [key for key in table.keys if key != "seed" and all(_is_number(row.keys[key]) for row in table.rows)]
    figure = _first(table.metrics, table.every)
    return _first([*numeric, *table.keys, *table.metrics[1:], *table.metrics], [*table.keys, *table.every]), figure


def _first(names: Sequence[str], known: Any) -> str | None:
    return next((name for name in names if name in known), None)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _pictures(table: Table, known: dict[str, Record], sort: str | None) -> tuple[dict[str, Any], list[str]]:
    """The pictures of the best completed runs as data URLs, and notes on those that are too large."""
    candidates = [row for row in table.rows if row.counted] or table.rows
    if sort is not None and sort not in table.keys:
        sign = -1 if table.higher(sort) else 1
        candidates = sorted(candidates, key=lambda row: sign * row.metrics[sort] if _has(row, sort) else float("inf"))
    runs: list[dict[str, Any]] = []
    notes: list[str] = []
    for row in candidates:
        images = _images(known[row.name], notes)
        if images:
            figure = f"{sort} {number(row.metrics[sort])}" if sort is not None and _has(row, sort) else row.status
            runs.append({"run": row.name, "figure": figure, "images": images})
        if len(runs) == BEST:
            break
    names = sorted({name for run in runs for name in run["images"]})
    return {"names": names, "runs": runs}, notes


def _has(row: Row, metric: str) -> bool:
    return finite(row.metrics.get(metric))


def _images(record: Record, notes: list[str]) -> dict[str, str]:
    images: dict[str, str] = {}
    total = 0
    for path in sorted((record.path / FIGURES).glob("*.png")):
        if not path.is_file():
            continue
        size = path.stat().st_size
        if size > PICTURE or total + size > 4 * PICTURE:
            notes.append(f"{record.name}: {shown(path.name)} is left out, {size / 1e6:.1f} MB are too large to embed")
            continue
        content = path.read_bytes()
        if content.startswith(PNG):
            total += size
            images[shown(path.stem)] = f"data:image/png;base64,{base64.b64encode(content).decode()}"
        else:
            notes.append(f"{record.name}: {shown(path.name)} is not a PNG picture")
    return images
