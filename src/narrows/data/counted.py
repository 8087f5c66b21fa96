"""Counts and interactions: held sparse, checked, and prepared once their rows are divided into splits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from narrows.data.contents import Contents, Part, shortened
from narrows.data.counting import Counting, Empty
from narrows.data.sparse_rows import Sparse, place
from narrows.data.splits import Split
from narrows.data.vocabulary import Vocabulary
from narrows.errors import UserError, require
from narrows.random import generator
from narrows.types import COUNTED

SHOWN = 5
"""Empty rows that are named."""
CHUNK = 200
"""Rows that are dense at once."""


def require_counts(matrix: Any, where: str, names: Sequence[str] | None = None, *, whole: bool = True) -> None:
    """Refuse a CSR matrix with values below 0 or, where `whole`, fractions.

    Raises:
        UserError: names the first such value, its row, and its column by name if there are names.
    """
    wrong = matrix.data < 0
    if whole:
        wrong = wrong | (matrix.data != np.floor(matrix.data))
    found = np.flatnonzero(wrong)
    if len(found):
        row, column = place(matrix, int(found[0]))
        named = f"'{names[column]}'" if names and column < len(names) else str(column)
        raise UserError(
            f"{where} holds {matrix.data[found[0]]:g} in row {row} at feature {named}"
            f"{f', and {len(found) - 1:,} more such values' if len(found) > 1 else ''}: "
            f"{'counts must be whole numbers of 0 or more' if whole else 'interactions must be 0 or more'}"
        )


def held_sparse(contents: Contents) -> Contents:
    """The contents with counts and interactions as sparse rows, whatever store their source made; others unchanged.

    Raises:
        UserError: values that are no counts, or names that are not one for each feature.
    """
    if contents.kind not in COUNTED:
        return contents
    parts = {name: _map(part, Sparse.of) for name, part in contents.parts().items()}
    names = contents.feature_names
    width = parts["train"].x.shape[1]
    require(names is None or len(names) == width, f"there are {len(names or ())} names for {width} features")
    for name, part in parts.items():
        for store in part.stores:
            assert isinstance(store, Sparse)
            require_counts(store.matrix, f"the {name} split", names, whole=contents.kind == "counts")
    return contents.with_parts(parts)


def prepare(contents: Contents, splits: dict[str, Split], said: list[str]) -> tuple[dict[str, Split], list[str] | None]:
    """The splits with the words or other features that the training rows chose and without the empty rows that are
    dropped; and the names of the features. What was done is added to `said`.

    Raises:
        UserError: empty rows that are refused; no word that is frequent enough.
    """
    counting, names = contents.counting or Counting(), contents.feature_names
    if counting.words is not None:
        kept = counting.words.choose(matrix_of(splits["train"]))
        splits = _each(splits, lambda store: Sparse(_sparse(store).matrix[:, kept]))
        met = len(names or ())
        names = [names[column] for column in kept] if names else None
        said.append(f"vocabulary: {len(kept):,} words of the training documents, of {met:,} in all documents")
    if counting.variable is not None:
        train = matrix_of(splits["train"])
        columns = most_variable(train, counting.variable)
        splits = _each(splits, lambda store: Sparse(_sparse(store).matrix[:, columns]))
        names = [names[column] for column in columns] if names else None
        said.append(f"{len(columns):,} of {train.shape[1]:,} features kept, which vary most over the training rows")
    splits = {name: _without_empty(name, split, counting.empty, said) for name, split in splits.items()}
    train = matrix_of(splits["train"])
    unmet = train.shape[1] - len(np.unique(train.indices))
    if unmet:
        verb = "is" if unmet == 1 else "are"
        said.append(f"{unmet:,} of {train.shape[1]:,} features {verb} 0 in every training row, and kept")
    return splits, names


def most_variable(matrix: Any, number: int) -> NDArray[np.int64]:
    """The columns of counts `[N, D]`, CSR, whose Pearson residuals vary most, in their order.

    A residual is `(x - mu) / sqrt(mu + mu^2 / 100)`, with mu the share of the column in all counts times the row's sum,
    and at most sqrt(N) in size: "Analytic Pearson residuals for normalization of single-cell RNA-seq UMI data" (Lause
    et al., 2021, https://doi.org/10.1186/s13059-021-02451-7).
    """
    rows, sums = matrix.shape[0], np.asarray(matrix.sum(0, dtype=np.float64)).ravel()
    first, second = np.zeros_like(sums), np.zeros_like(sums)
    for start in range(0, rows, CHUNK):
        part = matrix[start : start + CHUNK].toarray().astype(np.float64)
        mean = part.sum(1, keepdims=True) * (sums / max(sums.sum(), 1.0))
        residual = (part - mean) / np.sqrt(np.maximum(mean + mean**2 / 100, 1e-300))
        residual = residual.clip(-np.sqrt(rows), np.sqrt(rows))
        first += residual.sum(0)
        second += np.square(residual).sum(0)
    variance = second / rows - np.square(first / rows)
    return np.sort(np.argsort(-variance, kind="stable")[:number])


def fold_in(contents: Contents, splits: dict[str, Split], seed: int) -> dict[str, Split]:
    """The splits, those that are held out cut into what goes in (`x`) and what is judged (`target`), entry by entry,
    seeded by (seed, "fold in", split). A row keeps at least one entry on either side.

    Raises:
        UserError: a held-out row with one entry, which cannot be cut.
    """
    share = None if contents.counting is None else contents.counting.fold_in
    if share is None:
        return splits
    return {name: split if name == "train" else _cut(name, split, share, seed) for name, split in splits.items()}


def _cut(name: str, split: Split, share: float, seed: int) -> Split:
    matrix = matrix_of(split)
    sizes = np.diff(matrix.indptr)
    short = np.flatnonzero(sizes < 2)
    require(
        len(short) == 0,
        f"{_rows_in_words(split, short)} of the {name} split {'has' if len(short) == 1 else 'have'} fewer than two "
        "entries, so that nothing is left to judge: raise source.min_items, or set source.fold_in=null",
    )
    inside = shares_of_rows(matrix, share, generator(seed, "fold in", name))
    x, target = (Sparse(pick(matrix, chosen)) for chosen in (inside, ~inside))
    return replace(split, part=replace_stores(split.part, x, target))


def shares_of_rows(matrix: Any, share: float, source: torch.Generator) -> NDArray[np.bool_]:
    """bool `[stored]`: a random `share` of each row's stored values, at least one of them and at most all but one."""
    sizes = np.diff(matrix.indptr)
    row = np.repeat(np.arange(len(sizes)), sizes)
    order = np.lexsort((torch.rand(matrix.nnz, generator=source, dtype=torch.float64).numpy(), row))
    wanted = np.clip(np.round(share * sizes), 1, np.maximum(sizes - 1, 1))
    chosen = np.zeros(matrix.nnz, dtype=bool)
    chosen[order] = np.arange(matrix.nnz) - matrix.indptr[row] < wanted[row]
    return chosen


def pick(matrix: Any, chosen: NDArray[np.bool_]) -> Any:
    """The CSR matrix with these stored values alone."""
    kept = matrix.copy()
    kept.data = np.where(chosen, kept.data, 0).astype(np.float32)
    kept.eliminate_zeros()
    return kept


def totals(split: Split) -> tuple[float, float] | None:
    """Mean and deviation of the logarithm of the sums of the rows that have any; None if none has."""
    sums = np.asarray(matrix_of(split).sum(1, dtype=np.float64)).ravel()
    logs = np.log(sums[sums > 0])
    # Rounded, because processors differ in the last digits and a run is told by them whether its data are the same.
    return (round(float(logs.mean()), 6), round(float(logs.std()), 6)) if len(logs) else None


def vocabulary(contents: Contents, names: list[str] | None) -> Vocabulary | None:
    """What must be kept of documents to count new texts; None if the data are no documents."""
    how = None if contents.counting is None else contents.counting.words
    return None if how is None or names is None else Vocabulary(names, how)


def matrix_of(split: Split) -> Any:
    """The rows that are judged, CSR `[N, D]`."""
    part = split.part
    return _sparse(part.x if part.target is None else part.target).matrix


def _without_empty(name: str, split: Split, empty: Empty, said: list[str]) -> Split:
    stores = [_sparse(store).matrix for store in split.part.stores]
    bare = np.any([np.diff(matrix.indptr) == 0 for matrix in stores], axis=0)
    found = np.flatnonzero(bare)
    if not len(found):
        return split
    several = f"{_rows_in_words(split, found)} of the {name} split {'has' if len(found) == 1 else 'have'} no counts"
    require(empty != "refuse", f"{several}: set source.empty=drop to leave such rows out, or keep")
    said.append(f"{several}; {'left out' if empty == 'drop' else 'kept'}")
    if empty == "keep":
        return split
    require(len(found) < len(split), f"every row of the {name} split is without counts: nothing is left of it")
    kept = torch.from_numpy(np.flatnonzero(~bare))
    return replace(split, part=split.part.select(kept), rows=split.rows[kept])


def _rows_in_words(split: Split, places: NDArray[np.int64]) -> str:
    """Rows of a split for people: by their names, if they have any, and their numbers in the source."""
    names = split.part.names
    shown = [str(int(split.rows[row])) + (f" ({names[row]})" if names else "") for row in places[: SHOWN + 1].tolist()]
    shown += ["" for _ in range(len(places) - len(shown))]
    return f"row {shown[0]}" if len(places) == 1 else f"{len(places):,} rows ({shortened(shown, SHOWN)})"


def _sparse(store: Any) -> Sparse:
    assert isinstance(store, Sparse)
    return store


def _map(part: Part, change: Callable[[Any], Sparse]) -> Part:
    return replace_stores(part, change(part.x), None if part.target is None else change(part.target))


def replace_stores(part: Part, x: Sparse, target: Sparse | None) -> Part:
    """The part with other examples and targets of the same rows."""
    return Part(x, part.label, part.observed, part.concealed, target, part.names)


def _each(splits: dict[str, Split], change: Callable[[Any], Sparse]) -> dict[str, Split]:
    return {name: replace(split, part=_map(split.part, change)) for name, split in splits.items()}
