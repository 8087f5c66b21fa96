"""One numbering of the classes of several sources."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch

from narrows.data.contents import Contents, Part, shortened


def with_agreeing_classes(loaded: Mapping[str, Contents]) -> dict[str, Contents]:
    """The contents with classes of one name under one number. Each source numbers its own, so that cat is 0 beside dog
    and 1 beside ape. Classes that a source has as numbers alone keep them.
    """
    names: list[str] = []
    for contents in loaded.values():
        names += [name for name in contents.class_names or [] if name not in names]
    return {name: _renumbered(contents, names) for name, contents in loaded.items()}


def common_names(loaded: Mapping[str, Contents]) -> list[str] | None:
    """The name of every class by its number, of contents whose classes agree; None where no source names them."""
    return max((one.class_names for one in loaded.values() if one.class_names is not None), key=len, default=None)


def say_numbered(loaded: Mapping[str, Contents]) -> str:
    """Which sources have classes as numbers beside others that name them, the end of a line for people."""
    names = common_names(loaded)
    numbered = [name for name, one in loaded.items() if one.class_names is None and one.train.label is not None]
    if names is None or not numbered or all(name == str(number) for number, name in enumerate(names)):
        return ""
    classes = shortened([f"{number} is {name}" for number, name in enumerate(names)])
    return f"; classes of {' and '.join(numbered)} are numbers, taken for those of the others ({classes})"


def _renumbered(contents: Contents, names: Sequence[str]) -> Contents:
    own = contents.class_names
    if own is None or list(own) == list(names[: len(own)]):
        return contents
    numbers = [names.index(name) for name in own]
    trained = contents.train_labels
    parts = {name: _labelled(part, torch.tensor(numbers)) for name, part in contents.parts().items()}
    return contents.with_parts(
        parts, class_names=list(names), train_labels=None if trained is None else [numbers[one] for one in trained]
    )


def _labelled(part: Part, numbers: torch.Tensor) -> Part:
    if part.label is None or part.label.ndim != 1:
        return part
    changed = copy.copy(part)
    changed.label = numbers[part.label]
    return changed
