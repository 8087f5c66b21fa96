"""Finding, fetching and opening the files of data sets."""

from __future__ import annotations

import math
import os
import struct
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np

from narrows.errors import UserError, nearest, require
from narrows.files import require_no_pipe, wait_for_lock

HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
"""Readers of an array's header, by version of the .npy format."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock a folder for one process at a time; the others wait. The system frees the lock of a process that dies."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = (folder / ".narrows.lock").open("w")
    except OSError as error:
        raise UserError(f"cannot write in {folder}, where data are downloaded to ({error}): set data_dir=") from error
    with handle:
        wait_for_lock(handle.fileno())
        yield


def fetch(
    name: str,
    folder: Path,
    looked_in: list[Path],
    download: bool,
    get: Callable[[], object],
    option: str = "source.download",
) -> None:
    """Download data set `name` into `folder` by `get()`, in one process at a time, with failures explained.

    Args:
        option: what `download` is called.

    Raises:
        UserError: downloading is off, or failed.
    """
    places = " or ".join(map(str, looked_in))
    if not download:
        raise UserError(
            f"{name} is not in {places} and {option} is off: turn it on, or set data_dir= to the folder that holds it"
        )
    with locked(folder):
        try:
            get()
        # URLError and timeouts are OSErrors; torchvision wraps some of them, and bad checksums, in RuntimeError.
        except (OSError, RuntimeError, ModuleNotFoundError) as error:
            reason = " ".join(str(error).split())
            raise UserError(
                f"{name} is not in {places}, and downloading it failed ({reason}): put the files there, or set "
                "data_dir= to the folder that holds them"
            ) from error


def existing(path: str | os.PathLike[str], setting: str) -> Path:
    """The file or folder at `path`, which must exist.

    Raises:
        UserError: it does not exist, and the message names `setting` as what to change; or it is a pipe.
    """
    found = Path(path).expanduser()
    if not found.exists():
        raise UserError(f"{found.absolute()} does not exist: set {setting} to where the data lie")
    require_no_pipe(found)
    return found


def existing_parts(path: str, validation: str | None, test: str | None) -> Iterator[tuple[str, Path]]:
    """The places of the official parts that a source was told of as `path`, `validation_path` and `test.path`, by name.

    Raises:
        UserError: (as it is reached) one that `existing` refuses.
    """
    options = {"train": "source.path", "validation": "source.validation_path", "test": "source.test.path"}
    for (name, option), place in zip(options.items(), (path, validation, test), strict=True):
        if place is not None:
            yield name, existing(place, option)


def read_arrays(path: Path, keys: list[str]) -> dict[str, np.ndarray[Any, Any]]:
    """The arrays of these keys in a .npz; a .npy has no keys, so its array goes under the one key given.

    Raises:
        UserError: a pipe, a key that is not there, a file that is broken or would need pickle, an array whose header
            claims more than the file or the memory holds.
    """
    require_no_pipe(path)
    with _explained(path), path.open("rb") as file:
        if not _is_archive(file):
            require(len(keys) == 1, f"{path} holds one array and no keys: put it and '{keys[-1]}' into a .npz")
            return {keys[0]: _read_array(file, os.fstat(file.fileno()).st_size, str(path))}
        with zipfile.ZipFile(file) as archive:
            members = _members(archive, path)
            missing = [key for key in keys if key not in members]
            require(
                not missing, f"{path} has no array '{' or '.join(missing)}': {nearest(''.join(missing[:1]), members)}"
            )
            found = {}
            for key in keys:
                with archive.open(members[key]) as member:
                    found[key] = _read_array(member, members[key].file_size, f"array '{key}' of {path}")
            return found


def _members(archive: zipfile.ZipFile, path: Path) -> dict[str, zipfile.ZipInfo]:
    """The arrays of a .npz by their keys."""
    members = {
        item.filename.removesuffix(".npy"): item for item in archive.infolist() if item.filename.endswith(".npy")
    }
    require(bool(members), f"{path} holds no numpy arrays: write it with numpy.savez")
    return members


def _read_array(file: IO[bytes], size: int, where: str) -> np.ndarray[Any, Any]:
    """The array of an open file of `size` bytes, whose claims are checked before memory is asked for."""
    version = np.lib.format.read_magic(file)
    if version not in HEADERS:
        raise ValueError(f"an array of version {version}")
    shape, _, dtype = HEADERS[version](file)
    if min(shape, default=0) < 0:
        raise ValueError(f"a shape of {list(shape)}")
    require(not dtype.hasobject, f"{where} cannot be read as numpy arrays without pickle: it holds Python objects")
    claimed = dtype.itemsize * math.prod(shape)
    require(
        claimed <= size - file.tell(),
        f"{where} is broken: by its header it is {list(shape)} of {dtype}, {_in_words(claimed)}, but the file holds "
        f"{_in_words(max(0, size - file.tell()))}",
    )
    require_room(claimed, where)
    file.seek(0)
    return np.lib.format.read_array(file, allow_pickle=False)


def require_room(claimed: int, where: str) -> None:
    """Refuse to read what does not fit in memory.

    Raises:
        UserError: `claimed` bytes are more than the memory that is free, where that is known.
    """
    free = _free_memory()
    require(
        free is None or claimed <= free,
        f"{where} would take {_in_words(claimed)}, but {_in_words(free or 0)} of memory are free: keep fewer rows, or "
        "save it as a .npy, which datamodule=arrays leaves in its file",
    )


def _free_memory() -> int | None:
    """Bytes of memory that a process can still get; None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return None


