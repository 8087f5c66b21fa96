"""Sliding windows: signals cut into examples of equal length, which overlap where the stride is shorter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from narrows.data.contents import Part
from narrows.data.time_order import Recording
from narrows.errors import require


@dataclass
class Windows:
    """How signals are cut: windows of `window` time steps, one every `stride`."""

    window: int
    stride: int
    channels: int | None = None
    """Rows of values that are examples; the rest are covariates. None for all."""


def cut_windows(values: Tensor, label: Tensor | None, window: int, stride: int) -> Part:
    """The windows `[N, C, window]` of a signal `[C, T]`, one every `stride` time steps; NaN is a missing value.

    A window's label is 1 where the label `[T]` of any of its time steps is not 0.
    """
    x = values.unfold(1, window, stride).transpose(0, 1).contiguous()
    observed = ~x.isnan()
    found = Part(x) if observed.all() else Part(x.masked_fill(~observed, 0.0), observed=observed)
    if label is not None:
        found.label = (label.unfold(0, window, stride) != 0).any(1).to(torch.int64)
    return found


def cut_recordings(
    series: Sequence[Recording], how: Windows, part: str, *, start: float | None = None, end: float | None = None
) -> tuple[Part, Tensor]:
    """The windows of one part of every series, none of which crosses a gap, and where each one lies, int64 `[N, 2]`:
    the number of its series and its first time step. Windows in which nothing was measured are left out.

    Args:
        part: what the part is called in messages.
        start: the part is the last fraction of this size of each series; null for no limit.
        end: the part ends before that fraction.

    Raises:
        UserError: no stretch of the part is as long as a window.
    """
    found, places, longest = [], [], 0
    for number, one in enumerate(series):
        first = 0 if start is None else one.length - round(one.length * start)
        last = one.length if end is None else one.length - round(one.length * end)
        for stretch in one.stretches:
            inside = slice(max(first - stretch.start, 0), max(last - stretch.start, 0))
            values = stretch.values[:, inside]
            longest = max(longest, values.shape[1])
            if values.shape[1] < how.window:
                continue
            label = None if stretch.label is None else stretch.label[inside]
            channels = len(values) if how.channels is None else how.channels
            cut = cut_windows(values[:channels], label, how.window, how.stride)
            if channels < len(values):
                cut.covariates = values[channels:].unfold(1, how.window, how.stride).transpose(0, 1).contiguous()
            begin = stretch.start + inside.start + how.stride * torch.arange(len(cut))
            where = torch.stack([torch.full_like(begin, number), begin], 1)
            found.append(cut if cut.observed is None else _with_a_value(cut))
            places.append(where if cut.observed is None else where[cut.observed.flatten(1).any(1)])
    whole = len(series) == 1 and len(series[0].stretches) == 1
    what = f"the {longest} time steps {part}" if whole else f"the longest stretch {part}, {longest} time steps,"
    require(
        bool(found),
        f"{what} are fewer than window={how.window}: shorten it, or change source.test"
        + ("" if whole else " or source.order.time"),
    )
    return _joined(found), torch.cat(places)


def _with_a_value(part: Part) -> Part:
    assert part.observed is not None
    return part.select(part.observed.flatten(1).any(1).nonzero().flatten())


def _joined(parts: Sequence[Part]) -> Part:
    """All parts as one, whose `observed` is None if nothing is missing in any."""
    x = torch.cat([one.x.take(slice(None)) for one in parts])
    labels = [one.label for one in parts if one.label is not None]
    masks = [torch.ones(one.x.shape, dtype=torch.bool) if one.observed is None else one.observed for one in parts]
    missing = any(one.observed is not None for one in parts)
    found = Part(x, torch.cat(labels) if labels else None, torch.cat(masks) if missing else None)
    beside = [one.covariates for one in parts if one.covariates is not None]
    found.covariates = torch.cat(beside) if beside else None
    return found


def whole_series(series: Sequence[Recording]) -> Part:
    """Every series as an example, whose label is that of all its time steps.

    Raises:
        UserError: series of different lengths, with gaps, or with more than one label.
    """
    lengths = sorted({one.length for one in series})
    require(
        len(lengths) == 1,
        f"the series have {lengths[0]} to {lengths[-1]} time steps: set source.window to cut windows of one length",
    )
    labels = []
    for one in series:
        require(
            len(one.stretches) == 1,
            f"series '{one.name}' has a gap in its time: set source.window to cut windows that cross none, or "
            "source.order.time=null to take its rows as they come",
        )
        label = one.stretches[0].label
        if label is not None:
            require(
                bool((label == label[0]).all()),
                f"series '{one.name}' has more than one label: set source.window, so that each window has its own",
            )
            labels.append(label[0])
    x = torch.stack([one.stretches[0].values for one in series])
    observed = ~x.isnan()
    return Part(x.nan_to_num(), torch.stack(labels) if labels else None, None if observed.all() else observed)


def both_masked(first: Part, second: Part | None) -> None:
    """Give both parts a mask of what was observed where one of them has missing values."""
    parts = [one for one in (first, second) if one is not None]
    if any(one.observed is not None for one in parts):
        for one in parts:
            one.observed = torch.ones(one.x.shape, dtype=torch.bool) if one.observed is None else one.observed
