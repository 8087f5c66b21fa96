"""How the windows of signals were scaled, so that new readings are scaled, and cut, in the same way."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from narrows.data import array_scaling
from narrows.data.array_scaling import fit_scaling, scaled_by
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
    """`[S, C]`, a row for each series, or one for all."""
    scale: list[list[float]]
    """`[S, C]`."""

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

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def place(timeline: Timeline, splits: dict[str, Split], *, held_out: bool) -> Timeline:
    """The timeline with the places of the windows of each split.

    Args:
        held_out: whether the test split is the source's own test part, not rows of its training part.
    """
    part = {name: "test" if name == "test" and held_out else "train" for name in splits}
    found = {name: timeline.places[part[name]][split.rows] for name, split in splits.items()}
    return replace(timeline, places=found)


def standardise(
    contents: Contents, splits: dict[str, Split], timeline: Timeline
) -> tuple[dict[str, Split], SignalScaling]:
    """The splits, scaled by their training windows: all series together, or each by its own.

    Raises:
        UserError: a series that has no training window to be scaled by.
    """
    x, observed = splits["train"].part.x.take(slice(None)), splits["train"].part.observed
    names, channels = contents.feature_names or [], x.shape[1]
    if contents.standardise == "none":
        unscaled = SignalScaling(names, timeline.window, None, [[0.0] * channels], [[1.0] * channels])
        return array_scaling.standardise(splits, "none", names), unscaled
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
    each = contents.scale_each
    found = {}
    for name, split in splits.items():
        rows = timeline.places[name][:, 0] if each else torch.zeros(len(split), dtype=torch.int64)
        found[name] = scaled_by(split, shift[rows], scale[rows])
    plain = [values.flatten(1).tolist() for values in (shift, scale)]
    return found, SignalScaling(names, timeline.window, timeline.names if each else None, *plain)
