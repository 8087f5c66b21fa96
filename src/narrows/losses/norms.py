"""Terms on the size of latents and weights: what a regularised autoencoder has in place of noise."""

from __future__ import annotations

import torch
from torch import Tensor

from narrows.losses.objective import Term
from narrows.models.autoencoder import Autoencoder
from narrows.types import Output, at_least_single, row_sums


class LatentNorm(Term):
    """`1/2 |z|^2`, `[B]`: the latent's part of the negative log-density of N(0, I).

    "From Variational to Deterministic Autoencoders" (Ghosh et al., 2020), equation 9.
    """

    def forward(self, out: Output, model: Autoencoder) -> Tensor:
        return 0.5 * row_sums(out.latent.z.square())


class DecoderNorm(Term):
    """`|theta|^2` over the decoder's weights and biases, a scalar: RAE-L2's explicit regulariser. The encoder
    gets no gradient, and a shared weight counts once.

    "From Variational to Deterministic Autoencoders" (Ghosh et al., 2020), section 3.1.
    """

    def forward(self, out: Output, model: Autoencoder) -> Tensor:
        return torch.stack([at_least_single(p).square().sum() for p in model.decoder.parameters()]).sum()
