"""The kind of each column of a table, inferred from its cells; what no model should read is refused by name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from narrows.data.cell_forms import form_of
from narrows.data.number_texts import PLAIN, Marks, explain_disguise, to_numbers
from narrows.data.table_columns import ISO, TableColumn, numbers_of, seconds_of
from narrows.data.table_format import UNNAMED, Format, in_shell
from narrows.errors import UserError, nearest, require

KINDS = ("numeric", "binary", "categorical", "date")
MOST_LEVELS = 1000
"""A text column with more different values than this probably identifies rows instead of describing them."""
FEW_LEVELS = 10
"""Up to so many different texts are categories in a table of any length; more must not be half of the cells."""
MOSTLY, HALF, VARIED = 0.9, 0.5, 20
"""A column of texts is meant as numbers if 9 in 10 of its cells are, or half of them, with 20 different values."""
FORMS = [
    f"{day}{time}"
    for day in ("%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%d-%m-%Y", "%Y/%m/%d", "%Y.%m.%d")
    for time in ("", " %H:%M", " %H:%M:%S", " %H:%M:%S.%f", " %I:%M %p", " %I:%M:%S %p")
]
"""Forms of dates other than ISO's that a refusal may name."""
TIME_STAMP = re.compile(
    r"(?:\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.](?:\d{4}|\d{2}))"
    r"(?:[T ]+\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?\s*(?:[AaPp][Mm])?)?\s*(?:Z|UTC|[+-]\d{2}:?\d{2})?"
)
DURATION = re.compile(r"-?(?:\d+ days?,? ?)?[+-]?\d{1,3}:\d{2}(?::\d{2})?(?:[.,]\d+)?\s*(?:[AaPp][Mm])?|\d+ days?")


def read_kinds(kinds: Mapping[str, str] | Sequence[str] | None) -> dict[str, str]:
    """Kinds by column, of a mapping or of texts `column: kind`, which a shell can pass whatever the column is called.

    Raises:
        UserError: a text that is no such pair.
    """
    if kinds is None or isinstance(kinds, Mapping):
        return {str(name): kind for name, kind in (kinds or {}).items()}
    found = {}
    for text in [kinds] if isinstance(kinds, str) else kinds:
        # A form of dates may hold a colon, and so may the name of a column.
        pair = re.fullmatch(r"(.+?)\s*:\s*(numeric|binary|categorical|date(?: .*)?|[^:]*)", str(text))
        require(pair is not None, f"source.kinds: '{text}' is no 'column: kind', such as 'zip code: categorical'")
        assert pair is not None
        found[pair[1]] = pair[2]
    return found


def name_kind(name: str, kind: str) -> str:
    """How a shell says that this column is of this kind."""
    return in_shell("kinds", [f"{name}: {kind}"])


def name_ignored(name: str | int) -> str:
    """How a shell says that no model reads this column."""
    return in_shell("ignore", [name])


def name_missing(texts: Sequence[str]) -> str:
    """How a shell says that these texts mean a missing cell."""
    return in_shell("format.missing", texts)


def infer(frame: pd.DataFrame, kinds: Mapping[str, str], marks: Marks = PLAIN) -> list[TableColumn]:
    """The kind of every column: the one in `kinds`, else binary if all cells are 0 and 1 or truth values, numeric if
    they are meant as numbers (see `MOSTLY`), and categorical otherwise.

    Raises:
        UserError: an unknown kind or column; a column without a name or value, of lists, dates or durations, of texts
            that are nearly all different; a binary one with more than two values.
    """
    for name, kind in kinds.items():
        require(name in frame, f"source.kinds names column '{name}': {nearest(name, map(str, frame))}")
        known = str(kind).partition(" ")[0]
        require(
            known in KINDS and (known == "date" or known == kind),
            f"source.kinds: column '{name}' cannot be '{kind}': {nearest(str(kind), KINDS)}",
        )
    found = []
    for name in frame:
        cells = frame[name].dropna()
        column = _described(str(name), cells, kinds.get(str(name)), marks)
        found.append(replace(column, cells=form_of(cells, column.kind, bool(column.levels), marks)))
    return found


def _described(name: str, cells: pd.Series, asked: str | None, marks: Marks) -> TableColumn:
    require(
        asked is not None or not UNNAMED.fullmatch(name),
        f"a column has no name ('{name}'), as the row numbers that pandas writes: leave it out by "
        f"{name_ignored(name)}, or name it in the file",
    )
    require(len(cells) > 0, f"column '{name}' has no value at all: name it in source.ignore, {name_ignored(name)}")
    _refuse_nested(name, cells)
    if asked is not None and asked.startswith("date"):
        return _dates(name, cells, asked.partition(" ")[2] or ISO)
    _refuse_times(name, cells, asked)
    if asked == "numeric":
        return TableColumn(name, "numeric")
    kind = _number_kind(cells, marks)
    if kind == "binary" and asked in (None, "binary"):
        return TableColumn(name, "binary")
    if kind is not None and asked is None:
        return TableColumn(name, kind)
    levels = sorted(map(str, cells.astype(str).unique()))
    if asked == "binary":
        require(len(levels) == 2, f"column '{name}' cannot be binary: it has {len(levels)} different values")
        return TableColumn(name, "binary", levels)
    _refuse_names_of_rows(name, levels, len(cells), asked)
    return TableColumn(name, "categorical", levels)


