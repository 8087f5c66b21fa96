"""The .npz of what a model rebuilt of new data that have no form of their own."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from narrows.files import replacing
from narrows.new_data.array_files import Rows, problem_texts, write_array
from narrows.new_data.examples import Chunk, Write
from narrows.new_data.result_columns import PROBLEM
from narrows.types import Shape


@contextmanager
def rebuilding_archive(out: Path, shape: Shape, beside: Mapping[str, NDArray[Any]] | None = None) -> Iterator[Write]:
    """Writes `x` `[N, *shape]`, NaN where an example could not be read, then `names`, what stands `beside` them, and
    where there are some the problems; `out` appears once it is whole."""
    names: list[str] = []
    problems: list[str | None] = []
    with replacing(out) as file, closing(Rows(out)) as rows:

        def write(chunk: Chunk, rebuilt: Tensor | None) -> None:
            names.extend(chunk.names)
            problems.extend(chunk.problems)
            empty = np.zeros((0, *shape), np.float32)
            rows.add(chunk.spread(empty if rebuilt is None else rebuilt.numpy(), np.nan))

        yield write
        with zipfile.ZipFile(file, "w") as archive:
            rows.write(archive, "x")
            for key, values in {"names": np.array(names, dtype=np.str_), **(beside or {})}.items():
                write_array(archive, key, values)
            if any(problems):
                write_array(archive, PROBLEM, problem_texts(problems))
