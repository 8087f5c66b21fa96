"""The summary that a sweep prints when it ends."""

from __future__ import annotations

import shlex
import statistics
from collections.abc import Sequence

from rich.table import Table as Grid

from narrows.compare.table_formats import console, number
from narrows.errors import nearest
from narrows.files import shortest
from narrows.sweeps.job_table import Row, Table
from narrows.sweeps.proposals import ENDED, State, dominated, ranked

SHOWN = 6  # most figures shown beside the objectives


def print_summary(table: Table, directions: Sequence[str], command: str) -> None:
    """Print one row per job, best first, then the failures, and the commands for going on."""
    out = console()
    out.print(job_table(table, directions))
    for row in table.rows.values():
        if row.state is State.FAILED:
            out.print(f"{row.directory} failed: {row.error}", soft_wrap=True)
    for metric in _unknown(table):
        names = {name for row in table.rows.values() for name in table.figures(row) if name.count("/") == 1}
        sentence = f"no run has the figure '{metric}' of sweep.objective: {nearest(metric, names)}"
        out.print(sentence, soft_wrap=True)
    if left := table.count(State.INTERRUPTED, State.QUEUED):
        out.print(f"{left} not done; go on:  {command} sweep.resume=true", soft_wrap=True)
    elif table.count(State.FAILED):
        out.print(f"try them again:  {command} sweep.resume=true sweep.retry_failed=true", soft_wrap=True)
    place = shlex.quote(shortest(table.sweep))
    lines = (place, f"narrows compare {place}", f"narrows tensorboard {place}")
    for name, line in zip(("sweep", "compare", "TensorBoard"), lines, strict=True):
        out.print(f"{name:<12} {line}", soft_wrap=True)


def _unknown(table: Table) -> list[str]:
    """Objectives that no completed run has a figure for."""
    complete = [row for row in table.rows.values() if row.state is State.COMPLETED]
    return [metric for metric in table.objectives if complete and not any(metric in row.values for row in complete)]


def job_table(table: Table, directions: Sequence[str]) -> Grid:
    """The table of jobs and figures, sorted by the first objective, with the best job or the Pareto front marked."""
    rows = ordered(table, directions)
    figures = {row.number: table.figures(row) | row.values for row in rows}
    names = columns(table, figures.values())
    grid = Grid(header_style="bold")
    for heading in ("job", "state"):
        grid.add_column(heading, no_wrap=heading == "state")
    for name in names:
        grid.add_column(name, justify="right")
    best = marked(table, directions)
    for row in rows:
        values = [number(figures[row.number].get(name)) for name in names]
        varied = " ".join(_rounded(override) for override in row.overrides)
        mark = "* " if row.number in best else "  "
        style = "bold green" if row.number in best else ""
        grid.add_row(f"{mark}{row.number:03d} {varied}", str(row.state), *values, style=style)
    complete = [figures[row.number] for row in rows if row.state is State.COMPLETED]
    if len(complete) > 1:
        grid.add_section()
        shared = [[run[name] for run in complete if name in run] for name in names]
        grid.add_row("  mean", "", *(number(statistics.mean(v)) if v else "" for v in shared))
        grid.add_row("  standard deviation", "", *(number(statistics.stdev(v)) if len(v) > 1 else "" for v in shared))
    return grid


def ordered(table: Table, directions: Sequence[str]) -> list[Row]:
    """Rows of completed jobs from best to worst, then the others by number."""
    values = _values(table)
    places = {number: place for place, number in enumerate(ranked(values, directions))}
    return sorted(table.rows.values(), key=lambda row: (places.get(row.number, len(places)), row.number))


def marked(table: Table, directions: Sequence[str]) -> set[int]:
    """The best job; with several objectives, the jobs on the Pareto front."""
    values = _values(table)
    if len(directions) > 1:
        return set(values) - dominated(values, directions)
    return set(list(ranked(values, directions))[:1])


def _values(table: Table) -> dict[int, list[float]]:
    return {
        row.number: list(row.values.values())
        for row in table.rows.values()
        if row.state is State.COMPLETED and len(row.values) == len(table.objectives)
    }


def columns(table: Table, figures: object) -> list[str]:
    """The columns of the table: the objectives, then the first of the runs' figures."""
    assert hasattr(figures, "__iter__")
    names: dict[str, None] = {}
    for run in figures:
        names |= dict.fromkeys(n for n in run if n.startswith(("test/", "val/")) and n.count("/") == 1)
    others = sorted((n for n in names if n not in table.objectives), key=lambda n: not n.startswith("test/"))
    return [*table.objectives, *others[:SHOWN]]


def _rounded(override: str) -> str:
    key, _, value = override.partition("=")
    try:
        return f"{key}={float(value):.4g}" if "." in value else override
    except ValueError:
        return override


def exit_code(table: Table) -> int:
    """The exit code of the sweep: 0 if every job was completed or pruned, else 1."""
    return 0 if all(row.state in ENDED for row in table.rows.values()) else 1
