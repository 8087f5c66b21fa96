"""Reading from standard input what a command reads from a file, and printing what it would write to one."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from narrows.commands.command_line import STANDARD_INPUT
from narrows.errors import UserError, require

CALLED = "standard input"
PRINTED = (".csv", ".txt")
"""Endings of results that are texts, and can be printed."""


@contextmanager
def file_or_input(name: str, ending: str = "") -> Iterator[Path]:
    """The file of this name; of `-` standard input as a file, which messages call so.

    Args:
        ending: of that file's name.
    """
    if name != STANDARD_INPUT:
        yield Path(name)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"input{ending}"
        with path.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        try:
            yield path
        except UserError as error:
            raise UserError(str(error).replace(str(path), CALLED)) from error


def piped(name: str, out: Path | None, ending: str, work: Callable[[Path, Path | None], Path]) -> Path | None:
    """Do `work(file, out)`, which returns where it wrote. What was read from standard input, and has no `out`, is
    printed: then None is returned.

    Args:
        ending: of the file that stands for standard input.

    Raises:
        UserError: a result that is no text, which cannot be printed.
    """
    with file_or_input(name, ending) as path:
        written = work(path, out)
        if name != STANDARD_INPUT or out is not None:
            return written
        require(written.suffix in PRINTED, f"a {written.suffix} is no text to print: name a file for it with -o")
        with written.open("rb") as file:
            shutil.copyfileobj(file, sys.stdout.buffer)
        return None
