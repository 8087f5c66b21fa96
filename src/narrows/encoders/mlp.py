"""The multilayer perceptron's first half."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from narrows.layers.blocks import GATED, counts, dense, probability
from narrows.layers.stages import Encoder
from narrows.types import Shape

PART = "encoder mlp"


class MLPEncoder(Encoder):
    """Fully connected layers over the flattened example.

    h_0 = flatten(x), h_i = dropout(activation(norm(W_i h_{i-1} + b_i))). `[B, *in_shape] -> [B, widths[-1]]`.
    Without widths it only flattens: the bottleneck's projection is then the whole encoder. Under batch
    norm, which would cancel them, there are no b_i. `gated` layers are those of `narrows.layers.blocks.dense`.

    Args:
        in_shape: of one example, any.
        widths: of the hidden layers, in the order of flow; may be empty.
        activation: a name in `narrows.layers.stages.ACTIVATIONS`, or `gated`.
        norm: `batch`, `layer` or None.
        dropout: probability of a hidden value to be dropped in training.

    Raises:
        UserError: an argument out of its range or an unknown name.

    "Reducing the Dimensionality of Data with Neural Networks" (Hinton and Salakhutdinov, 2006).
    """

    def __init__(
        self,
        in_shape: Shape,
        *,
        widths: Sequence[int] = (512, 256),
        activation: str = "relu",
        norm: str | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.in_shape = tuple(in_shape)
        self.widths = counts(widths, "widths", PART, empty=True)
        self.gated = activation == GATED and bool(self.widths)
        probability(dropout, "dropout", PART)
        features = math.prod(self.in_shape)
        self.blocks = nn.Sequential(*dense(features, self.widths, activation, norm, dropout, PART))
        self.out_shape = (self.widths[-1] if self.widths else features,)

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(x.flatten(1))
