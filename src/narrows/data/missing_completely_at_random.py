"""Hiding known values completely at random, so that imputation can be trained and judged on any data."""

from __future__ import annotations

from dataclasses import replace

import torch

from narrows.data.contents import Contents, Part, Source
from narrows.data.stores import Dense
from narrows.errors import UserError, require
from narrows.random import generator


class Missing:
    """Wraps a source and hides a share of its values completely at random, in every row of every part.

    Hidden values are served as 0 with `Batch.observed` False and enter no statistic of the data and no likelihood; only
    `DataModule.revealed_loader`, by which imputation is judged, returns them. `seed` alone decides which values are
    hidden. Vectors are standardised by the values that are left, so that 0 is their mean.

    Args:
        source: the wrapped source; its examples must be held in memory.
        share: of the values to hide; 0 hides none.
        seed: of the draw, separate from the run's seed.

    Raises:
        UserError: a share outside [0, 1), a table of columns, or examples that are streamed or packed.
    """

    def __init__(self, source: Source, share: float = 0.5, seed: int = 0) -> None:
        require(0 <= share < 1, f"source missing: share must be at least 0 and below 1, not {share}")
        self.source, self.share, self.seed = source, share, seed

    def load(self) -> Contents:
        contents = self.source.load()
        require(contents.columns is None, "source missing hides single numbers, not columns: it cannot be of a table")
        if self.share == 0:
            return contents
        parts = {name: self._concealed(part, name) for name, part in contents.parts().items()}
        return contents.with_parts(parts)

    def _concealed(self, part: Part, name: str) -> Part:
        if not isinstance(part.x, Dense):
            raise UserError("source missing needs data held in memory as numbers; raise source.memory_limit_mb")
        hide = torch.rand(part.x.shape, generator=generator(self.seed, "missing", name)) < self.share
        known = torch.ones_like(hide) if part.observed is None else part.observed
        return replace(part, observed=known & ~hide, concealed=known & hide)
