"""The model's scores of anomalousness: each against its one definition."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from tasks.standins import PPCA, Rows, context

from narrows.evaluation import evaluating
from narrows.tasks.base import TaskContext
from narrows.tasks.measures.anomaly_scores import AXES, SCORES, unfit
from narrows.types import Batch


@pytest.fixture
def law() -> PPCA:
    return PPCA(dims=6, latents=2, sigma=0.4)


def of(law: PPCA, train: torch.Tensor | None = None) -> TaskContext:
    data = Rows({"train": Batch(torch.randn(40, 6) if train is None else train)})
    return context(law.model().eval(), data)


def scored(name: str, judged: TaskContext, batch: Batch) -> np.ndarray:
    with evaluating(judged.model, 0):
        return SCORES[name](judged)(batch)


def test_reconstruction_is_the_squared_error_per_observed_value(law: PPCA) -> None:
    x, observed = torch.randn(5, 6), torch.rand(5, 6) < 0.7
    observed[:, 0] = True
    judged = of(law)
    guess = judged.model.reconstruct(x)
    expected = [float(np.mean([(guess[i, j] - x[i, j]) ** 2 for j in range(6) if observed[i, j]])) for i in range(5)]
    assert scored("reconstruction", judged, Batch(x, observed=observed)) == pytest.approx(expected, rel=1e-5)


def test_standardised_divides_every_value_by_its_usual_error(law: PPCA) -> None:
    train, x = torch.randn(50, 6) * torch.tensor([1.0, 10.0, 1.0, 1.0, 1.0, 0.0]), torch.randn(5, 6)
    observed = torch.rand(5, 6) < 0.7
    observed[:, 0] = True
    judged = of(law, train)
    usual = (judged.model.reconstruct(train) - train).square().mean(0)
    usual = usual.clamp_min(0.01 * float(usual.mean()))
    errors = (judged.model.reconstruct(x) - x).square() / usual
    expected = [float(errors[i, observed[i]].mean()) for i in range(5)]
    assert scored("standardised", judged, Batch(x, observed=observed)) == pytest.approx(expected, rel=1e-4)
    # In units of the training rows' own errors, these score 1 on average, whatever the units of a column.
    assert scored("standardised", judged, Batch(train)).mean() == pytest.approx(1, abs=0.2)


def test_likelihood_is_the_gaussian_s_nats_at_the_noise_free_latent(law: PPCA) -> None:
    x, judged = torch.randn(5, 6), of(law)
    squared = (judged.model.reconstruct(x) - x).square().sum(1)
    expected = squared / (2 * law.sigma**2) + 6 * (math.log(law.sigma) + 0.5 * math.log(2 * math.pi))
    assert scored("likelihood", judged, Batch(x)) == pytest.approx(expected.numpy(), rel=1e-5)
    observed = torch.ones(5, 6, dtype=torch.bool)
    observed[:, 3:] = False
    fewer = scored("likelihood", judged, Batch(x, observed=observed))
    part = (judged.model.reconstruct(x) - x)[:, :3].square().sum(1)
    nats = part / (2 * law.sigma**2) + 3 * (math.log(law.sigma) + 0.5 * math.log(2 * math.pi))
    assert fewer == pytest.approx(nats.numpy(), rel=1e-5)


def test_elbo_is_the_evidence_where_the_posterior_is_exact(law: PPCA) -> None:
    x = law.evidence.sample((5,))
    assert scored("elbo", of(law), Batch(x)) == pytest.approx(-law.evidence.log_prob(x).numpy(), rel=1e-4)


def test_latent_is_a_mahalanobis_distance_among_training_latents(law: PPCA) -> None:
    train, x = torch.randn(4000, 6), 3 * torch.randn(7, 6)
    judged = of(law, train)
    codes, new = judged.model.embed(train).double(), judged.model.embed(x).double()
    centred = new - codes.mean(0)
    expected = (centred @ torch.linalg.inv(codes.T.cov(correction=0)) * centred).sum(1)
    # Shrinkage is small with four thousand rows of two dimensions.
    assert scored("latent", judged, Batch(x)) == pytest.approx(expected.numpy(), rel=0.02)


def test_what_a_model_has_no_score_for(law: PPCA) -> None:
    model = law.model()
    assert set(AXES) == {*SCORES, "map_maximum"}  # of pictures alone: tests/tasks/test_anomaly_of_pixels.py
    assert "needs pictures" in str(unfit("map_maximum", model))
    assert all(unfit(name, model) is None for name in SCORES)
    model.bottleneck.returns = type(model.bottleneck).__mro__[1].returns  # what only encodes
    assert "needs a posterior" in str(unfit("elbo", model))
    model.bottleneck.out_shape = (5000,)
    assert "at most 4096" in str(unfit("latent", model))
