"""A sequence of any length to one vector."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from narrows.errors import require
from narrows.layers.blocks import choose

Pool = Literal["attention", "mean", "last"]
POOLS = ("attention", "mean", "last")


class Pooling(nn.Module):
    """`[B, T, width] -> [B, width]`: the mean over steps, the last step, or means weighted by attention.

    `attention`: each of `heads` parts of a linear map of the steps has a mean of its own, whose weights are the softmax
    over steps of one learnt query's scores.

    "A Structured Self-attentive Sentence Embedding" (Lin et al., 2017), https://arxiv.org/abs/1703.03130.

    Args:
        kind: `attention`, `mean` or `last`.
        width: of a step.
        heads: of the attention.
        part: in messages.

    Raises:
        UserError: an unknown kind, or a width that the heads do not share evenly.
    """

    def __init__(self, kind: str, width: int, part: str, heads: int = 4) -> None:
        super().__init__()
        choose(kind, POOLS, "pool", part)
        self.kind, self.heads = kind, heads
        if kind == "attention":
            require(width % heads == 0, f"{part} has a width of {width}, which {heads} heads do not share evenly")
            self.scores, self.values = nn.Linear(width, heads, bias=False), nn.Linear(width, width)

    def forward(self, steps: Tensor, length: Tensor | None = None) -> Tensor:
        """Given `length [B]`, an example's steps behind it have no part in it."""
        if self.kind == "last":
            return _last(steps, length)
        outside = None if length is None else ~inside(length, steps.shape[1], steps.device)[..., None]
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


def inside(length: Tensor, steps: int, device: torch.device) -> Tensor:
    """bool `[B, T]`: True at the first `length [B]` steps of each example."""
    return torch.arange(steps, device=device) < length.to(device)[:, None]


def _last(steps: Tensor, length: Tensor | None) -> Tensor:
    if length is None:
        return steps[:, -1]
    places = (length.to(steps.device) - 1)[:, None, None].expand(-1, 1, steps.shape[2])
    return steps.gather(1, places).squeeze(1)
