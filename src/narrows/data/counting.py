"""What is done with counts and interactions once their rows are divided, as a source asks for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from narrows.data.vocabulary import Words
from narrows.errors import nearest, require

Empty = Literal["refuse", "drop", "keep"]


@dataclass
class Counting:
    """What is done with rows of counts once they are divided.

    Args:
        empty: what becomes of rows without any count: they are refused, dropped or kept.
        fold_in: share of a held-out row's entries that go in; the others are what is judged. None: all of both.
        words: which columns are kept, by the training rows; None for all.
        variable: how many columns are kept, those that vary most over the training rows; None for all.
    """

    empty: Empty = "refuse"
    fold_in: float | None = None
    words: Words | None = None
    variable: int | None = None

    def __post_init__(self) -> None:
        choices = ("refuse", "drop", "keep")
        require(self.empty in choices, f"unknown empty={self.empty!r}: {nearest(str(self.empty), choices)}")
        require(
            self.fold_in is None or 0 < self.fold_in < 1,
            f"fold_in={self.fold_in} is no fraction between 0 and 1, or null",
        )
        require(
            self.variable is None or self.variable >= 1,
            f"variable={self.variable} is no number of features of at least 1, or null",
        )
