"""Saving and loading the encoding of a run's table, so that new rows are encoded in exactly the same way."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from narrows.config.plain_schema import require_fits
from narrows.errors import UserError, first_line, require
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
    import numpy as np
    from sklearn.exceptions import NotFittedError

    from narrows.data.table_columns import TableColumn
    from narrows.data.table_scaling_and_encoding import Encoding

    path = run / ENCODING
    if not path.is_file():
        raise UserError(f"{run} was not trained on a table: narrows score reads runs of datamodule=table")
    try:
        found = Encoding.from_dict(read_json(path))
        require_fits(list[TableColumn], found.columns, f"{path}, columns,")
        require(
            len(found.fill) == len(found.feature_names), f"{path} is damaged: fill must hold a value of each feature"
        )
        row = np.zeros((1, len(found.columns)))
        found.decode(found.encode(row, row > 0)[0].double().numpy())
    except UserError:
        raise
    except (KeyError, TypeError, AttributeError, ValueError, IndexError, NotFittedError) as error:
        raise UserError(f"{path} is damaged ({first_line(error)}): it is written by narrows train") from error
    return found
