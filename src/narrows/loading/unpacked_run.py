"""Opening a run that `narrows pack` has written into one file, `NAME.narrows`: a zip with a run directory in it; or one
that the hub has given as a folder of links into its cache.

It may come from a stranger: only entries of the names that `pack` writes are taken out, into a folder of this process
alone, and none that would be larger than it says.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import weakref
import zipfile
import zlib
from pathlib import Path

from narrows.errors import UserError, first_line, require

ENTRIES = re.compile(
    r"[\w-]+\.(json|yaml|md)|checkpoints/(best|last|density)\.safetensors|coding/[\w.-]+\.json|figures/[\w.-]+\.png"
)
"""What a packed run may hold."""
CHECKPOINT = re.compile(r"checkpoints/(best|last|density)\.ckpt")
"""What the folder of a run holds in place of packed weights."""
DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, ValueError)
"""What reading a zip raises."""
MOST_TEXT = 2**28
"""Bytes of an entry that is compressed; weights and pictures are stored as they are."""


class Unpacked:
    """The folder into which a packed run was taken; it is gone with this object, at the latest as the process ends.

    Raises:
        UserError: the file is no packed run, or is damaged.
    """

    def __init__(self, packed: Path) -> None:
        folder = tempfile.mkdtemp(prefix="narrows-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self.path = Path(folder) / packed.stem
        if packed.is_dir():
            _copy(packed, self.path)
            return
        try:
            with zipfile.ZipFile(packed) as archive:
                for entry in archive.infolist():
                    _require_permitted(entry, packed)
                archive.extractall(self.path)
        except DAMAGED as error:
            raise UserError(
                f"{packed} is neither a run directory nor a run that narrows pack has written, or is damaged "
                f"({first_line(error)})"
            ) from error


def _copy(run: Path, target: Path) -> None:
    """Copy what a packed run may hold, and checkpoints as training writes them."""
    for path in run.rglob("*"):
        name = path.relative_to(run).as_posix()
        if path.is_file() and (ENTRIES.fullmatch(name) or CHECKPOINT.fullmatch(name)):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target / name)


def _require_permitted(entry: zipfile.ZipInfo, packed: Path) -> None:
    kind = entry.external_attr >> 28  # of Unix: 10 is a link
    stored = entry.compress_type == zipfile.ZIP_STORED and entry.compress_size == entry.file_size
    require(
        ENTRIES.fullmatch(entry.filename) is not None and kind in (0, 8),
        f"{packed} is no run that narrows pack has written: it holds {entry.filename!r:.80}",
    )
    require(
        stored or entry.file_size <= MOST_TEXT,
        f"{packed} is no run that narrows pack has written: {entry.filename} would have {entry.file_size:,} bytes",
    )
