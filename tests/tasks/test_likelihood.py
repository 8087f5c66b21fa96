"""Importance sampling against the exact evidence of probabilistic PCA."""

from __future__ import annotations

import instances
import pytest
import torch
from tasks.standins import PPCA, Rows, context

from narrows.errors import UserError
from narrows.losses.importance import log_weights
from narrows.tasks.base import run_tasks
from narrows.tasks.likelihood import Likelihood
from narrows.types import Batch


def _data(truth: PPCA, n: int = 30) -> Rows:
    x = truth.evidence.sample((n,))
    return Rows({"train": Batch(x), "validation": Batch(x), "test": Batch(x)}, batch_size=7)


@pytest.mark.parametrize("samples", [1, 3, 20])
def test_the_exact_posterior_gives_the_exact_evidence_with_any_number_of_draws(samples: int) -> None:
    truth = PPCA()
    x = truth.evidence.sample((9,))
    with torch.no_grad():
        nll = Likelihood(samples=samples, chunk=8).negative_log_likelihood(truth.model().eval(), Batch(x))
    torch.testing.assert_close(nll.float(), -truth.evidence.log_prob(x), rtol=1e-4, atol=1e-4)


def test_a_broad_proposal_bounds_the_evidence_and_tightens_with_more_draws() -> None:
    truth = PPCA()
    data, model = _data(truth, 200), truth.model(widen=2.0)
    exact = float(-truth.evidence.log_prob(data.splits["test"].x).mean())
    found = [run_tasks({"l": Likelihood(samples=k)}, context(model, data))["test/nll"] for k in (1, 5, 50, 1000)]
    assert found == sorted(found, reverse=True)
    assert found[0] > exact + 0.5
    assert found[-1] == pytest.approx(exact, abs=0.02)


def test_one_draw_is_the_negative_elbo() -> None:
    truth = PPCA()
    model, batch = truth.model(widen=1.7).eval(), Batch(truth.evidence.sample((5,)))
    torch.manual_seed(3)
    nll = Likelihood(samples=1).negative_log_likelihood(model, batch)
    torch.manual_seed(3)
    latent = model.encode(batch.x)
    z = latent.posterior.sample((1,))[0]
    elbo = model.decode(z).log_prob(batch.x).sum(1)
    elbo = elbo + (latent.prior.log_prob(z) - latent.posterior.log_prob(z)).sum(1)
    torch.testing.assert_close(nll.float(), -elbo)


def test_exactly_so_many_draws_are_decoded_whatever_the_chunk() -> None:
    truth = PPCA()
    model, data = truth.model(), _data(truth, 30)
    run_tasks({"l": Likelihood(samples=11, chunk=4, rows=3)}, context(model, data))
    assert model.decoder.rows_decoded == 11 * 30


def test_the_standard_error_and_a_subset_of_examples() -> None:
    truth = PPCA()
    model, data = truth.model(), _data(truth, 40)
    nll = -truth.evidence.log_prob(data.splits["test"].x)
    found = run_tasks({"l": Likelihood(samples=2)}, context(model, data))
    assert found["test/nll_stderr"] == pytest.approx(float(nll.std()) / 40**0.5, rel=1e-3)
    model.decoder.rows_decoded = 0
    run_tasks({"l": Likelihood(samples=2, max_examples=13)}, context(model, data))
    assert model.decoder.rows_decoded == 2 * 13


def test_missing_values_do_not_count() -> None:
    truth = PPCA()
    model, x = truth.model().eval(), truth.evidence.sample((4,))
    latent = model.encode(x)
    observed = torch.rand_like(x) < 0.5
    torch.manual_seed(1)
    weights = log_weights(model, Batch(x, observed=observed), latent, 3)
    torch.manual_seed(1)
    z = latent.posterior.sample((3,))
    expected = (model.decode(z.flatten(0, 1)).log_prob(x.repeat(3, 1)) * observed.repeat(3, 1)).sum(1).reshape(3, 4)
    expected = expected + (latent.prior.log_prob(z) - latent.posterior.log_prob(z)).sum(2)
    torch.testing.assert_close(weights.float(), expected)


def test_models_without_a_posterior_are_refused_and_so_are_senseless_arguments() -> None:
    model = instances.model(bottleneck=instances.BOTTLENECKS["deterministic"])
    assert "Deterministic" in str(Likelihood().fits(model.spec, model))
    assert Likelihood().fits(model.spec, instances.model()) is None
    with pytest.raises(UserError, match="samples must be at least 1"):
        Likelihood(samples=0)
