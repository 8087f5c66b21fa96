"""What new users have had, of the items that a model was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from narrows.data.contents import shortened
from narrows.data.counted import require_counts
from narrows.data.interaction_files import Events, ItemTitles
from narrows.data.sources.interactions import Interactions
from narrows.errors import printable, require


@dataclass
class Histories:
    """Users of a file as rows of a model's items."""

    users: list[str]
    """Those who have had an item that counts, in the order of the file."""
    x: Any
    """What goes in, CSR `[U, I]`."""
    known: Any
    """Above 0 for all that they have had, also what does not count because its rating is too low, CSR `[U, I]`."""
    reading: list[str]
    """Lines for people: the items and users that are left out."""


def read_histories(source: Interactions, path: Path, items: Sequence[str]) -> Histories:
    """The users of a file, read as `source` reads its own.

    Args:
        items: the names of the model's items; where these are titles, the file may name items by what has the titles.

    Raises:
        UserError: a file that cannot be read, ratings that are not there or below 0, no item or no user to go by.
    """
    events, reading = source.form.read(path), list[str]()
    counted = source.counted(events, path)
    place = _places(events.items, source.titles, items, reading)
    require(
        bool((place >= 0).any()),
        f"no item of {path} ({shortened(events.items)}) is one of those trained on ({shortened(items)})",
    )
    unknown = [events.items[item] for item in sorted({*events.item.tolist()}) if place[item] < 0]
    if unknown:
        verb = "item is" if len(unknown) == 1 else "items are"
        reading.append(f"{len(unknown):,} {verb} not among those trained on, and left out: {shortened(unknown)}")
    x, known = (_rows(part, place, len(items)) for part in (counted, events))
    x.data = x.data if source.weights else np.ones_like(x.data)
    require_counts(x, str(path), items, whole=False)
    x.eliminate_zeros()
    known.data = np.ones_like(known.data)
    full = np.flatnonzero(np.diff(x.indptr))
    bare = [name for name, size in zip(events.users, np.diff(x.indptr), strict=True) if not size]
    what = "a known item" + ("" if source.min_rating is None else f" with a rating of at least {source.min_rating}")
    require(len(full) > 0, f"no user of {path} has {what}: there is nothing to go by")
    if bare:
        verb, left = ("user has no", "is") if len(bare) == 1 else ("users have no", "are")
        said = f"{len(bare):,} {verb} {what.removeprefix('a ')}, and {left} left out: {shortened(bare)}"
        reading.append(said)
    return Histories([events.users[row] for row in full], x[full], known[full], reading)


def _places(found: Sequence[str], titles: ItemTitles, items: Sequence[str], reading: list[str]) -> NDArray[np.int64]:
    """The column of each item, `[N]`; -1 where it has none."""
    columns = {name: column for column, name in enumerate(items)}
    called: dict[str, str] = {}
    if titles.path is not None:
        path = Path(titles.path).expanduser()
        if path.exists():
            called = titles.read(path)
        else:
            reading.append(f"items are known by their titles alone, as {printable(str(path))} is not on this machine")
    # Items of one title are called by both, see `ItemTitles`.
    names = [(f"{called[item]} [{item}]", called[item]) if item in called else (item,) for item in found]
    return np.array([next((columns[name] for name in tried if name in columns), -1) for tried in names], np.int64)


def _rows(events: Events, place: NDArray[np.int64], width: int) -> Any:
    kept = events.where(place[events.item] >= 0)
    values = np.ones(len(kept)) if kept.rating is None else kept.rating
    shape = (len(events.users), width)
    return sparse.csr_matrix((values.astype(np.float32), (kept.user, place[kept.item])), shape)
