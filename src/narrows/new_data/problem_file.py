"""The list of examples that could not be read, in a folder of results in which they have no file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from narrows.compare.table_formats import csv_text
from narrows.new_data.examples import Chunk
from narrows.new_data.result_columns import NAME, PROBLEM

FILE = "problems.csv"


class Problems:
    """Problems as they come."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str]] = []

    def add(self, chunk: Chunk) -> None:
        """Note those of a chunk."""
        told = zip(chunk.names, chunk.problems, strict=True)
        self.rows += [(name, problem) for name, problem in told if problem is not None]


@contextmanager
def listing_problems(folder: Path) -> Iterator[Problems]:
    """What notes problems; where there were any, `problems.csv` in `folder` lists them at the end: name, problem."""
    found = Problems()
    yield found
    if found.rows:
        (folder / FILE).write_text(csv_text([(NAME, PROBLEM), *found.rows]), encoding="utf-8")
