"""The recurrent network's first half."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from narrows.errors import require
from narrows.layers.blocks import counts, probability
from narrows.layers.stages import Encoder
from narrows.types import Shape

PART = "encoder lstm"


class LSTMEncoder(Encoder):
    """An LSTM reads a series step by step; its last hidden state is the summary.

    `[B, C, T] -> [B, hidden * directions]`: the top layer's state after the last step and, when
    bidirectional, also the backward direction's state after it has reached the first step. Given `length [B]`, the
    last step is each example's own, and T may be any.

    Args:
        in_shape: `(C, T)`.
        hidden: size of the state.
        layers: stacked LSTMs.
        bidirectional: whether a second LSTM reads backwards.
        dropout: probability between layers, in training; needs at least two layers.

    Raises:
        UserError: a shape that is no series, or an argument out of its range.

    "Unsupervised Learning of Video Representations using LSTMs" (Srivastava et al., 2015),
    https://arxiv.org/abs/1502.04681.
    """

    reads_length: ClassVar[bool] = True

    def __init__(
        self,
        in_shape: Shape,
        *,
        hidden: int = 64,
        layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.in_shape = tuple(in_shape)
        require(
            len(self.in_shape) == 2,
            f"{PART} reads series (C, T), not data of shape {list(self.in_shape)}; use mlp or conv",
        )
        self.lstm = stacked_lstm(self.in_shape[0], hidden, layers, dropout, PART, bidirectional=bidirectional)
        self.directions = 2 if bidirectional else 1
        self.out_shape = (hidden * self.directions,)

    def forward(self, x: Tensor, length: Tensor | None = None) -> Tensor:
        steps: Tensor | PackedSequence = x.transpose(1, 2)
        if length is not None:
            # Lengths must be on the CPU: on a GPU this waits for it.
            steps = pack_padded_sequence(x.transpose(1, 2), length.cpu(), batch_first=True, enforce_sorted=False)
        # Not the outputs' last step: there the backward direction has seen a single step.
        _, (last, _) = self.lstm(steps)
        return last[-self.directions :].transpose(0, 1).flatten(1)


def stacked_lstm(
    inputs: int, hidden: int, layers: int, dropout: float, part: str, *, bidirectional: bool = False
) -> nn.LSTM:
    """`[B, T, inputs] -> [B, T, hidden * directions]`, with its arguments checked."""
    counts([hidden], "hidden", part)
    counts([layers], "layers", part)
    probability(dropout, "dropout", part)
    require(
        layers > 1 or dropout == 0,
        f"{part} has dropout {dropout} between layers, but only one layer; use layers of at least 2 or dropout 0",
    )
    return nn.LSTM(inputs, hidden, layers, batch_first=True, dropout=dropout, bidirectional=bidirectional)
