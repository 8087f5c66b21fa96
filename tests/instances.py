"""How to build every component, small: laws are functions over these tables.

A component that is exported but missing here fails `tests/test_coverage.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from narrows import corruptions, likelihoods
from narrows.bottlenecks.deterministic import Deterministic
from narrows.bottlenecks.gaussian import Gaussian
from narrows.bottlenecks.sparse import TopK
from narrows.decoders.mlp import MLPDecoder
from narrows.encoders.mlp import MLPEncoder
from narrows.losses import Objective, Term
from narrows.losses.divergence import KL, Capacity
from narrows.losses.geometry import Contraction
from narrows.losses.reconstruction import HiddenNegativeLogLikelihood, NegativeLogLikelihood
from narrows.losses.sparsity import L1, SparseKL
from narrows.model import Autoencoder
from narrows.schedules import Constant, Cyclical, Linear
from narrows.types import Batch, DataSpec

Build = Callable[..., Any]

IMAGE = DataSpec(shape=(1, 8, 8), kind="image", size=100, value_range=(0.0, 1.0))
SERIES = DataSpec(shape=(2, 12), kind="series", size=100)

BOTTLENECKS: dict[str, Build] = {
    "deterministic": partial(Deterministic, dim=5),
    "deterministic_sigmoid": partial(Deterministic, dim=5, activation="sigmoid"),
    "topk": partial(TopK, dim=9, k=3),
    "gaussian": partial(Gaussian, dim=5),
}

LIKELIHOODS: dict[str, Build] = {
    "bernoulli": partial(likelihoods.BernoulliLikelihood),
    "continuous_bernoulli": partial(likelihoods.ContinuousBernoulliLikelihood),
    "gaussian_fixed": partial(likelihoods.GaussianLikelihood, sigma=0.7),
    "gaussian_shared": partial(likelihoods.GaussianLikelihood, scope="shared"),
    "gaussian_value": partial(likelihoods.GaussianLikelihood, scope="value"),
    "gaussian_optimal": partial(likelihoods.OptimalGaussianLikelihood),
    "laplace": partial(likelihoods.LaplaceLikelihood, scale=0.5),
    "categorical": partial(likelihoods.CategoricalLikelihood, levels=8),
}

CORRUPTIONS: dict[str, Build] = {
    "clean": partial(corruptions.Clean),
    "gaussian": partial(corruptions.GaussianNoise, sigma=0.3),
    "masking": partial(corruptions.Masking, p=0.4),
    "salt_and_pepper": partial(corruptions.SaltAndPepper, p=0.4),
}

TERMS: dict[str, Callable[[], Term]] = {
    "nll": NegativeLogLikelihood,
    "hidden_nll": HiddenNegativeLogLikelihood,
    "kl": KL,
    "kl_free_bits": partial(KL, free_bits=0.1),
    "capacity": partial(Capacity, capacity=Linear(0, 5, 10)),
    "l1": L1,
    "sparse_kl": SparseKL,
    "contraction": Contraction,
    "contraction_exact": partial(Contraction, method="exact"),
}

LOSSES: dict[str, Callable[[], Objective]] = {
    "reconstruction": lambda: Objective({"reconstruction": NegativeLogLikelihood()}),
    "elbo": lambda: Objective({"reconstruction": NegativeLogLikelihood(), "kl": KL()}),
    "capacity": lambda: Objective({"reconstruction": NegativeLogLikelihood(), "capacity": Capacity()}),
    "l1": lambda: Objective({"reconstruction": NegativeLogLikelihood(), "l1": L1()}),
    "sparse_kl": lambda: Objective({"reconstruction": NegativeLogLikelihood(), "sparse_kl": SparseKL()}),
    "contractive": lambda: Objective({"reconstruction": NegativeLogLikelihood(), "contraction": Contraction()}),
    "masked": lambda: Objective({"reconstruction": HiddenNegativeLogLikelihood()}),
}

SCHEDULES: dict[str, Build] = {
    "constant": partial(Constant, 0.5),
    "linear": partial(Linear, 0.0, 2.0, 10, 5),
    "cyclical": partial(Cyclical, 0.0, 1.0, 10, 3, 0.5),
}


ENCODER, DECODER = partial(MLPEncoder, widths=[16]), partial(MLPDecoder, widths=[16])


def model(
    spec: DataSpec = IMAGE,
    *,
    bottleneck: Build = BOTTLENECKS["gaussian"],
    likelihood: Build = LIKELIHOODS["bernoulli"],
    corruption: Build = CORRUPTIONS["clean"],
    encoder: Build = ENCODER,
    decoder: Build = DECODER,
) -> Autoencoder:
    """A small autoencoder; every stage can be exchanged."""
    return Autoencoder(
        spec, encoder=encoder, bottleneck=bottleneck, decoder=decoder, likelihood=likelihood, corruption=corruption
    )


def batch(spec: DataSpec = IMAGE, n: int = 6) -> Batch:
    """`n` examples of the data's shape, inside its range."""
    return Batch(x=torch.rand(n, *spec.shape), label=torch.arange(n) % 3, index=torch.arange(n))
