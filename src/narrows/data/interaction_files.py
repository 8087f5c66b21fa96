"""Reading who had what: tables of users, items, ratings and times, and lists of each user's items."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from narrows.data.count_files import read_lines
from narrows.data.count_tables import Names, plain, whole_chunks
from narrows.data.number_texts import to_numbers
from narrows.data.table_files import Chunk
from narrows.data.table_format import Format
from narrows.errors import UserError, nearest, require

Name = str | int
USERS = ("user", "userid", "users", "customer", "customerid", "reviewerid", "member", "uid", "person")
ITEMS = ("item", "itemid", "items", "movie", "movieid", "product", "productid", "asin", "song", "track", "book", "iid")
RATINGS = ("rating", "ratings", "score", "stars", "overall", "value", "count", "plays", "weight")
TIMES = ("time", "timestamp", "date", "datetime", "when")
"""Usual names of the columns, in small letters without marks."""


@dataclass
class InteractionColumns:
    """The columns of a table of interactions, by name or place from 0.

    Args:
        user, item: null finds the usual names, or takes the first two columns of a file without a header.
        rating: null finds the usual names, or takes the third column of a file without a header, if there is one.
        time: of several ratings of one item by a user, the latest counts; without times the last in the file does.
    """

    user: Name | None = None
    item: Name | None = None
    rating: Name | None = None
    time: Name | None = None


@dataclass
class Events:
    """Interactions in the order of their file."""

    user: NDArray[np.int64]
    """`[N]`, places in `users`."""
    item: NDArray[np.int64]
    """`[N]`, places in `items`."""
    rating: NDArray[np.float64] | None
    users: list[str]
    items: list[str]

    def __len__(self) -> int:
        return len(self.user)

    def where(self, kept: NDArray[np.bool_] | NDArray[np.int64]) -> Events:
        """These interactions; the users and items stay."""
        rating = None if self.rating is None else self.rating[kept]
        return Events(self.user[kept], self.item[kept], rating, self.users, self.items)


def read_events(path: Path, layout: Literal["table", "lists"], columns: InteractionColumns, text: Format) -> Events:
    """The interactions of a file, the latest of each user with each item.

    Args:
        layout: `table` has a line for each interaction; `lists` a line for each user, who is followed by items.

    Raises:
        UserError: a file that cannot be read, columns that are not there, a cell without a user, item or number.
    """
    if layout == "lists":
        return _lists(path)
    users, items = Names(), Names()
    parts: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]] = []
    found: dict[str, str] = {}
    for chunk in whole_chunks(path, text, "datamodule.source.form.text"):
        frame = chunk.known.set_axis(list(map(str, chunk.frame)), axis=1)
        found = found or _columns(list(frame), columns, text.header, path)
        for what in ("user", "item"):
            gaps = np.flatnonzero(frame[found[what]].isna().to_numpy())
            if len(gaps):
                raise UserError(f"{chunk.unit} {chunk.lines[gaps[0]]} of {path} has no {what} in '{found[what]}'")
        rating, time = (_numbers(chunk, frame, found.get(what), what, path) for what in ("rating", "time"))
        parts.append((users.add(frame[found["user"]]), items.add(frame[found["item"]]), rating, time))
    require(bool(parts), f"{path} holds no rows")
    user, item, rating, time = (np.concatenate(part) for part in zip(*parts, strict=True))
    places, names = items.in_order()
    events = Events(user, places[item], rating if "rating" in found else None, users.texts, names)
    return events.where(_latest(events, time))


def _columns(names: list[str], asked: InteractionColumns, header: bool, path: Path) -> dict[str, str]:
    """The columns' names, by what they hold."""
    usual = {"user": USERS, "item": ITEMS, "rating": RATINGS, "time": TIMES}
    found: dict[str, str] = {}
    for place, (what, words) in enumerate(usual.items()):
        name = getattr(asked, what)
        if name is None and not header:
            name = place if place < len(names) and (what != "time" or asked.rating is None) else None
        if name is None:
            name = next((own for word in words for own in names if plain(own) == word), None)
        if isinstance(name, int) and str(name) not in names:
            require(0 <= name < len(names), f"source.form.columns.{what}={name}, but {path} has {len(names)} columns")
            name = names[name]
        if name is None and what in ("user", "item"):
            raise UserError(
                f"{path} has no column whose name says that it holds {what}s ({', '.join(names)}): set "
                f"source.form.columns.{what} to one of them"
            )
        if name is not None:
            require(
                str(name) in names,
                f"source.form.columns.{what}={name}: {path} has no such column; {nearest(str(name), names)}",
            )
            found[what] = str(name)
    return found


