"""New texts, one after another: the files of a folder, the lines of a .txt, a column of a table or JSONL."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

from narrows.data import Format
from narrows.data.count_files import kind_of
from narrows.data.folders import files_below
from narrows.data.text_files import (
    BROKEN,
    JSON,
    LINES,
    TABLES,
    is_whole,
    json_rows,
    read_text,
    table_rows,
    usual_column,
)
from narrows.errors import UserError, require
from narrows.files import require_no_pipe

MOLECULES = (".smi", ".smiles", ".selfies")


class TextRow(NamedTuple):
    """A text, or why there is none."""

    name: str
    text: str | None
    problem: str | None
    done: float = 0.0
    """Share of the texts read so far, where that is known."""


def text_rows(given: Any, source: Any) -> Iterator[TextRow]:
    """The texts of a folder or file, read as `source` reads its own, or of a list in memory.

    Raises:
        UserError: nothing that can be read.
    """
    if not isinstance(given, Path):
        yield from (_whole(str(row), str(text)) for row, text in enumerate(given))
        return
    if given.is_dir():
        yield from _files(given)
        return
    require_no_pipe(given)
    kind, column = kind_of(given), getattr(source, "column", None)
    if kind in (*LINES, *MOLECULES):
        yield from _lines(given)
        return
    require(kind in (*JSON, *TABLES), f"{given} holds no texts: a .txt, .csv, .tsv, .jsonl or .parquet is read")
    how: Format = getattr(source, "text", None) or Format()
    yield from _column(json_rows(given) if kind in JSON else table_rows(given, how), given, column)


def _files(folder: Path) -> Iterator[TextRow]:
    files = [file for file in files_below(folder) if file.suffix.lower() in LINES]
    require(bool(files), f"{folder} holds no .txt: a folder of texts has one for each")
    for number, file in enumerate(files, 1):
        name = file.relative_to(folder).as_posix()
        try:
            yield TextRow(name, read_text(file), None, number / len(files))
        except UserError as error:
            yield TextRow(name, None, str(error), number / len(files))


def _lines(path: Path) -> Iterator[TextRow]:
    """The lines of a file, also .gz, without reading it as a whole."""
    size = max(path.stat().st_size, 1)
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            file: IO[bytes] = gzip.open(raw) if packed else raw  # type: ignore[assignment]  # noqa: SIM115
            for row, line in enumerate(piece for whole in file for piece in _pieces(whole)):
                content = line.removeprefix(b"\xef\xbb\xbf") if row == 0 else line
                done = min(raw.tell() / size, 1.0)
                try:
                    yield TextRow(str(row), content.decode().strip(), None, done)
                except UnicodeDecodeError as error:
                    yield TextRow(str(row), None, f"it is no text in UTF-8 ({error})", done)
    except (OSError, EOFError) as error:
        raise UserError(f"{path} cannot be read as lines of text ({error})") from error


def _pieces(line: bytes) -> list[bytes]:
    """What ends with LF or CR LF, divided where CR alone ends lines."""
    return line.removesuffix(b"\n").removesuffix(b"\r").split(b"\r")


def _whole(name: str, text: str) -> TextRow:
    return TextRow(name, text, None) if is_whole(text) else TextRow(name, None, f"it holds {BROKEN}")


def _column(rows: Iterable[tuple[str, dict[str, object]]], path: Path, column: str | None) -> Iterator[TextRow]:
    for number, (where, row) in enumerate(rows):
        column = column or usual_column(path, list(row))
        require(column in row, f"{where} has no '{column}'")
        text = row[column]
        if isinstance(text, str):
            yield _whole(str(number), text)
        else:
            yield TextRow(str(number), None, f"it holds no text in '{column}'")
