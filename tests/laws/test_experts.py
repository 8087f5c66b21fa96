"""What products and mixtures of experts promise: closed forms, and evidence on a model where it is known."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from part_models import BOTTLENECKS, LINEAR, PARTS, SIGMA, Linear, examples, network
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from narrows.bottlenecks.experts import (
    ExpertsLatent,
    MixtureOfExperts,
    MixtureOfProductsOfExperts,
    ProductLatent,
    ProductOfExperts,
)
from narrows.bottlenecks.gaussian import Gaussian
from narrows.errors import UserError
from narrows.losses.divergence import evidence_lower_bound
from narrows.losses.experts import StratifiedELBO, SubsampledELBO, parts_log_likelihood, weights_of
from narrows.losses.importance import log_weights
from narrows.models.autoencoder import Autoencoder
from narrows.types import Batch

MIXTURES = ("moe", "mopoe", "mopoe_with_prior")


def latent_of(model: Autoencoder, batch: Batch, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return model.encode(batch)


# ── products ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("prior", [True, False])
def test_a_product_is_proportional_to_the_product_of_its_densities(prior: bool) -> None:
    model = network(bottleneck="poe" if prior else "poe_without_prior").double()
    latent = latent_of(model, Batch(torch.rand(4, 31, dtype=torch.float64)))
    z = 3 * torch.randn(9, 4, 5, dtype=torch.float64)
    experts = Normal(latent.mean, (0.5 * latent.log_variance).exp())
    nats = experts.log_prob(z[:, :, None]).sum(2) + (Normal(0.0, 1.0).log_prob(z) if prior else 0.0)
    apart = latent.posterior.log_prob(z) - nats
    torch.testing.assert_close(apart, apart[:1].expand_as(apart))  # a constant: it is normalised
    precision = (-latent.log_variance).exp().sum(1) + float(prior)
    torch.testing.assert_close(latent.posterior.variance, 1 / precision)
    weighted = ((-latent.log_variance).exp() * latent.mean).sum(1) / precision
    torch.testing.assert_close(latent.posterior.mean, weighted)


@pytest.mark.parametrize("name", ["poe", "poe_without_prior", "moe", "mopoe"])
def test_one_part_alone_has_the_posterior_of_a_plain_gaussian_bottleneck(name: str) -> None:
    """With the prior as an expert, that posterior times the prior."""
    model = network(bottleneck=name)
    bottleneck: Any = model.bottleneck
    batch = examples(model.spec, missing={"image": range(6), "words": range(6)})
    latent = latent_of(model, batch)
    plain = Gaussian((6,), dim=5)
    plain.projection.load_state_dict(bottleneck.projections[1].state_dict())
    encoder: Any = model.encoder.parts["sound"]  # type: ignore[index]
    posterior = plain.posterior(encoder(batch.x[:, model.spec.slices["sound"]].unflatten(1, (2, 6))))
    precision = posterior.variance.reciprocal() + float(name == "poe")
    mean = posterior.mean * posterior.variance.reciprocal() / precision
    torch.testing.assert_close(latent.posterior.mean, mean)
    torch.testing.assert_close(latent.posterior.variance, 1 / precision)
    torch.testing.assert_close(latent.point, mean)


@pytest.mark.parametrize("name", BOTTLENECKS)
def test_without_any_part_the_posterior_is_the_prior(name: str) -> None:
    model = network(bottleneck=name)
    batch = examples(model.spec, 3, missing={part.name: range(3) for part in PARTS})
    latent = latent_of(model, batch)
    z = torch.randn(3, 5)
    nats = latent.posterior.log_prob(z).reshape(3, -1).sum(1)
    torch.testing.assert_close(nats, Normal(0.0, 1.0).log_prob(z).sum(1))
    assert latent.point.eq(0).all()


# ── mixtures ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", MIXTURES)
def test_a_mixture_s_density_is_the_mean_of_those_of_its_products(name: str) -> None:
    """Over the subsets whose parts are all there."""
    model = network(bottleneck=name).double()
    batch = examples(model.spec, 4, missing={"sound": [1, 2], "words": [2, 3]})
    batch.x = batch.x.double()
    with torch.no_grad():
        latent = latent_of(model, batch)
    z = torch.randn(4, 5, dtype=torch.float64)
    for row in range(4):
        there = {place for place in range(3) if bool(latent.present[row, place])}
        densities = []
        for subset in latent.subsets:
            chosen = {place for place in range(3) if bool(subset[place])}
            if chosen <= there:
                law = latent.product(subset.expand(4, 3))
                densities.append(law.log_prob(z).sum(1)[row].exp())
        assert len(densities) == (len(there) if name == "moe" else 2 ** len(there) - 1)
        assert float(latent.posterior.log_prob(z)[row].exp()) == pytest.approx(float(torch.stack(densities).mean()))


@pytest.mark.parametrize("name", MIXTURES)
def test_draws_of_a_mixture_follow_its_density_and_have_gradients(name: str) -> None:
    model = network(bottleneck=name)
    latent = latent_of(model, examples(model.spec, 2))
    drawn = latent.posterior.rsample((20_000,))
    torch.testing.assert_close(drawn.mean(0), latent.posterior.mean, atol=0.04, rtol=0)
    torch.testing.assert_close(drawn.var(0), latent.posterior.variance, atol=0.08, rtol=0.08)
    bottleneck: Any = model.bottleneck
    drawn.sum().backward()
    assert all(projection.weight.grad.any() for projection in bottleneck.projections)


# ── what is missing, order and batches ──────────────────────────────────────────────────────────────────


def parameters_of(latent: Any) -> list[Tensor]:
    law = latent.of_subsets()
    return [latent.point, law.mean, law.stddev, latent.shares.to(law.mean)]


@pytest.mark.parametrize("name", BOTTLENECKS)
def test_what_stands_in_the_place_of_a_missing_part_changes_nothing(name: str) -> None:
    model = network(bottleneck=name)
    batch = examples(model.spec, missing={"image": [0, 1], "sound": [1, 2]})
    assert batch.observed is not None
    other = copy.copy(batch)
    other.x = torch.where(batch.observed, batch.x, torch.nan)
    for one, two in zip(parameters_of(latent_of(model, batch)), parameters_of(latent_of(model, other)), strict=True):
        assert torch.equal(one, two)
    torch.manual_seed(3)
    nats = model(batch).log_likelihood
    torch.manual_seed(3)
    assert torch.equal(model(other).log_likelihood, nats)


@pytest.mark.parametrize("name", BOTTLENECKS)
def test_a_missing_part_gets_no_gradient(name: str) -> None:
    model = network(bottleneck=name)
    batch = examples(model.spec, missing={"sound": range(6)})
    latent = latent_of(model, batch)
    latent.of_subsets().rsample().mul(latent.shares[..., None]).sum().backward()
    parts: Any = model.encoder.parts
    assert not any(p.grad is not None and p.grad.any() for p in parts["sound"].parameters())
    assert all(p.grad.any() for p in parts["words"].parameters())


@pytest.mark.parametrize("name", BOTTLENECKS)
def test_the_order_of_the_parts_changes_nothing(name: str) -> None:
    order = [2, 0, 1]
    model, turned = network(bottleneck=name), network(bottleneck=name, parts=[PARTS[place] for place in order])
    state = model.state_dict()
    for key in list(state):
        if key.startswith("bottleneck.projections."):
            place, rest = key.removeprefix("bottleneck.projections.").split(".")
            state[f"bottleneck.projections.{order.index(int(place))}.{rest}"] = model.state_dict()[key]
    turned.load_state_dict(state)
    batch = examples(model.spec, missing={"sound": [1, 2]})
    assert batch.observed is not None
    places = torch.cat([torch.arange(31)[model.spec.slices[PARTS[place].name]] for place in order])
    other = Batch(batch.x[:, places], observed=batch.observed[:, places])
    torch.testing.assert_close(latent_of(turned, other).point, latent_of(model, batch).point)
    z = torch.randn(6, 5)
    posterior, its = latent_of(model, batch).posterior, latent_of(turned, other).posterior
    torch.testing.assert_close(its.log_prob(z), posterior.log_prob(z))
    torch.testing.assert_close(turned.decode(z).mean, model.decode(z).mean[:, places])


@pytest.mark.parametrize("name", BOTTLENECKS)
def test_other_rows_of_a_batch_change_nothing(name: str) -> None:
    model = network(bottleneck=name)
    batch = examples(model.spec, missing={"image": [0], "sound": [1]})
    assert batch.observed is not None
    whole = latent_of(model, batch)
    for row in range(6):
        alone = latent_of(model, Batch(batch.x[row : row + 1], observed=batch.observed[row : row + 1]))
        torch.testing.assert_close(alone.point[0], whole.point[row])
        torch.testing.assert_close(alone.shares[:, 0], whole.shares[:, row])


# ── evidence ────────────────────────────────────────────────────────────────────────────────────────────

X = torch.tensor([[0.3, -1.0, 0.2, 0.8, 0.1], [2.0, 1.0, -0.5, -1.5, 0.3]], dtype=torch.float64)


@pytest.mark.parametrize("names", [("a", "b"), ("a",), ("b",)])
def test_with_exact_experts_a_product_s_bound_is_the_evidence(names: tuple[str, ...]) -> None:
    """Of both parts, and of one where the other is missing, whatever is drawn."""
    linear = Linear(ProductOfExperts)
    observed = torch.zeros_like(X, dtype=torch.bool)
    for name in names:
        observed[:, linear.slices[name]] = True
    batch = Batch(X, observed=observed)
    out = linear.model(batch)
    draw = log_weights(linear.model, batch, out.latent, 7)
    wanted = linear.evidence(X, names)
    torch.testing.assert_close(draw, wanted.expand(7, -1))
    many = Batch(X.repeat_interleave(4000, 0), observed=observed.repeat_interleave(4000, 0))
    found = evidence_lower_bound(linear.model(many)).unflatten(0, (2, -1)).mean(1)
    torch.testing.assert_close(found, wanted, atol=0.05, rtol=0)


@pytest.mark.parametrize("bottleneck", [ProductOfExperts, MixtureOfExperts, MixtureOfProductsOfExperts])
def test_importance_sampled_evidence_agrees_with_the_closed_form(bottleneck: type) -> None:
    linear = Linear(bottleneck)
    latent: Any = linear.model.encode(Batch(X))
    torch.manual_seed(1)
    found = log_weights(linear.model, Batch(X), latent, 20_000)
    torch.testing.assert_close(found.exp().mean(0).log(), linear.evidence(X), atol=0.03, rtol=0)


def on_grid(linear: Linear, latent: ExpertsLatent) -> tuple[Tensor, Tensor, Tensor]:
    """A grid of z `[G]`, its step, and `q(z|x)`, `[G, B]`."""
    z = torch.linspace(-12, 12, 20_001, dtype=torch.float64)
    return z, z[1] - z[0], latent.posterior.log_prob(z[:, None, None].expand(-1, 2, 1)).reshape(len(z), 2)


@pytest.mark.parametrize("bottleneck", [MixtureOfExperts, MixtureOfProductsOfExperts])
def test_stratified_bounds_are_what_integration_gives(bottleneck: type) -> None:
    linear = Linear(bottleneck)
    latent: Any = linear.model.encode(Batch(X))
    z, step, log_q = on_grid(linear, latent)
    joint = linear.log_joint(X, z)
    wanted = {"mixture": (log_q.exp() * (joint - log_q)).sum(0) * step}
    components = latent.of_subsets()
    density = components.log_prob(z[:, None, None, None]).squeeze(-1).exp()
    likelihood = joint - Normal(0.0, 1.0).log_prob(z)[:, None]
    nats = (density * likelihood[:, None]).sum(0) * step
    kl = kl_divergence(components, Normal(torch.zeros_like(components.mean), 1.0)).squeeze(-1)
    wanted["components"] = (nats - kl).mean(0)
    many = Batch(X.repeat_interleave(3000, 0))
    for divergence, value in wanted.items():
        term: Any = StratifiedELBO(divergence=divergence)  # type: ignore[arg-type]
        term.attach(linear.model)
        torch.manual_seed(2)
        found = -term(linear.model(many), linear.model).unflatten(0, (2, -1)).mean(1)
        torch.testing.assert_close(found, value, atol=0.08, rtol=0)
    assert (wanted["components"] < wanted["mixture"]).all()
    assert (wanted["mixture"] < linear.evidence(X)).all()


def test_more_samples_tighten_the_stratified_bound_and_never_above_the_evidence() -> None:
    linear = Linear(MixtureOfExperts)
    many = Batch(X.repeat_interleave(2000, 0))
    bounds = []
    for samples in (1, 8):
        term = StratifiedELBO(samples=samples)
        term.attach(linear.model)
        torch.manual_seed(2)
        bounds.append(-term(linear.model(many), linear.model).unflatten(0, (2, -1)).mean(1))
    assert (bounds[0] + 0.02 < bounds[1]).all()
    assert (bounds[1] < linear.evidence(X) + 0.02).all()


def test_subsampled_bounds_of_exact_experts_are_the_evidence_of_each_choice() -> None:
    linear = Linear(ProductOfExperts)
    term = SubsampledELBO()
    term.attach(linear.model)
    many = Batch(X.repeat_interleave(4000, 0))
    torch.manual_seed(2)
    found = -term(linear.model(many), linear.model).unflatten(0, (2, -1)).mean(1)
    wanted = linear.evidence(X) + linear.evidence(X, ["a"]) + linear.evidence(X, ["b"])
    torch.testing.assert_close(found, wanted, atol=0.1, rtol=0)


def test_random_subsets_have_two_parts_or_more_but_not_all() -> None:
    chosen = SubsampledELBO(subsets=40).chosen(torch.ones(50, 4, dtype=torch.bool))
    assert chosen.shape == (45, 50, 4)
    assert chosen[0].all()
    assert torch.equal(chosen[1:5, 0], torch.eye(4, dtype=torch.bool))
    sizes = chosen[5:].sum(2)
    assert set(sizes.unique().tolist()) == {2, 3}
    assert len({tuple(row) for row in chosen[5:].flatten(0, 1).tolist()}) == 10
    assert len(SubsampledELBO(subsets=3).chosen(torch.ones(5, 2, dtype=torch.bool))) == 3


# ── terms ───────────────────────────────────────────────────────────────────────────────────────────────


def test_log_likelihoods_of_parts_add_up_to_that_of_the_example() -> None:
    model = network().eval()
    batch = examples(model.spec, missing={"sound": [1, 2]})
    z = torch.randn(1, 6, 5)
    nats = parts_log_likelihood(model, batch, z)[0]
    assert batch.observed is not None
    wanted = model.decode(z[0]).log_prob(batch.x).masked_fill(~batch.observed, 0).sum(1)
    torch.testing.assert_close(nats.sum(1), wanted)
    assert nats[1:3, 1].eq(0).all()
    chosen = torch.tensor([True, False, True]).expand(1, 6, 3)
    torch.testing.assert_close(parts_log_likelihood(model, batch, z, chosen)[0], nats.masked_fill(~chosen[0], 0.0))


def test_weights_of_the_parts() -> None:
    spec = network().spec
    assert weights_of("equal", spec) == {"image": 1, "sound": 1, "words": 1}
    assert weights_of("balanced", spec) == {"image": 1, "sound": 16 / 12, "words": 16 / 3}
    model = network("moe").eval()
    batch = examples(model.spec)
    values = []
    for weights in ({}, {"sound": 3.0}, {"sound": 0.0}):
        term = StratifiedELBO(weights=weights)
        term.attach(model)
        torch.manual_seed(5)
        with torch.no_grad():
            values.append(term(model(batch), model))
    torch.testing.assert_close(values[1] - values[0], 2 * (values[0] - values[2]), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SubsampledELBO(subsets=-1), "subsets must be at least 0"),
        (lambda: SubsampledELBO(weights="balance"), "there are no weights 'balance'.*balanced"),  # type: ignore[arg-type]
        (lambda: SubsampledELBO(weights={"a": -1.0}), "at least 0"),
        (lambda: StratifiedELBO(samples=0), "samples must be at least 1"),
        (lambda: StratifiedELBO(divergence="mixtur"), "did you mean|mixture"),  # type: ignore[arg-type]
        (lambda: StratifiedELBO(beta=-1), "beta must be at least 0"),
        (lambda: SubsampledELBO(weights={"imag": 2.0}).attach(network()), "no part 'imag'.*image"),
        (lambda: ProductOfExperts((5,)), "use encoder=parts"),
        (lambda: MixtureOfExperts((5, 2), dim=0), "dim must be at least 1"),
        (lambda: MixtureOfExperts((5, 2), log_variance=[2, -6]), "log_variance must be"),
        (lambda: MixtureOfProductsOfExperts((5, 9)), "too many"),
    ],
)
def test_what_does_not_fit_is_refused(make: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make()


def test_the_linear_model_is_what_it_says() -> None:
    """Else the laws above would hold by luck: draws of it have the covariance that the evidence takes."""
    torch.manual_seed(0)
    linear = Linear(ProductOfExperts)
    assert SIGMA > 0
    assert [part.size for part in LINEAR] == [2, 3]
    mean = linear.model.decode(torch.ones(1, 1, dtype=torch.float64)).mean
    torch.testing.assert_close(mean[0], linear.weight)
    latent = linear.model.encode(Batch(X))
    assert isinstance(latent, ProductLatent)
    torch.testing.assert_close(latent.posterior.variance[0, 0], 1 / (1 + linear.weight.square().sum() / SIGMA**2))
