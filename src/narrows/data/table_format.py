"""The format of a CSV file: its marks, its header, and what is refused because another format was meant."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from narrows.data.number_texts import MARKS, NAMES, Marks, to_numbers
from narrows.errors import UserError, require

MISSING = ("", "NA", "N/A", "NaN", "nan", "null", "NULL")
UNNAMED = re.compile(r"|Unnamed: [0-9]+")
"""Names of columns that have none: an empty cell of the header, and what pandas makes of one."""
HERE = "datamodule.source.format"


def in_shell(option: str, values: Sequence[str | int]) -> str:
    """A list as the value of an option of the source, quoted so that a shell and Hydra read it as it stands."""
    text = f"datamodule.source.{option}={json.dumps(list(values), ensure_ascii=False)}"
    return "'" + text.replace("'", "'\\''") + "'"


@dataclass
class Format:
    """The format of a CSV file; `narrows score` reads new rows in the same format.

    Args:
        separator: between cells: one character, or comma, semicolon, tab, blank or bar.
        decimal: mark in numbers: a character, or point or comma.
        thousands: mark between groups of three digits: a character, or comma, point, blank or apostrophe; null: none.
        header: whether the first line names the columns; if not, they are `0`, `1`, ... or those in `names`.
        names: of the columns, if there is no header.
        skip_rows: lines before the header or the first row.
        missing: texts that mean a missing cell.
        encoding: of the text; a file that begins with the mark of UTF-16 is read as that.
    """

    separator: str = ","
    decimal: str = "."
    thousands: str | None = None
    header: bool = True
    names: Sequence[str] | None = None
    skip_rows: int = 0
    missing: Sequence[str] = MISSING
    encoding: str = "utf-8"

    def __post_init__(self) -> None:
        self.separator = MARKS.get(self.separator, self.separator)
        self.decimal = MARKS.get(self.decimal, self.decimal)
        self.thousands = None if self.thousands is None else MARKS.get(self.thousands, self.thousands)
        for name in ("separator", "decimal", "thousands"):
            mark = getattr(self, name)
            require(
                mark is None or (len(mark) == 1 and mark not in '\r\n\0"' and not mark.isalnum()),
                f"format.{name}='{mark}' must be one character, or one of {', '.join(MARKS)}",
            )
        require(
            self.decimal != self.thousands,
            f"format.decimal and format.thousands are both '{self.decimal}': numbers need two marks",
        )
        require(self.skip_rows >= 0, f"format.skip_rows={self.skip_rows} must not be negative")
        require(
            self.names is None or not self.header,
            "format.names names the columns of a file without a header, but format.header is true: set one of them",
        )

    @property
    def marks(self) -> Marks:
        """The marks within numbers."""
        return Marks(self.decimal, self.thousands)


def name_columns(first: list[str], second: list[str] | None, how: Format, path: Path) -> list[str]:
    """The names of the columns.

    Args:
        first, second: the cells of the first two lines that are not blank.

    Raises:
        UserError: lines of another format, a header that is none, or names that are not one for each column.
    """
    _refuse_other_separator(first, second, how, path)
    if not how.header:
        names = list(map(str, how.names or range(len(first))))
    else:
        names = [name.strip() for name in first]
        if names.count("") > 1:
            names = [name or f"Unnamed: {place}" for place, name in enumerate(names)]
        _refuse_numbers_as_names(names, path)
    refuse_doubled(names, path)
    return names


def refuse_doubled(names: Sequence[str], path: Path) -> None:
    """Refuse columns of one name.

    Raises:
        UserError: names the first.
    """
    doubled = sorted({name for name in names if names.count(name) > 1})
    require(not doubled, f"{path} has more than one column '{doubled[0] if doubled else ''}': name each once")


def _refuse_other_separator(first: list[str], second: list[str] | None, how: Format, path: Path) -> None:
    if len(first) != 1:
        return
    found = next((mark for mark in ";\t|," if mark != how.separator and mark in first[0]), None)
    pieces = len(first[0].split())
    if found is None and second is not None and len(second) == 1 and pieces == len(second[0].split()) > 1:
        found = " " if np.isfinite(to_numbers(second[0].split(), how.marks)).all() else None
    if found is not None:
        raise UserError(
            f"the first line of {path} is one cell, {first[0][:60]!r}, which holds what looks like another separator: "
            f"set {HERE}.separator={NAMES[found]}"
        )


def _refuse_numbers_as_names(names: list[str], path: Path) -> None:
    """Refuse a first row of numbers that would be lost as a header; 0, 1, 2, ... or years may be names."""
    numbers = to_numbers(names)
    counted = all(name.isdecimal() for name in names) and bool(np.all(np.diff(numbers) == 1))
    require(
        not np.isfinite(numbers).all() or (counted and len(numbers) > 1),
        f"the first line of {path} holds numbers, not the names of columns: add a line of names, or set "
        f"{HERE}.header=false",
    )
