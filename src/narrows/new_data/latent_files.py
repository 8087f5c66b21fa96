"""Files of latents: .npz, or a table with a column for each of their values."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from narrows.compare.table_formats import as_cell
from narrows.errors import UserError, require
from narrows.files import replacing
from narrows.new_data.array_files import Rows, problem_texts, write_array
from narrows.new_data.examples import Chunk
from narrows.new_data.result_columns import NAME, PROBLEM

WriteLatents = Callable[[Chunk, NDArray[np.float32] | None], None]
"""Writes the latents `[M, *latent_shape]` of a chunk's readable examples; None where there are none."""


@contextmanager
def writing_latents(out: Path, shape: Sequence[int]) -> Iterator[WriteLatents]:
    """What writes latents of this shape to `out`, which appears once it is complete; by its ending

    - .npz: `latents` `[N, *shape]`, NaN for examples that could not be read, and the `names` and `problem` of each;
    - .csv, .parquet: the columns `name`, `z_0`, `z_1`, ... and `problem`.

    Raises:
        UserError: another ending, or Parquet without pyarrow.
    """
    makers = {".npz": _arrays, ".csv": _csv, ".parquet": _parquet}
    suffix = out.suffix.lower()
    require(suffix in makers, f"latents are written as .npz, .csv or .parquet, which {out} is not by its name")
    with replacing(out) as file, makers[suffix](file, tuple(shape), out) as write:
        yield write


def _whole(chunk: Chunk, latents: NDArray[np.float32] | None, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Latents of all examples `[N, *shape]`, NaN where one could not be read."""
    if latents is None:
        return np.full((len(chunk), *shape), np.nan, np.float32)
    return chunk.spread(latents.astype(np.float32, copy=False).reshape(len(latents), *shape), np.nan)


@contextmanager
def _arrays(file: Any, shape: tuple[int, ...], out: Path) -> Iterator[WriteLatents]:
    names: list[str] = []
    problems: list[str | None] = []
    with closing(Rows(out)) as rows:

        def write(chunk: Chunk, latents: NDArray[np.float32] | None) -> None:
            names.extend(chunk.names)
            problems.extend(chunk.problems)
            rows.add(_whole(chunk, latents, shape))

        yield write
        with zipfile.ZipFile(file, "w") as archive:
            rows.write(archive, "latents")
            write_array(archive, "names", np.array(names, dtype=np.str_))
            write_array(archive, PROBLEM, problem_texts(problems))


def _frame(chunk: Chunk, latents: NDArray[np.float32] | None, shape: tuple[int, ...]) -> Any:
    import pandas as pd

    values = _whole(chunk, latents, shape).reshape(len(chunk), prod(shape))
    table = {NAME: pd.Series(chunk.names, dtype="str")}
    table |= {f"z_{place}": pd.Series(column) for place, column in enumerate(values.T)}
    return pd.DataFrame(table | {PROBLEM: pd.Series(chunk.problems, dtype="str")})


@contextmanager
def _csv(file: Any, shape: tuple[int, ...], out: Path) -> Iterator[WriteLatents]:
    first = True

    def write(chunk: Chunk, latents: NDArray[np.float32] | None) -> None:
        nonlocal first
        frame = _frame(chunk, latents, shape)
        # The name of a file may be a stranger's.
        frame[NAME] = [as_cell(name) for name in frame[NAME]]
        frame.to_csv(file, index=False, header=first)
        first = False

    yield write


@contextmanager
def _parquet(file: Any, shape: tuple[int, ...], out: Path) -> Iterator[WriteLatents]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise UserError("writing Parquet needs pyarrow: pip install 'narrows[parquet]', or let OUT end in .npz") from (
            error
        )
    fields = [(NAME, pa.string()), *((f"z_{place}", pa.float32()) for place in range(prod(shape)))]
    schema = pa.schema([*fields, (PROBLEM, pa.string())])
    with pq.ParquetWriter(file, schema) as writer:

        def write(chunk: Chunk, latents: NDArray[np.float32] | None) -> None:
            writer.write_table(pa.Table.from_pandas(_frame(chunk, latents, shape), schema, preserve_index=False))

        yield write