def _in_words(number: int) -> str:
    for unit, power in (("TiB", 40), ("GiB", 30), ("MiB", 20)):
        if number >= 2**power:
            return f"{number / 2**power:,.1f} {unit}"
    return f"{number:,} bytes"


def read_in_chunks(path: Path, key: str, rows: int = 4096) -> Iterator[np.ndarray[Any, Any]]:
    """The array of this key in a .npz, `rows` rows at a time, so that it never lies in memory as a whole.

    Raises:
        UserError: a key that is not there, a file that is broken or would need pickle.
    """
    with _explained(path), zipfile.ZipFile(path) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist()]
        require(key in names, f"{path} has no array '{key}': {nearest(key, names)}")
        with archive.open(f"{key}.npy") as file:
            shape, dtype = _header(file)
            each = dtype.itemsize * math.prod(shape[1:])
            for start in range(0, shape[0], rows):
                count = min(rows, shape[0] - start)
                yield np.frombuffer(file.read(count * each), dtype).reshape(count, *shape[1:])
            if file.read(1):  # reading past the end is what verifies the checksum
                raise ValueError(f"array '{key}' is longer than its header says")


@dataclass(frozen=True)
class ArrayFile:
    """The place of an array in a file that holds its values just as memory would."""

    path: Path
    offset: int
    """Position of the first value in the file, in bytes."""
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    columns_first: bool = False

    @property
    def bytes(self) -> int:
        return self.dtype.itemsize * math.prod(self.shape)

    def opened(self) -> np.ndarray[Any, Any]:
        """The array, mapped into memory read-only.

        Raises:
            UserError: the file is shorter than its header says, or gone.
        """
        order: Literal["C", "F"] = "F" if self.columns_first else "C"
        with _explained(self.path):
            return np.memmap(self.path, self.dtype, mode="r", offset=self.offset, shape=self.shape, order=order)


def locate(path: Path, key: str) -> ArrayFile | str:
    """The place of this key's array in a .npz, or of the array in a .npy; or the reason why it cannot be mapped.

    Raises:
        UserError: a key that is not there, a file that is broken.
    """
    with _explained(path), path.open("rb") as file:
        if not _is_archive(file):
            return _mappable(path, file)
        with zipfile.ZipFile(file) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
            require(key in names, f"{path} has no array '{key}': {nearest(key, names)}")
            member = archive.getinfo(f"{key}.npy" if f"{key}.npy" in archive.namelist() else key)
            if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
                return f"array '{key}' of {path} is compressed or encrypted: write it with numpy.savez, or as a .npy"
            with archive.open(member) as whole:  # reading to the end is what verifies the checksum
                while whole.read(2**20):
                    pass
        file.seek(member.header_offset + 26)
        name_bytes, extra_bytes = struct.unpack("<HH", file.read(4))
        file.seek(name_bytes + extra_bytes, os.SEEK_CUR)
        return _mappable(path, file)


def holds_keys(path: Path) -> bool:
    """Whether a file is a .npz, judged by its content and not by its name."""
    with _explained(path), path.open("rb") as file:
        return _is_archive(file)


def _is_archive(file: IO[bytes]) -> bool:
    magic = file.read(2)
    file.seek(0)
    return magic == b"PK"


def _mappable(path: Path, file: IO[bytes]) -> ArrayFile | str:
    version = np.lib.format.read_magic(file)
    if version not in HEADERS:
        return f"{path} holds an array of version {version}"
    shape, columns_first, dtype = HEADERS[version](file)
    if dtype.hasobject or not math.prod(shape):
        return f"{path} holds an array of Python objects, or none at all"
    return ArrayFile(path, file.tell(), shape, dtype, columns_first)


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    if version not in HEADERS:
        raise ValueError(f"its arrays are of version {version}")
    shape, columns_first, dtype = HEADERS[version](file)
    if columns_first or dtype.hasobject or not shape:
        raise ValueError("an array of rows without Python objects is needed")
    return shape, dtype


def array_names(path: Path) -> list[str]:
    """The keys of a .npz; empty for a .npy."""
    with _explained(path), path.open("rb") as file:
        if not _is_archive(file):
            return []
        with zipfile.ZipFile(file) as archive:
            return list(_members(archive, path))


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # a broken file leads the readers into errors of many kinds
        reason = str(error) or type(error).__name__
        raise UserError(f"{path} cannot be read as numpy arrays without pickle ({reason})") from error
