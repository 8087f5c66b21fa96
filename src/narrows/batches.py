"""A batch of examples, whole: what every datamodule yields and every model reads.

Legend for shapes: B examples, T steps; `*shape` is the shape of one example, without the batch axis.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad


@dataclass
class Given:
    """What p(x|z) may depend on besides z, without teacher forcing."""

    label: Tensor | None = None
    """Class of each example, `[B]`."""
    length: Tensor | None = None
    """Length of each example, `[B]`, where sequences are padded."""
    total: Tensor | None = None
    """Library size of each example, `[B]`, where the data are counts: the sum of the truth, never of the corrupted
    x."""
    judged: Tensor | None = None
    """bool, the truth's shape: the values that `total` is the sum of; None: all of them."""
    x_in: Tensor | None = None
    """What the encoder was given, `[B, *shape]`: a model that filters it answers with a part of it."""


@dataclass
class Batch:
    """One batch of examples, as every datamodule yields it and every model reads it."""

    x: Tensor
    """Input, `[B, *shape]`, already scaled as `DataSpec` says."""
    target: Tensor | None = None
    """What to reconstruct, where it is not `x` (paired denoising, held-out items)."""
    label: Tensor | None = None
    """Classes `[B]`, or factors of variation `[B, K]`. Metrics and conditional models read it, others do not."""
    observed: Tensor | None = None
    """bool, `x`'s shape: False where the value is missing."""
    hidden: Tensor | None = None
    """bool, `x`'s shape: True where a corruption hid the value."""
    length: Tensor | None = None
    """`[B]`, number of steps of each example along the last axis; the rest is padding, neither missing nor hidden."""
    covariates: Tensor | None = None
    """`[B, K, T]`, signals beside `x` that an input may read, and that nothing rebuilds."""
    index: Tensor | None = None
    """`[B]`, row of each example in the data set, so that scores can be written beside it."""
    share: float = 1.0
    """Number of rows here divided by the mean number per process of this global batch. It weights the loss, so that the
    gradient averaged over processes is that of the global batch, even where that does not divide evenly."""

    @classmethod
    def of(cls, x: Batch | Tensor) -> Batch:
        """The batch itself; a tensor `[B, *shape]` becomes a batch with that input and nothing else."""
        return x if isinstance(x, Batch) else cls(x)

    @classmethod
    def cat(cls, batches: Iterable[Batch]) -> Batch:
        """The rows of all batches in one, `[sum of B, *shape]`.

        Where only some have a mask, nothing is marked in the others; where only some have a target, that of the others
        is `x`. Labels, covariates and indices are kept if all batches have them. Where examples have a `length`,
        shorter batches are padded with 0 along the last axis.
        """
        parts = list(batches)
        if any(part.length is not None for part in parts):
            steps = max(max(part.x.shape[-1], part.truth.shape[-1]) for part in parts)
            parts = [part._padded(steps) for part in parts]
        others = ("target", "label", "observed", "hidden", "length", "covariates", "index")
        joined: dict[str, Any] = {name: _joined(name, parts) for name in others}
        return cls(torch.cat([part.x for part in parts]), **joined)

    def __len__(self) -> int:
        return len(self.x)

    @property
    def truth(self) -> Tensor:
        """What the reconstruction is compared with: the target where there is one, else `x`."""
        return self.x if self.target is None else self.target

    @property
    def missing(self) -> Tensor | None:
        """bool, x's shape: True at missing values; None where none is missing."""
        return None if self.observed is None else ~self.observed

    @property
    def unseen(self) -> Tensor | None:
        """bool, x's shape: True at values that the encoder cannot know, hidden or missing; None where there are
        none."""
        if self.observed is None or self.hidden is None:
            return self.missing if self.hidden is None else self.hidden
        return self.hidden | ~self.observed

    @property
    def judged(self) -> Tensor | None:
        """bool, the truth's shape: True at values that the likelihood counts, observed and not padding; None: all of
        them."""
        if self.length is None:
            return self.observed
        inside = within(self.length, self.truth)
        return inside if self.observed is None else inside & self.observed

    @property
    def total(self) -> Tensor:
        """Sum of the judged values of each example's truth, `[B]`: the library size, where the data are counts."""
        judged = self.judged
        return row_sums(self.truth if judged is None else self.truth.masked_fill(~judged, 0))

    @property
    def given(self) -> Given:
        """What p(x|z) may depend on of this batch, without teacher forcing."""
        return Given(self.label, self.length, self.total, self.judged, self.x)

    def seen_as(self, x_in: Tensor, hidden: Tensor | None = None) -> Batch:
        """This batch after a corruption: `x_in` as input, `hidden` marking what is hidden in it, the truth as
        target."""
        return replace(self, x=x_in, target=self.truth, hidden=hidden)

    def repeat(self, k: int) -> Batch:
        """`k` copies of all rows, one after another, `[k B, ...]`."""
        return self._map(lambda tensor: tensor.expand(k, *tensor.shape).flatten(0, 1))

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def double(self) -> Batch:
        """In double precision what is a real number."""
        return self._map(lambda tensor: tensor.double() if tensor.is_floating_point() else tensor)

    def pin_memory(self) -> Batch:
        return self._map(Tensor.pin_memory)

    def _map(self, function: Callable[[Tensor], Tensor]) -> Batch:
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        moved: dict[str, Any] = {k: function(v) for k, v in values.items() if isinstance(v, Tensor)}
        return replace(self, **moved)

    def _padded(self, steps: int) -> Batch:
        """This batch padded to `steps` along the last axis, with a `length`; padding is neither missing nor hidden."""
        rows, own = len(self), self.x.shape[-1]
        length = torch.full((rows,), own, device=self.x.device) if self.length is None else self.length
        fill = {"x": 0, "target": 0, "observed": True, "hidden": False, "covariates": 0}
        values = {name: getattr(self, name) for name in fill}
        padded: dict[str, Any] = {
            name: pad(value, (0, steps - value.shape[-1]), value=fill[name])
            for name, value in values.items()
            if value is not None
        }
        return replace(self, length=length, **padded)


def _joined(name: str, parts: Sequence[Batch]) -> Tensor | None:
    """One field of `Batch.cat`."""
    values = [getattr(part, name) for part in parts]
    known = [value is not None for value in values]
    if not any(known) or (name in ("label", "covariates", "index") and not all(known)):
        return None
    if name == "target":
        values = [part.truth for part in parts]
    elif name in ("observed", "hidden"):
        blank = name == "observed"
        values = [
            torch.full_like(part.x, blank, dtype=torch.bool) if value is None else value
            for part, value in zip(parts, values, strict=True)
        ]
    return torch.cat(values)


def within(length: Tensor, x: Tensor) -> Tensor:
    """bool, the shape of `x [B, *any, T]`: True at the first `length [B]` steps of each example."""
    steps = torch.arange(x.shape[-1], device=x.device) < length.to(x.device)[:, None]
    return steps.reshape(x.shape[0], *[1] * (x.ndim - 2), -1).expand_as(x)


def row_sums(values: Tensor) -> Tensor:
    """The sum over everything but the examples, `[B, *any] -> [B]`."""
    return values.reshape(values.shape[0], -1).sum(1)