def _number_kind(cells: pd.Series, marks: Marks) -> Literal["numeric", "binary"] | None:
    """The kind of a column that is meant as numbers; None if it is not."""
    numbers = numbers_of(cells, marks)
    known = numbers[~np.isnan(numbers)]
    if len(known) == len(numbers):
        return "binary" if set(np.unique(known)) <= {0.0, 1.0} else "numeric"
    texts = cells.astype(str)
    uniques = texts.unique()
    parsed = ~np.isnan(to_numbers(uniques, marks))
    share = float(texts.isin(uniques[parsed]).mean())
    if share >= MOSTLY or (share >= HALF and parsed.sum() >= VARIED):
        return "numeric"
    disguised = [text for text in uniques[~parsed] if explain_disguise(text, marks) is not None]
    looks = share + float(texts.isin(disguised).mean())
    return "numeric" if disguised and looks >= MOSTLY else None


def _refuse_nested(name: str, cells: pd.Series) -> None:
    if cells.dtype != object:
        return
    words: dict[type, str] = {dict: "structures", list: "lists", tuple: "lists", set: "sets", np.ndarray: "lists"}
    found = next((words[type(cell)] for cell in cells if type(cell) in words), None)
    require(
        found is None,
        f"column '{name}' holds {found}, and a cell must be one value: leave it out by {name_ignored(name)}, or write "
        "each element as a column of its own",
    )


def _dates(name: str, cells: pd.Series, form: str) -> TableColumn:
    require(
        not pd.api.types.is_numeric_dtype(cells),
        f"column '{name}' holds numbers, not dates: its kind is numeric",
    )
    try:
        seconds_of(cells.iloc[:1], form)
    except ValueError as error:
        raise UserError(f"source.kinds: column '{name}' cannot be 'date {form}' ({error})") from error
    return TableColumn(name, "date", form=form)


def _refuse_times(name: str, cells: pd.Series, asked: str | None) -> None:
    """Refuse dates and durations whose kind nobody named."""
    ignored = f"leave it out by {name_ignored(name)}"
    if pd.api.types.is_timedelta64_dtype(cells):
        require(
            asked is not None,
            f"column '{name}' holds durations: {ignored}, or read their seconds by {name_kind(name, 'numeric')}",
        )
    elif pd.api.types.is_datetime64_any_dtype(cells) or _are(TIME_STAMP, cells):
        require(
            asked in ("categorical", "binary"),
            f"column '{name}' holds dates, such as '{cells.iloc[0]}': {ignored}, or read their seconds since 1970 by "
            f"{_date_in_shell(name, cells)}",
        )
    elif _are(DURATION, cells):
        require(
            asked in ("categorical", "binary"),
            f"column '{name}' holds times or durations, such as '{cells.iloc[0]}': {ignored}, or write them as seconds",
        )


def _are(pattern: re.Pattern[str], cells: pd.Series) -> bool:
    """Whether nearly all cells are texts of this pattern."""
    if cells.dtype == bool or pd.api.types.is_numeric_dtype(cells):
        return False
    # Few rows decide first, because most columns are no such texts.
    for some in (cells.iloc[:100], cells):
        texts = some.astype(str).str.strip()
        uniques = [text for text in texts.unique() if pattern.fullmatch(text)]
        if float(texts.isin(uniques).mean()) < MOSTLY:
            return False
    return True


def _date_in_shell(name: str, cells: pd.Series) -> str:
    if np.isfinite(seconds_of(cells.iloc[:1])).all():
        return name_kind(name, "date")
    some = cells.iloc[:1000]
    form = next((form for form in FORMS if np.isfinite(seconds_of(some, form)).all()), FORMS[0])
    return f"{name_kind(name, f'date {form}')}, if they are written in that form"


def _refuse_names_of_rows(name: str, levels: Sequence[str], count: int, asked: str | None) -> None:
    out = f"name it in source.ignore, {name_ignored(name)}"
    require(
        len(levels) <= MOST_LEVELS,
        f"column '{name}' has {len(levels)} different texts, such as '{levels[0]}': {out}",
    )
    require(
        asked is not None or len(levels) <= FEW_LEVELS or len(levels) <= HALF * count,
        f"column '{name}' has {len(levels)} different texts in {count} cells, such as '{levels[0]}', so they name rows "
        f"more than they describe them: {out}, or read them as categories by {name_kind(name, 'categorical')}",
    )


def explain_bad_cell(text: Any, column: TableColumn, asked: bool, share: float, how: Format | None) -> str:
    """The end of a sentence about a cell that does not fit its column: what to do.

    Args:
        asked: whether the user named the column's kind.
        share: of the column's cells that are numbers.
        how: the format of the file; None where the cell is no text.
    """
    out = f"leave the column out by {name_ignored(column.name)}"
    if how is None:
        return f"mend the file, or {out}"
    disguise = explain_disguise(str(text), how.marks)
    if column.is_number and disguise is not None:
        return f"it {disguise}"
    missing = f"if it means a missing cell, set {name_missing([*dict.fromkeys([*how.missing, str(text)])])}"
    if not np.isnan(to_numbers([text], how.marks)).all():
        return f"{missing}, or mend the file"
    if asked or column.kind != "numeric":
        return f"{missing}; else set source.kinds, or {out}"
    counted = f"but {100 * share:.3g}% of the column's cells are numbers: "
    return f"{counted}{missing}; if it holds names, set {name_kind(column.name, 'categorical')}"
