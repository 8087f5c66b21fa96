"""Putting examples of the same class together at random."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from narrows.errors import require
from narrows.random import generator

log = logging.getLogger(__name__)


def class_rows(
    labels: Mapping[str, Tensor], split: str, names: Sequence[str] | None = None
) -> dict[int, dict[str, Tensor]]:
    """For every class that all parts have, the rows of each part, int64; of the others a warning tells.

    Args:
        labels: `[N]`, by part.
        names: of the classes, where they have any.

    Raises:
        UserError: no class that all parts have.
    """
    found = {name: set(label.unique().tolist()) for name, label in labels.items()}
    common = set.intersection(*found.values())
    require(bool(common), f"source multimodal: the {split} splits of {' and '.join(labels)} have no class in common")
    left = {name: sorted(own - common) for name, own in found.items() if own - common}
    for name, classes in left.items():
        told = ", ".join(str(one) if names is None else names[one] for one in classes)
        log.warning("class %s of part '%s' of %s is left out: not every part has it", told, name, split)
    return {one: {name: (label == one).nonzero()[:, 0] for name, label in labels.items()} for one in sorted(common)}


def paired_rows(classes: Mapping[int, Mapping[str, Tensor]], pairs: int, seed: int, split: str) -> Tensor:
    """Rows of the parts side by side, int64 `[N, K]`.

    Of each class there are `pairs` times as many as the part with most of it has. Each part's rows are shuffled, as
    often as that takes, so that none stands in more than one pair more than another.
    """
    found = []
    for one, rows in classes.items():
        count = pairs * max(len(own) for own in rows.values())
        columns = [_drawn(own, count, seed, split, name, one) for name, own in rows.items()]
        found.append(torch.stack(columns, 1))
    return torch.cat(found)


def _drawn(rows: Tensor, count: int, seed: int, split: str, name: str, one: int) -> Tensor:
    """`count` of the rows, shuffled anew each time that all of them have been taken."""
    source = generator(seed, "pairs", split, name, one)
    times = -(-count // len(rows))
    return torch.cat([rows[torch.randperm(len(rows), generator=source)] for _ in range(times)])[:count]
