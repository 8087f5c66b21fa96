"""How the windows of signals were scaled, so that new readings are scaled, and cut, in the same way."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from narrows.data import array_scaling
from narrows.data.array_scaling import ArrayScaling, fit_scaling, scaled_by
from narrows.data.contents import Contents
from narrows.data.splits import Split
from narrows.data.time_order import Timeline
from narrows.errors import nearest, require


@dataclass
class SignalScaling:
    """Shift and scale of every channel, by which `(x - shift) / scale` was served; kept with the run."""

    channels: list[str]
    window: int
    series: list[str] | None
    """The names of the series that were scaled by themselves; None where all were scaled together."""
    shift: list[list[float]]
    """`[S, C]`, a row for each series, or one for all; C counts covariates too."""
    scale: list[list[float]]
    """`[S, C]`."""
    covariates: list[str] = field(default_factory=list)
    """Signals beside the channels, whose shifts and scales stand behind those of channels."""
    time: str | None = None
    """The column that ordered the rows; None where there was none, or before narrows recorded it."""
    step: float | None = None
    """The usual step in time, in seconds or the unit of that column."""

    def of(self, name: str) -> tuple[Tensor, Tensor]:
        """Shift and scale of a series, float64 `[C, 1]`; a series of a folder is known by the end of its path too.

        Raises:
            UserError: series were scaled by themselves, and this one was not among them.
        """
        row = 0
        if self.series is not None and len(self.series) > 1:
            fitting = [place for place, known in enumerate(self.series) if known == name or known.endswith(f"/{name}")]
            require(
                len(fitting) == 1,
                f"the series '{name}' is none of those trained on, each of which was scaled by itself "
                f"(signals.scale=each): {nearest(name, self.series)}",
            )
            row = fitting[0]
        shift, scale = (torch.tensor(values[row], dtype=torch.float64) for values in (self.shift, self.scale))
        return shift[:, None], scale[:, None]

    def of_arrays(self) -> ArrayScaling | None:
        """The same of arrays of windows `[N, C, window]`, which name no series; None where each series has its own."""
        if len(self.shift) > 1:
            return None
        count = len(self.channels)
        return ArrayScaling("standard", self.shift[0][:count], self.scale[0][:count])

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def place(timeline: Timeline, splits: dict[str, Split], *, held_out: bool, official: bool = False) -> Timeline:
    """The timeline with the places of the windows of each split.

    Args:
        held_out: whether the test split is the source's own test part, not rows of its training part.
        official: whether the validation split is the source's own; otherwise its rows, where it has some, follow those
            for training.
    """
    own = {"test": held_out, "validation": official}
    pooled = torch.cat([timeline.places[name] for name in ("train", "validation") if name in timeline.places])
    sources = {name: timeline.places[name] if own.get(name) else pooled for name in splits}
    found = {name: sources[name][split.rows] for name, split in splits.items()}
    return replace(timeline, places=found)


def standardise(
    contents: Contents, splits: dict[str, Split], timeline: Timeline
) -> tuple[dict[str, Split], SignalScaling]:
    """The splits, scaled by their training windows: all series together, or each by its own.

    Raises:
        UserError: a series that has no training window to be scaled by.
    """
    names, beside = contents.feature_names or [], contents.covariate_names or []
    clock = timeline.time, timeline.step
    x, observed = _all_channels(splits["train"])
    if contents.standardise == "none":
        plain = SignalScaling(names, timeline.window, None, [[0.0] * x.shape[1]], [[1.0] * x.shape[1]], beside, *clock)
        splits, _ = array_scaling.standardise(splits, "none", names)
        one, zero = torch.ones(1, x.shape[1], 1).double(), torch.zeros(1, x.shape[1], 1).double()
        return {name: _with_covariates(split, split, zero, one) for name, split in splits.items()}, plain
    if not contents.scale_each:
        shift, scale = fit_scaling(x, observed, contents.standardise)
    else:
        own = timeline.places["train"][:, 0]
        pairs = []
        for number, name in enumerate(timeline.names):
            rows = own == number
            require(
                bool(rows.any()),
                f"series '{name}' has no training window, by which signals.scale=each would scale it: set "
                "source.order.split=time, or scale=together",
            )
            pairs.append(fit_scaling(x[rows], None if observed is None else observed[rows], contents.standardise))
        shift, scale = (torch.cat(values) for values in zip(*pairs, strict=True))
    found, channels = {}, len(x[0]) - len(beside)
    for name, split in splits.items():
        each = timeline.places[name][:, 0] if contents.scale_each else torch.zeros(len(split), dtype=torch.int64)
        scaled = scaled_by(split, shift[each][:, :channels], scale[each][:, :channels])
        found[name] = _with_covariates(scaled, split, shift[each], scale[each])
    low, width = (values.flatten(1).tolist() for values in (shift, scale))
    series = timeline.names if contents.scale_each else None
    return found, SignalScaling(names, timeline.window, series, low, width, beside, *clock)


def _all_channels(split: Split) -> tuple[Tensor, Tensor | None]:
    """Channels and covariates `[N, C + K, T]`, and which of their values were observed; None where all were."""
    part = split.part
    x, observed = part.x.take(slice(None)), part.observed
    if part.covariates is None:
        return x, observed
    known = torch.ones_like(x, dtype=torch.bool) if observed is None else observed
    beside = ~part.covariates.isnan()
    return torch.cat([x, part.covariates.nan_to_num()], 1), torch.cat([known, beside], 1)


def _with_covariates(scaled: Split, split: Split, shift: Tensor, scale: Tensor) -> Split:
    """The scaled split with its covariates scaled too, missing ones at 0, which after standardising is their mean."""
    beside = split.part.covariates
    if beside is None:
        return scaled
    channels = shift.shape[1] - beside.shape[1]
    values = ((beside.double() - shift[:, channels:]) / scale[:, channels:]).float().nan_to_num()
    return replace(scaled, part=replace(scaled.part, covariates=values))
