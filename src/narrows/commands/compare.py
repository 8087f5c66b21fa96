"""`narrows compare RUNS_OR_SWEEPS...`: the config keys in which runs differ, beside their figures."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.measure import Measurement

from narrows.commands.command_line import add_allow, new_parser, packages, run
from narrows.compare.comparison_table import compare, data_note, default_sort, repeats, status_note
from narrows.compare.higher_is_better import choose_metrics, metric_names
from narrows.compare.latex_table import as_latex
from narrows.compare.paired_tests import Difference, paired_tests, plain_tests, power_notes, terminal_tests
from narrows.compare.run_filter import HELP, choose
from narrows.compare.run_records import Record, read_runs
from narrows.compare.table_formats import LABEL, Table, as_csv, as_json, as_markdown, console, terminal
from narrows.config.old_words import refuse_old_names
from narrows.errors import UserError, nearest, printable, require
from narrows.files import write_atomically
from narrows.runs.overwriting import require_not_recorded

DESCRIPTION = """\
Compare runs: the config keys in which they differ, beside their figures.
Reads config.yaml, manifest.json, metrics.json and metrics.csv; loads no model and executes nothing, but for --cka.
"""
EPILOG = """\
examples
  narrows compare outputs                               every run at or below a folder
  narrows compare SWEEP --sort test/psnr --top 10
  narrows compare SWEEP --group-by seed                 mean and standard deviation over seeds
  narrows compare SWEEP --group-by seed --paired test/psnr   and whether they differ by more than chance
  narrows compare RUN RUN --metrics 'test/anomaly/*' --csv -
  narrows compare SWEEP --html report.html              one file: tables, curves, pictures
  narrows compare RUN RUN RUN --cka alike.png           how alike the latents of runs are

CSV and JSON hold every figure of the runs unless --metrics names some.
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = new_parser("compare", DESCRIPTION, EPILOG)
    add = options.add_argument
    add("places", nargs="+", metavar="RUNS_OR_SWEEPS", help="run directories, sweeps, or folders with runs below")
    add("--where", metavar="CONDITIONS", help=HELP)
    add("--metrics", type=_names, default=[], metavar="A,B", help="metrics to show: names or globs")
    add("--sort", metavar="COLUMN", help="a metric (best first) or a key; default val/loss")
    add("--top", type=_positive, metavar="N", help="only the first N rows")
    add("--group-by", type=_names, default=[], metavar="KEY", help="mean ± sd over runs that differ only in KEY")
    add("--paired", type=_names, default=[], metavar="A,B", help="metrics to test: paired t-tests over --group-by")
    add("--against", metavar="CONDITIONS", help="the setting that --paired holds the others against; default all pairs")
    add("--maximize", type=_names, default=[], metavar="A,B", help="metrics of which more is better")
    add("--minimize", type=_names, default=[], metavar="A,B", help="metrics of which less is better")
    add("--all", action="store_true", help="also the keys that follow from others or change no figure")
    for name in ("csv", "json", "markdown", "latex"):
        add(f"--{name}", metavar="FILE", help=f"write the table as {name} ('-': to stdout, without the terminal table)")
    add("--html", metavar="FILE", help="write a report that opens in a browser, without network")
    add("--cka", metavar="FILE.png", help="load the models and draw how alike their latents of the test split are")
    add_allow(options)
    return options


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, not '{text}'")
    return int(text)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; a user's mistake is one sentence and exit code 2."""
    run(parser(), _run, arguments)


def _run(options: argparse.Namespace) -> None:
    require(not options.paired or options.group_by, "--paired is over runs of one setting: set --group-by seed too")
    require(options.against is None or options.paired, "--against is of --paired: name the metrics to test")
    names = (options.metrics, options.group_by, options.paired, options.maximize, options.minimize)
    asked = (*names, [options.sort or ""])
    refuse_old_names(name for names in asked for name in names)
    records = choose(read_runs(options.places), options.where)
    usable = [record for record in records if record.usable]
    notes = [_note(record) for record in records if record.notes]
    if not usable:
        raise UserError(f"no run can be compared: {'; '.join(notes)}")
    _check_targets(options, [record.path for record in records])
    table = _table(options, usable, options.group_by)
    tests = _tests(options, usable)
    notes += filter(None, [data_note(table)])
    notes += power_notes(tests, options.group_by)
    if not _write_files(options, table, tests, notes):
        _print(table, usable, tests, notes, all_figures=bool(options.metrics))
    if options.html:
        from narrows.compare.html_page import write_report

        runs = _table(options, usable, []) if table.grouped else table
        write_report(Path(options.html), runs, table if table.grouped else None, usable, notes, options.sort)
        print(f"report  {printable(options.html)}", file=sys.stderr)
    if options.cka:
        _draw_alike(options, usable)


