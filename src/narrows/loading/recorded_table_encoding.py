"""Saving and loading the encoding of a run's table, so that new rows are encoded in exactly the same way."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from narrows.errors import UserError
from narrows.files import read_json, write_json
from narrows.runs.file_names import ENCODING

if TYPE_CHECKING:
    from narrows.data.table_scaling_and_encoding import Encoding


def save(data: Any, run: Path) -> None:
    """Write the encoding that a datamodule fitted; does nothing if it fitted none."""
    encoding = getattr(data, "encoding", None)
    if encoding is not None:
        write_json(run / ENCODING, encoding.to_dict())


def load(run: Path) -> Encoding:
    """The encoding of a run's table.

    Raises:
        UserError: the run was not trained on a table, or the file is damaged.
    """
    from narrows.data.table_scaling_and_encoding import Encoding

    path = run / ENCODING
    if not path.is_file():
        raise UserError(f"{run} was not trained on a table: narrows score reads runs of datamodule=table")
    try:
        return Encoding.from_dict(read_json(path))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(f"{path} is damaged ({error!r}): it is written by narrows train") from error
