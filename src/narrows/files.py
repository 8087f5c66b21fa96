"""Writing files whole or not at all, and the JSON files of runs."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from narrows.errors import UserError


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """An open file that replaces `path` once it is complete; if writing fails, `path` stays as it was.

    `/dev/stdout`, a pipe, and anything else that is not a regular file is written directly.

    Raises:
        OSError: writing failed; the error carries the name of `path`.
    """
    target = path.resolve()  # follow a symbolic link, so that the link itself stays
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        if path.exists() and not path.is_file():
            with path.open("wb") as file:
                yield file
            return
        try:
            with temporary.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        if error.errno is None or error.filename not in (None, str(temporary)):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write beside the target and rename over it: a reader sees the old file or the new one, never a part.

    Raises:
        OSError: writing failed; the error carries the name of `path`.
    """
    with replacing(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def write_json(path: Path, values: Any) -> None:
    write_atomically(path, json.dumps(values, indent=2, sort_keys=False, allow_nan=True) + "\n")


def read_json(path: Path) -> Any:
    """The content of a JSON file in a run directory.

    Raises:
        UserError: it is missing or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path.parent} is not a run directory: it has no {path.name}") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # the first also of a number of thousands of digits
        raise UserError(f"{path} is not valid JSON ({error})") from error


def shortest(path: Path) -> str:
    """`path` relative to the current directory if it lies below it, otherwise unchanged."""
    absolute = path.resolve()
    return str(absolute.relative_to(Path.cwd())) if absolute.is_relative_to(Path.cwd()) else str(absolute)
