"""Scaling the parts of multi-modal data, each by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from narrows.data.array_scaling import ArrayScaling, fit_scaling, scaled_by
from narrows.data.contents import Standardise
from narrows.data.splits import Split
from narrows.types import NamedPart


def standardise(
    splits: dict[str, Split], parts: Sequence[NamedPart], hows: Sequence[Standardise]
) -> tuple[dict[str, Split], ArrayScaling | None]:
    """The splits with every part standardised as its source asks, by statistics of the training rows for each of its
    features or channels; and the shift and scale of each value of an example, where there are any."""
    asked = [how for how in hows if how != "none"]
    if not asked:
        return splits, None
    train, observed = splits["train"].part.x.take(slice(None)), splits["train"].part.observed
    pairs, start = [], 0
    for part, how in zip(parts, hows, strict=True):
        place = slice(start, start + part.size)
        start += part.size
        own = train[:, place].unflatten(1, part.shape)
        known = None if observed is None else observed[:, place].unflatten(1, part.shape)
        pairs.append(_fitted(own, known, how))
    shift, scale = (torch.cat(values)[None] for values in zip(*pairs, strict=True))
    found = {name: scaled_by(split, shift, scale) for name, split in splits.items()}
    return found, ArrayScaling(asked[0], shift[0].tolist(), scale[0].tolist())


def _fitted(train: Tensor, observed: Tensor | None, how: Standardise) -> tuple[Tensor, Tensor]:
    """Shift and scale of every value of a part `[N, *shape]`, float64 `[D]`."""
    if how == "none":
        values = train[0].numel()
        return torch.zeros(values, dtype=torch.float64), torch.ones(values, dtype=torch.float64)
    shift, scale = fit_scaling(train, observed, how)
    return shift[0].expand(train.shape[1:]).flatten(), scale[0].expand(train.shape[1:]).flatten()


def with_ranges(parts: Sequence[NamedPart], splits: dict[str, Split]) -> list[NamedPart]:
    """The parts with the range of their values: (0, 1) or, of sound, (-1, 1), where every value of every split lies
    inside; else None."""
    sizes = [part.size for part in parts]
    low, high = torch.full((len(parts),), torch.inf), torch.full((len(parts),), -torch.inf)
    for split in splits.values():
        for chunk in split.part.x.chunks():
            pieces = chunk.split(sizes, 1)
            low = torch.minimum(low, torch.stack([piece.amin() for piece in pieces]))
            high = torch.maximum(high, torch.stack([piece.amax() for piece in pieces]))
    found = []
    for part, least, largest in zip(parts, low.tolist(), high.tolist(), strict=True):
        bounds = (-1.0, 1.0) if part.kind == "audio" else (0.0, 1.0)
        inside = bounds[0] <= least and largest <= bounds[1]
        found.append(replace(part, value_range=bounds if inside else None))
    return found
