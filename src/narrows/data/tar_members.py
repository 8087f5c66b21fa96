"""Files within tar archives, found once by their places and read there: an archive is not unpacked, nor read through.

The layout is that of WebDataset (https://github.com/webdataset/webdataset): files of one example stand beside each
other under one name and differ in what follows its first dot, `000017.jpg`, `000017.cls`. WebDataset itself reads
archives as streams, from front to back, and shuffles what a buffer holds; the order would then depend on the number of
processes, and a run could not go on within an epoch. Places make any order as cheap, and batches a function of seed and
counters.
"""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from narrows.errors import UserError, require
from narrows.files import require_no_pipe

BLOCK = 512
"""Bytes of a tar block; headers and files begin at multiples of it, and a block of zeros stands behind the last."""


class Member(NamedTuple):
    """One file of an archive, which stands for it wherever a path of an image does."""

    archive: str
    name: str
    start: int
    """Where its bytes begin in the archive."""
    size: int

    def __str__(self) -> str:
        return f"{self.name} of {self.archive}"

    def read_bytes(self) -> bytes:
        """Its content.

        Raises:
            UserError: the archive has become shorter, or cannot be read.
        """
        try:
            with open(self.archive, "rb") as file:
                content = os.pread(file.fileno(), self.size, self.start) if POSITIONED else _read(file, self)
        except OSError as error:
            raise UserError(f"{self.archive} cannot be read ({error.strerror}): put it back") from error
        require(
            len(content) == self.size,
            f"{self} is not whole: the archive has become shorter since it was opened; put it back",
        )
        return content

    @property
    def key(self) -> str:
        """What the files of one example have in common: the name up to the first dot behind its last slash."""
        folder, slash, last = self.name.rpartition("/")
        return folder + slash + last.partition(".")[0]

    @property
    def ending(self) -> str:
        """What follows that dot, in small letters."""
        return self.name.rpartition("/")[2].partition(".")[2].lower()


POSITIONED = hasattr(os, "pread")
"""Windows has no reading at a place in one call."""


def _read(file: io.BufferedReader, member: Member) -> bytes:
    file.seek(member.start)
    return file.read(member.size)


def members(archive: Path) -> Iterator[Member]:
    """The files of an archive, in its order; folders are passed over.

    Raises:
        UserError: it is no tar, is compressed, damaged or cut off, or holds links or sparse files.
    """
    require_no_pipe(archive)
    try:
        with open(archive, "rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            size = os.fstat(file.fileno()).st_size
            for entry in tar:
                if entry.isdir():
                    continue
                require(
                    entry.isreg() and not entry.issparse(),
                    f"{archive} holds {entry.name}, which is a link or a file with holes: pack the file itself",
                )
                require(
                    entry.offset_data + entry.size <= size,
                    f"{archive} is cut off within {entry.name}: download or pack it again",
                )
                yield Member(str(archive), entry.name, entry.offset_data, entry.size)
            # `tarfile` takes a damaged header for the end, and the end of the file too: all files behind it would be
            # missing in silence.
            file.seek(tar.offset)
            require(
                file.read(BLOCK) == bytes(BLOCK),
                f"{archive} is damaged or cut off at byte {tar.offset:,}, where neither a file begins nor the archive "
                "ends: download or pack it again",
            )
    except UserError:
        raise
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(
            f"{archive} is no tar archive that can be read at any place ({reason}): shards are tar files that are not "
            "compressed; unpack or pack it again"
        ) from error
