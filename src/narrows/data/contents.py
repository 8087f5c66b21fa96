"""What a source gives: the examples of each part that its makers fixed, before any split of ours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from narrows.errors import UserError
from narrows.types import Kind, Shape

Standardise = Literal["none", "standard", "minmax"]


class Stream:
    """Images that are read from their files whenever they are asked for, because they do not fit memory.

    Args:
        paths: one file per example.
        read: `read(path) -> uint8 [C, H, W]`; raises `UserError` where a file is broken. Picklable, for
            loader workers; its `repr` names every choice that changes a pixel (it goes into the fingerprint).
    """

    dtype = torch.uint8

    def __init__(self, paths: Sequence[str], read: Callable[[str], Tensor], shape: Shape) -> None:
        self.paths = list(paths)
        self.read = read
        self.shape = torch.Size((len(self.paths), *shape))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> Tensor:
        return self.read(self.paths[row])

    def __getitems__(self, rows: Tensor) -> Tensor | UserError:
        # The error travels as a value: raised inside a loader worker it would come out as a page of traceback.
        try:
            return torch.stack([self[row] for row in rows.tolist()])
        except UserError as error:
            return error

    def index_select(self, dim: int, rows: Tensor) -> Stream:
        """The stream of these rows, in this order; `dim` is always 0, as in `Tensor.index_select`."""
        return Stream([self.paths[row] for row in rows.tolist()], self.read, tuple(self.shape[1:]))


@dataclass
class Part:
    """Examples and their labels.

    `x` is uint8 (served divided by 255) or float32 (served as it is), `[N, *shape]`; `label` int64 `[N]`.
    """

    x: Tensor | Stream
    label: Tensor | None = None

    def __len__(self) -> int:
        return len(self.x)

    def select(self, rows: Tensor) -> Part:
        label = None if self.label is None else self.label.index_select(0, rows)
        return Part(self.x.index_select(0, rows), label)


@dataclass
class Contents:
    """All that `load()` found.

    `validation` and `test` are the official parts, None where there is none. Where `test` is None the
    datamodule takes `test_fraction` of `train` (None: no test part). Where `neighbours` is set, consecutive
    rows share samples (overlapping windows): parts are then cut in order, never shuffled, and so many rows
    are left out at every cut. `standardise` is fitted by the datamodule, which knows the training rows.
    """

    kind: Kind
    train: Part
    validation: Part | None = None
    test: Part | None = None
    test_fraction: float | None = None
    train_labels: Sequence[int] | None = None
    neighbours: int | None = None
    standardise: Standardise = "none"
    feature_names: list[str] | None = None

    def parts(self) -> dict[str, Part]:
        """The parts that exist, by name."""
        named = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: part for name, part in named.items() if part is not None}


class Source(Protocol):
    """What the datamodule's `source` is."""

    def load(self) -> Contents: ...


def pool(first: Part, second: Part) -> Part:
    """Both parts as one: the rows of `second` are numbered after those of `first`."""
    labels = [part.label for part in (first, second) if part.label is not None]
    label = torch.cat(labels) if len(labels) == 2 else None
    if isinstance(first.x, Stream) and isinstance(second.x, Stream):
        paths = first.x.paths + second.x.paths
        return Part(Stream(paths, first.x.read, tuple(first.x.shape[1:])), label)
    assert isinstance(first.x, Tensor)
    assert isinstance(second.x, Tensor)
    return Part(torch.cat([first.x, second.x]), label)
