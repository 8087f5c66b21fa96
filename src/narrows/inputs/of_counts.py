"""Inputs for counts and interactions: values that no network takes as they are, brought within its reach."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from narrows.errors import require
from narrows.inputs.base import Input, require_numbers
from narrows.layers.blocks import probability
from narrows.types import COUNTED, Batch, DataSpec, row_sums, within

LEAST = 1e-6
"""The library size by which an example without counts is divided."""


class _Scaled(Input):
    """The values of an example, `scaled`, of which `dropout` drops some in training; one for each value of x.

    Subclasses set `name`, by which refusals call them.
    """

    takes_variable = True
    name: ClassVar[str]

    def __init__(self, spec: DataSpec, *, dropout: float = 0.0) -> None:
        super().__init__(spec)
        require_numbers(spec, self.name)
        self.dropout = nn.Dropout(probability(dropout, "dropout", f"input {self.name}"))

    def scaled(self, batch: Batch) -> Tensor:
        """`[B, *spec.shape]`."""
        raise NotImplementedError

    def forward(self, batch: Batch) -> Tensor:
        dropped: Tensor = self.dropout(self.scaled(batch))
        return dropped

    def mask(self, unseen: Tensor) -> Tensor:
        return unseen


class Log1p(_Scaled):
    """`log(1 + x)`, and `-log(1 - x)` of what noise or a learnt input puts below 0: counts of any size within reach of
    an encoder.

    As of the encoders of "Deep generative modeling for single-cell transcriptomics" (Lopez et al., 2018,
    https://doi.org/10.1038/s41592-018-0229-2). With `normalise` it is `log(1 + m x / n)`, with n the example's library
    size, the sum of its seen values, and m the geometric mean of the training rows' (`exp(spec.totals[0])`): cells
    that differ in their library size alone look alike, as to PCA of log-normalised counts.

    Args:
        dropout: probability of a value to be dropped in training, where the others grow by `1 / (1 - dropout)`.
        normalise: whether examples are first brought to one library size; one without counts stays 0.

    Raises:
        UserError: data of tokens, a `dropout` outside [0, 1), or `normalise` on data that are no counts.

    Example:
        >>> spec = DataSpec((2,), "counts", 10, value_range=(0.0, float("inf")), totals=(0.0, 0.1))
        >>> Log1p(spec)(Batch(torch.tensor([[0.0, 9.0]])))
        tensor([[0.0000, 2.3026]])
        >>> Log1p(spec, normalise=True)(Batch(torch.tensor([[0.0, 9.0]])))
        tensor([[0.0000, 0.6931]])
    """

    name = "log1p"

    def __init__(self, spec: DataSpec, *, dropout: float = 0.0, normalise: bool = False) -> None:
        super().__init__(spec, dropout=dropout)
        counted = spec.kind in COUNTED and spec.totals is not None
        require(
            counted or not normalise,
            f"input log1p has normalise, which is of counts and their library sizes, but these data are of kind "
            f"{spec.kind}; use input.normalise=false",
        )
        self.usual = math.exp(spec.totals[0]) if normalise and spec.totals is not None else None

    def scaled(self, batch: Batch) -> Tensor:
        x = batch.x
        if self.usual is not None:
            seen = x if batch.unseen is None else x.masked_fill(batch.unseen, 0.0)
            total = row_sums(seen.clamp_min(0.0)).clamp_min(LEAST)
            x = self.usual * x / total.reshape(-1, *[1] * (x.ndim - 1))
        # Each side by its own values: a branch that is not taken must have a finite gradient too.
        return torch.where(x < 0, -torch.log1p(-x.clamp_max(0)), torch.log1p(x.clamp_min(0)))


class _Normalised(_Scaled):
    """`x / (sum |x|^order)^(1 / order)` over an example's seen values; an example of zeros stays 0, and so does what is
    unseen."""

    order: ClassVar[int]

    def scaled(self, batch: Batch) -> Tensor:
        x = batch.x if batch.unseen is None else batch.x.masked_fill(batch.unseen, 0.0)
        if batch.length is not None:
            x = x.masked_fill(~within(batch.length, x), 0.0)
        return F.normalize(x.flatten(1), p=self.order).reshape(x.shape)


class L2Normalise(_Normalised):
    """`x / ||x||_2` of each example, over its seen values, so that long and short histories look alike.

    With `dropout`, values of the result are dropped in training and the others grow by `1 / (1 - dropout)`: the noise
    of Mult-DAE and Mult-VAE, "Variational Autoencoders for Collaborative Filtering" (Liang et al., 2018,
    https://arxiv.org/abs/1802.05814), section 4.4. A corruption before it would hide values, in evaluation too, and the
    norm would be of what is left.

    Args:
        dropout: probability of a value to be dropped.

    Raises:
        UserError: data of tokens, or a `dropout` outside [0, 1).

    Example:
        >>> spec = DataSpec((2,), "interactions", 10, value_range=(0.0, float("inf")))
        >>> L2Normalise(spec)(Batch(torch.tensor([[3.0, 4.0]])))
        tensor([[0.6000, 0.8000]])
    """

    name, order = "l2_normalise", 2


class L1Normalise(_Normalised):
    """`x / ||x||_1` of each example, over its seen values: of a document, the frequencies of its words.

    As of "Topic Modeling in Embedding Spaces" (Dieng et al., 2020, https://arxiv.org/abs/1907.04907).

    Args:
        dropout: probability of a value to be dropped in training, where the others grow by `1 / (1 - dropout)`.

    Raises:
        UserError: data of tokens, or a `dropout` outside [0, 1).

    Example:
        >>> spec = DataSpec((2,), "counts", 10, value_range=(0.0, float("inf")))
        >>> L1Normalise(spec)(Batch(torch.tensor([[1.0, 3.0]])))
        tensor([[0.2500, 0.7500]])
    """

    name, order = "l1_normalise", 1
