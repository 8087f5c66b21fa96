"""The table of figures that is printed at the end of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.table import Table

from narrows.compare.figure_names import CLASSICS, ROWS, STDERR, is_silent, named, of_classic
from narrows.compare.higher_is_better import higher_is_better
from narrows.compare.table_formats import console, number
from narrows.files import shortest

BETTER = "★ "
MOST_COLUMNS = 4
"""Most classic methods, or runs, that get a column each."""


def print_report(figures: dict[str, float], run_dir: Path, output_dir: Path) -> None:
    """Print the final figures, the run's directory, and the command that shows it."""
    out = console(120)
    out.print(figure_table(figures))
    out.print(f"run          {shortest(run_dir)}", soft_wrap=True)
    out.print(f"TensorBoard  narrows tensorboard {shortest(output_dir)}", soft_wrap=True)


def print_figures(found: Mapping[str, dict[str, float]]) -> None:
    """Print the figures of one run beside the classics, or those of several runs side by side."""
    out = console()
    if len(found) == 1:
        out.print(figure_table(*found.values()))
        return
    runs = list(found.items())
    for start in range(0, len(runs), MOST_COLUMNS):
        out.print(table_of_runs(dict(runs[start : start + MOST_COLUMNS])))


def table_of_runs(found: Mapping[str, dict[str, float]]) -> Table:
    """A table with a column for every run, without the classics, which are in each run's `tasks/NAME.json`."""
    rows = _labelled({name: value for figures in found.values() for name, value in figures.items()})
    table = Table(header_style="bold")
    table.add_column("on the test split")
    for run in found:
        table.add_column(run, justify="right", overflow="fold")
    for key, label in rows.items():
        table.add_row(label, *(_number(figures, key) for figures in found.values()))
    return table


def figure_table(figures: dict[str, float]) -> Table:
    """The test figures of a run beside those of the classics: a column for each, or one cell for all, best first, if
    there are too many. Figures better than the run's are marked."""
    if not any(key.startswith("test/") for key in figures):
        return _validation_table(figures)
    rows = _labelled(figures)
    kinds = [kind for kind in CLASSICS if any(of_classic(key, kind) in figures for key in rows)]
    many = len(kinds) > MOST_COLUMNS
    table = Table(header_style="bold")
    table.add_column("on the test split")
    table.add_column("this run", justify="right", no_wrap=True)
    for heading in ["beside it"] if many else [CLASSICS[kind] for kind in kinds]:
        table.add_column(heading, justify="left" if many else "right")
    for key, label in rows.items():
        beside = [_marked(figures, key, kind) + _number(figures, of_classic(key, kind)) for kind in kinds]
        table.add_row(label, _number(figures, key), *([_beside(figures, key, kinds)] if many else beside))
    if any(_marked(figures, key, kind) for key in rows for kind in kinds):
        table.caption, table.caption_justify = f"{BETTER}better than this run", "left"
    return table


def _validation_table(figures: dict[str, float]) -> Table:
    """The figures of a run whose data have no test split, and which says so."""
    own = [key for key in figures if key.startswith(("val/", "density/"))]
    table = Table(header_style="bold", caption="these data have no test split", caption_justify="left")
    table.add_column("on the validation split")
    table.add_column("this run", justify="right", no_wrap=True)
    for key in own:
        name = key.removeprefix("val/")
        table.add_row(ROWS.get(key, ROWS.get(f"test/{name}", name)), _number(figures, key))
    return table


def _marked(figures: dict[str, float], key: str, kind: str) -> str:
    """`BETTER` if the classic's value of the figure is better than the run's, else empty."""
    ours, theirs, higher = figures.get(key), figures.get(of_classic(key, kind)), higher_is_better(key)
    if ours is None or theirs is None or higher is None:
        return ""
    return BETTER if (theirs > ours if higher else theirs < ours) else ""


def _beside(figures: dict[str, float], key: str, kinds: Sequence[str]) -> str:
    """All classics in one cell, such as `★ ridge 17.70 ± 0.08, median 14.20 ± 0.05`, best first if one can be best."""
    present = [kind for kind in kinds if of_classic(key, kind) in figures]
    better = higher_is_better(key)
    if better is not None:
        present.sort(key=lambda kind: figures[of_classic(key, kind)], reverse=better)
    named = (f"{CLASSICS[kind]} {_number(figures, of_classic(key, kind))}" for kind in present)
    return ", ".join(_marked(figures, key, kind) + text for kind, text in zip(present, named, strict=True))


def _labelled(figures: dict[str, float]) -> dict[str, str]:
    """The figures to show, with their labels; a term without a label keeps its own name."""
    dense = figures.get("test/l0_fraction") == 1
    rows = {key: label for key, label in named(figures).items() if not (dense and key == "test/l0")}
    others = [key for key in figures if key.startswith("test/") and key.count("/") == 1]
    return rows | {key: key.removeprefix("test/") for key in others if key not in ROWS and not is_silent(key)}


def _number(figures: dict[str, float], key: str) -> str:
    """The figure, with its standard error to two digits if there is one."""
    return number(figures.get(key), figures.get(f"{key}{STDERR}") or None)
