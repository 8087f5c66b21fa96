"""Pictures whose features are the data: what a frozen network sees in them stands in the place of x."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from math import prod
from typing import Any

import torch
from torch import Tensor

from narrows.data.batch_loader import unit
from narrows.data.features import Features
from narrows.data.splits import Split
from narrows.data.stores import Dense, Store
from narrows.errors import require
from narrows.types import DataSpec, Shape

ROWS = 16
"""Pictures whose features are computed at once."""
MOST = 128
"""Training pictures by which features are standardised."""
FLAT = 1e-5
"""Share of its mean below which a channel's deviation is rounding."""


def describe(spec: DataSpec, features: Features, binarise: str) -> DataSpec:
    """The description of the features of pictures.

    Raises:
        UserError: data that are no pictures in [0, 1], or are to be binarised.
    """
    pictures = spec.kind == "image" and len(spec.shape) == 3 and spec.value_range == (0.0, 1.0)
    bounds = "" if spec.kind != "image" or spec.value_range == (0.0, 1.0) else " that leave [0, 1]"
    require(
        pictures and binarise == "none",
        "datamodule.features are of pictures in [0, 1], not of "
        + (f"binarised ones: set binarise={'none'}" if pictures else f"data of kind {spec.kind}{bounds}"),
    )
    return replace(
        spec,
        kind="features",
        shape=features.out_shape(spec.shape),
        value_range=None,
        fingerprint=hashlib.sha256(f"{spec.fingerprint} {features.fingerprint}".encode()).hexdigest(),
    )


def viewed(splits: dict[str, Split], features: Features) -> dict[str, Split]:
    """The splits, whose pictures are served as features.

    Raises:
        UserError: pictures that come with targets, which would be no features.
    """
    require(
        all(split.part.target is None for split in splits.values()),
        "datamodule.features are of pictures alone, and these come with a target each",
    )
    if features.standardise:
        features = Standardised(features, splits["train"].part.x)
    return {name: replace(split, features=features) for name, split in splits.items()}


@dataclass
class Seen:
    """Which features of which pictures a run's data were, by which those of new pictures are computed; kept with the
    run."""

    shape: list[int]
    """Of a picture, `[C, H, W]`."""
    fingerprint: str
    """The name of all that changes a feature but its scale."""
    shift: list[float] | None = None
    """Of every feature, `(feature - shift) / scale`; None where they are not standardised."""
    scale: list[float] | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def of(self, features: Features) -> Features:
        """The features, scaled as the run's were.

        Raises:
            UserError: features of other weights or options.
        """
        require(
            features.fingerprint == self.fingerprint,
            "datamodule.features are of other weights, layers or sizes than those of the run: name the file of its "
            "weights by datamodule.features.network.weights",
        )
        if self.shift is None or self.scale is None:
            return features
        shift, scale = (torch.tensor(values)[:, None, None] for values in (self.shift, self.scale))
        return Standardised(features, None, (shift, scale))


def seen(splits: dict[str, Split]) -> Seen | None:
    """What new pictures need to be seen as these were; None of data that are no features."""
    split = splits["train"]
    features = split.features
    if features is None:
        return None
    shape = list(split.part.x.shape[1:])
    if not isinstance(features, Standardised):
        return Seen(shape, features.fingerprint)
    shift, scale = (values.flatten().tolist() for values in features.fitted(split.part.x.device))
    return Seen(shape, features.fingerprint, shift, scale)


class Standardised:
    """Features `[B, C, h, w]` brought to mean 0 and deviation 1 in every channel, over `MOST` training pictures, evenly
    chosen, and all positions; a channel that does not vary is only shifted.

    Args:
        features: of pictures.
        train: the training pictures, which are looked at when the first features are asked for.
        known: shift and scale `[C, 1, 1]`, where those were looked at before.
    """

    standardise = True

    def __init__(self, features: Features, train: Store | None, known: tuple[Tensor, Tensor] | None = None) -> None:
        self.features, self.train = features, train
        self.memory_limit_mb, self.fingerprint = features.memory_limit_mb, features.fingerprint
        self._fitted = known

    def out_shape(self, shape: Shape) -> Shape:
        return self.features.out_shape(shape)

    def __call__(self, x: Tensor) -> Tensor:
        shift, scale = (values.to(x.device) for values in self.fitted(x.device))
        return (self.features(x) - shift) / scale

    def fitted(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Shift and scale, `[C, 1, 1]`, found on this device if they are not known yet."""
        if self._fitted is None:
            self._fitted = self._fit(device)
        return self._fitted

    def _fit(self, device: torch.device) -> tuple[Tensor, Tensor]:
        assert self.train is not None
        rows = torch.linspace(0, len(self.train) - 1, min(MOST, len(self.train))).round().long()
        count, total, squares = 0, torch.zeros(()).double(), torch.zeros(()).double()
        for _, pictures in _pictures(self.train.select(rows.to(self.train.device)), device):
            found = self.features(pictures).double().cpu().movedim(1, 0).flatten(1)
            count, total, squares = count + found.shape[1], total + found.sum(1), squares + found.square().sum(1)
        mean = total / count
        deviation = (squares / count - mean.square()).clamp_min(0).sqrt()
        scale = torch.where(deviation > FLAT * mean.abs().clamp_min(FLAT), deviation, 1.0)
        shift, scale = (values.float()[:, None, None] for values in (mean, scale))
        return shift, scale


def computed(split: Split, device: torch.device) -> Split:
    """The split with its features held on the device, if they are few enough."""
    features = split.features
    if features is None:
        return split
    if split.held is not None:
        return split if split.held.device == device else replace(split, held=split.held.to(device))
    shape = features.out_shape(tuple(split.part.x.shape[1:]))
    if 4 * len(split) * prod(shape) > features.memory_limit_mb * 2**20:
        return split
    held = torch.empty((len(split), *shape), device=device)
    for rows, pictures in _pictures(split.part.x, device):
        held[rows] = features(pictures)
    return replace(split, held=Dense(held))


def _pictures(store: Store, device: torch.device) -> Iterator[tuple[slice, Tensor]]:
    for start in range(0, len(store), ROWS):
        rows = slice(start, min(start + ROWS, len(store)))
        yield rows, unit(store.take(rows).to(device))
