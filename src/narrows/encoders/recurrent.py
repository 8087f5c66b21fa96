"""What recurrent networks have in common as first halves."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from narrows.errors import require
from narrows.layers.recurrence import Cell, frame_of, stacked, to_frames
from narrows.layers.stages import Encoder
from narrows.types import Shape, within


class RecurrentEncoder(Encoder):
    """A recurrent network reads a series step by step; its last hidden state is the summary.

    `[B, C, T] -> [B, hidden * directions]`: the top layer's state after the last step and, when bidirectional, also the
    backward direction's state after it has reached the first step. Given `length [B]`, the last step is each example's
    own, and T may be any.

    Args:
        in_shape: `(C, T)`.
        hidden: size of the state.
        layers: networks one on the other.
        bidirectional: whether a second network reads backwards.
        dropout: probability between layers, in training; needs at least two layers.
        most_steps: of the network, which reads a longer series in frames of several steps; None: step by step. Over
            a hundred steps and more it forgets how a series began, and training is slow.

    Raises:
        UserError: a shape that is no series, or an argument out of its range.
    """

    reads_length: ClassVar[bool] = True
    cell: ClassVar[Cell]

    def __init__(
        self,
        in_shape: Shape,
        *,
        hidden: int = 64,
        layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        most_steps: int | None = None,
    ) -> None:
        super().__init__()
        part = f"encoder {self.cell}"
        self.in_shape = tuple(in_shape)
        require_series(self.in_shape, part)
        self.frame = frame_of(self.in_shape[1], most_steps, part)
        inputs = self.in_shape[0] * self.frame
        network = stacked(self.cell, inputs, hidden, layers, dropout, part, bidirectional=bidirectional)
        self.add_module(self.cell, network)
        self.directions = 2 if bidirectional else 1
        self.out_shape = (hidden * self.directions,)

    def forward(self, x: Tensor, length: Tensor | None = None) -> Tensor:
        if length is not None:
            # The last frame may hold some of the padding, and the network runs on through the rest of it.
            x = x.masked_fill(~within(length, x), 0)
        frames = to_frames(x, self.frame).transpose(1, 2)
        steps: Tensor | PackedSequence = frames
        if length is not None:
            taken = (length.to(x.device) + self.frame - 1) // self.frame
            if self.directions == 1:
                return self._state_at(frames, taken)
            # Lengths must be on the CPU: on a GPU this waits for it.
            steps = pack_padded_sequence(frames, taken.cpu(), batch_first=True, enforce_sorted=False)
        # Not the outputs' last step: there the backward direction has seen a single step.
        _, last = getattr(self, self.cell)(steps)
        hidden: Tensor = last[0] if isinstance(last, tuple) else last
        return hidden[-self.directions :].transpose(0, 1).flatten(1)

    def _state_at(self, frames: Tensor, step: Tensor) -> Tensor:
        """The top layer's state after so many steps, `[B, hidden]`, without packing, which no exported graph has, and
        under which a processor takes every step by itself."""
        states, _ = getattr(self, self.cell)(frames)
        last: Tensor = states.gather(1, (step - 1)[:, None, None].expand(-1, 1, states.shape[2]))
        return last.squeeze(1)


def require_series(shape: Shape, part: str) -> None:
    """Refuse data that are no series `(C, T)`.

    Raises:
        UserError: says what they are.
    """
    require(
        len(shape) == 2,
        f"{part} reads series (C, T), not data of shape {list(shape)}; use mlp or conv, and input=embedding for tokens",
    )
