"""Places of results in a folder: no two examples share one."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePosixPath


def renamed(name: str, ending: str) -> str:
    """The name of a file with another ending: `a/b.jpg` becomes `a/b.png`, or `a/b_2.png`."""
    return f"{PurePosixPath(name).with_suffix('')}{ending}"


class PlacesApart:
    """The name of the file for every example. Where several would have one name, the example that is called so keeps
    it, and each other one's ending stays in front of the new one: `a.wav` and `a.ogg` become `a.wav` and `a.ogg.wav`.

    Args:
        wanted: of every example that is known beforehand, its name and that of its file.
        taken: names of files that are no example's.
    """

    def __init__(self, wanted: Iterable[tuple[str, str]], taken: Iterable[str] = ()) -> None:
        pairs = list(wanted)
        self._names = {name for name, _ in pairs}
        self._count = Counter(file for _, file in pairs)
        self._taken = set(taken)

    def place(self, folder: Path, name: str, wanted: str, ending: str) -> Path:
        """Where in `folder` the file for this example lies, whose own folder is made; see `of`."""
        target = folder / self.of(name, wanted, ending)
        target.parent.mkdir(parents=True, exist_ok=True)
        return target

    def of(self, name: str, wanted: str, ending: str) -> str:
        """The name of the file for this example, each of which asks once; all end in `ending`."""
        plain = wanted.removesuffix(ending)
        numbered = (f"{plain}_{number}{ending}" for number in itertools.count(2))
        for found in itertools.chain((wanted, f"{name}{ending}"), numbered):
            shared = found in self._names or self._count[found] > 1
            if found not in self._taken and (found == name or not shared):
                break
        self._taken.add(found)
        return found