def _numbers(chunk: Chunk, frame: object, name: str | None, what: str, path: Path) -> NDArray[np.float64]:
    """The ratings or times, NaN where there are none; times that are texts are read as dates."""
    import pandas as pd

    assert isinstance(frame, pd.DataFrame)
    if name is None:
        return np.full(len(frame), np.nan)
    cells = frame[name]
    numbers = cells.to_numpy(np.float64) if cells.dtype.kind in "iuf" else to_numbers(cells.tolist(), chunk.marks)
    if what == "time" and not np.isfinite(numbers).all():
        dates = pd.to_datetime(cells, errors="coerce", format="ISO8601", utc=True)
        numbers = np.where(dates.isna(), np.nan, dates.astype("int64").to_numpy() / 1e9)
    bad = np.flatnonzero(~np.isfinite(numbers))
    if len(bad):
        raise UserError(
            f"{chunk.unit} {chunk.lines[bad[0]]} of {path} holds {cells.iloc[bad[0]]!r} in '{name}', where a {what} is "
            "due: a number" + (", or a date such as 2001-02-03" if what == "time" else "")
        )
    return numbers


def _latest(events: Events, time: NDArray[np.float64]) -> NDArray[np.int64]:
    """The place of the latest interaction of each user with each item, in the order of the file."""
    when = np.where(np.isnan(time), 0.0, time)
    order = np.lexsort((np.arange(len(events)), when, events.item, events.user))
    pairs = np.stack([events.user[order], events.item[order]])
    last = np.append((pairs[:, 1:] != pairs[:, :-1]).any(0), True)
    return np.sort(order[last])


def _lists(path: Path) -> Events:
    import pandas as pd

    users, items = Names(), Names()
    lines = [line.split() for line in read_lines(path)]
    require(all(lines), f"{path} holds an empty line, where a user and the items that follow are due")
    user = np.repeat(users.add(pd.Series([line[0] for line in lines])), [len(line) - 1 for line in lines])
    item = items.add(pd.Series([name for line in lines for name in line[1:]], dtype=object))
    require(len(item) > 0, f"{path} holds no items: a line is a user and the items that follow")
    places, names = items.in_order()
    events = Events(user, places[item], None, users.texts, names)
    return events.where(_latest(events, np.zeros(len(events))))


@dataclass
class ItemTitles:
    """A file that says what items are called.

    Args:
        path: null: items are called what the interactions call them.
        item, title: its columns, by name or place from 0.
        text: its format.
    """

    path: str | None = None
    item: Name = 0
    title: Name = 1
    text: Format | None = None

    def of(self, items: Sequence[str], path: Path) -> list[str]:
        """The titles of these items; one that is not in the file keeps its name. Equal titles get the item's name, too.

        Raises:
            UserError: a file that cannot be read, or that knows none of the items.
        """
        known = self.read(path)
        require(any(item in known for item in items), f"{path} holds no title of the items, such as {items[0]}")
        titles = [known.get(item) or item for item in items]
        counts = Counter(titles)
        return [f"{title} [{item}]" if counts[title] > 1 else title for title, item in zip(titles, items, strict=True)]

    def read(self, path: Path) -> dict[str, str]:
        """The titles by item.

        Raises:
            UserError: a file that cannot be read, or without these columns.
        """
        known: dict[str, str] = {}
        for chunk in whole_chunks(path, self.text or Format(), "datamodule.source.titles.text"):
            frame = chunk.frame.set_axis(list(map(str, chunk.frame)), axis=1)
            item, title = (_resolved(name, list(frame), path) for name in (self.item, self.title))
            keys = frame[item].astype(str).str.strip()
            known |= dict(zip(keys, frame[title].astype(str).str.strip(), strict=True))
        return known


def _resolved(name: Name, names: list[str], path: Path) -> str:
    found = names[name] if isinstance(name, int) and 0 <= name < len(names) else str(name)
    require(found in names, f"source.titles: {path} has no column {name}; {nearest(str(name), names)}")
    return found
