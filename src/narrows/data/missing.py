"""Values that are there and are not served, so that imputation can be trained and judged on any data."""

from __future__ import annotations

from dataclasses import replace

import torch

from narrows.data.contents import Contents, Part, Source
from narrows.data.stores import Dense
from narrows.errors import UserError, require
from narrows.random import generator


class Missing:
    """Another source with a share of its values missing completely at random, in every row of every part.

    The values are served as 0 with `Batch.observed` False, enter no statistic of the data and no likelihood, and can be
    had again from `DataModule.revealed_loader` alone, which imputation is judged by. Which ones is a function of `seed`
    alone. A table is standardised by what is left (0 is then the mean).

    Args:
        source: whose examples are held in memory.
        share: of the values, 0 for none.
        seed: of the draw, apart from the run's seed.

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
        return replace(contents, train=parts["train"], validation=parts.get("validation"), test=parts.get("test"))

    def _concealed(self, part: Part, name: str) -> Part:
        if not isinstance(part.x, Dense):
            raise UserError("source missing needs data held in memory as numbers; raise source.memory_limit_mb")
        hide = torch.rand(part.x.shape, generator=generator(self.seed, "missing", name)) < self.share
        known = torch.ones_like(hide) if part.observed is None else part.observed
        return replace(part, observed=known & ~hide, concealed=known & hide)
