"""Latents whose scales are told by side information, as streams of numbers: those of the side information, then one for
every scale of the table, which holds the latents of that scale in their order.

Whoever decodes has the side information first. It says which scale every latent has, in whole numbers alone
(`ScaleHyperprior.table_places`), and with that how long the other streams are and where their values belong.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtr

from narrows.bottlenecks.hyperprior import ScaleHyperprior, table_scales
from narrows.coding.ans_entropy_coder import LARGEST, Table, Whole, table_of
from narrows.errors import require
from narrows.types import HyperpriorLatent, Shape

DEVIATIONS = 5.3
"""Scales on either side of 0 that a table spans: what lies beyond is rarer than one value in 2^23, and is escaped."""
WORDS = 2.0**53
AT_ONCE = 2**24
"""Latents whose scales are found together."""


class SideInformation:
    """The streams of a `ScaleHyperprior`."""

    def __init__(self, bottleneck: ScaleHyperprior) -> None:
        self.bottleneck = bottleneck
        self.own = bottleneck.side.out_shape[0]
        """Number of streams of the side information itself."""
        self.scales = table_scales()

    @property
    def streams(self) -> int:
        return self.own + len(self.scales)

    def split(self, latent: HyperpriorLatent) -> list[NDArray[np.floating] | Whole]:
        """The side information rounded, int64, and the latents not yet rounded."""
        side = latent.side.point.detach().double().cpu().numpy()
        right = bool(np.isfinite(side).all()) and float(np.abs(side).max(initial=0)) < WORDS
        require(right, "the model gives side information that is not finite, or too far from 0 to be counted")
        streams = [values.ravel() for values in np.rint(side).astype(np.int64).swapaxes(0, 1)]
        latents = latent.point.detach().cpu().numpy()
        places = self.places(streams, len(latents), latents.shape[2:])
        return [*streams, *(latents[places == place] for place in range(len(self.scales)))]

    def lengths(self, count: int, positions: Shape) -> list[int]:
        """Of the side information's streams, for `count` examples whose latents have these positions."""
        return [count * math.prod(self.bottleneck.side_positions(positions))] * self.own

    def later_lengths(self, streams: Sequence[Whole], count: int, positions: Shape) -> list[int]:
        """Of the other streams, which the side information decides."""
        places = self.places(streams, count, positions)
        return np.bincount(places.ravel(), minlength=len(self.scales)).tolist()

    def places(self, streams: Sequence[Whole], count: int, positions: Shape) -> NDArray[np.int64]:
        """The place of every latent's scale in the table, `[count, D, *positions]`.

        Args:
            streams: of which the first are the side information.
            count: of examples.
            positions: of their latents.
        """
        fewer = self.bottleneck.side_positions(positions)
        side = torch.from_numpy(np.stack([values.reshape(count, *fewer) for values in streams[: self.own]], axis=1))
        rows = max(1, AT_ONCE // math.prod((self.bottleneck.out_shape[0], *positions)))
        return np.concatenate([self.bottleneck.table_places(part, positions).numpy() for part in side.split(rows)])

    def joined(self, values: Sequence[NDArray[np.generic]], places: NDArray[np.int64]) -> NDArray[np.generic]:
        """What belongs to each latent, `places`' shape, of values in one array for every scale."""
        found = np.empty(places.shape, dtype=values[0].dtype)
        for place, part in enumerate(values):
            found[places == place] = part
        return found

    def tables(self, step: float) -> list[Table]:
        """The coding tables of the latents at that step, by scale."""
        return [normal_table(scale / step) for scale in self.scales]


def normal_table(scale: float) -> Table:
    """The table of rounded values of a normal distribution with mean 0 and this scale, in steps."""
    furthest = min(math.ceil(DEVIATIONS * scale), LARGEST // 2 - 1)
    whole = np.abs(np.arange(-furthest, furthest + 1))
    # In the lower tail, where a difference of both ends does not cancel.
    inside = ndtr((0.5 - whole) / scale) - ndtr((-0.5 - whole) / scale)
    return table_of(-furthest, np.append(inside, 2 * ndtr((-0.5 - furthest) / scale)))
