"""Images and series as rows of square patches.

`[B, C, H, W]` (or `[B, C, T]`) in patches of side p is `[B, N, C * p * p]` (`C * p`): N patches in reading order, the
values of each in the order of the image.
"""

from __future__ import annotations

import itertools
import math

from torch import Tensor

from narrows.errors import require
from narrows.types import Shape


def patch_grid(shape: Shape, side: int, part: str) -> Shape:
    """How many patches of `side` lie along each axis of data of `shape` (with its channels).

    Raises:
        UserError: no image or series, or patches that do not cover it evenly.
    """
    size = tuple(shape[1:])
    require(
        len(size) in (1, 2),
        f"{part} cuts images (C, H, W) or series (C, T) into patches, not data of shape {list(shape)}",
    )
    common = math.gcd(*size)
    right = isinstance(side, int) and side > 0 and common % side == 0
    fitting = ", ".join(str(n) for n in range(1, common + 1) if common % n == 0)
    require(
        right,
        f"{part} has patches of side {side}, which do not cover {' x '.join(map(str, size))} evenly; use {fitting}",
    )
    return tuple(length // side for length in size)


def to_patches(x: Tensor, grid: Shape) -> Tensor:
    """`[B, C, *size] -> [B, N, C * patch]`."""
    sides = [length // count for length, count in zip(x.shape[2:], grid, strict=True)]
    split = x.reshape(*x.shape[:2], *itertools.chain.from_iterable(zip(grid, sides, strict=True)))
    counts = range(2, 2 + 2 * len(grid), 2)
    return split.permute(0, *counts, 1, *[axis + 1 for axis in counts]).reshape(x.shape[0], math.prod(grid), -1)


def from_patches(patches: Tensor, grid: Shape, shape: Shape) -> Tensor:
    """`[B, N, C * patch] -> [B, *shape]`, the inverse of `to_patches`."""
    sides = [length // count for length, count in zip(shape[1:], grid, strict=True)]
    split = patches.reshape(patches.shape[0], *grid, shape[0], *sides)
    axes = itertools.chain.from_iterable((1 + i, 2 + len(grid) + i) for i in range(len(grid)))
    return split.permute(0, 1 + len(grid), *axes).reshape(patches.shape[0], *shape)
