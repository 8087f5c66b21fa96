"""Likelihoods of counts equal SciPy's and torch's distributions, and stay finite at any count."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import scipy.stats
import torch
from instances import COUNT_LIKELIHOODS, COUNTS, LIKELIHOODS, LOSSES, SERIES, TABLE, batch, model
from torch import Tensor

from narrows.errors import UserError
from narrows.likelihoods.count_distributions import (
    LARGE,
    MultinomialCounts,
    NegativeBinomialCounts,
    PoissonCounts,
    ZeroInflatedCounts,
    deal,
)
from narrows.likelihoods.counts import MultinomialLikelihood, NegativeBinomialLikelihood, PoissonLikelihood
from narrows.likelihoods.elementwise import Likelihood
from narrows.models.autoencoder import Autoencoder
from narrows.types import Batch, Given, log_prob_of

ROWS = torch.tensor([[3.0, 0, 1, 7, 0, 0, 2, 0, 1], [0, 0, 0, 0, 0, 0, 0, 0, 0], [40, 0, 2, 0, 1000, 3, 0, 0, 9]])
ROWS = ROWS.double()


def params_of(likelihood: Likelihood, scale: float = 1.0) -> Tensor:
    drawn = torch.Generator().manual_seed(3)
    return scale * torch.randn(len(ROWS), *likelihood.out_shape, generator=drawn).double()


def given_of(rows: Tensor = ROWS) -> Given:
    return replace(Batch(rows).given, label=torch.tensor([0, 2, 1]))


def built(name: str) -> Likelihood:
    likelihood = COUNT_LIKELIHOODS[name](COUNTS).double()
    for parameter in likelihood.parameters():
        torch.nn.init.normal_(parameter, mean=2.0, std=3.0, generator=torch.Generator().manual_seed(1))
    return likelihood


def rates(logits: Tensor) -> Tensor:
    return ROWS.sum(1, keepdim=True) * logits.softmax(1)


# ── against other implementations ───────────────────────────────────────────────────────────────────────


def test_the_multinomial_is_scipy_s_and_torch_s() -> None:
    likelihood = built("multinomial")
    logits = params_of(likelihood)
    found = likelihood(logits, given_of()).log_prob(ROWS).sum(1)
    for row, logit, nats in zip(ROWS, logits, found, strict=True):
        n, probs = int(row.sum()), logit.softmax(0)
        assert nats.item() == pytest.approx(scipy.stats.multinomial.logpmf(row.numpy(), n, probs.numpy()), abs=1e-8)
        assert nats.item() == pytest.approx(torch.distributions.Multinomial(n, probs).log_prob(row).item(), abs=1e-8)


def test_without_its_coefficient_the_multinomial_is_the_cross_entropy() -> None:
    likelihood = built("multinomial_without")
    logits = params_of(likelihood)
    found = likelihood(logits, given_of()).log_prob(ROWS)
    torch.testing.assert_close(found, ROWS * logits.log_softmax(1))
    assert likelihood.bits_name(ROWS) is None
    assert built("multinomial").bits_name(ROWS) == "bits_per_dim"
    assert built("multinomial").bits_name(ROWS / 3) is None


def test_the_poisson_is_scipy_s_and_torch_s() -> None:
    likelihood = built("poisson")
    logits = params_of(likelihood)
    kept = [0, 2]  # SciPy has no Poisson of mean 0
    found, mu = likelihood(logits, given_of()).log_prob(ROWS)[kept], rates(logits)[kept]
    torch.testing.assert_close(found, torch.from_numpy(scipy.stats.poisson.logpmf(ROWS[kept], mu)))
    torch.testing.assert_close(found, torch.distributions.Poisson(mu).log_prob(ROWS[kept]))


def test_independent_poissons_are_a_multinomial_and_a_poisson_of_the_total() -> None:
    logits, given = params_of(built("poisson")), given_of()
    poisson = built("poisson")(logits, given).log_prob(ROWS).sum(1)
    multinomial = built("multinomial")(logits, given).log_prob(ROWS).sum(1)
    n = ROWS.sum(1)
    torch.testing.assert_close(
        poisson, multinomial + torch.from_numpy(scipy.stats.poisson.logpmf(n, n)), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("name", ["negative_binomial", "negative_binomial_class"])
def test_the_negative_binomial_is_scipy_s_and_torch_s(name: str) -> None:
    likelihood = built(name)
    logits, given = params_of(likelihood), given_of()
    r = likelihood.log_inverse_dispersion.detach().exp()
    r = r.expand(3, -1) if name == "negative_binomial" else r[given.label]
    assert (r > LARGE).any(), "both formulas are to be seen"
    kept = [0, 2]
    found, mu, r = likelihood(logits, given).log_prob(ROWS)[kept], rates(logits)[kept], r[kept]
    expected = scipy.stats.nbinom.logpmf(ROWS[kept].numpy(), r.numpy(), (r / (r + mu)).numpy())
    torch.testing.assert_close(found.detach(), torch.from_numpy(expected))
    torches = torch.distributions.NegativeBinomial(r, probs=mu / (r + mu), validate_args=False)
    torch.testing.assert_close(found.detach(), torches.log_prob(ROWS[kept]))


def test_both_formulas_of_the_negative_binomial_are_one_function() -> None:
    log_rate, x = torch.linspace(-4, 6, 21).double(), torch.tensor([0.0, 1, 2, 30, 400]).double()[:, None]
    for r in (LARGE * (1 - 1e-12), LARGE * (1 + 1e-12)):
        expected = scipy.stats.nbinom.logpmf(x, r, r / (r + log_rate.exp()))
        found = NegativeBinomialCounts(log_rate, torch.tensor(r).double()).log_prob(x)
        torch.testing.assert_close(found, torch.from_numpy(expected), rtol=1e-8, atol=1e-8)


def test_what_is_computed_of_all_counts_at_once_is_what_is_of_those_above_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    """A compiled step and a GPU do the one, the CPU the other: values, and gradients by rates and dispersions."""
    likelihood = built("negative_binomial_class")
    logits, draws = params_of(likelihood).requires_grad_(), torch.stack([ROWS, ROWS.flip(1)])
    found = []
    for whole in (False, True):
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda whole=whole: whole)
        nats = likelihood(logits, given_of()).log_prob(draws)
        found.append((nats, *torch.autograd.grad(nats.cos().sum(), [logits, likelihood.log_inverse_dispersion])))
    assert found[0][0].shape == draws.shape
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_the_zero_inflated_is_the_mixture_it_says() -> None:
    likelihood = built("zinb")
    params, given = params_of(likelihood), given_of()
    logits, gate = params.chunk(2, 1)
    counted = NegativeBinomialCounts(
        built("poisson")(logits, given).log_rate, likelihood.log_inverse_dispersion.exp()
    ).log_prob(ROWS)
    pi = gate.sigmoid()
    expected = (pi * (ROWS == 0) + (1 - pi) * counted.exp()).log()
    near = expected > -300  # below, the mixture underflows
    torch.testing.assert_close(likelihood(params, given).log_prob(ROWS)[near], expected[near])


# ── limits ──────────────────────────────────────────────────────────────────────────────────────────────


def test_without_inflation_it_is_the_negative_binomial() -> None:
    logits, r = params_of(built("poisson")), torch.rand(9).double() * 50
    base = NegativeBinomialCounts(logits, r)
    for gate in (-1e4, -math.inf):
        found = ZeroInflatedCounts(base, torch.full_like(logits, gate))
        torch.testing.assert_close(found.log_prob(ROWS), base.log_prob(ROWS))
        torch.testing.assert_close(found.mean, base.mean)


@pytest.mark.parametrize("r", [1e12, math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_infinite_inverse_dispersion_is_the_poisson(r: float, dtype: torch.dtype) -> None:
    logits = params_of(built("poisson")).to(dtype)
    found = NegativeBinomialCounts(logits, torch.tensor(r, dtype=dtype))
    near = {"rtol": 1e-5, "atol": 1e-3 if dtype == torch.float32 else 1e-5}
    torch.testing.assert_close(found.log_prob(ROWS.to(dtype)), PoissonCounts(logits).log_prob(ROWS.to(dtype)), **near)
    torch.testing.assert_close(found.variance, PoissonCounts(logits).variance)


def test_the_multinomial_is_normalised_over_all_vectors_of_a_total() -> None:
    for n, features in ((0, 3), (1, 3), (5, 3), (4, 4)):
        x = torch.tensor([c for c in itertools.product(range(n + 1), repeat=features) if sum(c) == n]).double()
        logits = torch.randn(features).double().expand(len(x), -1)
        nats = MultinomialCounts(logits, logits).log_prob(x).sum(1)
        assert nats.exp().sum().item() == pytest.approx(1, abs=1e-10)


@pytest.mark.parametrize("name", ["poisson", "negative_binomial", "zinb"])
def test_masses_sum_to_one(name: str) -> None:
    likelihood = built(name)
    p = likelihood(params_of(likelihood), Given(total=torch.full((3,), 20.0)))
    total = sum(p.log_prob(torch.full((3, 9), float(x)).double()).exp() for x in range(3000))
    heavy = p.variance.sqrt() * 20 + p.mean > 3000
    assert not heavy.all()
    torch.testing.assert_close(total[~heavy], torch.ones_like(total)[~heavy], rtol=0, atol=1e-4)


# ── draws and moments ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", COUNT_LIKELIHOODS)
def test_draws_have_the_mean_and_the_variance(name: str) -> None:
    torch.manual_seed(0)
    likelihood = COUNT_LIKELIHOODS[name](COUNTS).double()
    given = Given(label=torch.tensor([0, 2, 1]), total=torch.tensor([1.0, 30.0, 500.0]))
    p = likelihood(params_of(likelihood), given)
    draws = p.sample((20_000,))
    assert draws.shape == (20_000, 3, 9)
    assert bool((draws >= 0).all() and (draws == draws.round()).all())
    error = (p.variance / len(draws)).sqrt()
    assert bool(((draws.mean(0) - p.mean).abs() < 6 * error + 1e-9).all())
    torch.testing.assert_close(draws.var(0), p.variance, rtol=0.25, atol=1e-3)
    assert torch.equal(likelihood.point(p), p.mean)
    if name.startswith("multinomial"):
        assert torch.equal(draws.sum(-1), given.total.double().expand(20_000, 3))  # type: ignore[union-attr]


def test_dealing_is_exact_at_its_ends() -> None:
    total, probs = torch.tensor([[5.0], [1e6]]), torch.tensor([[0.0, 1.0, 0.0], [0.5, 0.0, 0.5]])
    drawn = deal(total, probs)
    assert torch.equal(drawn[0], torch.tensor([0.0, 5.0, 0.0]))
    assert drawn[1, 1] == 0
    assert drawn[1].sum() == 1e6
    assert torch.equal(deal(torch.tensor([[7.0]]), torch.ones(1, 1)), torch.tensor([[7.0]]))


def test_library_sizes_of_samples_are_log_normal_with_the_training_rows_moments() -> None:
    torch.manual_seed(0)
    network = model(replace(COUNTS, totals=(7.0, 0.5)), likelihood=COUNT_LIKELIHOODS["multinomial"])
    total = network.usual(5000).total
    assert total is not None
    assert bool((total == total.round()).all())
    assert total.log().mean().item() == pytest.approx(7.0, abs=0.04)
    assert total.log().std().item() == pytest.approx(0.5, abs=0.03)
    assert network.sample(40).sum(1).std() > 100
    torch.testing.assert_close(network.sample(4, Given(total=torch.full((4,), 11.0))).sum(1), torch.full((4,), 11.0))


# ── numbers that computers find hard ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", COUNT_LIKELIHOODS)
@pytest.mark.parametrize("dispersion", [-30.0, 0.0, 3.4, 60.0, 200.0])
def test_values_and_gradients_are_finite_at_any_count(name: str, dispersion: float) -> None:
    likelihood = COUNT_LIKELIHOODS[name](COUNTS)
    for parameter in likelihood.parameters():
        torch.nn.init.constant_(parameter, dispersion)
    signs = torch.ones(len(ROWS), *likelihood.out_shape)
    signs[:, ::2] = -1
    for scale in (0.0, 1e-4, 1.0, 30.0, 1e3, 1e6):
        raw = (scale * signs).requires_grad_()
        for x in (torch.zeros(3, 9), torch.full((3, 9), 1e5), torch.eye(9)[:3] * 1e5, ROWS.float()):
            p = likelihood(raw, given_of(x))
            nats = p.log_prob(x)
            gradients = torch.autograd.grad(nats.sum() + p.mean.sum(), [raw, *likelihood.parameters()])
            assert torch.isfinite(nats).all()
            assert torch.isfinite(p.mean).all()
            assert all(bool(torch.isfinite(gradient).all()) for gradient in gradients)


@pytest.mark.parametrize("name", COUNT_LIKELIHOODS)
def test_gradients_are_the_derivatives(name: str) -> None:
    likelihood = built(name)

    def nats(params: Tensor, *dispersion: Tensor) -> Tensor:
        told = dict(zip(dict(likelihood.named_parameters()), dispersion, strict=True))
        return torch.func.functional_call(likelihood, told, (params, given_of())).log_prob(ROWS).sum()

    inputs = [params_of(likelihood).requires_grad_(), *likelihood.parameters()]
    assert torch.autograd.gradcheck(nats, inputs, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_single(dtype: torch.dtype) -> None:
    likelihood = COUNT_LIKELIHOODS["zinb"](COUNTS)
    p = likelihood(params_of(likelihood).to(dtype), given_of(ROWS.float()))
    assert p.log_prob(ROWS.float()).dtype == p.mean.dtype == torch.float32


# ── missing values and padding ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", COUNT_LIKELIHOODS)
def test_missing_and_padded_values_cost_nothing_and_change_nothing(name: str) -> None:
    likelihood = built(name)
    params = params_of(likelihood).requires_grad_()
    observed = torch.ones(3, 9, dtype=torch.bool)
    observed[:, [1, 4]] = False
    observed[1] = False
    label, found = torch.tensor([0, 2, 1]), []
    for fill in (0.0, 1e6, math.nan):
        x = ROWS.masked_fill(~observed, fill)
        for told in (Batch(x, label=label, observed=observed), Batch(x, label=label, length=torch.full((3,), 6))):
            if told.length is not None:
                told = replace(told, x=torch.cat([ROWS[:, :6], x[:, :1].expand(-1, 3) * 0 + fill], 1))
            judged = told.judged
            assert judged is not None
            p = likelihood(params, told.given)
            nats = log_prob_of(p, told.truth, judged)
            assert bool((nats[~judged] == 0).all())
            (gradient,) = torch.autograd.grad(nats.sum() + p.mean[judged].sum(), params)
            assert gradient.isfinite().all()
            found.append((told.length is None, nats.detach(), gradient))
            if not name.startswith("zinb"):
                mean = p.mean.masked_fill(~judged, 0).sum(1)
                torch.testing.assert_close(mean, told.total, atol=1e-5, rtol=1e-7)
    for kind in (True, False):
        first, *others = [one for one in found if one[0] == kind]
        for other in others:
            assert torch.equal(first[1], other[1])
            assert torch.equal(first[2], other[2])


def test_what_is_observed_of_a_multinomial_is_a_multinomial() -> None:
    observed = torch.tensor([True, True, False, True, True, True, False, True, True]).expand(3, -1)
    likelihood = built("multinomial")
    logits = params_of(likelihood)
    told = Batch(ROWS, observed=observed)
    found = log_prob_of(likelihood(logits, told.given), ROWS, observed).sum(1)
    kept = observed[0]
    smaller = MultinomialLikelihood(replace(COUNTS, shape=(7,)))
    expected = smaller(logits[:, kept], Batch(ROWS[:, kept]).given).log_prob(ROWS[:, kept]).sum(1)
    torch.testing.assert_close(found, expected)


# ── in a model ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", COUNT_LIKELIHOODS)
@pytest.mark.parametrize("kind", ["counts", "interactions"])
def test_a_model_of_counts_learns(name: str, kind: str) -> None:
    network = model(replace(COUNTS, kind=kind), likelihood=COUNT_LIKELIHOODS[name])
    examples = batch(COUNTS, 32)
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    losses = []
    for step in range(40):
        torch.manual_seed(step % 4)
        loss = LOSSES["elbo"]()(network(examples), network).total
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-4:]) < np.mean(losses[:4])
    assert network.reconstruct(examples).shape == examples.x.shape
    assert network.eval().reconstruct(examples).sum(1).allclose(examples.total, atol=1e-2) or "zinb" in name


@pytest.mark.parametrize("name", COUNT_LIKELIHOODS)
def test_a_decoder_can_start_at_the_mean(name: str) -> None:
    likelihood, mean = COUNT_LIKELIHOODS[name](COUNTS), ROWS[0].float() + 0.5
    params = likelihood.params_of_mean(mean)
    if name.startswith("zinb"):
        assert params is None
        return
    found = likelihood(params[None], Given(label=torch.zeros(1).long(), total=mean.sum()[None])).mean
    torch.testing.assert_close(found[0], mean)


@pytest.mark.parametrize("name", ["bernoulli", "continuous_bernoulli", "categorical"])
def test_a_likelihood_of_bounded_values_says_which_are_of_counts(name: str) -> None:
    with pytest.raises(UserError, match="use one of counts, such as likelihood=multinomial"):
        LIKELIHOODS[name](COUNTS)


def test_importance_weights_of_counts_tighten() -> None:
    network: Autoencoder = model(COUNTS, likelihood=COUNT_LIKELIHOODS["negative_binomial"])
    assert torch.isfinite(LOSSES["iwae"]()(network(batch(COUNTS)), network).total)


@pytest.mark.parametrize("name", COUNT_LIKELIHOODS)
def test_what_is_no_counts_is_refused_by_name(name: str) -> None:
    for spec in (TABLE, SERIES, replace(COUNTS, shape=(2, 9))):
        with pytest.raises(UserError, match=rf"likelihood {name.split('_class')[0].split('_without')[0]} is of counts"):
            COUNT_LIKELIHOODS[name](replace(spec, num_classes=3))


def test_refusals() -> None:
    with pytest.raises(UserError, match="dispersion must be feature or class, not 'cell'"):
        NegativeBinomialLikelihood(COUNTS, dispersion="cell")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="dispersion=class needs data with classes"):
        NegativeBinomialLikelihood(replace(COUNTS, num_classes=None), dispersion="class")
    with pytest.raises(UserError, match="dispersion=class needs a label for every example"):
        built("zinb_class")(torch.zeros(3, 18), Given(total=torch.ones(3)))
    unknown = partial(PoissonLikelihood, replace(COUNTS, totals=None))
    with pytest.raises(UserError, match="needs the library size of every example"):
        unknown()(torch.zeros(3, 9))
    torch.testing.assert_close(PoissonLikelihood(COUNTS)(torch.zeros(1, 9)).mean.sum().log().item(), 2.5)
