"""Your own documents: a folder of texts, or a file of them, as counts of their words."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from narrows.data.contents import Contents, Part, shortened
from narrows.data.count_files import kind_of, read_lines
from narrows.data.counting import Counting, Empty
from narrows.data.dataset_files import existing
from narrows.data.sparse_rows import Sparse
from narrows.data.table_format import Format
from narrows.data.vocabulary import Words
from narrows.errors import UserError, nearest, printable, require

LINES, JSON, TABLES = (".txt", ".text"), (".jsonl", ".ndjson"), (".csv", ".tsv", ".parquet", ".pq")
COLUMNS = ("text", "document", "documents", "body", "content", "article", "review", "abstract", "message")
MOST_BYTES = 2**28
"""Size of the largest text file of a folder that is read: a longer one is no document."""


@dataclass
class Texts:
    """Documents as they were read."""

    texts: list[str]
    labels: list[str] | None
    names: list[str] | None
    said: str
    """What they were read from, for people."""


@dataclass
class HeldOutDocuments:
    """Where the test split of `Documents` comes from.

    Args:
        fraction: of the documents, or their number, if `path` is null; null for no test split.
        path: another folder or file.
    """

    fraction: float | int | None = 0.1
    path: str | None = None


class Documents:
    """Documents as counts of their words, held sparse.

    A folder holds a `.txt` for each document, in one sub-folder for each label if there are labels; a `.txt` file a
    document a line; a CSV, Parquet or JSONL a column of them; all but Parquet may be packed by gzip.

    Which words are counted is chosen by the training documents alone and kept with the run (`narrows.data.Words`,
    `vocabulary.json`).

    Args:
        column: of the documents in a table or JSONL; null finds the usual names.
        label: the column of their labels; null for none. Of a folder, sub-folders are the labels.
        empty: what becomes of documents without any of the words: refuse, drop or keep.
        text: the format of a CSV file.

    Raises:
        UserError: (`load`) nothing that can be read, a column that is not there, no document with a word.
    """

    def __init__(
        self,
        path: str,
        column: str | None = None,
        label: str | None = None,
        words: Words | None = None,
        empty: Empty = "drop",
        text: Format | None = None,
        validation_path: str | None = None,
        test: HeldOutDocuments | None = None,
    ) -> None:
        self.path = path
        self.column = column
        self.label = label
        self.words = words or Words()
        self.counting = Counting(empty, words=self.words)
        self.text = text or Format()
        self.validation_path = validation_path
        self.test = test or HeldOutDocuments()

    def load(self) -> Contents:
        read = self.read()
        counts, words = self.words.count([text for found in read.values() for text in found.texts])
        ends = np.cumsum([0, *(len(found.texts) for found in read.values())])
        classes = sorted({label for found in read.values() for label in found.labels or ()})
        parts = {
            name: Part(Sparse(counts[start:stop]), _numbers(found.labels, classes), names=found.names)
            for (name, found), start, stop in zip(read.items(), ends[:-1], ends[1:], strict=True)
        }
        said = [f"{len(found.texts):,} documents ({found.said})" for found in read.values()]
        kinds = f", {len(classes)} labels ({shortened(classes)})" if classes else ", no labels"
        return Contents.of_parts(
            "counts",
            parts,
            self.test.fraction,
            feature_names=words,
            class_names=classes or None,
            counting=self.counting,
            reading=["documents: " + "; ".join(said) + kinds],
        )

    def read(self) -> dict[str, Texts]:
        """The documents of each official part as texts, in the order of its rows.

        Raises:
            UserError: a folder or file that is not there, or holds no documents.
        """
        places = {
            "train": (self.path, "source.path"),
            "validation": (self.validation_path, "source.validation_path"),
            "test": (self.test.path, "source.test.path"),
        }
        return {name: self._read(existing(path, option)) for name, (path, option) in places.items() if path is not None}

    def _read(self, path: Path) -> Texts:
        if path.is_dir():
            return _folder(path)
        kind = kind_of(path)
        if kind in LINES:
            require(self.column is None and self.label is None, f"{path} has a document a line, and no columns")
            return Texts(read_lines(path), None, None, f"lines of {printable(path.name)}")
        require(
            kind in (*JSON, *TABLES),
            f"{path} is no file of documents: a folder of .txt, or a .txt, .csv, .tsv, .jsonl or .parquet is read",
        )
        rows = _json_rows(path) if kind in JSON else _table_rows(path, self.text)
        return _columns(path, rows, self.column, self.label)


def _numbers(labels: Sequence[str] | None, classes: Sequence[str]) -> Tensor | None:
    codes = {label: code for code, label in enumerate(classes)}
    return None if labels is None else torch.tensor([codes[label] for label in labels], dtype=torch.int64)


def _folder(path: Path) -> Texts:
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in LINES and file.is_file())
    require(bool(files), f"{path} holds no .txt: a folder of documents has one for each, or one folder for each label")
    depths = {len(file.relative_to(path).parts) for file in files}
    require(
        depths == {1} or depths == {2},
        f"{path} holds .txt at several depths ({', '.join(map(str, sorted(depths)))}): put all of them into it, or "
        "into one folder for each label",
    )
    names = [file.relative_to(path).as_posix() for file in files]
    labels = [name.partition("/")[0] for name in names] if depths == {2} else None
    return Texts([read_text(file) for file in files], labels, names, f"files of {printable(path.name)}")


def read_text(path: Path) -> str:
    """The text of a file in UTF-8.

    Raises:
        UserError: it cannot be read, is too large for a document, or is in another encoding.
    """
    try:
        size = path.stat().st_size
        require(size <= MOST_BYTES, f"{path} has {size:,} bytes: a document has at most {MOST_BYTES:,}")
        return decode(path.read_bytes(), str(path))
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from error


def decode(content: bytes, name: str) -> str:
    """The text of bytes in UTF-8; `name` says what they are.

    Raises:
        UserError: they are in another encoding.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{name} is no text in UTF-8 ({error})") from error


