"""A sequence to one vector."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from narrows.errors import require
from narrows.layers.blocks import choose

Pool = Literal["attention", "mean", "last", "steps"]
POOLS = ("attention", "mean", "last", "steps")


class Pooling(nn.Module):
    """`[B, T, width] -> [B, width]`: the mean over steps, the last step, or means weighted by attention; or all steps
    beside each other, `[B, steps * width]`.

    `attention`: each of `heads` parts of a linear map of the steps has a mean of its own, whose weights are the softmax
    over steps of one learnt query's scores.

    `steps`: every step keeps its place, with zeros behind an example's end; what is pooled else has no place.

    "A Structured Self-attentive Sentence Embedding" (Lin et al., 2017), https://arxiv.org/abs/1703.03130.

    Args:
        kind: `attention`, `mean`, `last` or `steps`.
        width: of a step.
        heads: of the attention.
        steps: the most that an example has.
        part: in messages.

    Raises:
        UserError: an unknown kind, or a width that the heads do not share evenly.
    """

    def __init__(self, kind: str, width: int, part: str, heads: int = 4, *, steps: int) -> None:
        super().__init__()
        choose(kind, POOLS, "pool", part)
        self.kind, self.heads, self.steps, self.part = kind, heads, steps, part
        self.width = width * steps if kind == "steps" else width
        """Of what comes out."""
        if kind == "attention":
            require(width % heads == 0, f"{part} has a width of {width}, which {heads} heads do not share evenly")
            self.scores, self.values = nn.Linear(width, heads, bias=False), nn.Linear(width, width)

    def forward(self, steps: Tensor, length: Tensor | None = None) -> Tensor:
        """Given `length [B]`, an example's steps behind it have no part in it."""
        if self.kind == "last":
            return _last(steps, length)
        outside = None if length is None else ~inside(length, steps.shape[1], steps.device)[..., None]
        if self.kind == "steps":
            return self._beside(steps if outside is None else steps.masked_fill(outside, 0))
        if self.kind == "mean":
            if outside is None or length is None:
                return steps.mean(1)
            return steps.masked_fill(outside, 0).sum(1) / length.to(steps)[:, None]
        scores = self.scores(steps)
        if outside is not None:
            scores = scores.masked_fill(outside, torch.finfo(scores.dtype).min)
        values = self.values(steps if outside is None else steps.masked_fill(outside, 0)).unflatten(2, (self.heads, -1))
        pooled: Tensor = (scores.softmax(1)[..., None] * values).sum(1).flatten(1)
        return pooled

    def _beside(self, steps: Tensor) -> Tensor:
        count = steps.shape[1]
        require(count <= self.steps, f"{self.part} with pool=steps reads at most {self.steps} steps, not {count}")
        return F.pad(steps, (0, 0, 0, self.steps - count)).flatten(1)


def inside(length: Tensor, steps: int, device: torch.device) -> Tensor:
    """bool `[B, T]`: True at the first `length [B]` steps of each example."""
    return torch.arange(steps, device=device) < length.to(device)[:, None]


def _last(steps: Tensor, length: Tensor | None) -> Tensor:
    if length is None:
        return steps[:, -1]
    places = (length.to(steps.device) - 1)[:, None, None].expand(-1, 1, steps.shape[2])
    return steps.gather(1, places).squeeze(1)
