"""A model that runs free under a reading of its own: an autoregressive decoder is fed what was read out of its own last
step."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.distributions import Distribution

from narrows.models.autoencoder import Autoencoder
from narrows.types import Batch

Reading = Callable[[Distribution], Tensor]
"""One value for p(x|z), in the shape of x."""


def run_free(model: Autoencoder, z: Tensor, reading: Reading) -> Tensor:
    """What `reading` makes of p(x|z) at `z [B, *latent_shape]`, `[B, *shape]`, on the CPU; of an autoregressive decoder
    step by step, each step fed what was made of the one before. It is told nothing of the truth, not even its length.
    """
    read = model.decoder_input(z, None)

    def of_params(params: Tensor) -> Tensor:
        return reading(model.likelihood(params, None))

    if not model.decoder.autoregressive:
        return of_params(model.decoder(read)).cpu()
    return model.decoder.run_free(read, of_params).cpu()


def teacher_forced(model: Autoencoder, z: Tensor, batch: Batch, reading: Reading) -> Tensor:
    """What `reading` makes of p(x|z) where every step is told the true ones before it, `[B, *shape]`, on the CPU."""
    return reading(model.decode(z, batch)).cpu()