def _json_rows(path: Path) -> Iterator[tuple[str, dict[str, object]]]:
    for number, line in enumerate(read_lines(path), 1):
        where = f"line {number} of {path}"
        try:
            found = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{where} is no JSON ({error}): a JSONL has an object a line") from error
        if not isinstance(found, dict):
            raise UserError(f"{where} is no JSON object: a JSONL has one a line")
        yield where, found


def _table_rows(path: Path, text: Format) -> Iterator[tuple[str, dict[str, object]]]:
    from narrows.data.count_tables import whole_chunks  # pandas is slow to import

    for chunk in whole_chunks(path, text):
        frame = chunk.frame.set_axis(list(map(str, chunk.frame)), axis=1)
        for line, row in zip(chunk.lines.tolist(), frame.to_dict("records"), strict=True):
            yield f"{chunk.unit} {line} of {path}", row


def _columns(path: Path, rows: Iterator[tuple[str, dict[str, object]]], column: str | None, label: str | None) -> Texts:
    texts: list[str] = []
    labels: list[str] = []
    for where, row in rows:
        column = column or _usual(path, list(row))
        for name in (column, label):
            require(name is None or name in row, f"{where} has no '{name}': {nearest(str(name), row)}")
        document = row[column]
        if not isinstance(document, str):
            raise UserError(f"{where} holds no text in '{column}' but {document!r:.60}")
        texts.append(document)
        require(label is None or _is_label(row[label]), f"{where} has no label in '{label}'")
        labels += [] if label is None else [str(row[label])]
    require(bool(texts), f"{path} holds no documents")
    return Texts(texts, labels if label is not None else None, None, f"'{column}' of {printable(path.name)}")


def _is_label(value: object) -> bool:
    # A missing cell of a Parquet file is NaN, which differs from itself.
    return value is not None and value == value and str(value) != ""


def _usual(path: Path, names: Sequence[str]) -> str:
    found = next((name for word in COLUMNS for name in names if name.lower() == word), None)
    if found is None:
        raise UserError(
            f"{path} has no column whose name says that it holds documents ({shortened(list(names))}): set "
            "source.column to one of them"
        )
    return found
