"""Values as the model sees them: standardised, held ready as floats, binarised."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from narrows.data.contents import Packed, Standardise, Stream
from narrows.data.loader import unit
from narrows.data.splits import Split
from narrows.errors import require
from narrows.random import generator

Binarise = Literal["none", "static", "dynamic"]
FLOAT_BYTES = 512 * 2**20
"""A data set that is smaller than this as float32 is held so (MNIST: 0.2 GB), which saves the conversion of
every batch; a larger one stays uint8. The served values are equal."""
CHUNK = 4096


def hold(splits: dict[str, Split]) -> dict[str, Split]:
    """uint8 splits as float32 in [0, 1], where all of them together are small enough."""
    held = [split.part.x for split in splits.values() if not isinstance(split.part.x, Stream)]
    if sum(4 * x.shape.numel() for x in held) >= FLOAT_BYTES:
        return splits
    return {name: _with(split, unit(_memory(split))) if _bytes(split) else split for name, split in splits.items()}


def standardise(splits: dict[str, Split], how: Standardise) -> dict[str, Split]:
    """Every split by the statistics of the training rows, one per feature or channel (axis 1).

    `standard`: `(x - mean) / deviation`; `minmax`: `(x - smallest) / (largest - smallest)`. An axis that does
    not vary is only shifted. Held-out values may leave the range of the training rows.
    """
    choices = ("none", "standard", "minmax")
    require(how in choices, f"standardise={how!r} is none of {', '.join(choices)}")
    if how == "none":
        return splits
    train = unit(_memory(splits["train"]))
    observed = splits["train"].part.observed
    axes = [axis for axis in range(train.ndim) if axis != 1]
    if how == "minmax":
        shift, scale = _extremes(train, observed, axes)
    else:
        shift, scale = _moments(train, observed, axes)
    # A constant axis has rounding noise for a deviation, which must not be blown up.
    flat = scale <= 1e-6 * shift.abs().clamp_min(1e-30)
    scale = torch.where(flat, torch.ones_like(scale), scale)
    return {name: _with(split, (unit(_memory(split)) - shift) / scale) for name, split in splits.items()}


def _extremes(x: Tensor, observed: Tensor | None, axes: list[int]) -> tuple[Tensor, Tensor]:
    """The smallest of the observed values and their range; 0 and 0 where there is none."""
    if observed is None:
        low = x.amin(axes, keepdim=True)
        return low, x.amax(axes, keepdim=True) - low
    low = x.masked_fill(~observed, math.inf).amin(axes, keepdim=True)
    high = x.masked_fill(~observed, -math.inf).amax(axes, keepdim=True)
    some = low <= high
    return torch.where(some, low, 0.0), torch.where(some, high - low, 0.0)


def _moments(x: Tensor, observed: Tensor | None, axes: list[int]) -> tuple[Tensor, Tensor]:
    """Mean and deviation of the observed values; 0 and 0 where there is none.

    Summed in double precision and rounded once at the end, they are the same whatever the order of the sum, which
    depends on processor and threads.
    """

    def total(of: Callable[[Tensor], Tensor]) -> Tensor:
        sums = []
        for start in range(0, len(x), CHUNK):
            values = of(x[start : start + CHUNK].double())
            if observed is not None:
                values = values.masked_fill(~observed[start : start + CHUNK], 0.0)
            sums.append(values.sum(axes, keepdim=True))
        return torch.stack(sums).sum(0)

    count = total(torch.ones_like).clamp_min(1)
    mean = total(lambda values: values) / count
    variance = total(lambda values: (values - mean).square()) / count
    return mean.to(x.dtype), variance.sqrt().to(x.dtype)


def value_range(splits: dict[str, Split]) -> tuple[float, float] | None:
    """(0, 1) where every value of every split lies inside; None, unbounded, otherwise."""
    for split in splits.values():
        x = split.part.x
        if x.dtype == torch.uint8:
            continue
        assert isinstance(x, Tensor)
        if x.amin() < 0 or x.amax() > 1:
            return None
    return (0.0, 1.0)


def draw(split: Split, seed: int, name: str) -> Split:
    """One Bernoulli draw of the grey values, named by (seed, "binarise", name)."""
    if isinstance(split.part.x, Packed):
        return split  # black and white already: a draw gives what is there
    x = _memory(split)
    source = generator(seed, "binarise", name)
    drawn = torch.empty_like(x)
    white = 255 if x.dtype == torch.uint8 else 1
    for start in range(0, len(x), CHUNK):
        grey = unit(x[start : start + CHUNK])
        drawn[start : start + CHUNK] = (torch.rand(grey.shape, generator=source) < grey) * white
    return _with(split, drawn)


def _with(split: Split, x: Tensor) -> Split:
    return Split(replace(split.part, x=x), split.rows)


def _bytes(split: Split) -> bool:
    return not isinstance(split.part.x, Stream) and split.part.x.dtype == torch.uint8


def _memory(split: Split) -> Tensor:
    require(
        not isinstance(split.part.x, Stream),
        "binarise and standardise need data held in memory, but these are streamed from files: set "
        "binarise=none, or raise source.memory_limit_mb",
    )
    if isinstance(split.part.x, Packed):
        return split.part.x.unpack()
    assert isinstance(split.part.x, Tensor)
    return split.part.x
