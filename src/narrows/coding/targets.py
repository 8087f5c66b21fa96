"""Where examples that were read from files go when they are restored: a file again, or a folder of files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from narrows.errors import require


def require_free_folder(path: Path, what: str) -> None:
    """Refuse a folder that is not empty, or a file, as the place of a folder of `what`s.

    Raises:
        UserError: it is one of the two.
    """
    free = not path.exists() or (path.is_dir() and not any(path.iterdir()))
    require(free, f"a folder of {what}s comes back, and {path} is no new or empty folder")


def require_target(path: Path, ending: str, what: str, endings: Sequence[str], *, several: bool) -> None:
    """Refuse a target to which files of this kind cannot be written.

    Args:
        ending: of the target's name.
        what: one of the files is.
        endings: one file may have.
        several: whether a folder of them comes back.

    Raises:
        UserError: a wrong ending, or a folder that is not empty.
    """
    if several:
        require_free_folder(path, what)
        return
    right = ending in endings and not path.is_dir()
    require(right, f"a {what} comes back: let OUT end in {' or '.join(endings)}, not {path}")


def require_apart(names: Sequence[str], path: Path, what: str) -> None:
    """Refuse two examples at `path` that would be restored under one name.

    Raises:
        UserError: with the name.
    """
    doubled = sorted(name for name in set(names) if names.count(name) > 1)
    require(not doubled, f"{path} holds several {what}s that would all be {''.join(doubled[:1])}: rename them")
