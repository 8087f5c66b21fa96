"""The recurrent network's second halves: free of the target, and autoregressive.

Legend: B examples, C channels of the data, n parameters of the likelihood per step, T steps, D values of
the flattened latent, F time features.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn

from narrows.encoders.lstm import stacked_lstm
from narrows.errors import require
from narrows.layers.blocks import counts, probability
from narrows.layers.stages import Decoder
from narrows.types import DataSpec, Shape

PART = "decoder lstm"
PART_AR = "decoder lstm_ar"
State = tuple[Tensor, Tensor]


class Recurrence(nn.Module):
    """An LSTM whose first state is read from the latent, with a linear layer on every step's output."""

    def __init__(self, latent: int, outputs: int, lstm: nn.LSTM) -> None:
        super().__init__()
        self.lstm = lstm
        self.start = nn.Linear(latent, 2 * lstm.num_layers * lstm.hidden_size)
        self.readout = nn.Linear(lstm.hidden_size, outputs)

    def state(self, z: Tensor) -> State:
        """`[B, D]` to the hidden and the cell state, each `[layers, B, hidden]`."""
        start = self.start(z).unflatten(1, (2, self.lstm.num_layers, self.lstm.hidden_size))
        hidden, cell = start.movedim(0, 2).contiguous().unbind(0)
        # An LSTM's own hidden states lie in (-1, 1).
        return torch.tanh(hidden), cell

    def forward(self, steps: Tensor, state: State) -> tuple[Tensor, State]:
        """`[B, T, inputs] -> [B, n, T]`."""
        hidden, state = self.lstm(steps, state)
        return self.readout(hidden).transpose(1, 2), state


def time_encoding(steps: int, features: int) -> Tensor:
    """Sines and cosines of the step, `[steps, features]`: angular frequencies in geometric progression from
    pi / steps (half a turn over the series, so that no two steps look alike) to pi / 2 (four steps a turn)."""
    half = features // 2
    low, high = math.pi / steps, math.pi / 2
    powers = torch.arange(half, dtype=torch.float64) / max(half - 1, 1)
    angles = torch.arange(steps, dtype=torch.float64)[:, None] * (low * (high / low) ** powers)
    return torch.cat([angles.sin(), angles.cos()], 1).to(torch.get_default_dtype())


class LSTMDecoder(Decoder):
    """An LSTM unrolls the latent into a series without ever seeing the series.

    s_0 = f(z), s_t = LSTM(s_{t-1}, [z, e(t)]), params_t = W s_t + b, with e(t) sinusoids of the step.
    `[B, *in_shape] -> [B, n, T]`. Without e(t) every step has the same input, and such autoencoders
    easily get stuck at the mean series.

    Args:
        in_shape: of one latent, any; it is flattened.
        out_shape: `(n, T)`.
        hidden: size of the state.
        layers: stacked LSTMs.
        dropout: probability between layers, in training; needs at least two layers.
        time_features: even; 0 leaves e(t) out.
        reverse: unroll from the last step to the first (the series' end was read last by the encoder).

    Raises:
        UserError: a shape that is no series, or an argument out of its range.

    "Unsupervised Learning of Video Representations using LSTMs" (Srivastava et al., 2015),
    https://arxiv.org/abs/1502.04681, for the unconditioned decoder and the reversed order.
    """

    time: Tensor

    def __init__(
        self,
        in_shape: Shape,
        out_shape: Shape,
        *,
        hidden: int = 64,
        layers: int = 1,
        dropout: float = 0.0,
        time_features: int = 8,
        reverse: bool = False,
    ) -> None:
        super().__init__()
        self.in_shape, self.out_shape = tuple(in_shape), tuple(out_shape)
        self.reverse = reverse
        outputs, steps = _series(self.out_shape, PART)
        right = isinstance(time_features, int) and time_features >= 0 and time_features % 2 == 0
        require(right, f"{PART} needs time_features to be even and not negative, not {time_features}")
        latent = math.prod(self.in_shape)
        lstm = stacked_lstm(latent + time_features, hidden, layers, dropout, PART)
        self.recurrence = Recurrence(latent, outputs, lstm)
        # Not persistent: it follows from the arguments.
        self.register_buffer("time", time_encoding(steps, time_features), persistent=False)

    def forward(self, z: Tensor) -> Tensor:
        z = z.flatten(1)
        steps = self.out_shape[1]
        constant = z[:, None].expand(-1, steps, -1)
        time = self.time.to(z.dtype).expand(len(z), -1, -1)
        params, _ = self.recurrence(torch.cat([constant, time], 2), self.recurrence.state(z))
        return params.flip(2) if self.reverse else params


