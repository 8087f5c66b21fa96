"""Walking folders: what is hidden is passed over, links are followed, and nothing is lost in silence."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from narrows.errors import UserError, require

LITTER = {"__macosx", "thumbs.db", "desktop.ini"}
"""What systems leave in folders, in small letters, besides names that start with a dot."""


@dataclass
class Folder:
    """What lies in a folder, in the order of names."""

    path: str
    folders: list[str] = field(default_factory=list)
    """Names of the folders in it, and of links to folders."""
    files: list[os.DirEntry[str]] = field(default_factory=list)
    """All else that is not hidden."""
    hidden: list[str] = field(default_factory=list)
    """Names that start with a dot, or that systems leave behind."""


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is passed over."""
    return name.startswith(".") or name.lower() in LITTER


def folders_below(root: Path | str) -> Iterator[Folder]:
    """The folder and all below it that are not hidden; those that links lead to, too.

    Raises:
        UserError: a folder that cannot be read; a link that leads nowhere, or to a folder that it lies in.
    """
    # The folders still to read, each with the identities of the folders that it lies in.
    waiting: list[tuple[str, dict[tuple[int, int], str]]] = [(str(root), {})]
    while waiting:
        path, above = waiting.pop()
        identity = _identity(path)
        if identity in above:
            raise UserError(
                f"{path} is a link to {above[identity]}, a folder that it lies in, so that there would be no end of "
                "files: take the link away"
            )
        found = Folder(path)
        for entry in _entries(path):
            if is_hidden(entry.name):
                found.hidden.append(entry.name)
            elif _is_folder(entry):
                waiting.append((entry.path, above | {identity: path}))
                found.folders.append(entry.name)
            else:
                found.files.append(entry)
        yield found


def files_below(root: Path | str) -> list[Path]:
    """The files in a folder and below that are not hidden, in the order of their names.

    Raises:
        UserError: see `folders_below`.
    """
    return sorted(Path(entry.path) for folder in folders_below(root) for entry in folder.files if entry.is_file())


def _entries(folder: str) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return iter(sorted(entries, key=lambda entry: entry.name))
    except OSError as error:
        raise UserError(f"the folder {folder} cannot be read ({error.strerror}): allow it, or take it away") from error


def _identity(folder: str) -> tuple[int, int]:
    try:
        found = os.stat(folder)
    except OSError as error:
        raise UserError(f"the folder {folder} cannot be read ({error.strerror}): allow it, or take it away") from error
    return found.st_dev, found.st_ino


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        folder = entry.is_dir()
        lost = not folder and entry.is_symlink() and not os.path.exists(entry.path)
    except OSError as error:
        raise UserError(f"{entry.path} cannot be followed ({error.strerror}): take it away") from error
    require(not lost, f"{entry.path} is a link that leads nowhere: put back what it pointed to, or take it away")
    return folder
