"""The transformer's second halves, over the steps of a sequence: free of the target, and autoregressive."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor, nn

from narrows.decoders.autoregressive import AutoregressiveDecoder, series_of
from narrows.layers.attention import Cache, Steps, Transformer, glorot
from narrows.layers.stages import Decoder
from narrows.types import DataSpec, Shape

PART = "decoder transformer"
PART_AR = "decoder transformer_ar"


class TransformerDecoder(Decoder):
    """A transformer turns the latent, the same at every step, and the step's place into a series without seeing it.

    A linear map of z, plus sines and cosines of the step, `depth` blocks, norm, linear. `[B, *in_shape] -> [B, n, T]`.

    Args:
        in_shape: of one latent, any; it is flattened.
        out_shape: `(n, T)`.
        width: of a step.
        depth: blocks.
        heads: of each attention.
        dropout: probability of a value of a block's two branches to be dropped in training.
        checkpointing: whether backward computes each block again, which saves memory and costs time.

    Raises:
        UserError: a shape that is no series, or an argument out of its range.

    "Attention Is All You Need" (Vaswani et al., 2017), https://arxiv.org/abs/1706.03762, for the blocks.
    """

    def __init__(
        self,
        in_shape: Shape,
        out_shape: Shape,
        *,
        width: int = 64,
        depth: int = 2,
        heads: int = 4,
        dropout: float = 0.0,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.in_shape, self.out_shape = tuple(in_shape), tuple(out_shape)
        outputs, number = series_of(self.out_shape, PART)
        self.transformer = Transformer(width, depth, heads, dropout, PART, checkpointing=checkpointing)
        self.steps = Steps(number, width, PART)
        self.first, self.readout = nn.Linear(math.prod(self.in_shape), width), nn.Linear(width, outputs)
        self.first.apply(glorot)
        self.readout.apply(glorot)

    def forward(self, z: Tensor) -> Tensor:
        tokens = self.first(z.flatten(1))[:, None].expand(-1, self.out_shape[1], -1)
        params: Tensor = self.readout(self.transformer(self.steps(tokens))).transpose(1, 2)
        return params


@dataclass
class Reading:
    """How far an autoregressive transformer has read."""

    latent: Tensor
    """The map of z, `[B, 1, width]`."""
    caches: list[Cache] | None
    """Where steps are given one by one."""
    step: int = 0


class AutoregressiveTransformerDecoder(AutoregressiveDecoder):
    """A causal transformer predicts each step of a series from the latent and the steps before; see
    `AutoregressiveDecoder`. A linear map of z is added to the step before the first, or to all.

    Running free, the keys and values of earlier steps are kept, so that a step costs one token.

    Args:
        in_shape: of one latent, any; it is flattened.
        out_shape: `(n, T)`.
        spec: of the data, whose examples are `(C, T)`, or tokens `(T,)`.
        width: of a step.
        depth: blocks.
        heads: of each attention.
        dropout: probability of a value of a block's two branches to be dropped in training.
        latent_every_step: whether z is added at every step, and not at the first alone.
        input_dropout: probability, in training, that a step's fed-back values are zeroed.
        scheduled_sampling: probability, in training, that they are the decoder's own guess.
        checkpointing: whether backward computes each block again, which saves memory and costs time.

    Raises:
        UserError: a shape that is no series, or an argument out of its range.

    "Language Models are Unsupervised Multitask Learners" (Radford et al., 2019) for the network; "Optimus: Organizing
    Sentences via Pre-trained Modeling of a Latent Space" (Li et al., 2020), https://arxiv.org/abs/2004.04092, for the
    two ways of z.
    """

    def __init__(
        self,
        in_shape: Shape,
        out_shape: Shape,
        *,
        spec: DataSpec,
        width: int = 64,
        depth: int = 2,
        heads: int = 4,
        dropout: float = 0.0,
        latent_every_step: bool = True,
        input_dropout: float = 0.0,
        scheduled_sampling: float = 0.0,
        checkpointing: bool = False,
    ) -> None:
        super().__init__(
            in_shape,
            out_shape,
            spec=spec,
            part=PART_AR,
            embedding=width,
            input_dropout=input_dropout,
            scheduled_sampling=scheduled_sampling,
        )
        self.latent_every_step = latent_every_step
        self.transformer = Transformer(width, depth, heads, dropout, PART_AR, causal=True, checkpointing=checkpointing)
        self.steps = Steps(self.out_shape[1], width, PART_AR)
        self.lift = nn.Identity() if self.tokens else nn.Linear(self.inputs, width)
        self.latent_map, self.readout = nn.Linear(self.latent, width), nn.Linear(width, self.outputs)
        for layer in (self.lift, self.latent_map, self.readout):
            layer.apply(glorot)

    def begin(self, z: Tensor, running: bool) -> Reading:
        return Reading(self.latent_map(z)[:, None], self.transformer.caches() if running else None)

    def unroll(self, fed: Tensor, state: Reading) -> tuple[Tensor, Reading]:
        tokens = self.lift(fed)
        if self.latent_every_step:
            tokens = tokens + state.latent
        elif state.step == 0:
            tokens = tokens + nn.functional.pad(state.latent, (0, 0, 0, tokens.shape[1] - 1))
        hidden = self.transformer(self.steps(tokens, state.step), caches=state.caches)
        params: Tensor = self.readout(hidden).transpose(1, 2)
        return params, Reading(state.latent, state.caches, state.step + fed.shape[1])
