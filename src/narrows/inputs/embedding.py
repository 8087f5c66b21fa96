"""Tokens as learned vectors."""

from __future__ import annotations

from torch import Tensor, nn

from narrows.errors import require
from narrows.inputs.base import Input
from narrows.layers.blocks import counts
from narrows.types import Batch, DataSpec, within


class Embedding(Input):
    """A learned vector for every token: ids `[B, T] -> [B, dim, T]`.

    A token that is hidden or missing has a learned vector of its own, whatever stands in its place, and padding is 0.

    Args:
        dim: of a vector.

    Raises:
        UserError: data that are no tokens with a vocabulary, or `dim` below 1.

    "A Neural Probabilistic Language Model" (Bengio et al., 2003), https://www.jmlr.org/papers/v3/bengio03a.html.
    """

    takes_variable = True

    def __init__(self, spec: DataSpec, *, dim: int = 128) -> None:
        super().__init__(spec)
        require(
            spec.kind == "tokens" and bool(spec.vocabulary),
            f"input embedding reads tokens of a vocabulary, not data of kind {spec.kind}; use input=identity",
        )
        counts([dim], "dim", "input embedding")
        self.hidden = len(spec.vocabulary or [])
        self.table = nn.Embedding(self.hidden + 1, dim)
        self.out_shape = (dim, *spec.shape)

    def forward(self, batch: Batch) -> Tensor:
        ids, unseen = batch.x, batch.unseen
        vectors = self.table(ids if unseen is None else ids.masked_fill(unseen, self.hidden)).transpose(1, 2)
        return vectors if batch.length is None else vectors.masked_fill(~within(batch.length, ids)[:, None], 0)

    def mask(self, unseen: Tensor) -> Tensor:
        return unseen[:, None].expand(-1, self.out_shape[0], -1)
