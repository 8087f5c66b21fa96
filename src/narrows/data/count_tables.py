"""Tables of counts: a column for each feature, or a line for each count."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from narrows.data.count_form import CountFile, Layout
from narrows.data.number_texts import Marks, to_numbers
from narrows.data.sparse_rows import canonical
from narrows.data.table_files import Chunk, read_chunks
from narrows.data.table_format import HERE, UNNAMED, Format
from narrows.errors import UserError, require

ROWS = {"row", "doc", "docid", "document", "documentid", "cell", "cellid", "barcode", "sample", "user", "userid"}
FEATURES = {"column", "col", "feature", "word", "wordid", "term", "token", "gene", "geneid", "item", "itemid"}
COUNTS = {"count", "counts", "value", "n", "frequency", "umi", "umis"}


def read_table(path: Path, layout: Layout, text: Format, label: str | None) -> CountFile:
    """The counts of a CSV or Parquet file, read chunk by chunk.

    Raises:
        UserError: a cell that is no number; three columns that may be triples or not.
    """
    chunks = whole_chunks(path, text, "datamodule.source.form.text")
    first = next(chunks, None)
    if first is None:
        raise UserError(f"{path} holds no rows")
    names, chunks = list(map(str, first.frame)), itertools.chain([first], chunks)
    if layout == "triples" or (layout == "auto" and _are_triples(names, path)):
        require(len(names) >= 3, f"{path} has {len(names)} columns, and triples are row, feature and count")
        return _triples(path, chunks)
    return _dense(path, chunks, _Columns.of(first, names, label, path))


def whole_chunks(path: Path, text: Format, option: str = "datamodule.source.text") -> Iterator[Chunk]:
    """The chunks of a table, refused where a row lacks a cell or has one too many.

    Args:
        option: where `text` stands in the config, for messages.
    """
    try:
        for chunk in read_chunks(path, text):
            for place, wrong in chunk.broken.items():
                line = chunk.lines[place]
                raise UserError(f"line {line} of {path} has {wrong}: every row must have one for each column")
            yield chunk
    except UserError as error:
        raise UserError(str(error).replace(HERE, option)) from error


def plain(name: str) -> str:
    """A column's name in small letters, without marks."""
    return "".join(char for char in name.lower() if char.isalnum())


def _are_triples(names: Sequence[str], path: Path) -> bool:
    if len(names) != 3:
        return False
    words = [plain(name) for name in names]
    known = [bool({word} & kind) for word, kind in zip(words, (ROWS, FEATURES, COUNTS), strict=True)]
    require(
        all(known) or not any(known),
        f"{path} has the columns {', '.join(names)}, which may be counts of three features or lines of row, "
        "feature and count: set source.form.layout to dense or triples",
    )
    return all(known)


class Names:
    """Texts by their numbers, in the order in which they come."""

    def __init__(self) -> None:
        self._codes: dict[str, int] = {}

    def add(self, values: pd.Series) -> NDArray[np.int64]:
        """The number of each value, `[N]`; one that has not been met gets the next."""
        codes, different = pd.factorize(values.astype(str).str.strip())
        places = [self._codes.setdefault(str(name), len(self._codes)) for name in different]
        return np.array(places, np.int64)[codes]

    @property
    def texts(self) -> list[str]:
        return list(self._codes)

    def in_order(self) -> tuple[NDArray[np.int64], list[str]]:
        """The position of each text among them in order, and they in that order: by number, if all are whole ones."""
        names = self.texts
        whole = all(name.lstrip("-").isdecimal() for name in names)
        order = sorted(range(len(names)), key=lambda place: (int(names[place]) if whole else 0, names[place]))
        places = np.empty(len(names), np.int64)
        places[order] = np.arange(len(names))
        return places, [names[place] for place in order]


def _triples(path: Path, chunks: Iterable[Chunk]) -> CountFile:
    rows, features = Names(), Names()
    found: list[tuple[NDArray[Any], ...]] = []
    for chunk in chunks:
        frame = chunk.known.iloc[:, :3]
        numbers = _column(frame.iloc[:, 2], chunk.marks)
        bad = np.flatnonzero(~np.isfinite(numbers) | frame.iloc[:, :2].isna().any(axis=1).to_numpy())
        if len(bad):
            cells = ", ".join(map(str, chunk.frame.iloc[bad[0], :3]))
            raise UserError(f"{chunk.unit} {chunk.lines[bad[0]]} of {path} is no row, feature and count: {cells}")
        found.append((rows.add(frame.iloc[:, 0]), features.add(frame.iloc[:, 1]), numbers))
    row, column, numbers = (np.concatenate(part) for part in zip(*found, strict=True))
    places, names = features.in_order()
    matrix = sparse.coo_matrix((numbers, (row, places[column])), (len(rows.texts), len(names)))
    return CountFile(path, canonical(matrix), f"{len(numbers):,} triples", names, rows.texts)


@dataclass
class _Columns:
    """What the columns of a dense table are."""

    features: list[str]
    label: str | None
    rows: str | None
    """The column that names the rows."""

    @classmethod
    def of(cls, first: Chunk, names: Sequence[str], label: str | None, path: Path) -> _Columns:
        found = label if label in names else None
        rows = names[0] if names[0] != found and _names_rows(first, names[0]) else None
        features = [name for name in names if name not in (found, rows)]
        require(bool(features), f"{path} has no column of counts")
        return cls(features, found, rows)


def _dense(path: Path, chunks: Iterable[Chunk], what: _Columns) -> CountFile:
    parts: list[Any] = []
    rows: list[str] = []
    labels: list[str] = []
    for chunk in chunks:
        parts.append(sparse.csr_matrix(_numbers(path, chunk, what.features)))
        rows += [] if what.rows is None else _texts(chunk, what.rows).tolist()
        labels += [] if what.label is None else _texts(chunk, what.label).tolist()
    # A file of numbers without a header has no names of features.
    known = None if what.features == list(map(str, range(len(what.features)))) else what.features
    columns = {} if what.label is None else {what.label: np.array(labels)}
    matrix = canonical(sparse.vstack(parts, format="csr"))
    return CountFile(path, matrix, "dense table", known, rows if what.rows else None, columns)


def _texts(chunk: Chunk, name: str) -> Any:
    return chunk.frame.set_axis(list(map(str, chunk.frame)), axis=1)[name].astype(str).to_numpy()


def _names_rows(chunk: Chunk, name: str) -> bool:
    """Whether the first column names the rows: it has no name of its own, or texts that are all different."""
    texts = _texts(chunk, name)
    words = bool(np.isnan(to_numbers(texts.tolist(), chunk.marks)).all())
    return bool(UNNAMED.fullmatch(name)) or (words and len(set(texts)) == len(texts))


def _numbers(path: Path, chunk: Chunk, features: Sequence[str]) -> NDArray[np.float64]:
    frame = chunk.known.set_axis(list(map(str, chunk.frame)), axis=1)[list(features)]
    found = np.stack([_column(frame[name], chunk.marks) for name in features], 1)
    bad = np.argwhere(~np.isfinite(found))
    if len(bad):
        row, column = bad[0]
        raise UserError(
            f"{chunk.unit} {chunk.lines[row]} of {path} holds {frame.iloc[row, column]!r} in column "
            f"'{features[column]}', where a count is due: take that column out of the file or, if it holds "
            "labels, name it in source.label.key"
        )
    return found


def _column(cells: pd.Series, marks: Marks) -> NDArray[np.float64]:
    return cells.to_numpy(np.float64) if cells.dtype.kind in "iuf" else to_numbers(cells.tolist(), marks)
