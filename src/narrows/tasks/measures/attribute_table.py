"""Attributes that somebody gives examples in a CSV: glasses or none, smiling or not, unknown."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from narrows.compare.figure_names import CLASSICS
from narrows.data.dataset_files import existing
from narrows.data.text_files import unpacked
from narrows.errors import UserError, require
from narrows.tasks.base import TaskContext

FILE, INDEX = "file", "index"
CELLS = {"0": 0.0, "1": 1.0, "": math.nan}
SETTING = "task interpretation: attributes"

Key = str | int


@dataclass
class AttributeTable:
    """Attributes by name, and their values (1, 0, or NaN where unknown) of examples, by file name or row number."""

    path: Path
    by: str
    names: list[str]
    values: dict[Key, list[float]]

    def of(self, keys: Sequence[Key]) -> NDArray[np.float64]:
        """The values of examples, `[N, A]`; NaN of those that the table leaves out."""
        unknown = [math.nan] * len(self.names)
        return np.array([self.values.get(key, unknown) for key in keys]).reshape(len(keys), len(self.names))


def read_attributes(given: str) -> AttributeTable:
    """Read a CSV whose first column is `file` or `index`, and whose others are attributes of 0, 1 or nothing.

    Raises:
        UserError: names the line and what it should hold.
    """
    path = existing(given, "tasks.interpretation.attributes")
    lines = [line for line in csv.reader(unpacked(path).splitlines()) if line]
    first, *names = [cell.strip() for cell in lines[0]] if lines else [""]
    require(
        first in (FILE, INDEX) and bool(names),
        f"{SETTING}: the first line of {path} names the columns: '{FILE}' (the name of each picture) or '{INDEX}' (its "
        f"row, from 0), then one or more attributes; it holds {', '.join(lines[0]) if lines else 'nothing'}",
    )
    odd = [name for name in names if names.count(name) > 1 or not re.fullmatch(r"[\w-]+", name) or name in CLASSICS]
    require(
        not odd,
        f"{SETTING}: {path} has the attribute '{''.join(odd[:1])}': each has a name of its own, of letters, digits, - "
        "and _, and not a classic method's, because figures are named by it",
    )
    values: dict[Key, list[float]] = {}
    for number, line in enumerate(lines[1:], 2):
        cells = [cell.strip() for cell in line]
        right = len(cells) == len(names) + 1 and all(cell in CELLS for cell in cells[1:])
        require(right, f"{SETTING}: row {number} of {path} is no {first} and {len(names)} cells of 0, 1 or nothing")
        key = _key(cells[0], first, f"row {number} of {path}")
        require(key not in values, f"{SETTING}: row {number} of {path} gives {first} {key} again")
        values[key] = [CELLS[cell] for cell in cells[1:]]
    return AttributeTable(path, first, names, values)


def _key(cell: str, by: str, where: str) -> Key:
    if by == FILE:
        return cell
    require(cell.isascii() and cell.isdigit(), f"{SETTING}: {where} has the index '{cell}', which is no row number")
    return int(cell)


def keys_of(context: TaskContext, table: AttributeTable) -> dict[str, list[Key]]:
    """By split, what the table knows its examples by, in their order.

    Raises:
        UserError: examples without names, row numbers that stand for two examples, or a table of none of them.
    """
    splits = ("train", "validation", "test")
    found: dict[str, list[Key]] = {split: _keys(context, table, split) for split in splits}
    if table.by == INDEX:
        twice = set(found["test"]) & {*found["train"], *found["validation"]}
        require(
            not twice,
            f"{SETTING}: these data have a test part of their own, whose rows are numbered anew, so that an index in "
            f"{table.path} stands for two examples; name pictures by '{FILE}'",
        )
    if table.by == FILE:
        both = sorted(set(map(str, found["test"])) & set(map(str, found["train"] + found["validation"])))
        both = [name for name in both if name in table.values]
        require(
            not both,
            f"{SETTING}: the file {both[0] if both else ''} of {table.path} is both a picture of training and one of "
            "the test part, whose names begin below their folders: give them names of their own",
        )
    lost = table.values.keys() - {key for keys in found.values() for key in keys}
    require(
        len(lost) < len(table.values),
        f"{SETTING}: no example has any {table.by} that {table.path} gives, such as {min(map(str, lost), default='')}; "
        f"the first of training is {found['train'][0]}",
    )
    if lost:
        context.warn(f"{SETTING}: {len(lost)} rows of {table.path} are of no example, such as {min(map(str, lost))}")
    return found


def _keys(context: TaskContext, table: AttributeTable, split: str) -> list[Key]:
    if table.by == INDEX:
        numbers = [batch.index for batch in context.datamodule.ordered_loader(split)]
        if any(rows is None for rows in numbers):
            raise UserError(f"{SETTING}: these examples have no row numbers")
        return [int(row) for rows in numbers if rows is not None for row in rows]
    names: list[Key] | None = context.datamodule.part(split).names
    if names is None:
        raise UserError(f"{SETTING}: these examples have no file names; give the rows by '{INDEX}'")
    return names
