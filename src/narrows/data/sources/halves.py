"""Pictures cut in two, the smallest multi-modal data."""

from __future__ import annotations

from math import prod

import torch

from narrows.data.batch_loader import scaled
from narrows.data.contents import Contents, Part, Source
from narrows.data.stores import Dense
from narrows.errors import require
from narrows.types import NamedPart


class Halves:
    """Wraps a source of pictures and cuts each into its parts `left` and `right`, the latter the wider one where the
    width is odd.

    Args:
        source: of pictures that are held in memory.

    Raises:
        UserError: (`load`) other data, or pictures of one column.
    """

    def __init__(self, source: Source) -> None:
        self.source = source

    def load(self) -> Contents:
        contents = self.source.load()
        shape = tuple(contents.train.x.shape[1:])
        whole = contents.kind == "image" and len(shape) == 3 and not contents.train.reads_files
        require(whole, f"source halves cuts pictures held in memory, not {contents.kind} data of shape {list(shape)}")
        require(shape[2] > 1, "source halves: pictures of one column have no halves")
        middle = shape[2] // 2
        sizes = {"left": (*shape[:2], middle), "right": (*shape[:2], shape[2] - middle)}
        parts = {name: _cut(part, middle) for name, part in contents.parts().items()}
        return contents.with_parts(
            parts,
            kind="vector",
            named_parts=[NamedPart(name, size, "image") for name, size in sizes.items()],
            standardise_parts=["none", "none"],
            reading=[
                *contents.reading,
                f"halves: pictures {'x'.join(map(str, shape[1:]))} cut in two, {prod(sizes['left'])} and "
                f"{prod(sizes['right'])} values",
            ],
        )


def _cut(part: Part, middle: int) -> Part:
    require(
        part.target is None and part.observed is None,
        "source halves cuts plain pictures, without targets of their own or missing values",
    )
    x = scaled(part.x.take(slice(None)), "image")
    halves = torch.cat([x[..., :middle].flatten(1), x[..., middle:].flatten(1)], 1)
    return Part(Dense(halves), part.label, names=part.names)
