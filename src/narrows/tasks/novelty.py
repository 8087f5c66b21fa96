"""How anomalous a trained model finds an example: one definition each, higher is more anomalous."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.covariance import LedoitWolf
from torch import Tensor

from narrows.model import Autoencoder
from narrows.tasks.base import TaskContext, per_example
from narrows.tasks.classics import MAX_SQUARE
from narrows.tasks.likelihood import log_weights
from narrows.tasks.scores import example_mse
from narrows.types import Batch, VariationalLatent

DRAWS = 10
"""From the posterior, per example, for `elbo`."""

Score = Callable[[Batch], NDArray[np.floating]]
"""`[B]` scores of a batch."""


def reconstruction(context: TaskContext) -> Score:
    """Squared error of the noise-free reconstruction over observed values / their number."""

    def score(batch: Batch) -> NDArray[np.floating]:
        guess = context.model.reconstruct(batch.x, batch.label)
        return example_mse(guess, batch.truth, batch.observed).numpy()

    return score


def likelihood(context: TaskContext) -> Score:
    """`-log p(x|z)` at the noise-free latent, in nats, summed over observed values."""

    def score(batch: Batch) -> NDArray[np.floating]:
        latent = context.model.encode(batch.x, batch.label, batch.missing)
        p_x = context.model.decode(latent.point, batch.truth, batch.label)
        return -per_example(p_x.log_prob(batch.truth), batch.observed).numpy()

    return score


def elbo(context: TaskContext) -> Score:
    """`-E_q(z|x) [log p(x|z) + log p(z) - log q(z|x)]`, in nats, the mean of `DRAWS` draws; observed values only."""

    def score(batch: Batch) -> NDArray[np.floating]:
        latent = context.model.encode(batch.x, batch.label, batch.missing)
        assert isinstance(latent, VariationalLatent)
        return -log_weights(context.model, batch, latent, DRAWS).mean(0).numpy()

    return score


def latent(context: TaskContext) -> Score:
    """Squared Mahalanobis distance of the noise-free latent from those of the training split, under their mean and
    covariance, shrunk as Ledoit and Wolf (2004) do."""

    def codes(batch: Batch) -> Tensor:
        return context.model.embed(batch.x, batch.label, batch.missing).cpu().double()

    training = torch.cat([codes(batch) for batch in context.batches("train")])
    covariance = LedoitWolf().fit(training.numpy())
    return lambda batch: covariance.mahalanobis(codes(batch).numpy())


SCORES: dict[str, Callable[[TaskContext], Score]] = {
    "reconstruction": reconstruction,
    "likelihood": likelihood,
    "elbo": elbo,
    "latent": latent,
}
AXES = {
    "reconstruction": "squared error per value",
    "likelihood": "-log p(x|z) (nats)",
    "elbo": "negative ELBO (nats)",
    "latent": "squared Mahalanobis distance of the latent",
}
"""What each is called in pictures, with its unit."""


def unfit(name: str, model: Autoencoder) -> str | None:
    """Why a model has no such score; None if it has."""
    if name == "elbo" and not model.variational:
        return f"score=elbo needs a posterior and a prior, which {type(model.bottleneck).__name__} has not"
    if name == "latent" and math.prod(model.latent_shape) > MAX_SQUARE:
        return f"score=latent inverts a covariance of at most {MAX_SQUARE} dimensions"
    return None
