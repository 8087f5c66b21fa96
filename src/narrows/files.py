"""Files that are written whole or not at all, and JSON files of runs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from narrows.errors import UserError


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write beside the target and rename over it: a reader sees the old file or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with open(temporary, "wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def write_json(path: Path, values: Any) -> None:
    write_atomically(path, json.dumps(values, indent=2, sort_keys=False, allow_nan=True) + "\n")


def read_json(path: Path) -> Any:
    """The content of a JSON file of a run.

    Raises:
        UserError: it is missing or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path.parent} is not a run directory: it has no {path.name}") from error
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"{path} is not valid JSON ({error})") from error
