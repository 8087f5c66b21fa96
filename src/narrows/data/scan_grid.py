"""Bringing scans to one grid and one range of values, and what is made of them back to their own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from narrows.data.scan_files import Scan, Values
from narrows.errors import require

Sides = tuple[int, int, int]
BRIGHTEST = 99.9
"""The percentile of a scan's values that `window=auto` takes for white."""
LARGEST_SIDE = 4096
MOST_VOXELS = 2**30
"""Of a scan at the spacing that is asked for: 8 GiB."""


@dataclass(frozen=True)
class Grid:
    """How scans that differ become volumes of one size.

    Args:
        spacing: millimetres of a voxel to which all are brought, by averaging or by linear interpolation; null: as they
            are.
        size: voxels `[depth, height, width]`, one number for all three; what stands over is cut and what lacks is
            filled with black, on both sides alike; null: as they are, and all alike.
        window: values that become 0 and 1, `[low, high]`, such as -160 and 240 Hounsfield units; what lies beyond is
            clipped. `auto`: of each scan its least value and its percentile `BRIGHTEST`, because the units of magnetic
            resonance are arbitrary. null: values as they are.

    Raises:
        UserError: a spacing, size or window that means nothing.
    """

    spacing: float | None = None
    size: int | Sequence[int] | None = None
    window: Literal["auto"] | Sequence[float] | None = "auto"

    def __post_init__(self) -> None:
        spacing = self.spacing
        right = spacing is None or (math.isfinite(spacing) and spacing > 0)
        require(right, f"source.grid.spacing={spacing} must be above 0 millimetres, or null")
        sides = [self.size] * 3 if isinstance(self.size, int) else list(self.size or [1] * 3)
        require(
            len(sides) == 3 and all(type(side) is int and 1 <= side <= LARGEST_SIDE for side in sides),
            f"source.grid.size={self.size} must be one whole number of voxels, or [depth, height, width], or null",
        )
        if not (self.window is None or self.window == "auto"):
            ends = list(self.window) if not isinstance(self.window, str) else []
            require(
                len(ends) == 2 and all(math.isfinite(end) for end in ends) and ends[0] < ends[1],
                f"source.grid.window={self.window} must be [low, high], auto or null",
            )

    @property
    def sides(self) -> Sides | None:
        """The size, where there is one."""
        if self.size is None:
            return None
        depth, height, width = [self.size] * 3 if isinstance(self.size, int) else list(self.size)
        return depth, height, width

    def fitted_sides(self, scan: Scan, where: str) -> Sides:
        """The sides of what `fit` makes of a scan."""
        return self.sides or self.resampled_sides(scan, where)

    def resampled_sides(self, scan: Scan, where: str) -> Sides:
        """The sides of a scan at the spacing, before it is cut."""
        shape: Sides = scan.values.shape  # type: ignore[assignment]
        if self.spacing is None:
            return shape
        require(
            scan.spacing is not None,
            f"{where} does not say how large its voxels are, so that source.grid.spacing={self.spacing} means nothing: "
            "set null",
        )
        assert scan.spacing is not None
        own = zip(shape, scan.spacing, strict=True)
        depth, height, width = (max(1, round(side * wide / self.spacing)) for side, wide in own)
        require(
            max(depth, height, width) <= LARGEST_SIDE and depth * height * width <= MOST_VOXELS,
            f"{where} has voxels of {' x '.join(f'{wide:g}' for wide in scan.spacing)} mm, and would have {depth:,} x "
            f"{height:,} x {width:,} at source.grid.spacing={self.spacing}, too many to be read: its file may be wrong "
            "about its voxels, or the spacing too small",
        )
        return depth, height, width

    def fit(self, scan: Scan, where: str) -> NDArray[np.float32]:
        """The scan as a model reads it, `[d, h, w]`."""
        low, high = self.ends(scan.values)
        values = scan.values.astype(np.float64)
        if self.window is not None:
            values = np.clip((values - low) / (high - low), 0.0, 1.0)
        values = resampled(values, self.resampled_sides(scan, where))
        return np.ascontiguousarray(values if self.sides is None else laid_into(values, self.sides, 0.0), np.float32)

    def fit_mask(self, mask: Scan, where: str) -> NDArray[np.bool_]:
        """A mask as the scan that it is of: a voxel is marked where at least half of it is."""
        values = resampled((mask.values != 0).astype(np.float64), self.resampled_sides(mask, where))
        return (values if self.sides is None else laid_into(values, self.sides, 0.0)) >= 0.5

    def back(
        self, values: Values, scan: Scan, where: str, ends: tuple[float, float] | None = None
    ) -> NDArray[np.float64]:
        """What a model made of a scan `[d, h, w]`, on the scan's own grid and in its own units; black where the grid
        was cut.

        Args:
            ends: the values that 0 and 1 become; None: those of the scan.
        """
        inside = laid_into(values.astype(np.float64), self.resampled_sides(scan, where), 0.0)
        found = resampled(inside, scan.values.shape)  # type: ignore[arg-type]
        if self.window is None:
            return found
        low, high = self.ends(scan.values) if ends is None else ends
        return found * (high - low) + low

    def ends(self, values: Values) -> tuple[float, float]:
        """The values that become 0 and 1; of a scan whose values are all alike, they all become 0."""
        if self.window is None:
            return 0.0, 1.0
        if not isinstance(self.window, str):
            low, high = (float(end) for end in self.window)
            return low, high
        low, high = float(values.min()), float(np.percentile(values, BRIGHTEST))
        return low, high if high > low else max(float(values.max()), low + 1.0)


def laid_into(values: Values, sides: Sides, empty: Any) -> Values:
    """An array cut and filled up to `sides`, as much at either end of each axis."""
    found = np.full(sides, empty, dtype=values.dtype)
    taken, put = [], []
    for own, side in zip(values.shape, sides, strict=True):
        kept = min(own, side)
        taken.append(slice((own - kept) // 2, (own - kept) // 2 + kept))
        put.append(slice((side - kept) // 2, (side - kept) // 2 + kept))
    found[tuple(put)] = values[tuple(taken)]
    return found


def resampled(values: Values, sides: Sequence[int]) -> NDArray[np.float64]:
    """An array of other sides over the same space: each axis by the mean over what a new cell covers where it becomes
    coarser, and linearly between the centres of cells where it becomes finer."""
    for axis, side in enumerate(sides):
        if values.shape[axis] != side:
            values = np.moveaxis(np.tensordot(_weights(values.shape[axis], side), values, (1, axis)), 0, axis)
    return values


def _weights(own: int, wanted: int) -> NDArray[np.float64]:
    """`[wanted, own]`, rows of which sum to 1."""
    if wanted < own:
        ends = np.arange(wanted + 1) * own / wanted
        cells = np.arange(own)
        shared = np.minimum(ends[1:, None], cells + 1) - np.maximum(ends[:-1, None], cells)
        weights = np.clip(shared, 0.0, None)
        found: NDArray[np.float64] = weights / weights.sum(1, keepdims=True)
        return found
    places = np.clip((np.arange(wanted) + 0.5) * own / wanted - 0.5, 0, own - 1)
    linear: NDArray[np.float64] = 1 - np.abs(places[:, None] - np.arange(own))
    return linear.clip(0.0, 1.0)
