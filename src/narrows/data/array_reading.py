"""What is said of arrays that were read: which arrays, as what, and which were not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from narrows.data.array_keys import Keys
from narrows.data.checks import count_classes
from narrows.data.contents import Contents, Part
from narrows.errors import printable
from narrows.types import Kind, Shape

AXES = {"vector": 1, "series": 2, "image": 3, "volume": 4, "video": 4}
"""Axes of an example, channels first."""
USES = {"train": "", "validation": "to validate on", "test": "to test on"}


@dataclass(frozen=True)
class Read:
    """One split of a file of arrays."""

    kind: Kind
    part: Part
    keys: Keys
    """The arrays that the examples and labels came from."""
    dtype: str
    """Of the examples, in the file."""
    left_out: str | None
    """Why labels that were found are none."""


def describe(read: Mapping[str, Read], names: Sequence[str]) -> list[str]:
    """The line of a file of arrays, by split; `names` are the keys of the training file."""
    train = read["train"]
    shape = tuple(train.part.x.shape[1:])
    said = [f"arrays: {len(train.part):,} {in_words(shape, train.kind)}, {train.dtype}{_from(train, names)}"]
    said += [f"{len(one.part):,} {USES[name]}{_from(one, names)}" for name, one in read.items() if name != "train"]
    said += [one.left_out for one in read.values() if one.left_out]
    used = {key for one in read.values() for key in (one.keys.x, one.keys.label)}
    rest = [f"'{printable(name)}'" for name in names if name not in used]
    said += [f"not read: {', '.join(rest)}"] if rest else []
    return ["; ".join(said)]


def describe_contents(contents: Contents) -> str:
    """The line of data whose source says nothing of itself."""
    shape = tuple(contents.train.x.shape[1:])
    known = AXES.get(contents.kind) == len(shape)
    words = in_words(shape, contents.kind) if known else f"examples of kind {contents.kind} and shape {list(shape)}"
    classes = count_classes(contents)
    return f"data: {len(contents.train):,} {words}{'' if classes is None else ', ' + _count(classes, 'class')}"


def _from(read: Read, names: Sequence[str]) -> str:
    if not names:
        return ""
    label, keys = read.part.label, read.keys
    labels = "no labels"
    if keys.label is not None and label is not None:
        number = _count(len(label.unique()), "class") if label.ndim == 1 else _count(label.shape[1], "factor")
        labels = f"labels from '{printable(keys.label)}' ({number})"
    return f" from '{printable(keys.x)}', {labels}"


def in_words(shape: Shape, kind: str) -> str:
    """What examples of this shape, channels first, are."""
    if kind == "vector":
        return f"vectors of {_count(shape[0], 'value')}"
    channels = _count(shape[0], "channel")
    if kind == "series":
        return f"series of {channels} x {_count(shape[1], 'time step')}"
    if kind == "volume":
        return f"volumes of {channels} x {shape[1]} x {shape[2]} x {shape[3]} voxels"
    if kind == "video":
        return f"clips of {channels} x {_count(shape[1], 'frame')} of {shape[2]} x {shape[3]} pixels"
    return f"images of {channels} x {shape[1]} x {shape[2]} pixels"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 'es' if noun.endswith('s') else 's'}"
