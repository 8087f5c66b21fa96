"""What `narrows embed` and `narrows reconstruct` share: their arguments, and where their results may go."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from narrows.commands.command_line import STANDARD_INPUT, add_allow, packages, places_and_overrides
from narrows.commands.standard_input import CALLED, piped
from narrows.errors import require
from narrows.files import require_other
from narrows.runs.overwriting import require_outside_runs

if TYPE_CHECKING:
    from narrows.loading.open_run import OpenRun
    from narrows.models.autoencoder import Autoencoder
    from narrows.new_data import NewData

Work = Callable[["Autoencoder", "NewData", Path], None]


def add_arguments(made: argparse.ArgumentParser, result: str) -> None:
    """RUN, DATA and overrides, which share one argument, and where the result goes."""
    add = made.add_argument
    add(
        "arguments",
        nargs="+",
        metavar="RUN DATA KEY=VALUE",
        help="a run, a file, a folder or - for standard input, and values of the run's config that say how it is read",
    )
    add("-o", "--out", type=Path, metavar="OUT", help=f"where the result goes ({result})")
    add_allow(made)


def apply(
    options: argparse.Namespace, command: str, target: Callable[[NewData, bool], Path], work: Work
) -> Path | None:
    """Open the run, find the form of the data, and write what `work` makes of them; returns the result's path, or None
    where it was printed.

    Args:
        command: of `narrows`.
        target: where the result goes if nobody says, and whether it is to be printed.

    Raises:
        UserError: no such run or data, data that the run does not read, or a result that would be written over data or
            into a run.
    """
    from narrows.loading.open_run import OpenRun
    from narrows.runs.recorded_threads import as_recorded

    places, overrides = places_and_overrides(options.arguments)
    require(len(places) == 2, f"name the run and one file or folder: narrows {command} RUN DATA")
    run = OpenRun(places[0], packages(options.allow))

    def written(given: Path, out: Path | None) -> Path:
        data = open_given(run, given, overrides, printed=places[1] == STANDARD_INPUT)
        out = out or target(data, places[1] == STANDARD_INPUT)
        require_place(out, given, run)
        with as_recorded(run.path):
            run.model.to(run.device)
            out.parent.mkdir(parents=True, exist_ok=True)
            work(run.model, data, out)
        return out

    return piped(places[1], options.out, ending_of(run, places[1]), written)


def open_given(run: OpenRun, given: Path, overrides: Sequence[str], *, printed: bool) -> NewData:
    """The data at a path; `printed` if that stands for standard input.

    Raises:
        UserError: see `narrows.new_data.open_new`.
    """
    from narrows.new_data.open_new import open_new

    data = open_new(run, given, overrides)
    if printed:
        data.called = CALLED
    return data


def ending_of(run: OpenRun, name: str) -> str:
    """The ending of what stands for standard input, where data are read from it.

    Raises:
        UserError: the run reads neither tables nor texts.
    """
    if name != STANDARD_INPUT:
        return ""
    from narrows.runs.file_names import VOCABULARY

    kind = run.model.spec.kind
    texts = kind == "tokens" or (run.path / VOCABULARY).is_file()
    require(
        texts or kind in ("vector", "series", "counts"),
        f"standard input holds a table or texts, and {run.path} was trained on {kind} data: name a file or folder",
    )
    return ".txt" if texts else ".csv"


def require_place(out: Path, given: Path, run: OpenRun) -> None:
    """Refuse a result that would be written over data or into a run.

    Raises:
        UserError: names both.
    """
    require_other(out, given, *([] if run.packed is None else [run.packed]))
    require_outside_runs(out)
    inside = given.is_dir() and out.resolve().is_relative_to(given.resolve())
    require(not inside, f"{out} lies in {given}, which is read: name another place for the result with -o")
