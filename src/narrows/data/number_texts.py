"""Numbers as people write them: decimal and thousands marks, and texts that look like a number but are none."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

MARKS = {
    "comma": ",",
    "point": ".",
    "semicolon": ";",
    "tab": "\t",
    "blank": " ",
    "bar": "|",
    "apostrophe": "'",
}
"""Characters by their names, which need no quoting in a shell."""
NAMES = {mark: name for name, mark in MARKS.items()}
_SIGN, _POWER = "[+-]?", "(?:[eE][+-]?[0-9]+)?"
_CURRENCY = "[$€£¥₹]"
_BLANKS = " \N{NO-BREAK SPACE}\N{NARROW NO-BREAK SPACE}"


@dataclass(frozen=True)
class Marks:
    """The marks within numbers: the decimal one, and the one between groups of three digits, if there is any."""

    decimal: str = "."
    thousands: str | None = None


PLAIN = Marks()


def to_numbers(texts: Sequence[object], marks: Marks = PLAIN) -> NDArray[np.float64]:
    """The texts (or numbers) as numbers, `[N]`, NaN where one is none; infinity counts as a number here."""
    if marks != PLAIN:
        texts = [_rewritten(text, marks) if isinstance(text, str) else text for text in texts]
    return np.array(pd.to_numeric(pd.Series(texts, dtype=object), errors="coerce"), dtype=np.float64)


def _rewritten(text: str, marks: Marks) -> str:
    """`text` in Python's grammar of numbers; empty where it holds a mark that these do not explain."""
    text = text.strip()
    if re.fullmatch(_pattern(marks), text):
        return text.replace(marks.thousands or "", "").replace(marks.decimal, ".")
    return "" if re.search(r"[0-9]", text) else text


def _pattern(marks: Marks) -> str:
    decimal = re.escape(marks.decimal)
    whole = "[0-9]+"
    if marks.thousands is not None:
        whole = f"(?:[0-9]{{1,3}}(?:{re.escape(marks.thousands)}[0-9]{{3}})+|[0-9]+)"
    return f"{_SIGN}(?:{whole}(?:{decimal}[0-9]*)?|{decimal}[0-9]+){_POWER}"


def explain_disguise(text: str, marks: Marks = PLAIN) -> str | None:
    """What makes a text look like a number that it is not, and the way out; None where it does not look like one."""
    text = text.strip()
    here = "datamodule.source.format"
    if re.fullmatch(_pattern(marks), text):
        return None
    for disguise in (Marks(",") if marks.decimal == "." else Marks(".")), *_grouped():
        if disguise == marks or not re.fullmatch(_pattern(disguise), text):
            continue
        decimal, mark = NAMES[disguise.decimal], disguise.thousands
        grouped = re.fullmatch(f"{_SIGN}[0-9]{{1,3}}(?:{re.escape(disguise.decimal)}[0-9]{{3}})+", text)
        if mark is None:
            also = f", or of thousands: set {here}.thousands={decimal}" if grouped else ""
            return f"looks like a number with a decimal {decimal}: set {here}.decimal={decimal}{also}"
        wanted = f" {here}.decimal={decimal}" if disguise.decimal != marks.decimal else ""
        shown = NAMES.get(mark, f"'{mark}'")
        return f"looks like a number with marks of thousands: set {here}.thousands={shown}{wanted}"
    number = _pattern(marks)
    if re.fullmatch(rf"{number}\s*[%‰]", text):
        return "looks like a percentage: take the sign off in the file"
    if re.fullmatch(rf"[+-]?\s*{_CURRENCY}\s*{number}|{number}\s*{_CURRENCY}", text):
        return "looks like a sum of money: take the sign off in the file"
    return None


def _grouped() -> list[Marks]:
    found = [Marks(".", ","), Marks(",", "."), Marks(".", "'"), Marks(",", "'")]
    return found + [Marks(decimal, blank) for blank in _BLANKS for decimal in ".,"]
