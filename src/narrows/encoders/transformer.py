"""The transformer's first half, over the steps of a sequence."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from narrows.encoders.recurrent import require_series
from narrows.layers.attention import Steps, Transformer
from narrows.layers.pooling import Pooling, inside
from narrows.layers.stages import Encoder
from narrows.types import Shape

PART = "encoder transformer"


class TransformerEncoder(Encoder):
    """A transformer over the steps of a series, which are then pooled: `[B, C, T] -> [B, width]`, for any T.

    Linear on each step, plus sines and cosines of its place, `depth` blocks, norm. Given `length [B]`, no step reads
    what lies behind an example's end.

    Args:
        in_shape: `(C, T)`.
        width: of a step.
        depth: blocks.
        heads: of each attention.
        dropout: probability of a value of a block's two branches to be dropped in training.
        pool: `attention`, `mean` or `last`; `steps` keeps them all, `[B, T * width]`, for at most T.
        checkpointing: whether backward computes each block again, which saves memory and costs time.

    Raises:
        UserError: a shape that is no series, or an argument out of its range.

    "Attention Is All You Need" (Vaswani et al., 2017), https://arxiv.org/abs/1706.03762.
    """

    reads_length: ClassVar[bool] = True

    def __init__(
        self,
        in_shape: Shape,
        *,
        width: int = 64,
        depth: int = 2,
        heads: int = 4,
        dropout: float = 0.0,
        pool: str = "attention",
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.in_shape = tuple(in_shape)
        require_series(self.in_shape, PART)
        self.transformer = Transformer(width, depth, heads, dropout, PART, checkpointing=checkpointing)
        self.steps = Steps(self.in_shape[1], width, PART)
        self.embedding = nn.Linear(self.in_shape[0], width)
        self.pool = Pooling(pool, width, PART, heads, steps=self.in_shape[1])
        self.out_shape = (self.pool.width,)

    def forward(self, x: Tensor, length: Tensor | None = None) -> Tensor:
        padding = None if length is None else ~inside(length, x.shape[2], x.device)
        steps = x.transpose(1, 2)
        # A value that nothing attends to would still reach it as 0 * NaN.
        steps = steps if padding is None else steps.masked_fill(padding[..., None], 0)
        return self.pool(self.transformer(self.steps(self.embedding(steps)), padding), length)
