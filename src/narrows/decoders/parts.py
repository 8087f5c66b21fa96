"""A decoder for each part of multi-modal data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from narrows.decoders.mlp import MLPDecoder
from narrows.errors import require
from narrows.layers.stages import Decoder
from narrows.likelihoods.named_parts import named_builders, require_layout
from narrows.types import Shape

PART = "decoder parts"


class PartsDecoder(Decoder):
    """A decoder for each part, all of which read the same latent: `[B, *in_shape] -> [B, P]`, the flattened parameters
    of the parts' likelihoods side by side.

    Args:
        layout: shape of each part's parameters, by name, in their order.
        each: builders by the part's name, of parts that have a decoder of their own.
        default: builder of the others'.

    Raises:
        UserError: data without parts, a likelihood with another layout, a name of no part, or a decoder that is fed
            its own values.
    """

    reads_parts = True

    def __init__(
        self,
        in_shape: Shape,
        out_shape: Shape,
        *,
        layout: Mapping[str, Shape] | None = None,
        each: Mapping[str, Callable[..., Any]] | None = None,
        default: Callable[..., Any] = MLPDecoder,
    ) -> None:
        super().__init__()
        self.in_shape, self.out_shape = tuple(in_shape), tuple(out_shape)
        self.layout = require_layout(layout, self.out_shape, PART, "writes: use likelihood=parts")
        own = named_builders(each, list(self.layout), "decoder")
        for name in self.layout:
            builder = own.get(name, default)
            plain = not getattr(getattr(builder, "func", builder), "autoregressive", False)
            require(plain, f"{PART}: that of part '{name}' is fed its own values, which parts have none of; use mlp")
        parts = {name: own.get(name, default)(self.in_shape, shape) for name, shape in self.layout.items()}
        for name, decoder in parts.items():
            plain = not (decoder.tied or decoder.writes_shares or decoder.reads_parts)
            require(plain, f"{PART}: that of part '{name}' is tied, of topics, or of parts; use mlp or conv")
        self.parts = nn.ModuleDict(parts)

    def forward(self, z: Tensor, target: Tensor | None = None) -> Tensor:
        return torch.cat([decoder(z).flatten(1) for decoder in self.parts.values()], 1)