class AutoregressiveLSTMDecoder(Decoder):
    """An LSTM that predicts each step of a series from the latent and the steps before.

    s_0 = f(z), s_t = LSTM(s_{t-1}, [x_{t-1}, z]), params_t = W s_t + b, where x_0 is learned. `forward`
    reads x from the target (teacher forcing), all steps at once; `generate` feeds back its own values.
    `[B, *in_shape], [B, C, T] -> [B, n, T]`; params_t depends on no x_u with u >= t (u <= t when reversed). Reversed,
    an example starts at its own last step, and not in the padding behind it.

    Args:
        in_shape: of one latent, any; it is flattened.
        out_shape: `(n, T)`.
        spec: of the data, whose examples are `(C, T)`.
        hidden: size of the state.
        layers: stacked LSTMs.
        dropout: probability between layers, in training; needs at least two layers.
        input_dropout: probability, in training, that a step's fed-back values are zeroed: what the past
            does not tell must come from the latent.
        reverse: go from the last step to the first.

    Raises:
        UserError: a shape that is no series, or an argument out of its range.

    "Generating Sentences from a Continuous Space" (Bowman et al., 2016), https://arxiv.org/abs/1511.06349.
    """

    autoregressive: ClassVar[bool] = True
    reads_length: ClassVar[bool] = True

    def __init__(
        self,
        in_shape: Shape,
        out_shape: Shape,
        *,
        spec: DataSpec,
        hidden: int = 64,
        layers: int = 1,
        dropout: float = 0.0,
        input_dropout: float = 0.0,
        reverse: bool = False,
    ) -> None:
        super().__init__()
        self.in_shape, self.out_shape = tuple(in_shape), tuple(out_shape)
        self.input_dropout = probability(input_dropout, "input_dropout", PART_AR)
        self.reverse = reverse
        outputs, steps = _series(self.out_shape, PART_AR)
        channels, data_steps = _series(tuple(spec.shape), PART_AR)
        require(
            steps == data_steps,
            f"{PART_AR} reads data of shape {list(spec.shape)} step by step, but the likelihood's "
            f"parameters {list(self.out_shape)} have another number of steps",
        )
        inputs, latent = channels + math.prod(self.in_shape), math.prod(self.in_shape)
        lstm = stacked_lstm(inputs, hidden, layers, dropout, PART_AR)
        self.recurrence = Recurrence(latent, outputs, lstm)
        self.first = nn.Parameter(torch.zeros(channels, 1))

    def forward(self, z: Tensor, target: Tensor, length: Tensor | None = None) -> Tensor:
        z = z.flatten(1)
        values = _reversed(target, length) if self.reverse else target
        past = torch.cat([self._before_first(z), self._drop(values[..., :-1])], 2)
        constant = z[:, None].expand(-1, past.shape[2], -1)
        params, _ = self.recurrence(torch.cat([past.transpose(1, 2), constant], 2), self.recurrence.state(z))
        return _reversed(params, length) if self.reverse else params

    def generate(self, z: Tensor, readout: Callable[[Tensor], Tensor], steps: int | None = None) -> Tensor:
        """The parameters `[B, n, T]` when each of the `steps` (None: T) is fed
        `readout(params [B, n, 1]) -> [B, C, 1]`."""
        z = z.flatten(1)
        state, value = self.recurrence.state(z), self._before_first(z)
        found = []
        for _ in range(self.out_shape[1] if steps is None else steps):
            params, state = self.recurrence(torch.cat([value.transpose(1, 2), z[:, None]], 2), state)
            found.append(params)
            value = readout(params)
        return torch.cat(found[::-1] if self.reverse else found, 2)

    def _before_first(self, z: Tensor) -> Tensor:
        return self.first.expand(len(z), -1, -1)

    def _drop(self, values: Tensor) -> Tensor:
        if not self.training or self.input_dropout == 0:
            return values
        keep = torch.rand(len(values), 1, values.shape[2], device=values.device) >= self.input_dropout
        return values * keep


def _reversed(values: Tensor, length: Tensor | None) -> Tensor:
    """`[B, any, T]` with the steps of every example from its last to its first, and padding where it was."""
    if length is None:
        return values.flip(2)
    steps = torch.arange(values.shape[2], device=values.device)
    back = length.to(values.device)[:, None] - 1 - steps
    return values.gather(2, back.where(back >= 0, steps)[:, None].expand_as(values))


def _series(shape: Shape, part: str) -> tuple[int, int]:
    require(
        len(shape) == 2,
        f"{part} writes series (C, T), not data of shape {list(shape)}; use mlp or conv",
    )
    counts(shape, "shape", part)
    return shape[0], shape[1]
