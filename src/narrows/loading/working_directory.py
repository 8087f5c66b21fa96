"""Importing the packages of the user that lie in the working directory, and nothing else from there."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType


class _Finder:
    """Finds the named packages in the working directory, where the usual finders have found none."""

    def __init__(self, packages: Sequence[str]) -> None:
        self._names = {package.partition(".")[0] for package in packages}

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if path is not None or name not in self._names:
            return None
        return PathFinder.find_spec(name, [str(Path.cwd())], target)


@contextmanager
def importable(packages: Sequence[str]) -> Iterator[None]:
    """Inside this context the packages can be imported from the working directory too.

    They are looked for there last, because the directory may hold a stranger's files; nothing else is found there.
    """
    finder = _Finder(packages)
    sys.meta_path.append(finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
