"""What the commands have in common: how their command lines are read, run, and ended."""

from __future__ import annotations

import argparse
import errno
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from narrows.config.old_words import refuse_old_words
from narrows.errors import explained, require


def new_parser(name: str, description: str, epilog: str | None = None) -> argparse.ArgumentParser:
    """The parser of `narrows NAME`, its texts shown as they are written."""
    layout = argparse.RawDescriptionHelpFormatter
    return argparse.ArgumentParser(f"narrows {name}", description=description, epilog=epilog, formatter_class=layout)


def add_allow(made: argparse.ArgumentParser, config: str = "the run's config") -> None:
    """`--allow PKG`: packages of one's own that a config may name (see `narrows.loading.trust`).

    May be given several times, each with several packages between commas.
    """
    made.add_argument("--allow", action="append", default=[], metavar="PKG", help=f"a package that {config} may use")


def packages(texts: Iterable[str]) -> list[str]:
    """What `--allow` was given, one by one."""
    return [name for text in texts for name in text.split(",") if name]


def places_and_overrides(arguments: Iterable[str]) -> tuple[list[str], list[str]]:
    """What exists is a place, whatever its name: sweeps name runs by their overrides, equals signs and all."""
    places: list[str] = []
    overrides: list[str] = []
    for argument in arguments:
        (overrides if "=" in argument and not Path(argument).exists() else places).append(argument)
    return places, overrides


def require_overrides(arguments: Iterable[str], otherwise: str) -> None:
    """Refuse what is no `KEY=VALUE`; `otherwise` says what else it could have been.

    Raises:
        UserError: names the first.
    """
    for argument in arguments:
        require("=" in argument, f"'{argument}' is no KEY=VALUE, and {otherwise}")


def run(
    made: argparse.ArgumentParser, work: Callable[[argparse.Namespace], None], arguments: Sequence[str] | None
) -> None:
    """Do `work` as the command line asks; a user's mistake is one sentence and exit code 2."""
    given = sys.argv[1:] if arguments is None else arguments
    with explained():
        for argument in given:
            if "=" in argument or argument.startswith("--"):
                refuse_old_words(argument)
    options = made.parse_intermixed_args(given)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        with explained(), _naming_the_output():
            work(options)
            sys.stdout.flush()
    except BrokenPipeError:
        # The reader, such as `head`, has what it wanted.
        _close_the_output()


@contextmanager
def _naming_the_output() -> Iterator[None]:
    """An error of writing that names no file is one of standard output: whatever else is written has a name."""
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
            raise
        _close_the_output()
        raise OSError(error.errno, error.strerror, "standard output") from error


def _close_the_output() -> None:
    """Let what is still to be printed go nowhere: the interpreter must not complain of it at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
