"""Refusing a record that holds links, through which a stranger's run could write to files elsewhere.

A run is unpacked with the links that its sender put into it: `.lock -> ~/.bashrc` would be cut to one line by the next
command that locks the run. So a record holds plain files and folders alone. A link that leads to the run's directory,
such as `latest -> 2026-11-28_12-00-00_ab12cd34`, or to a folder above it, is the user's own and works.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from narrows.errors import UserError
from narrows.runs.file_names import FOLDERS, HYDRA, LOGS


def what_is_no_plain_entry(record: Path, linked_runs: bool = False) -> str | None:
    """The first entry of a record that is neither a file nor a folder, as the begin of a sentence; None if all are.

    Judged are the entries of the directory itself and all that lies in the folders that narrows writes.

    Args:
        record: the directory of a run or sweep.
        linked_runs: accept links to folders, which a sweep's runs may be.

    Raises:
        OSError: a folder cannot be read.
    """
    for entry in _entries(record):
        if entry.is_dir(follow_symlinks=False) or entry.is_file(follow_symlinks=False):
            continue
        if entry.is_symlink() and not (linked_runs and entry.is_dir() and entry.name != LOGS):
            return f"{entry.path} is a link to {os.readlink(entry.path)}"
        if not entry.is_symlink() and os.path.lexists(entry.path):
            return f"{entry.path} is neither a file nor a folder"
    return None


def require_plain_entries(record: Path, linked_runs: bool = False) -> None:
    """Refuse a record that holds a link, a pipe or a device, before anything of it is read or written.

    Raises:
        UserError: names the entry.
    """
    if (found := what_is_no_plain_entry(record, linked_runs)) is not None:
        raise UserError(
            f"{found}, but a record holds plain files and folders alone, because what is written through a link lands "
            "elsewhere: put the file itself in its place (a link to the whole directory works)"
        )


def _entries(record: Path) -> Iterator[os.DirEntry[str]]:
    folders = [str(record)]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                yield entry
                written = Path(entry.path).relative_to(record).parts[0] in (*FOLDERS, HYDRA, LOGS)
                if written and entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
