"""An encoder for each part of multi-modal data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from narrows.encoders.mlp import MLPEncoder
from narrows.errors import require
from narrows.layers.stages import Encoder
from narrows.likelihoods.named_parts import named_builders, require_layout
from narrows.types import Shape

PART = "encoder parts"


class PartsEncoder(Encoder):
    """An encoder for each part: `[B, D] -> [B, F + 1, K]`, the flattened features of K parts side by side, filled up
    with zeros to the longest, F. The last row is 1 where the part is there; of a part that is missing or hidden as a
    whole it is 0, as is everything else, so that nothing depends on what stands in its place.

    What bottlenecks read that have an expert for each part (`poe`, `moe`, `mopoe`).

    Args:
        layout: shape of each part, by name, in the order of an example's values.
        each: builders by the part's name, of parts that have an encoder of their own.
        default: builder of the others'.

    Raises:
        UserError: data without parts, an input that changes their layout, a name of no part, or an encoder that reads
            lengths or masks.
    """

    reads_hidden = True
    reads_parts = True

    def __init__(
        self,
        in_shape: Shape,
        *,
        layout: Mapping[str, Shape] | None = None,
        each: Mapping[str, Callable[..., Any]] | None = None,
        default: Callable[..., Any] = MLPEncoder,
    ) -> None:
        super().__init__()
        self.in_shape = tuple(in_shape)
        self.layout = require_layout(layout, self.in_shape, PART, "reads: use input=identity")
        own = named_builders(each, list(self.layout), "encoder")
        parts = {name: own.get(name, default)(shape) for name, shape in self.layout.items()}
        for name, encoder in parts.items():
            plain = not (encoder.reads_hidden or encoder.reads_parts)
            require(plain, f"{PART}: that of part '{name}' would have to be told what is missing; use mlp or conv")
        self.parts = nn.ModuleDict(parts)
        widest = max(prod(encoder.out_shape) for encoder in parts.values())
        self.out_shape = (widest + 1, len(parts))

    def forward(self, x: Tensor, *, hidden: Tensor | None = None) -> Tensor:
        columns, start = [], 0
        for (_name, shape), encoder in zip(self.layout.items(), self.parts.values(), strict=True):
            place = slice(start, start + prod(shape))
            start = place.stop
            own, unseen = x[:, place], None if hidden is None else hidden[:, place]
            if unseen is not None:
                own = own.masked_fill(unseen, 0.0)
            features = encoder(own.unflatten(1, shape)).flatten(1)
            there = features.new_ones(x.shape[0], 1) if unseen is None else (~unseen.all(1, keepdim=True)).to(features)
            filled = nn.functional.pad(features, (0, self.out_shape[0] - 1 - features.shape[1]))
            columns.append(torch.cat([filled.masked_fill(there == 0, 0.0), there], 1))
        return torch.stack(columns, 2)
