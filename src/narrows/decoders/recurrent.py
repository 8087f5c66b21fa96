"""What recurrent networks have in common as second halves: free of the target, and autoregressive.

Legend: B examples, C channels of the data, n parameters of the likelihood per step, T steps, D values of
the flattened latent, F time features.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, linear

from narrows.decoders.autoregressive import AutoregressiveDecoder, series_of
from narrows.errors import require
from narrows.layers.blocks import probability
from narrows.layers.clock import even, time_encoding
from narrows.layers.recurrence import Cell, Recurrence, State, frame_of, from_frames, stacked
from narrows.layers.stages import Decoder
from narrows.types import DataSpec, Shape


class RecurrentDecoder(Decoder):
    """A recurrent network unrolls the latent into a series without ever seeing the series.

    s_0 = f(z), s_t = RNN(s_{t-1}, [z, e(t)]), params_t = W s_t + b, with e(t) sinusoids of the step.
    `[B, *in_shape] -> [B, n, T]`. Without e(t) every step has the same input, and such autoencoders
    easily get stuck at the mean series.

    Args:
        in_shape: of one latent, any; it is flattened.
        out_shape: `(n, T)`.
        hidden: size of the state.
        layers: networks one on the other.
        dropout: probability between layers, in training; needs at least two layers.
        time_features: even; 0 leaves e(t) out.
        reverse: unroll from the last step to the first (the series' end was read last by the encoder).
        most_steps: of the network, which writes a longer series in frames of several steps; None: step by step.

    Raises:
        UserError: a shape that is no series, or an argument out of its range.

    "Unsupervised Learning of Video Representations using LSTMs" (Srivastava et al., 2015),
    https://arxiv.org/abs/1502.04681, for the unconditioned decoder and the reversed order.
    """

    cell: ClassVar[Cell]
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
        most_steps: int | None = None,
    ) -> None:
        super().__init__()
        part = f"decoder {self.cell}"
        self.in_shape, self.out_shape = tuple(in_shape), tuple(out_shape)
        self.reverse = reverse
        outputs, steps = series_of(self.out_shape, part)
        self.frame = frame_of(steps, most_steps, part)
        self.taken = -(-steps // self.frame)
        latent = math.prod(self.in_shape)
        network = stacked(self.cell, latent + even(time_features, part), hidden, layers, dropout, part)
        self.recurrence = Recurrence(latent, outputs * self.frame, network)
        # Not persistent: it follows from the arguments.
        self.register_buffer("time", time_encoding(self.taken, time_features), persistent=False)

    def forward(self, z: Tensor) -> Tensor:
        z = z.flatten(1)
        constant = z[:, None].expand(-1, self.taken, -1)
        time = self.time.to(z.dtype).expand(z.shape[0], -1, -1)
        params, _ = self.recurrence(torch.cat([constant, time], 2), self.recurrence.state(z))
        return from_frames(params.flip(2) if self.reverse else params, self.frame, self.out_shape[1])


class AutoregressiveRecurrentDecoder(AutoregressiveDecoder):
    """A recurrent network predicts each step of a series from the latent and the steps before; see
    `AutoregressiveDecoder`.

    s_0 = f(z), s_t = RNN(s_{t-1}, [x_{t-1}, z]), params_t = W s_t + b, where x_0 is learnt. With a share for each step,
    it reads z_t instead, the t-th of T equal parts of z, as in "Learning Stochastic Recurrent Networks" (Bayer and
    Osendorfer, 2014, https://arxiv.org/abs/1411.7610), and s_0 = f(z_1).

    Args:
        in_shape: of one latent, any; it is flattened.
        out_shape: `(n, T)`.
        spec: of the data, whose examples are `(C, T)`, or tokens `(T,)`.
        hidden: size of the state.
        layers: networks one on the other.
        dropout: probability, in training, of every value of an embedded token and of every layer's output, the last
            one's too ("Recurrent Neural Network Regularization", Zaremba et al., 2014, https://arxiv.org/abs/1409.2329).
        embedding: values that a token is read as; numbers are read as they are.
        shared_embedding: whether the vectors of the tokens are also the weights by which they are written: "Using the
            Output Embedding to Improve Language Models" (Press and Wolf, 2017, https://arxiv.org/abs/1608.05859). They
            are then drawn between -0.1 and 0.1, as in "Regularizing and Optimizing LSTM Language Models" (Merity et
            al., 2017, https://arxiv.org/abs/1708.02182).
        latent_every_step: whether the network reads z at every step, and not in its first state alone; `share`: at each
            step its own part of z, whose values the T steps must share evenly, in the order of writing.
        input_dropout: probability, in training, that a step's fed-back values are zeroed.
        scheduled_sampling: probability, in training, that they are the decoder's own guess.
        reverse: go from the last step to the first.

    Raises:
        UserError: a shape that is no series, an argument out of its range, or tokens with an end mark, reversed.
    """

    cell: ClassVar[Cell]

    def __init__(
        self,
        in_shape: Shape,
        out_shape: Shape,
        *,
        spec: DataSpec,
        hidden: int = 64,
        layers: int = 1,
        dropout: float = 0.0,
        embedding: int = 64,
        shared_embedding: bool = False,
        latent_every_step: bool | Literal["share"] = True,
        input_dropout: float = 0.0,
        scheduled_sampling: float = 0.0,
        reverse: bool = False,
    ) -> None:
        part = f"decoder {self.cell}_ar"
        super().__init__(
            in_shape,
            out_shape,
            spec=spec,
            part=part,
            embedding=embedding,
            input_dropout=input_dropout,
            scheduled_sampling=scheduled_sampling,
            reverse=reverse,
        )
        self.latent_every_step, self.shared_embedding = latent_every_step, shared_embedding
        if shared_embedding:
            require(self.tokens, f"{part} has no embedding to share: shared_embedding is of tokens")
            # Torch's own draw is 17 times as wide, and training undoes slowly what it writes by chance: sentences of
            # PTB cost 128 nats after an epoch, and 118 with this one.
            nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
            self.bias = nn.Parameter(torch.zeros(self.outputs))
        told = self._latent_inputs(part)
        dropped = probability(dropout, "dropout", part)
        network = stacked(self.cell, self.inputs + told, hidden, layers, dropped if layers > 1 else 0.0, part)
        start = told if latent_every_step == "share" else self.latent
        self.recurrence = Recurrence(start, self.inputs if shared_embedding else self.outputs, network, dropped)

    def _latent_inputs(self, part: str) -> int:
        """How many values of z a step reads."""
        every = self.latent_every_step
        require(
            isinstance(every, bool) or every == "share",
            f"{part} has latent_every_step={every}: true, false and share are known",
        )
        if every != "share":
            return self.latent if every else 0
        steps = self.out_shape[1]
        require(
            self.latent % steps == 0,
            f"{part} has latent_every_step=share, but its {steps} steps do not share {self.latent} latents evenly: "
            f"use a bottleneck.dim that {steps} divides, such as {max(1, self.latent // steps) * steps}",
        )
        return self.latent // steps

    def begin(self, z: Tensor, running: bool) -> tuple[Tensor, int, State]:
        if self.latent_every_step == "share":
            shares = z.unflatten(1, (self.out_shape[1], -1))
            return shares, 0, self.recurrence.state(shares[:, 0])
        return z, 0, self.recurrence.state(z)

    def unroll(self, fed: Tensor, state: tuple[Tensor, int, State]) -> tuple[Tensor, tuple[Tensor, int, State]]:
        z, done, hidden = state
        steps = fed.shape[1]
        if self.tokens:
            fed = dropout(fed, self.recurrence.dropout, self.training)
        if self.latent_every_step == "share":
            fed = torch.cat([fed, z[:, done : done + steps]], 2)
        elif self.latent_every_step:
            fed = torch.cat([fed, z[:, None].expand(-1, steps, -1)], 2)
        params, hidden = self.recurrence(fed, hidden)
        if self.shared_embedding:
            weight = self.embedding.weight[:-1]  # the last one is never written
            params = linear(params.transpose(1, 2), weight, self.bias).transpose(1, 2)
        return params, (z, done + steps, hidden)
