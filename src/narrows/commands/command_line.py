"""The parts that all commands share: parsing the command line, running the work, ending with the right exit code."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from narrows import os_signals
from narrows.config.old_words import refuse_old_words
from narrows.errors import PrintableFormatter, explained, printable, require
from narrows.standard_streams import make_dependable

STANDARD_INPUT = "-"
"""What stands for standard input in the place of a file."""

log = logging.getLogger(__name__)


def new_parser(name: str, description: str, epilog: str | None = None) -> argparse.ArgumentParser:
    """The parser of `narrows NAME`; its texts keep their line breaks."""
    layout = argparse.RawDescriptionHelpFormatter
    return argparse.ArgumentParser(f"narrows {name}", description=description, epilog=epilog, formatter_class=layout)


def add_allow(made: argparse.ArgumentParser, config: str = "the run's config") -> None:
    """Add `--allow PKG`: a package of the user that a config may name (see `narrows.loading.permitted_classes`).

    It may be given several times, each time with several packages separated by commas.
    """
    made.add_argument("--allow", action="append", default=[], metavar="PKG", help=f"a package that {config} may use")


def packages(texts: Iterable[str]) -> list[str]:
    """The packages given to `--allow`, one by one."""
    return [name for text in texts for name in text.split(",") if name]


def places_and_overrides(arguments: Iterable[str]) -> tuple[list[str], list[str]]:
    """Paths and overrides; what exists is a path, because run directories of sweeps have `=` in their names."""
    places: list[str] = []
    overrides: list[str] = []
    for argument in arguments:
        (overrides if "=" in argument and not Path(argument).exists() else places).append(argument)
    return places, overrides


def require_overrides(arguments: Iterable[str], otherwise: str) -> None:
    """Refuse arguments that are not `KEY=VALUE`; `otherwise` ends the message.

    Raises:
        UserError: names the first of them.
    """
    for argument in arguments:
        require("=" in argument, f"'{argument}' is no KEY=VALUE, and {otherwise}")


def print_paths(*paths: Path) -> None:
    """Print the paths of what was written, one a line."""
    for path in paths:
        print(printable(str(path)))


def run(
    made: argparse.ArgumentParser, work: Callable[[argparse.Namespace], None], arguments: Sequence[str] | None
) -> None:
    """Parse the command line and do `work`; a user's mistake is one sentence and exit code 2."""
    make_dependable()
    given = sys.argv[1:] if arguments is None else arguments
    with explained():
        for argument in given:
            if "=" in argument or argument.startswith("--"):
                refuse_old_words(argument)
    options = made.parse_intermixed_args(given)
    _log_to_stderr()
    # A signal ends the command as an exception does, so that no file is left half written.
    with os_signals.handled(), explained():
        try:
            work(options)
            sys.stdout.flush()
        except BrokenPipeError:
            log.debug("the reader of the output has closed it")


def _log_to_stderr() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(PrintableFormatter("%(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
