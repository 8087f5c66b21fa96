"""Checkpoint files with checksums: written whole or not at all, and refused when damaged.

A checkpoint is written beside its target, synchronised to the disk and renamed over it. Its SHA-256 is the comment of
the zip archive that torch writes, so that the file and its checksum are replaced together. A file that is cut short,
differs in one bit or has no checksum is refused by name, and `newest` then takes the checkpoint before it.

`checkpoints/` holds `last.ckpt`, `previous.ckpt` (the one before it, in case `last` is damaged), `best.ckpt`, and
`density.ckpt` if a density was fitted to the latents.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import shutil
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Literal

from narrows.config.plain_schema import require_fits
from narrows.errors import UserError, first_line
from narrows.files import clear_temporaries, replacing
from narrows.runs import weight_files
from narrows.runs.file_names import CHECKPOINTS, FOLDERS, HYDRA

Name = Literal["best", "last"]
TEMPORARY = ".writing"
_MARK = b"sha256:"
_COMMENT = len(_MARK) + 64
_NO_COMMENT = b"\0\0"  # the length of the comment, the last two bytes of an archive without one
_CHUNK = 1 << 20
log = logging.getLogger(__name__)


class _Hashing(io.RawIOBase):
    """Passes bytes on and hashes them."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.hash = hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._file.write(data)
        self.hash.update(data)
        return len(data)


def save(state: Mapping[str, Any], folder: Path, names: Sequence[Name]) -> None:
    """Write `state` once, under each of `names`; the old `last` becomes `previous`.

    `best` is written first: if the process ends in between, training resumes from the older `last` and writes the same
    `best` again.

    Raises:
        UserError: the disk is full or the folder cannot be written; what was there is kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f"{TEMPORARY}.{os.getpid()}.ckpt"
    try:
        with replacing(temporary) as file:
            _write(state, file)
        if "best" in names:
            _place(temporary, folder / "best.ckpt")
        if "last" in names:
            if (folder / "last.ckpt").exists():
                _place(folder / "last.ckpt", folder / "previous.ckpt")
            _place(temporary, folder / "last.ckpt")
        _synchronise(folder)
    except OSError as error:
        raise UserError(f"cannot write a checkpoint to {folder}: {error.strerror}; those before it are kept") from error
    finally:
        temporary.unlink(missing_ok=True)


def save_as(state: Mapping[str, Any], path: Path) -> None:
    """Write `state` under one name, replacing what was there.

    Raises:
        UserError: the disk is full or the folder cannot be written; what was there is kept.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            _write(state, file)
        _synchronise(path.parent)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; what was there is kept") from error


def checksum(path: Path) -> str:
    """The SHA-256 that a checkpoint file carries, as text; `read` verifies it. Of weights alone it is that of the
    checkpoint that they were taken from."""
    if path.suffix == weight_files.SUFFIX:
        return weight_files.origin(path)
    with open(path, "rb") as file:
        file.seek(-(_COMMENT - len(_MARK)), os.SEEK_END)
        return file.read().decode("ascii", "replace")


def _write(state: Mapping[str, Any], file: BinaryIO) -> None:
    import torch

    stream = _Hashing(file)
    torch.save(state, stream)  # type: ignore[arg-type]
    file.seek(-len(_NO_COMMENT), os.SEEK_CUR)
    file.write(struct.pack("<H", _COMMENT) + _MARK + stream.hash.hexdigest().encode())


def _place(source: Path, target: Path) -> None:
    """Replace `target` by a hard link to `source`, atomically."""
    link = target.with_name(f"{TEMPORARY}.{target.name}")
    link.unlink(missing_ok=True)
    try:
        try:
            os.link(source, link)
        except OSError:  # a file system without hard links
            shutil.copyfile(source, link)
        os.replace(link, target)
    finally:
        link.unlink(missing_ok=True)


def _synchronise(folder: Path) -> None:
    if os.name != "posix":  # Windows opens no folders
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def damage(path: Path) -> str | None:
    """What is wrong with a checkpoint file; None if its bytes are those that were written."""
    if path.exists() and not path.is_file():
        return "is not a file"
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            rest, digest = size - _COMMENT - len(_NO_COMMENT), hashlib.sha256()
            while rest > 0 and (chunk := file.read(min(rest, _CHUNK))):
                digest.update(chunk)
                rest -= len(chunk)
            length, comment = file.read(len(_NO_COMMENT)), file.read()
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if rest < 0 or length != struct.pack("<H", _COMMENT) or not comment.startswith(_MARK):
        return "is cut short or was not written by narrows: it has no checksum"
    digest.update(_NO_COMMENT)
    return None if comment[len(_MARK) :] == digest.hexdigest().encode() else "is damaged: its checksum does not fit"


def read(path: Path) -> dict[str, Any]:
    """The content of a checkpoint, on the CPU; only tensors and plain values are ever unpickled.

    Raises:
        UserError: the file is damaged or holds anything else.
    """
    import pickle

    import torch

    if path.suffix == weight_files.SUFFIX:
        return weight_files.read(path)
    if (reason := damage(path)) is not None:
        raise UserError(f"{path} {reason}")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, KeyError, ValueError, pickle.UnpicklingError, OSError) as error:
        raise UserError(f"{path} is not a readable checkpoint ({type(error).__name__})") from error
    require_fits(dict[str, Any], state, str(path))
    return state


def restore(module: Any, weights: Any, path: Path) -> None:
    """Load the weights of a checkpoint into a torch module.

    Raises:
        UserError: they are not of this module; the message names `path`, where they were read.
    """
    try:
        module.load_state_dict(weights)
    except (RuntimeError, TypeError, KeyError, ValueError, AttributeError, IndexError) as error:
        raise UserError(
            f"{path} does not fit its model, the {type(module).__name__} that the run's config describes: "
            f"{first_line(error)}"
        ) from error


def newest(run_dir: Path) -> Path | None:
    """The newest undamaged checkpoint, from which a run resumes; None if there is neither `last` nor `previous`.

    It is `best` if the process ended within the very first `save`, between `best` and `last`.

    Raises:
        UserError: all checkpoints are damaged.
    """
    found = [path for name in ("last", "previous") if (path := run_dir / CHECKPOINTS / f"{name}.ckpt").exists()]
    reasons = []
    for path in found:
        if (reason := damage(path)) is None:
            return path
        reasons.append(f"{path} {reason}")
        log.warning("%s; the one before it is used", reasons[-1])
    if reasons:
        raise UserError("; ".join(reasons))
    best = run_dir / CHECKPOINTS / "best.ckpt"
    unfinished = [path for path in best.parent.glob(f"{TEMPORARY}.*") if best.exists() and path.samefile(best)]
    return best if unfinished and damage(best) is None else None


def finish_save(run_dir: Path, start: Path | None) -> None:
    """Do what a process that was killed within `save` has left: `last` beside the first `best`, no temporary files.

    Args:
        start: what `newest` found.
    """
    if start is not None and start.name == "best.ckpt":
        _place(start, start.with_name("last.ckpt"))
    clear_temporary(run_dir)


def clear_temporary(run_dir: Path) -> None:
    """Remove the temporary files of a process that was killed while writing."""
    for path in (run_dir / CHECKPOINTS).glob(f"{TEMPORARY}.*"):
        path.unlink()
    for folder in (run_dir, *(run_dir / name for name in FOLDERS), run_dir / HYDRA):
        clear_temporaries(folder)
