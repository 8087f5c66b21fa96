"""Scaling the values of arrays and images: standardised by the training rows, converted to floats, binarised."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from narrows.data.batch_loader import scaled, unit
from narrows.data.contents import Contents, Standardise
from narrows.data.float_precision import narrowed, refuse_blurred
from narrows.data.splits import Split
from narrows.data.stores import Dense, Packed, Store, differs
from narrows.errors import require
from narrows.random import generator
from narrows.types import COUNTED, PIXELS, Kind

Binarise = Literal["none", "static", "dynamic"]
FLOAT_BYTES = 512 * 2**20
"""Images that take less than this as float32 (MNIST: 0.2 GB) are held as float32, which saves converting every batch;
larger ones stay uint8. The served values are equal."""
CHUNK = 4096
"""Rows that are drawn together; another number would give other draws."""
ROUNDINGS = 16
"""An axis whose values span no more than so many roundings of its numbers does not vary."""


@dataclass
class ArrayScaling:
    """Shift and scale of every feature or channel (axis 1), by which `(x - shift) / scale` was served; kept with the
    run."""

    method: Standardise
    shift: list[float]
    """`[C]`."""
    scale: list[float]

    def apply(self, x: Tensor) -> Tensor:
        """Values `[N, C, ...]` in the data's own units as the model reads them, float32."""
        return _scaled(x, *self._laid_out(x))

    def undo(self, x: Tensor) -> Tensor:
        """Values `[N, C, ...]` as a model gives them in the data's own units, float64."""
        shift, scale = self._laid_out(x)
        return x.double() * scale + shift

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def _laid_out(self, x: Tensor) -> tuple[Tensor, Tensor]:
        shape = (1, -1, *[1] * (x.ndim - 2))
        low, width = (torch.tensor(values, dtype=torch.float64).reshape(shape) for values in (self.shift, self.scale))
        return low, width


def require_memory(contents: Contents, binarise: Binarise) -> None:
    """Refuse standardising or binarising examples that stay in their files, because it needs all of them at once, and
    those of which zeros are not held.

    Raises:
        UserError: such data are to be standardised or binarised.
    """
    asked = {"standardise": contents.standardise, "binarise": binarise}
    sparse = any(store.sparse for part in contents.parts().values() for store in part.stores)
    for name, how in asked.items():
        require(
            how == "none" or not sparse,
            f"{name}={how} would change every 0 of sparse rows and hold all of their values in memory, and what "
            f"is left would be no counts: set {name}=none (input=log1p takes them as they are)",
        )
        require(
            how == "none" or not any(part.reads_files for part in contents.parts().values()),
            f"{name}={how} would hold all examples in memory, but these stay in their files and are read batch by "
            f"batch: set {name}=none, or have them held (of arrays source.mapped=false, of a folder of images a larger "
            "source.memory_limit_mb)",
        )
        require(
            how == "none" or all(part.target is None for part in contents.parts().values()),
            f"{name}={how} would change the examples but not the targets that they come with: set {name}=none",
        )
        require(
            how == "none" or not any(differs(part.x) for part in contents.parts().values()),
            f"{name}={how} takes examples of one length, and these differ: set {name}=none",
        )


def hold(splits: dict[str, Split]) -> dict[str, Split]:
    """The splits with images converted from bytes to float32 in [0, 1], if all those in memory are small enough."""
    stores = [store for split in splits.values() for store in split.part.stores if not store.reads_files]
    if sum(4 * store.shape.numel() for store in stores) >= FLOAT_BYTES:
        return splits
    return {name: _held(split) for name, split in splits.items()}


def _held(split: Split) -> Split:
    if split.kind not in PIXELS:
        return split
    x, target = split.part.x, split.part.target
    return _with(split, _floats(x), None if target is None else _floats(target))


def _floats(store: Store) -> Store:
    plain = store.reads_files or store.dtype != torch.uint8
    return store if plain else Dense(unit(store.take(slice(None))))


def standardise(
    splits: dict[str, Split], how: Standardise, names: Sequence[str] | None = None
) -> tuple[dict[str, Split], ArrayScaling | None]:
    """The splits, standardised by statistics of the training rows, one per feature or channel (axis 1), as float32; and
    these statistics, where there are any.

    `standard`: `(x - mean) / deviation`; `minmax`: `(x - smallest) / (largest - smallest)`. An axis that does
    not vary is only shifted. Held-out values may leave the range of the training rows. Statistics and scaling are in
    double precision, and the result is rounded once: a small signal on a large offset keeps its digits.

    Args:
        names: of the features or channels, for messages.

    Raises:
        UserError: an unknown method; or nothing is scaled and float32 cannot tell the numbers apart.
    """
    choices = ("none", "standard", "minmax")
    require(how in choices, f"standardise={how!r} is none of {', '.join(choices)}")
    if how == "none":
        return {name: _narrowed(split, names) for name, split in splits.items()}, None
    shift, scale = fit_scaling(_whole(splits["train"]), splits["train"].part.observed, how)
    found = {name: scaled_by(split, shift, scale) for name, split in splits.items()}
    return found, ArrayScaling(how, shift.flatten().tolist(), scale.flatten().tolist())


