"""Reading texts: a folder of files, a file with one a line, or a column of a table or JSONL."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from narrows.data.contents import shortened
from narrows.data.count_files import kind_of, read_lines
from narrows.data.folders import files_below
from narrows.data.table_format import Format
from narrows.errors import UserError, nearest, printable, require
from narrows.files import require_no_pipe

LINES, JSON, TABLES = (".txt", ".text"), (".jsonl", ".ndjson"), (".csv", ".tsv", ".parquet", ".pq")
COLUMNS = ("text", "document", "documents", "body", "content", "article", "review", "abstract", "message", "sentence")
FEW_LINES, PIECE = 1000, 256
BROKEN = "half a character (a lone surrogate, such as \\ud83d in JSON)"
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


def read_texts(path: Path, column: str | None, label: str | None, text: Format) -> Texts:
    """The texts of a folder or file.

    Args:
        column: of the texts in a table or JSONL; None finds the usual names.
        label: the column of their labels; None for none. Of a folder, sub-folders are the labels.
        text: the format of a CSV file.

    Raises:
        UserError: nothing that can be read, or a column that is not there.
    """
    if path.is_dir():
        return _folder(path)
    kind = kind_of(path)
    if kind in LINES:
        require(column is None and label is None, f"{path} has a document a line, and no columns")
        return Texts(read_lines(path), None, None, f"lines of {printable(path.name)}")
    require(
        kind in (*JSON, *TABLES),
        f"{path} is no file of documents: a folder of .txt, or a .txt, .csv, .tsv, .jsonl or .parquet is read",
    )
    rows = json_rows(path) if kind in JSON else table_rows(path, text)
    return _columns(path, rows, column, label)


def read_running(path: Path) -> Texts:
    """All text of a `.txt` file, also .gz, or of a folder's `.txt` in the order of their names, in the pieces between
    which it can be divided: its lines, or `PIECE` characters where there are few.

    Raises:
        UserError: nothing that can be read, or no text in it.
    """
    if path.is_dir():
        folder = _folder(path)
        text, said = "\n".join(folder.texts), folder.said
    else:
        require(kind_of(path) in LINES, f"{path} is no running text: a .txt, or a folder of them, is read")
        text, said = unpacked(path), printable(path.name)
    lines = text.splitlines(keepends=True)
    if len(lines) < FEW_LINES:
        lines = [text[start : start + PIECE] for start in range(0, len(text), PIECE)]
    require(bool(text.strip()), f"{path} holds no text")
    return Texts(lines, None, None, said)


def unpacked(path: Path) -> str:
    """The text of a file in UTF-8, also .gz.

    Raises:
        UserError: it cannot be read, or is in another encoding.
    """
    if path.suffix.lower() != ".gz":
        return read_text(path)
    require_no_pipe(path)
    try:
        return decode(gzip.decompress(path.read_bytes()), str(path))
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be unpacked ({error})") from error


def numbered(labels: Sequence[str] | None, classes: Sequence[str]) -> Tensor | None:
    """The number of each label among the classes, int64 `[N]`; None where there are none."""
    codes = {label: code for code, label in enumerate(classes)}
    return None if labels is None else torch.tensor([codes[label] for label in labels], dtype=torch.int64)


def _folder(path: Path) -> Texts:
    files = [file for file in files_below(path) if file.suffix.lower() in LINES]
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
        raise UserError(f"{name} is no text in UTF-8 ({error}): save it as UTF-8") from error


def json_rows(path: Path) -> Iterator[tuple[str, dict[str, object]]]:
    """The objects of a JSONL, each with where it stands.

    Raises:
        UserError: a line that holds none.
    """
    for number, line in enumerate(read_lines(path), 1):
        where = f"line {number} of {path}"
        try:
            found = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{where} is no JSON ({error}): a JSONL has an object a line") from error
        if not isinstance(found, dict):
            raise UserError(f"{where} is no JSON object: a JSONL has one a line")
        yield where, found


def table_rows(path: Path, text: Format) -> Iterator[tuple[str, dict[str, object]]]:
    """The rows of a table, each with where it stands."""
    from narrows.data.count_tables import whole_chunks  # pandas is slow to import

    for chunk in whole_chunks(path, text):
        frame = chunk.frame.set_axis(list(map(str, chunk.frame)), axis=1)
        for line, row in zip(chunk.lines.tolist(), frame.to_dict("records"), strict=True):
            yield f"{chunk.unit} {line} of {path}", row


def _columns(path: Path, rows: Iterator[tuple[str, dict[str, object]]], column: str | None, label: str | None) -> Texts:
    texts: list[str] = []
    labels: list[str] = []
    for where, row in rows:
        column = column or usual_column(path, list(row))
        for name in (column, label):
            require(name is None or name in row, f"{where} has no '{name}': {nearest(str(name), row)}")
        document = row[column]
        if not isinstance(document, str):
            raise UserError(f"{where} holds no text in '{column}' but {document!r:.60}")
        require(label is None or _is_label(row[label]), f"{where} has no label in '{label}'")
        for name in filter(None, (column, label)):
            require(is_whole(str(row[name])), f"{where} holds {BROKEN} in '{name}'")
        texts.append(document)
        labels += [] if label is None else [str(row[label])]
    require(bool(texts), f"{path} holds no documents")
    return Texts(texts, labels if label is not None else None, None, f"'{column}' of {printable(path.name)}")


def is_whole(text: str) -> bool:
    """Whether UTF-8 can write a text: JSON may hold one half of a character that takes two."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_label(value: object) -> bool:
    # A missing cell of a Parquet file is NaN, which differs from itself.
    return value is not None and value == value and str(value) != ""


def usual_column(path: Path, names: Sequence[str]) -> str:
    """The column whose name says that it holds documents.

    Raises:
        UserError: none does.
    """
    found = next((name for word in COLUMNS for name in names if name.lower() == word), None)
    if found is None:
        raise UserError(
            f"{path} has no column whose name says that it holds documents ({shortened(list(names))}): set "
            "source.column to one of them"
        )
    return found
