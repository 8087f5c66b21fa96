"""The multilayer perceptron's second half."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from narrows.encoders.mlp import MLPEncoder
from narrows.errors import UserError, require
from narrows.layers.blocks import GATED, Shortcut, counts, dense, probability
from narrows.layers.stages import Decoder, Encoder
from narrows.types import Shape

PART = "decoder mlp"


class TransposedLinear(nn.Module):
    """x W + b, where W is the weight `[in, out]` of another layer that maps out to in."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        # Registered here too: the decoder alone is complete (state dict, export), while `parameters()`
        # of the whole counts an object once, and deepcopy keeps one object one.
        self.weight, self.bias = weight, bias

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.t(), self.bias)


class UnitLinear(nn.Linear):
    """x W + b, where every column of W, what one input adds to the output, is divided by its norm.

    So the gradient has no part along a column, as if it had been projected.
    """

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, F.normalize(self.weight, dim=0), self.bias)


class MLPDecoder(Decoder):
    """Fully connected layers from the flattened latent to the likelihood's parameters.

    h_0 = flatten(z), h_i = dropout(activation(norm(W_i h_{i-1} + b_i))), then a linear layer without
    activation. `[B, *in_shape] -> [B, *out_shape]`. Under batch norm, which would cancel them, the
    hidden layers have no b_i. `gated` layers are those of `narrows.layers.blocks.dense`.

    Tied, every W is the transpose of the corresponding weight of encoder and bottleneck: decoder and
    encoder share these parameters, and each keeps its own biases and norms. A checkpoint holds a shared
    weight under both names; load it with `load_state_dict(..., assign=False)`, the default.

    With a shortcut the result is U h_0 + W (g h_n) + b, where W and b are the last layer's and the number g starts at
    0: training starts with a linear decoder (see `narrows.encoders.MLPEncoder`).

    Args:
        in_shape: of one latent, any.
        out_shape: of the parameters, any.
        widths: of the hidden layers, in the order of flow; may be empty.
        activation: a name in `narrows.layers.stages.ACTIVATIONS`, or `gated` (then neither tied nor unit_norm).
        norm: `batch`, `layer` or None.
        dropout: probability of a hidden value to be dropped in training.
        tied: whether the model calls `tie`.
        unit_norm: whether each latent's column in the layer that reads the latent has norm 1, so that the size of
            a latent cannot hide in the decoder from a penalty on latents.
        shortcut: whether a linear map leads past the layers; needs widths, and is neither tied nor of unit norm.

    Raises:
        UserError: an argument out of its range, an unknown name, two of `tied`, `unit_norm`, `gated`, or a shortcut
            that cannot be; see `tie`.

    "Stacked Denoising Autoencoders" (Vincent et al., 2010) for tied weights; "Towards Monosemanticity" (Bricken
    et al., 2023, https://transformer-circuits.pub/2023/monosemantic-features) for columns of unit norm.
    """

    def __init__(
        self,
        in_shape: Shape,
        out_shape: Shape,
        *,
        widths: Sequence[int] = (256, 512),
        activation: str = "relu",
        norm: str | None = None,
        dropout: float = 0.0,
        tied: bool = False,
        unit_norm: bool = False,
        shortcut: bool = False,
    ) -> None:
        super().__init__()
        self.in_shape, self.out_shape = tuple(in_shape), tuple(out_shape)
        self.widths = counts(widths, "widths", PART, empty=True)
        self.tied = tied
        probability(dropout, "dropout", PART)
        features = math.prod(self.in_shape)
        values = math.prod(self.out_shape)
        # Before the layers: the last module of a decoder is its last layer.
        self.shortcut = Shortcut(features, self.widths, values, PART) if shortcut else None
        require(
            not (shortcut and (tied or unit_norm)),
            f"{PART} has a shortcut, which is neither tied nor of unit norm; use decoder.shortcut=false",
        )
        blocks = dense(features, self.widths, activation, norm, dropout, PART)
        last = nn.Linear([features, *self.widths][-1], values)
        self.blocks = nn.Sequential(*blocks, nn.Sequential(last))
        require(not (tied and unit_norm), f"{PART} can be tied or have unit_norm, not both")
        require(
            not ((tied or unit_norm) and activation == GATED and self.widths),
            f"{PART} has a second weight per layer with activation gated, so it can be neither tied nor have unit_norm",
        )
        if unit_norm:
            first: nn.Linear = self.blocks[0][0]  # type: ignore[index,assignment]
            self.blocks[0][0] = UnitLinear(  # type: ignore[index,operator]
                first.in_features, first.out_features, bias=first.bias is not None
            )

    def forward(self, z: Tensor) -> Tensor:
        z = z.flatten(1)
        params: Tensor
        if self.shortcut is None:
            params = self.blocks(z)
        else:
            params = self.shortcut(z) + self.blocks[-1](self.shortcut.gate * self.blocks[:-1](z))
        return params.unflatten(1, self.out_shape)

    def tie(self, encoder: Encoder, bottleneck: nn.Module) -> None:
        """Share the weights of `encoder` and of `bottleneck.projection`, transposed.

        Raises:
            UserError: the encoder is no MLP or not this decoder's mirror image, the bottleneck has no
                single linear projection to the latent, or the likelihood wants several parameters per value.
        """
        sources = [self._projection(encoder, bottleneck), *reversed(self._linears(encoder))]
        for block, source in zip(self.blocks, sources, strict=True):
            assert isinstance(block, nn.Sequential)
            linear = block[0]
            assert isinstance(linear, nn.Linear)
            block[0] = TransposedLinear(source.weight, linear.bias)

    def _linears(self, encoder: Encoder) -> list[nn.Linear]:
        if not isinstance(encoder, MLPEncoder):
            raise UserError(
                f"{PART} with tied=true shares the weights of an MLP encoder, not of "
                f"{type(encoder).__name__}; use encoder=mlp or decoder.tied=false"
            )
        require(not encoder.gated, f"{PART} with tied=true cannot share the two weights per layer of a gated encoder")
        require(
            encoder.widths == self.widths[::-1],
            f"{PART} with tied=true has widths {self.widths}, which must mirror the encoder's "
            f"{encoder.widths}; use decoder.widths={encoder.widths[::-1]}",
        )
        require(
            math.prod(encoder.in_shape) == math.prod(self.out_shape),
            f"{PART} with tied=true gives one parameter per value of {list(encoder.in_shape)}, but the "
            f"likelihood needs {list(self.out_shape)}; use one with a single parameter (a fixed sigma) or "
            "decoder.tied=false",
        )
        return [block[0] for block in encoder.blocks]  # type: ignore[index,misc]

    def _projection(self, encoder: Encoder, bottleneck: nn.Module) -> nn.Linear:
        projection = getattr(bottleneck, "projection", None)
        wanted = (math.prod(self.in_shape), math.prod(encoder.out_shape))
        has = tuple(projection.weight.shape) if isinstance(projection, nn.Linear) else None
        if not isinstance(projection, nn.Linear) or has != wanted:
            found = f"one of {list(has)}" if has else "none"
            raise UserError(
                f"{PART} with tied=true needs a bottleneck with one linear projection of weights "
                f"{list(wanted)}, but {type(bottleneck).__name__} has {found}; use "
                "bottleneck=deterministic with a dim, or decoder.tied=false"
            )
        return projection
