"""`narrows recommend RUN USERS`: for each user of a file the items that a run of users and items would recommend.

    narrows recommend RUN USERS.csv [-n 20] [-o OUT.csv] [--allow PKG] [KEY=VALUE ...]

`USERS` holds what they have had, in the format that the run was trained on (`-` reads it from standard input): CSV or
Parquet of user and item, with the ratings if a rating decides what counts. The run's own data are not needed. The
result has a line for each of a user's best `n` items: `user`, `rank` from 1, `item` by its name, and `score`, the run's
reconstruction at the noise-free latent: of a multinomial, the number of the user's items times the item's share.

What a user has had is not recommended, also if its rating is too low to count. Items that the run does not know, and
users without an item to go by, are left out, counted and named.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from narrows.commands import command_line
from narrows.commands.command_line import (
    add_allow,
    new_parser,
    packages,
    places_and_overrides,
    print_paths,
)
from narrows.commands.standard_input import file_or_input
from narrows.errors import require
from narrows.files import replacing, require_file, require_other
from narrows.runs.overwriting import require_not_recorded

if TYPE_CHECKING:
    from narrows.data.histories import Histories
    from narrows.loading.open_run import OpenRun

DESCRIPTION = "Print, or write to a file, the items that each user is likely to want, by what they have had."
EPILOG = """\
examples
  narrows recommend RUN users.csv                          a line for each item: user, rank, item, score
  narrows recommend RUN users.csv -n 5 -o wanted.csv       five for each user, into a file
  narrows recommend RUN - < users.csv                      from standard input
  narrows recommend RUN users.csv datamodule.source.min_rating=null      a file without ratings: all count
"""
HEADER = ("user", "rank", "item", "score")
DIGITS = 6
"""Of a score."""

log = logging.getLogger(__name__)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = new_parser("recommend", DESCRIPTION, EPILOG)
    add = made.add_argument
    add("arguments", nargs="+", metavar="RUN USERS KEY=VALUE", help="a run directory, a file, values of its config")
    add("-n", "--number", type=int, default=20, metavar="N", help="items for each user (20)")
    add("-o", "--out", type=Path, metavar="OUT.csv", help="where the result goes (standard output)")
    add_allow(made)
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; a user's mistake is one sentence and exit code 2."""
    command_line.run(parser(), recommend, arguments)


def recommend(options: argparse.Namespace) -> None:
    """Read the users, rank the items, print or write.

    Raises:
        UserError: no such run or file, a run of other data, or a file that cannot be read.
    """
    from narrows.loading.open_run import OpenRun
    from narrows.runs.recorded_threads import as_recorded

    places, overrides = places_and_overrides(options.arguments)
    require(len(places) == 2, "name the run and one file: narrows recommend RUN USERS.csv")
    require(options.number >= 1, f"-n must be at least 1, not {options.number}")
    run, out = OpenRun(places[0], packages(options.allow)), options.out
    with file_or_input(places[1]) as users:
        require_file(users)
        if out is not None:
            require_other(out, users)
            require_not_recorded(out, run.path)
        with as_recorded(run.path):
            histories = _read(run, users, overrides)
            lines = _lines(run, histories, options.number)
            if out is None:
                for line in lines:
                    sys.stdout.write(line)
                return
            out.parent.mkdir(parents=True, exist_ok=True)
            with replacing(out) as file:
                file.writelines(line.encode() for line in lines)
    print_paths(out)


def _read(run: OpenRun, path: Path, overrides: Sequence[str]) -> Histories:
    from narrows.config.building import build
    from narrows.data import Interactions
    from narrows.data.histories import read_histories

    model = run.model
    spec = model.spec
    require(
        spec.kind == "interactions" and spec.feature_names is not None,
        f"{run.path} was trained on data of kind {spec.kind}, and only a run of users and items recommends: train one "
        "with datamodule=interactions",
    )
    require(model.classes(1) is None, f"{run.path} holds a conditional model, which needs the label that users lack")
    run.find_data(overrides, needed=False)
    source = build(run.config.datamodule.source, "datamodule.source")
    require(
        isinstance(source, Interactions),
        f"the source of {run.path}, {type(source).__name__}, is not narrows.data.Interactions: it reads no new users",
    )
    assert spec.feature_names is not None
    histories = read_histories(source, path, spec.feature_names)
    for line in histories.reading:
        log.warning("%s", line)
    return histories


def _lines(run: OpenRun, histories: Histories, number: int) -> Iterator[str]:
    """The lines of the result, the header first."""
    from narrows.compare.table_formats import csv_text
    from narrows.tasks.measures.ranking_figures import best_items
    from narrows.tasks.measures.sparse_splits import reconstructions

    run.model.to(run.device)
    names = run.model.spec.feature_names or []
    best = best_items(lambda rows: reconstructions(run, rows), histories.x, number, histories.known)
    # The first user is ranked before the header is printed, so that a model without a ranking prints nothing.
    for place, (user, (items, scores)) in enumerate(zip(histories.users, best, strict=True)):
        found = zip(items.tolist(), scores.tolist(), strict=True)
        rows = [(user, rank, names[item], f"{score:.{DIGITS}g}") for rank, (item, score) in enumerate(found, 1)]
        yield csv_text([HEADER, *rows] if place == 0 else rows)
    answered = len(histories.users)
    log.info("%d user%s, up to %d item%s each", answered, "s"[: answered != 1], number, "s"[: number != 1])


if __name__ == "__main__":
    main()
