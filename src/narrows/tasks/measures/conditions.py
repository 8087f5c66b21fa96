"""Parts of multi-modal data given other parts.

Legend: B examples, S draws, D latents.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor

from narrows.losses.importance import log_posterior, log_weights
from narrows.models.autoencoder import Autoencoder
from narrows.types import Batch, VariationalLatent, log_prob_of

DECODED = 500
"""Latents that are decoded together."""


def given_parts(batch: Batch, model: Autoencoder, names: Iterable[str]) -> Batch:
    """The batch of which only these parts are there."""
    known = torch.zeros_like(batch.x, dtype=torch.bool)
    for name in names:
        known[:, model.spec.slices[name]] = True
    return replace(batch, observed=known if batch.observed is None else known & batch.observed)


def posterior_of(model: Autoencoder, batch: Batch) -> VariationalLatent:
    """The latent of a batch, which has a posterior."""
    latent = model.encode(batch)
    assert isinstance(latent, VariationalLatent)
    return latent


def made(model: Autoencoder, z: Tensor) -> Tensor:
    """The point of p(x|z) at any number of latents, `[N, D] -> [N, *shape]`, on the CPU."""
    return torch.cat([model.point_at(part).float().cpu() for part in z.split(DECODED)])


def joint_nll(model: Autoencoder, batch: Batch, draws: int) -> Tensor:
    """`-log 1/S sum_s p(x, z_s) / q(z_s|x)` over all parts, `[B]`, float64: an upper bound of -log p(x) in the mean."""
    weights = log_weights(model, batch, posterior_of(model, batch), draws)
    return math.log(draws) - weights.logsumexp(0)


def conditional_nll(model: Autoencoder, batch: Batch, target: str, source: str, draws: int) -> Tensor:
    """`-log E_{q(z|source)} p(target|z)`, `[B]`, float64: what answers to the source say of the true target.

    Estimated with draws of q(z|source, target), in the neighbourhood of which p(target|z) is large, weighted by
    `q(z|source) / q(z|source, target)`: an upper bound in the mean.
    """
    narrow, wide = (posterior_of(model, given_parts(batch, model, names)) for names in ((source, target), (source,)))
    z = narrow.posterior.sample(torch.Size((draws,)))
    told = given_parts(batch, model, (target,)).repeat(draws)
    nats = log_prob_of(model.decode(z.flatten(0, 1), told), told.truth, told.judged)
    log_p = nats.reshape(draws, len(batch), -1).sum(2)
    weights = (log_p + log_posterior(wide, z) - log_posterior(narrow, z)).cpu().double()
    return math.log(draws) - weights.logsumexp(0)
