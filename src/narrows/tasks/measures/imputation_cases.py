"""Test cases of imputation: values that are hidden here, and values that the data hide on purpose."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from narrows.corruptions import Block
from narrows.errors import require
from narrows.evaluation import subset
from narrows.tasks.base import TaskContext
from narrows.tasks.classics.imputers import Matrix
from narrows.tasks.measures.chosen_rows import chosen
from narrows.types import Batch, DataSpec

log = logging.getLogger(__name__)

Hide = Callable[[Tensor], Tensor]


@dataclass
class Case:
    """Test examples with hidden values."""

    name: str
    batch: Batch
    """The examples on the device; the model is given them without the `hidden` values."""
    truth: Tensor
    hidden: Tensor
    """bool, `[N, *shape]` on the CPU: the hidden values, which are judged."""
    hide: Hide | None
    """Hides values of training rows in the same way; None if the data have such gaps already."""
    fixed: bool = False
    deviation: Tensor | None = None
    """Standard deviation of each feature of a vector over the training rows, hidden values included, `[D]`."""

    @property
    def known(self) -> Matrix:
        """The known values `[N, D]`, NaN where a value is hidden or missing."""
        gone = self.hidden if self.batch.observed is None else self.hidden | ~self.batch.observed.cpu()
        return gapped(self.batch.x, gone)


def patterns(
    spec: DataSpec, rates: Sequence[float], blocks: Mapping[str, Sequence[float]]
) -> Iterator[tuple[str, Hide, bool]]:
    """The ways to hide values: name, function `x [B, *shape] -> bool` mask, and whether all rows share one mask."""
    for rate in rates:
        yield f"mcar_{rate:g}", partial(_at_random, rate), False
    for place, sides in blocks.items():
        if len(spec.shape) == 1:
            log.info("imputation: blocks are left out: the data are vectors")
            return
        for side in sides:
            if place == "end":
                yield f"{place}_{side:g}", partial(_at_end, side), True
                continue
            block = Block(spec, size=side, place="centre" if place == "centre" else "random")
            yield f"{place}_{side:g}", partial(_mask_of, block), place == "centre"


def given(context: TaskContext, most: int | None) -> Iterator[Case]:
    """The cases of values that the data hide on purpose, on test and training rows; none if there are none."""
    for split, name in (("test", "missing"), ("train", "missing_train")):
        rows = chosen(context.datamodule, split, most, context.seed, "imputation rows")
        batch = Batch.cat(subset(context.batches(split), rows))
        whole = Batch.cat(subset(context.datamodule.revealed_loader(split), rows))
        require(
            batch.observed is not None and whole.observed is not None,
            f"task imputation: values are missing in the training split and none in the {split} split",
        )
        assert batch.observed is not None
        assert whole.observed is not None
        hidden = whole.observed.cpu() & ~batch.observed.cpu()
        if not hidden.any():
            return
        yield Case(name, batch, whole.x.float().cpu(), hidden, None)


def _at_random(rate: float, x: Tensor) -> Tensor:
    return torch.rand_like(x) < rate


def _at_end(share: float, x: Tensor) -> Tensor:
    """The last steps of series `[B, C, T]`, the last frames of video `[B, C, T, H, W]`."""
    hidden = torch.zeros_like(x, dtype=torch.bool)
    hidden[:, :, -max(1, round(share * x.shape[2])) :] = True
    return hidden


def _mask_of(block: Block, x: Tensor) -> Tensor:
    hidden = block(Batch(x))[1]
    assert hidden is not None
    return hidden


def flat(x: Tensor) -> Matrix:
    """`[N, *shape]` as `[N, D]` float64."""
    return x.flatten(1).double().cpu().numpy()


def gapped(x: Tensor, gone: Tensor | None) -> Matrix:
    """`[N, D]` float64, NaN where `gone`."""
    return flat(x) if gone is None else np.where(gone.flatten(1).numpy(), np.nan, flat(x))