def _draw_alike(options: argparse.Namespace, records: Sequence[Record]) -> None:
    # Imported for this alone: it brings torch.
    from narrows.commands.latents_alike import draw_alike

    target = Path(options.cka)
    for line in [*draw_alike(records, target, packages(options.allow)), f"picture  {target}"]:
        print(printable(line), file=sys.stderr)


def _check_targets(options: argparse.Namespace, runs: Sequence[Path]) -> None:
    """Refuse two results in one file, a result in the place of a file of a run, and a picture that is no PNG.

    Raises:
        UserError: names the file.
    """
    named = (options.csv, options.json, options.markdown, options.latex, options.html, options.cka)
    targets = [target for target in named if target is not None]
    require(
        options.cka is None or options.cka.lower().endswith(".png"),
        f"--cka draws a picture: give it a name that ends in .png, not {options.cka}",
    )
    places = [target if target == "-" else Path(target).resolve() for target in targets]
    for target, place in zip(targets, places, strict=True):
        require(places.count(place) == 1, f"{target} is named for more than one result: name a file for each")
        require_not_recorded(Path(target), *runs)


def _note(record: Record) -> str:
    return f"{record.name}: {'; '.join(record.notes)}{'' if record.usable else ' (left out)'}"


def _table(options: argparse.Namespace, records: Sequence[Record], group_by: Sequence[str]) -> Table:
    """The table that the options ask for, sorted and shortened."""
    known = metric_names(records)
    directions = dict.fromkeys(choose_metrics(options.maximize, records), True)
    directions |= dict.fromkeys(choose_metrics(options.minimize, records), False)
    wanted = [*options.metrics, *([options.sort] if options.metrics and options.sort in known else [])]
    table = compare(records, wanted, group_by, options.all, directions)
    column = options.sort or default_sort(table)
    if options.sort in known and options.sort not in table.metrics:
        table.metrics.insert(0, options.sort)
    if options.sort and options.sort not in [*table.keys, *known]:
        raise UserError(f"cannot sort by '{options.sort}': {nearest(options.sort, [*table.keys, *table.metrics])}")
    if column is not None:
        table.sort(column)
    table.rows = table.rows[: options.top]
    return table


def _tests(options: argparse.Namespace, records: Sequence[Record]) -> list[Difference]:
    """The comparisons that --paired asks for."""
    if not options.paired:
        return []
    against = None if options.against is None else [run.name for run in choose(records, options.against, "--against")]
    metrics = choose_metrics(options.paired, records)
    return paired_tests(compare(records, metrics, everything=options.all), options.group_by, metrics, against)


def _write_files(options: argparse.Namespace, table: Table, tests: Sequence[Difference], notes: Sequence[str]) -> bool:
    """Write the files that the options ask for; returns whether one of them went to stdout."""
    every = table.metrics if options.metrics else table.every
    texts = {
        "csv": lambda: as_csv(table, every),
        "json": lambda: as_json(table, every, notes, plain_tests(tests, table)) + "\n",
        "markdown": lambda: as_markdown(table),
        "latex": lambda: as_latex(table),
    }
    asked = {name: getattr(options, name) for name in texts if getattr(options, name) is not None}
    for name, target in asked.items():
        if target == "-":
            sys.stdout.write(texts[name]())
        else:
            write_atomically(Path(target), texts[name]())
    return "-" in asked.values()


def _print(
    table: Table, records: Sequence[Record], tests: Sequence[Difference], notes: Sequence[str], all_figures: bool
) -> None:
    out = console(200)
    fitting = table.metrics if all_figures else _fitting(table, out)
    out.print(terminal(replace(table, metrics=fitting)))
    if hidden := table.metrics[len(fitting) :]:
        out.print(f"no room for {', '.join(hidden)}: --metrics shows any, --csv all", soft_wrap=True)
    if (counts := status_note(records)) is not None:
        used = (
            "only completed runs are averaged" if table.grouped else "figures of the others are their last logged ones"
        )
        out.print(f"{counts}; {used}")
    if table.grouped:
        out.print(f"mean ± standard deviation over {', '.join(table.grouped)}; n runs each")
        if tests:
            out.print(terminal_tests(tests, table))
    elif (key := repeats(table)) is not None:
        out.print(f"--group-by {key} gives mean ± standard deviation")
    for note in notes:
        out.print(f"note  {note}", soft_wrap=True)


def _fitting(table: Table, out: Console) -> list[str]:
    """As many of the figures, from the first on, as a terminal shows without breaking a number; two at least.

    Names of runs may be broken.
    """
    roomy = out.options.update(max_width=10_000)
    longest = max((len(row.name) for row in table.rows), default=0)
    spare = longest - min(longest, LABEL)
    for figures in range(len(table.metrics), 2, -1):
        drawn = terminal(replace(table, metrics=table.metrics[:figures]))
        if Measurement.get(out, roomy, drawn).maximum - spare <= out.width:
            return table.metrics[:figures]
    return table.metrics[:2]


if __name__ == "__main__":
    main()
