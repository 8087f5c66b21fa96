"""Writing numpy arrays of which rows come one after another, so that they never lie in memory as a whole."""

from __future__ import annotations

import io
import shutil
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray


def header_of(shape: Sequence[int], dtype: np.dtype[Any]) -> bytes:
    """What a .npy of this array begins with; its values follow, row by row."""
    file = io.BytesIO()
    told = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": tuple(shape)}
    np.lib.format.write_array_header_2_0(file, told)
    return file.getvalue()


def write_array(archive: zipfile.ZipFile, key: str, array: NDArray[Any]) -> None:
    """Add an array in memory to a .npz."""
    with archive.open(f"{key}.npy", "w", force_zip64=True) as member:
        np.lib.format.write_array(member, array, allow_pickle=False)


def problem_texts(problems: Sequence[str | None]) -> NDArray[np.str_]:
    """Problems as texts, empty where there is none."""
    return np.array([problem or "" for problem in problems], dtype=np.str_)


class Rows:
    """An array `[N, *shape]` of float32 whose number of rows is known at the end: until then it lies in a file without
    a name on the disk of `out`."""

    def __init__(self, out: Path) -> None:
        folder = out.parent if out.is_file() or not out.exists() else None  # nothing is written beside a device
        self._file: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (closed by `close`)
        self._count = 0
        self._shape: tuple[int, ...] | None = None

    def add(self, values: NDArray[np.float32]) -> None:
        """Add rows `[n, *shape]`."""
        assert self._shape in (None, values.shape[1:])
        self._shape = values.shape[1:]
        self._count += len(values)
        self._file.write(np.ascontiguousarray(values).tobytes())

    def write(self, archive: zipfile.ZipFile, key: str) -> None:
        """Add the array to a .npz."""
        self._file.seek(0)
        with archive.open(f"{key}.npy", "w", force_zip64=True) as member:
            member.write(header_of((self._count, *(self._shape or ())), np.dtype(np.float32)))
            shutil.copyfileobj(self._file, member, 2**20)

    def close(self) -> None:
        """Give the file back."""
        self._file.close()
