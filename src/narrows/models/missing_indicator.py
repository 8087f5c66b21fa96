"""The autoencoder whose encoder is told which values it sees."""

from __future__ import annotations

import torch
from torch import Tensor

from narrows.models.autoencoder import Autoencoder
from narrows.types import Shape


class MissingIndicatorAutoencoder(Autoencoder):
    """q(z|x, s), s being 1 where a value is seen and 0 where it is missing or hidden: the encoder reads x and, behind
    it on axis 1, s. A missing value is then not taken for the value that stands in its place. The decoder gives x.

    It suits data with missing values and corruptions that hide (`corruption=masking`); every likelihood here is that of
    the observed values.

    "Variational Autoencoder with Arbitrary Conditioning" (Ivanov et al., 2019), section 4.2.
    """

    @property
    def seen_shape(self) -> Shape:
        channels, *rest = super().seen_shape
        return (2 * channels, *rest)

    def features(self, x: Tensor, label: Tensor | None = None, hidden: Tensor | None = None) -> Tensor:
        seen = torch.ones_like(x) if hidden is None else (~hidden).to(x.dtype)
        if hidden is not None:
            # Which values are missing is never hidden.
            hidden = torch.cat([hidden, torch.zeros_like(hidden)], 1)
        return super().features(torch.cat([x, seen], 1), label, hidden)