def fit_scaling(train: Tensor, observed: Tensor | None, how: Standardise) -> tuple[Tensor, Tensor]:
    """Shift and scale of every feature or channel, float64 `[1, C, 1, ...]`, by observed values of training rows."""
    axes = [axis for axis in range(train.ndim) if axis != 1]
    low, high = _extremes(train, observed, axes)
    shift, scale = (low, high - low) if how == "minmax" else _moments(train, observed, axes)
    # What is left of a constant axis is rounding noise, by which nothing must be divided.
    precision = torch.finfo(train.dtype).eps
    flat = high - low <= ROUNDINGS * precision * torch.maximum(low.abs(), high.abs())
    return shift, torch.where(flat, 1.0, scale)


def scaled_by(split: Split, shift: Tensor, scale: Tensor) -> Split:
    """The split as `(x - shift) / scale`; missing values are 0, which after standardising is their mean."""
    found, part = _scaled(_whole(split), shift, scale), split.part
    if part.observed is not None:
        known = part.observed if part.concealed is None else part.observed | part.concealed
        found = found.masked_fill(~known, 0.0)
    return _with(split, Dense(found))


def _narrowed(split: Split, names: Sequence[str] | None) -> Split:
    """The split with numbers in double precision as float32, if that can tell them apart."""
    x, target = split.part.x, split.part.target
    if x.dtype != torch.float64:
        return split
    refuse_blurred(x.chunks(), names, "set standardise=standard, or take the offset off first")
    return _with(split, Dense(narrowed(x.take(slice(None)))), target)


def _scaled(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """`(x - shift) / scale`, of one for all rows or one for each, computed in double precision, some rows at a time, as
    float32."""
    found = torch.empty(x.shape, dtype=torch.float32)
    shift, scale = (value.expand(len(x), *value.shape[1:]) for value in (shift, scale))
    for start in range(0, len(x), CHUNK):
        rows = slice(start, start + CHUNK)
        found[rows] = (x[rows].double() - shift[rows]) / scale[rows]
    return found


def _extremes(x: Tensor, observed: Tensor | None, axes: list[int]) -> tuple[Tensor, Tensor]:
    """The smallest and the largest observed value, float64; 0 and 0 if none is observed."""
    if observed is None:
        return x.amin(axes, keepdim=True).double(), x.amax(axes, keepdim=True).double()
    low = x.masked_fill(~observed, math.inf).amin(axes, keepdim=True).double()
    high = x.masked_fill(~observed, -math.inf).amax(axes, keepdim=True).double()
    some = low <= high
    return torch.where(some, low, 0.0), torch.where(some, high, 0.0)


def _moments(x: Tensor, observed: Tensor | None, axes: list[int]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the observed values, float64; 0 and 0 if none is observed."""

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
    return mean, variance.sqrt()


def value_range(splits: dict[str, Split]) -> tuple[float, float] | None:
    """(0, 1) if every value of every split lies inside, of sound (-1, 1), (0, inf) of counts and interactions; else
    None, unbounded."""
    if splits["train"].kind in COUNTED:
        return 0.0, math.inf
    stores = [(store, split.kind) for split in splits.values() for store in split.part.stores]
    if splits["train"].kind == "audio":
        loudest = max(float(chunk.abs().amax()) for store, _ in stores for chunk in store.chunks())
        return (-1.0, 1.0) if loudest <= 1 else None
    return (0.0, 1.0) if all(_inside_unit(store, kind) for store, kind in stores) else None


def _inside_unit(store: Store, kind: Kind) -> bool:
    if kind == "tokens":  # token ids are names and have no range
        return False
    if kind in PIXELS and store.dtype == torch.uint8:
        return True
    return all(bool(chunk.amin() >= 0) and bool(chunk.amax() <= 1) for chunk in store.chunks())


def draw(split: Split, seed: int, name: str) -> Split:
    """The split with grey values replaced by one Bernoulli draw, seeded by (seed, "binarise", name)."""
    if isinstance(split.part.x, Packed):
        return split  # already black and white, which a draw would not change
    x = split.part.x.take(slice(None))
    source = generator(seed, "binarise", name)
    white = 255 if split.kind in PIXELS and x.dtype == torch.uint8 else 1
    for start in range(0, len(x), CHUNK):
        grey = scaled(x[start : start + CHUNK], split.kind)
        x[start : start + CHUNK] = (torch.rand(grey.shape, generator=source) < grey) * white
    return _with(split, Dense(x))


def binarised(
    splits: dict[str, Split], how: Binarise, bounds: tuple[float, float] | None, seed: int
) -> dict[str, Split]:
    """The splits with grey values drawn as `how` says; training rows that are drawn anew in every batch stay grey.

    Raises:
        UserError: values outside [0, 1].
    """
    if how == "none":
        return splits
    require(
        bounds == (0.0, 1.0),
        f"binarise={how} draws grey values in [0, 1], but these data leave that range: set binarise=none",
    )
    return {
        name: split if how == "dynamic" and name == "train" else draw(split, seed, name)
        for name, split in splits.items()
    }


def _with(split: Split, x: Store, target: Store | None = None) -> Split:
    return replace(split, part=replace(split.part, x=x, target=target))


def _whole(split: Split) -> Tensor:
    return scaled(split.part.x.take(slice(None)), split.kind)
