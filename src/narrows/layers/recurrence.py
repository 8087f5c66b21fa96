"""Recurrent networks, LSTM and GRU alike: stacked, and started from a latent."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from narrows.errors import require
from narrows.layers.blocks import counts, probability

Cell = Literal["lstm", "gru"]
CELLS: dict[Cell, type[nn.LSTM | nn.GRU]] = {"lstm": nn.LSTM, "gru": nn.GRU}
State = tuple[Tensor, ...]
"""The hidden state and, of an LSTM, the cell state, each `[layers * directions, B, hidden]`."""


def stacked(
    cell: Cell, inputs: int, hidden: int, layers: int, dropout: float, part: str, *, bidirectional: bool = False
) -> nn.LSTM | nn.GRU:
    """`[B, T, inputs] -> [B, T, hidden * directions]`.

    Args:
        cell: `lstm` or `gru`.
        inputs: values read at a step.
        hidden: size of the state.
        layers: one on the other.
        dropout: probability between layers, in training.
        part: in messages.
        bidirectional: whether a second network reads backwards.

    Raises:
        UserError: an argument out of its range, or dropout between layers of which there is one.
    """
    counts([hidden], "hidden", part)
    counts([layers], "layers", part)
    probability(dropout, "dropout", part)
    require(
        layers > 1 or dropout == 0,
        f"{part} has dropout {dropout} between layers, but only one layer; use layers of at least 2 or dropout 0",
    )
    return CELLS[cell](inputs, hidden, layers, batch_first=True, dropout=dropout, bidirectional=bidirectional)


def frame_of(steps: int, most_steps: int | None, part: str) -> int:
    """How many steps of a series the network takes at once, so that it takes at most `most_steps` (None: as many as
    there are).

    Raises:
        UserError: `most_steps` below 1.
    """
    if most_steps is None:
        return 1
    counts([most_steps], "most_steps", part)
    return -(-steps // most_steps)


def to_frames(x: Tensor, frame: int) -> Tensor:
    """`[B, C, T] -> [B, C * frame, ceil(T / frame)]`, with zeros behind the last step."""
    if frame == 1:
        return x
    padded = F.pad(x, (0, -x.shape[2] % frame))
    frames: Tensor = padded.unflatten(2, (-1, frame)).transpose(2, 3).flatten(1, 2)
    return frames


def from_frames(x: Tensor, frame: int, steps: int) -> Tensor:
    """`[B, C * frame, ceil(T / frame)] -> [B, C, T]`, where T is `steps`."""
    if frame == 1:
        return x
    series: Tensor = x.unflatten(1, (-1, frame)).transpose(2, 3).flatten(2)
    return series[..., :steps]


class Recurrence(nn.Module):
    """A recurrent network whose first state is read from the latent, with a linear layer on every step's output, of
    which in training the share `dropout` is dropped."""

    def __init__(self, latent: int, outputs: int, network: nn.LSTM | nn.GRU, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = dropout
        self.cell: Cell = "lstm" if isinstance(network, nn.LSTM) else "gru"
        self.add_module(self.cell, network)
        self.parts = 2 if self.cell == "lstm" else 1
        self.start = nn.Linear(latent, self.parts * network.num_layers * network.hidden_size)
        self.readout = nn.Linear(network.hidden_size, outputs)

    @property
    def network(self) -> nn.LSTM | nn.GRU:
        found = getattr(self, self.cell)
        assert isinstance(found, nn.LSTM | nn.GRU)
        return found

    def state(self, z: Tensor) -> State:
        """`[B, D]` to the first state."""
        network = self.network
        start = self.start(z).unflatten(1, (self.parts, network.num_layers, network.hidden_size))
        hidden, *cell = start.movedim(0, 2).contiguous().unbind(0)
        # A network's own hidden states lie in (-1, 1).
        return (torch.tanh(hidden), *cell)

    def forward(self, steps: Tensor, state: State) -> tuple[Tensor, State]:
        """`[B, T, inputs] -> [B, n, T]`, and the state after the last step."""
        hidden, last = self.network(steps, state if self.parts > 1 else state[0])
        if self.training and self.dropout > 0:
            hidden = F.dropout(hidden, self.dropout)
        return self.readout(hidden).transpose(1, 2), last if self.parts > 1 else (last,)
