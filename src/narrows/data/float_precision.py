"""What float32, in which models compute, keeps of numbers that a source read in double precision."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from narrows.errors import UserError

MOST_LOST = 1e-3
"""Rounding to float32 that takes more than this share of a feature's deviation blurs it: different numbers become one.
A temperature in kelvin loses 1e-6, a swing of 0.05 Pa on 101,325 Pa 0.06, and seconds of 1970 lose a minute whole."""
ROUNDING_NOISE = 1e-12
"""A deviation below this share of a feature's size is what double precision itself leaves of a constant."""


@dataclass
class Blurred:
    """A feature, or channel, whose numbers float32 cannot tell apart."""

    place: int
    mean: float
    deviation: float
    step: float
    """The distance between neighbours in float32 at this mean."""


def find_blurred(chunks: Iterable[Tensor]) -> Blurred | None:
    """The first feature (axis 1) of examples `[n, C, ...]` in double precision that float32 blurs; None if none is.

    Values are shifted by those of the first chunk before they are squared, so that a large offset cancels.
    """
    count, shift = 0, torch.zeros(0)
    sums, squares, errors = (torch.zeros((), dtype=torch.float64) for _ in range(3))
    for chunk in chunks:
        axes = [axis for axis in range(chunk.ndim) if axis != 1]
        shift = shift if count else chunk.mean(axes, keepdim=True)
        away = chunk - shift
        count += chunk.numel() // max(1, chunk.shape[1])
        sums = sums + away.sum(axes)
        squares = squares + away.square().sum(axes)
        errors = errors + (chunk - chunk.float().double()).square().sum(axes)
    if not count:
        return None
    mean = shift.flatten() + sums / count
    deviation = (squares / count - (sums / count).square()).clamp_min(0).sqrt()
    lost = (errors / count).sqrt() > MOST_LOST * deviation
    for place in (lost & (deviation > ROUNDING_NOISE * mean.abs())).nonzero().flatten()[:1].tolist():
        size = mean[place].abs().float()
        step = float(torch.nextafter(size, torch.tensor(torch.inf)) - size)
        return Blurred(place, float(mean[place]), float(deviation[place]), step)
    return None


def narrowed(x: Tensor) -> Tensor:
    """Numbers in double precision as float32; everything else unchanged."""
    return x.float() if x.dtype == torch.float64 else x


def refuse_blurred(chunks: Iterable[Tensor], names: Sequence[str] | None, way_out: str) -> None:
    """Refuse examples `[n, C, ...]` in double precision whose numbers float32 cannot tell apart.

    Args:
        names: of the features or channels, `[C]`, if they have any.
        way_out: the end of the sentence: what to do.

    Raises:
        UserError: names the feature, its mean and deviation, and how far apart float32's numbers lie there.
    """
    found = find_blurred(chunks)
    if found is not None:
        name = f"'{names[found.place]}'" if names and found.place < len(names) else f"{found.place}"
        raise UserError(
            f"feature {name} lies around {found.mean:.6g} and deviates by {found.deviation:.3g}, but models compute "
            f"in float32, whose numbers are {found.step:.3g} apart there: it cannot tell these apart; {way_out}"
        )
