"""Users and items: who had, liked or bought what."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy import sparse

from narrows.data.contents import Contents, Part, shortened
from narrows.data.counted import pick, require_counts, shares_of_rows
from narrows.data.counting import Counting
from narrows.data.dataset_files import existing
from narrows.data.interaction_files import Events, InteractionColumns, ItemTitles, read_events
from narrows.data.sparse_rows import Sparse
from narrows.data.table_format import Format
from narrows.errors import nearest, printable, require
from narrows.random import generator

Generalisation = Literal["users", "interactions"]


@dataclass
class InteractionFile:
    """How a file of interactions is written.

    Args:
        layout: `table`, a line for each interaction, or `lists`, a line for each user and the items that follow.
        columns: of a table.
        text: the format of a CSV file.
    """

    layout: Literal["table", "lists"] = "table"
    columns: InteractionColumns = field(default_factory=InteractionColumns)
    text: Format = field(default_factory=Format)

    def __post_init__(self) -> None:
        choices = ("table", "lists")
        require(self.layout in choices, f"unknown form.layout={self.layout!r}: {nearest(str(self.layout), choices)}")

    def read(self, path: Path) -> Events:
        return read_events(path, self.layout, self.columns, self.text)


@dataclass
class HeldOutInteractions:
    """Where the test split of `Interactions` comes from.

    Args:
        split: `users` holds users out, of whom a part of their items goes in and the rest is judged (strong
            generalisation); `interactions` a part of every user's items (weak generalisation).
        fraction: of the users, or their number; of each user's items where `split` is `interactions`.
        path: another file: of other users or, where `split` is `interactions`, of other items of the same users.
        fold_in: share of a held-out user's items that goes in.
        validation: fraction of each user's items to validate on, where `split` is `interactions`.
        seed: of the items that are held out of each user's.
    """

    split: Generalisation = "users"
    fraction: float | int | None = 0.1
    path: str | None = None
    fold_in: float = 0.8
    validation: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        choices = ("users", "interactions")
        require(self.split in choices, f"unknown test.split={self.split!r}: {nearest(str(self.split), choices)}")
        require(0 < self.fold_in < 1, f"test.fold_in={self.fold_in} is no fraction between 0 and 1")
        require(0 < self.validation < 1, f"test.validation={self.validation} is no fraction between 0 and 1")


class Interactions:
    """Users as rows of the items that they had: 1 where they had one, held sparse. Items are the features, by name.

    As in "Variational autoencoders for collaborative filtering" (Liang, Krishnan, Hoffman and Jebara, 2018), held-out
    users are cut in two: what goes in (`x`), and what is judged (`target`).

    Args:
        path: a CSV or Parquet of users, items and, if there are any, ratings and times; or lists.
        min_rating: interactions with a lower rating do not count; null counts all.
        min_items: users with fewer items are left out.
        weights: whether the ratings are the values, not 1.
        titles: a file that says what items are called.

    Raises:
        UserError: (`load`) a file that cannot be read, ratings that are not there or below 0, nothing left.
    """

    def __init__(
        self,
        path: str,
        min_rating: float | None = None,
        min_items: int = 5,
        weights: bool = False,
        form: InteractionFile | None = None,
        titles: ItemTitles | None = None,
        test: HeldOutInteractions | None = None,
    ) -> None:
        require(min_items >= 2, f"source.min_items={min_items} must be at least 2: one goes in, one is judged")
        self.path = path
        self.min_rating = min_rating
        self.min_items = min_items
        self.weights = weights
        self.form = form or InteractionFile()
        self.titles = titles or ItemTitles()
        self.test = test or HeldOutInteractions()

    def load(self) -> Contents:
        path = existing(self.path, "source.path")
        events = self.counted(self.form.read(path), path)
        matrix, users, said = self._rows(events, path)
        met = np.flatnonzero(np.diff(matrix.tocsc().indptr))
        matrix, items = sparse.csr_matrix(matrix[:, met]), [events.items[place] for place in met]
        reading = [
            f"interactions: {matrix.nnz:,} of {len(users):,} users with {len(items):,} items, "
            f"{matrix.nnz / (len(users) * len(items)):.2%} filled ({printable(path.name)}){said}"
        ]
        if events.rating is not None and self.min_rating is None and not self.weights:
            reading.append(
                "every rating counts alike: source.min_rating leaves low ones out, source.weights keeps them"
            )
        require_counts(matrix, str(path), items, whole=False)
        known = _Known(matrix, users, items)
        names = items
        if self.titles.path is not None:
            names = self.titles.of(items, existing(self.titles.path, "source.titles.path"))
        if self.test.split == "interactions":
            return self._weak(known, names, reading)
        test = None
        if self.test.path is not None:
            place = existing(self.test.path, "source.test.path")
            other = self.counted(self.form.read(place), place)
            rows, found, said = self._rows(known.matched(other, place, reading), place)
            reading.append(f"tested on {len(found):,} users of {printable(place.name)}{said}")
            test = Part(Sparse(rows), names=found)
        return Contents(
            "interactions",
            Part(Sparse(matrix), names=users),
            test=test,
            test_fraction=None if test is not None else self.test.fraction,
            feature_names=names,
            counting=Counting(fold_in=self.test.fold_in),
            reading=reading,
        )

    def counted(self, events: Events, path: Path) -> Events:
        """The interactions whose rating is high enough."""
        asked = self.min_rating is not None or self.weights
        require(
            not asked or events.rating is not None,
            f"{path} has no column of ratings, which source.{'weights' if self.weights else 'min_rating'} needs: "
            "name it in source.form.columns.rating"
            + (", or set source.min_rating=null: every interaction counts" if not self.weights else ""),
        )
        if self.min_rating is None or events.rating is None:
            return events
        kept = events.where(events.rating >= self.min_rating)
        require(
            len(kept) > 0,
            f"no rating of {path} is at least source.min_rating={self.min_rating}: they go from "
            f"{events.rating.min():g} to {events.rating.max():g}",
        )
        return kept

    def _rows(self, events: Events, path: Path) -> tuple[Any, list[str], str]:
        """The users with enough items as CSR rows, their names, and how many are left out."""
        matrix = self._matrix(events)
        kept = np.flatnonzero(np.diff(matrix.indptr) >= self.min_items)
        require(
            len(kept) > 0,
            f"no user of {path} has source.min_items={self.min_items} items"
            f"{'' if self.min_rating is None else f' with a rating of at least {self.min_rating}'}: lower it",
        )
        left = len(set(events.user.tolist())) - len(kept)
        said = f"; {left:,} users with fewer than {self.min_items} items left out" if left else ""
        return matrix[kept], [events.users[row] for row in kept], said

    def _matrix(self, events: Events) -> Any:
        values = events.rating if self.weights and events.rating is not None else np.ones(len(events))
        shape = (len(events.users), len(events.items))
        return sparse.csr_matrix((values.astype(np.float32), (events.user, events.item)), shape)

    def _weak(self, known: _Known, names: list[str], reading: list[str]) -> Contents:
        """Parts of the same users: what goes in is what they are trained on, and what is judged is held out."""
        held, matrix = self.test, known.matrix
        if held.path is not None:
            place = existing(held.path, "source.test.path")
            other = known.matched(self.counted(self.form.read(place), place), place, reading)
            rest, target = matrix, known.of_same_users(self._matrix(other), other.users, reading)
        else:
            share = held.fraction
            require(
                isinstance(share, float) and 0 < share < 1,
                f"test.fraction={share!r} is no fraction of each user's items between 0 and 1",
            )
            assert share is not None
            inside = shares_of_rows(matrix, 1 - share, generator(held.seed, "held-out items", "test"))
            rest, target = pick(matrix, inside), pick(matrix, ~inside)
        inside = shares_of_rows(rest, 1 - held.validation, generator(held.seed, "held-out items", "validation"))
        train, tuned = pick(rest, inside), pick(rest, ~inside)
        reading.append(
            f"the same users are trained and judged on: {train.nnz:,} interactions to train on, {tuned.nnz:,} to "
            f"validate and {target.nnz:,} to test on"
        )
        return Contents(
            "interactions",
            Part(Sparse(train), names=known.users),
            validation=known.judged(train, tuned),
            test=known.judged(rest, target),
            feature_names=names,
            counting=Counting(),
            reading=reading,
        )


@dataclass
class _Known:
    """The users and items of the training file."""

    matrix: Any
    users: list[str]
    items: list[str]

    def matched(self, events: Events, path: Path, reading: list[str]) -> Events:
        """The interactions of another file with items of the training file; how many others there are is said.

        Raises:
            UserError: no item is known.
        """
        places = {name: place for place, name in enumerate(self.items)}
        place = np.array([places.get(name, -1) for name in events.items], np.int64)
        require(
            bool((place >= 0).any()),
            f"no item of {path} ({shortened(events.items)}) is one of the training file ({shortened(self.items)})",
        )
        unknown = len({*events.item.tolist()} - {*np.flatnonzero(place >= 0).tolist()})
        if unknown:
            reading.append(f"{unknown:,} items of {printable(path.name)} are not in the training file and left out")
        kept = events.where(place[events.item] >= 0)
        return Events(kept.user, place[kept.item], kept.rating, kept.users, self.items)

    def of_same_users(self, matrix: Any, users: list[str], reading: list[str]) -> Any:
        """The rows of another file in the order of the training users, without what they are trained on."""
        places = {name: place for place, name in enumerate(users)}
        rows = [places.get(name, len(users)) for name in self.users]
        strangers = len(set(users) - set(self.users))
        if strangers:
            reading.append(f"{strangers:,} users to test on are not among those trained on and left out")
        empty = sparse.csr_matrix((1, matrix.shape[1]), dtype=np.float32)
        found = sparse.vstack([matrix, empty], format="csr")[rows]
        return sparse.csr_matrix(found - found.multiply(self.matrix > 0))

    def judged(self, x: Any, target: Any) -> Part:
        """The users of whom something is judged."""
        rows = np.flatnonzero((np.diff(target.indptr) > 0) & (np.diff(x.indptr) > 0))
        require(len(rows) > 0, "no user has enough items to hold any out: raise the fractions of source.test")
        names = [self.users[row] for row in rows]
        return Part(Sparse(x[rows]), names=names, target=Sparse(target[rows]))
