"""The multilayer perceptron's first half."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from narrows.layers.blocks import GATED, Shortcut, counts, dense, probability
from narrows.layers.stages import Encoder
from narrows.types import Shape

PART = "encoder mlp"


class MLPEncoder(Encoder):
    """Fully connected layers over the flattened example.

    h_0 = flatten(x), h_i = dropout(activation(norm(W_i h_{i-1} + b_i))). `[B, *in_shape] -> [B, widths[-1]]`.
    Without widths it only flattens: the bottleneck's projection is then the whole encoder. Under batch
    norm, which would cancel them, there are no b_i. `gated` layers are those of `narrows.layers.blocks.dense`.

    With a shortcut the result is V h_0 + g h_n, where the number g starts at 0. So training starts with a linear
    encoder, as PCA's is, and departs from it only as far as that helps.

    Args:
        in_shape: of one example, any.
        widths: of the hidden layers, in the order of flow; may be empty.
        activation: a name in `narrows.layers.stages.ACTIVATIONS`, or `gated`.
        norm: `batch`, `layer` or None.
        dropout: probability of a hidden value to be dropped in training.
        shortcut: whether a linear map leads past the layers; needs widths.

    Raises:
        UserError: an argument out of its range or an unknown name, or a shortcut past no layers.

    "Reducing the Dimensionality of Data with Neural Networks" (Hinton and Salakhutdinov, 2006); "ReZero is All You
    Need" (Bachlechner et al., 2021, https://arxiv.org/abs/2003.04887) for g.
    """

    def __init__(
        self,
        in_shape: Shape,
        *,
        widths: Sequence[int] = (512, 256),
        activation: str = "relu",
        norm: str | None = None,
        dropout: float = 0.0,
        shortcut: bool = False,
    ) -> None:
        super().__init__()
        self.in_shape = tuple(in_shape)
        self.widths = counts(widths, "widths", PART, empty=True)
        self.gated = activation == GATED and bool(self.widths)
        probability(dropout, "dropout", PART)
        features = math.prod(self.in_shape)
        self.blocks = nn.Sequential(*dense(features, self.widths, activation, norm, dropout, PART))
        self.out_shape = (self.widths[-1] if self.widths else features,)
        self.shortcut = Shortcut(features, self.widths, self.out_shape[0], PART) if shortcut else None

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        h: Tensor = self.blocks(x)
        return h if self.shortcut is None else self.shortcut(x) + self.shortcut.gate * h
