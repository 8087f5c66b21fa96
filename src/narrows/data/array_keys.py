"""Finding the examples, labels and splits in a file of arrays by the names that are usual for them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from narrows.errors import UserError

AUTO = "auto"
"""In place of a key: the array is found by its name."""
EXAMPLES = ("x", "data", "images", "image", "features")
LABELS = ("y", "labels", "label", "targets", "target")
SPLITS = {"train": ("train", "training"), "validation": ("val", "valid", "validation"), "test": ("test", "testing")}


@dataclass(frozen=True)
class Keys:
    """The names of the array of examples and of that of their labels."""

    x: str
    label: str | None = None


def find_training(names: Sequence[str], where: object, setting: str = "source.x_key") -> Keys:
    """The arrays to train on: `x_train` and `y_train`, `X` and `y`, or a single array under any name; `setting` is the
    option that would name the examples.

    Raises:
        UserError: no array, or several, can be meant.
    """
    return find_split(names, "train", where) or _find_plain(names, where, setting)


def find_test(names: Sequence[str], where: object) -> Keys:
    """The arrays to test on in a file of their own.

    Raises:
        UserError: no array, or several, can be meant.
    """
    return find_split(names, "test", where) or _find_plain(names, where)


def find_split(names: Sequence[str], split: str, where: object) -> Keys | None:
    """The arrays whose names say that they are this split's, such as `x_test`, `X_test` or `test_images`; None if no
    examples are.

    Raises:
        UserError: several can be meant.
    """
    x = _only(names, _of(EXAMPLES, split), where, "source.x_key")
    return None if x is None else Keys(x, _only(names, _of(LABELS, split), where, "source.label_key"))


def _find_plain(names: Sequence[str], where: object, setting: str = "source.x_key") -> Keys:
    label = "y" if "y" in names else _only(names, LABELS, where, "source.label_key")
    x = "x" if "x" in names else _only(names, EXAMPLES, where, setting)
    rest = [name for name in names if name != label]
    if x is None and len(rest) == 1:
        x = rest[0]
    if x is None:
        raise UserError(
            f"{where} has no array '{EXAMPLES[0]}', nor one of the other usual names ({', '.join(EXAMPLES[1:])}): set "
            f"{setting} to one of {', '.join(sorted(names))}"
        )
    return Keys(x, label)


def _of(bases: Iterable[str], split: str) -> set[str]:
    words = SPLITS[split]
    return {name for base in bases for word in words for name in (base + word, word + base)}


def _only(names: Iterable[str], usual: Iterable[str], where: object, setting: str) -> str | None:
    """The one name that is, in whatever case and with whatever marks between its words, a usual one."""
    plain = {name: "".join(char for char in name.lower() if char.isalnum()) for name in names}
    found = [name for name in names if plain[name] in set(usual)]
    if len(found) > 1:
        raise UserError(f"{where} has several arrays that may be meant ({', '.join(found)}): set {setting} to one")
    return found[0] if found else None
