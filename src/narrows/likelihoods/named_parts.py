"""What encoders and decoders of multi-modal data share: the layout of the parts, and builders by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

from narrows.errors import UserError, nearest, require
from narrows.types import DataSpec, Shape

DATA = "use datamodule=multimodal (or halves, mnist_fsdd), or another choice in the place of parts"


def require_parts(spec: DataSpec, part: str) -> list[str]:
    """The names of the data's parts.

    Raises:
        UserError: the data have none.
    """
    if spec.parts is None:
        raise UserError(f"{part} needs data made of named parts, which these {spec.kind} data are not: {DATA}")
    return [one.name for one in spec.parts]


def require_layout(layout: Mapping[str, Shape] | None, shape: Shape, part: str, remedy: str) -> dict[str, Shape]:
    """The layout, where its parts fill examples of this shape.

    Args:
        remedy: how the message ends where they do not.

    Raises:
        UserError: no layout, or one of another size.
    """
    if layout is None:
        raise UserError(f"{part} needs data made of named parts, which these are not: {DATA}")
    found = {name: tuple(own) for name, own in layout.items()}
    size = sum(map(prod, found.values()))
    require(
        tuple(shape) == (size,),
        f"{part} has parts of {size} values together, and {list(shape)} is not what it {remedy}",
    )
    return found


def named_builders(
    each: Mapping[str, Callable[..., Any]] | None, names: Sequence[str], stage: str
) -> dict[str, Callable[..., Any]]:
    """Builders by the part's name.

    Raises:
        UserError: a name of no part.
    """
    given = dict(each or {})
    for name in given:
        require(name in names, f"{stage}.each: the data have no part '{name}': {nearest(name, names)}")
    return given
