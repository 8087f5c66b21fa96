"""Anomaly scores of a trained model; higher is more anomalous."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.covariance import LedoitWolf
from torch import Tensor
from torch.nn.functional import pad

from narrows.losses.importance import log_weights
from narrows.models.autoencoder import Autoencoder
from narrows.tasks.base import TaskContext
from narrows.tasks.classics.mean_pca_ridge import MAX_SQUARE
from narrows.tasks.measures.reconstruction_errors import example_mse, example_nats
from narrows.types import Batch, VariationalLatent

DRAWS = 10
"""Draws from the posterior per example, for `elbo`."""
FLOOR = 0.01
"""Smallest value of `usual_errors`, as a share of their mean."""

Score = Callable[[Batch], NDArray[np.floating]]
"""A function from a batch to its scores `[B]`."""


def reconstruction(context: TaskContext) -> Score:
    """Squared error of the noise-free reconstruction over observed values / their number."""

    def score(batch: Batch) -> NDArray[np.floating]:
        return example_mse(_rebuilt(context.model, batch), batch.truth, batch.judged).numpy()

    return score


def standardised(context: TaskContext) -> Score:
    """As `reconstruction`, every value's squared error over its `usual_errors` in the training split."""
    usual = usual_errors(context.model, context.batches("train"), context.spec.shape[-1])

    def score(batch: Batch) -> NDArray[np.floating]:
        return standardised_mse(_rebuilt(context.model, batch), batch.truth, batch.judged, usual).numpy()

    return score


def usual_errors(model: Autoencoder, batches: Iterable[Batch], steps: int) -> Tensor:
    """Mean squared error of every value where it was observed, `[*shape]`, float64 on the CPU; none below `FLOOR` of
    their mean, so that a value that never varied does not decide alone. Where none was observed it is the mean.

    Args:
        steps: of the last axis of `shape`; of examples that differ in length those of the longest.
    """
    squared, counts = torch.zeros(()).double(), torch.zeros(()).double()
    for batch in batches:
        errors = (_rebuilt(model, batch) - batch.truth).cpu().double().square()
        seen = torch.ones_like(errors, dtype=torch.bool) if batch.judged is None else batch.judged.cpu()
        room = (0, steps - errors.shape[-1])
        squared = squared + pad(errors.masked_fill(~seen, 0.0).sum(0), room)
        counts = counts + pad(seen.sum(0), room)
    usual = squared / counts.clamp_min(1)
    if (counts == 0).any() and (counts > 0).any():
        usual = torch.where(counts == 0, usual[counts > 0].mean(), usual)
    return usual.clamp_min(FLOOR * float(usual.mean()))


def standardised_mse(guess: Tensor, truth: Tensor, observed: Tensor | None, usual: Tensor) -> Tensor:
    """The mean over observed values of squared error / usual squared error, `[B]`: about 1 for training examples."""
    width = usual.sqrt().to(guess)[..., : truth.shape[-1]]
    return example_mse(guess / width, truth / width, observed)


def _rebuilt(model: Autoencoder, batch: Batch) -> Tensor:
    return model.reconstruct(batch)


def likelihood(context: TaskContext) -> Score:
    """`-log p(x|z)` at the noise-free latent, in nats, summed over observed values."""

    def score(batch: Batch) -> NDArray[np.floating]:
        latent = context.model.encode(batch)
        p_x = context.model.decode(latent.point, batch)
        return example_nats(p_x, batch.truth, batch.judged).numpy()

    return score


def elbo(context: TaskContext) -> Score:
    """`-E_q(z|x) [log p(x|z) + log p(z) - log q(z|x)]`, in nats, the mean of `DRAWS` draws; observed values only."""

    def score(batch: Batch) -> NDArray[np.floating]:
        latent = context.model.encode(batch)
        assert isinstance(latent, VariationalLatent)
        return -log_weights(context.model, batch, latent, DRAWS).mean(0).numpy()

    return score


def latent(context: TaskContext) -> Score:
    """Squared Mahalanobis distance of the noise-free latent from those of the training split, under their mean and
    covariance, shrunk as Ledoit and Wolf (2004) do."""

    def codes(batch: Batch) -> Tensor:
        return context.model.embed(batch).cpu().double()

    training = torch.cat([codes(batch) for batch in context.batches("train")])
    covariance = LedoitWolf().fit(training.numpy())
    return lambda batch: covariance.mahalanobis(codes(batch).numpy())


SCORES: dict[str, Callable[[TaskContext], Score]] = {
    "reconstruction": reconstruction,
    "standardised": standardised,
    "likelihood": likelihood,
    "elbo": elbo,
    "latent": latent,
}
AXES = {
    "reconstruction": "squared error per value",
    "standardised": "squared error per value, over that of training rows",
    "likelihood": "-log p(x|z) (nats)",
    "elbo": "negative ELBO (nats)",
    "latent": "squared Mahalanobis distance of the latent",
    "map_maximum": "largest squared error of the smoothed map",
}
"""The label of each score in pictures, with its unit."""


def unfit(name: str, model: Autoencoder) -> str | None:
    """The reason why a model has no such score; None if it has."""
    if name == "elbo" and not model.variational:
        return f"score=elbo needs a posterior and a prior, which {type(model.bottleneck).__name__} has not"
    if name == "elbo" and not model.bounds_evidence:
        return f"score=elbo needs a prior that has not read x, which that of {type(model).__name__} has"
    if name == "latent" and math.prod(model.latent_shape) > MAX_SQUARE:
        return f"score=latent inverts a covariance of at most {MAX_SQUARE} dimensions"
    if name == "map_maximum" and len(model.spec.shape) not in (3, 4):
        return "score=map_maximum needs pictures or volumes, which have places"
    return None
