"""The composite prior: its mixture, when the old encoder is copied, and what it costs per count."""

from __future__ import annotations

import math
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import torch
from instances import BOTTLENECKS, COUNT_LIKELIHOODS, COUNTS, DECODER, IMAGE, LOSSES, batch, model
from torch.distributions import MultivariateNormal

from narrows.corruptions import NoCorruption
from narrows.encoders.mlp import MLPEncoder
from narrows.encoders.vit import ViTEncoder
from narrows.errors import UserError
from narrows.inputs import L2Normalise
from narrows.losses.divergence import KL, posterior_kl
from narrows.losses.importance import log_weights
from narrows.models.composite_prior import CompositePriorAutoencoder
from narrows.models.stages import Stages
from narrows.tasks.likelihood import Likelihood
from narrows.tasks.measures.anomaly_scores import unfit

ENCODER = partial(MLPEncoder, widths=[8], norm="batch", dropout=0.3)


def composite(bottleneck: str = "gaussian", encoder: Any = ENCODER, **options: Any) -> CompositePriorAutoencoder:
    torch.manual_seed(0)
    stages = Stages(
        *(encoder, BOTTLENECKS[bottleneck], DECODER, COUNT_LIKELIHOODS["multinomial"], NoCorruption),
        input=partial(L2Normalise, dropout=0.5),
    )
    return CompositePriorAutoencoder(COUNTS, stages, **options)


def moved(network: CompositePriorAutoencoder, passes: int) -> CompositePriorAutoencoder:
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    for _ in range(passes):
        optimizer.zero_grad()
        LOSSES["elbo"]()(network(batch(COUNTS)), network).total.backward()
        optimizer.step()
    return network


def test_the_prior_is_the_mixture_of_three_gaussians() -> None:
    network = moved(composite(weights=[1.0, 2.0, 5.0], log_variance=3.0), 3).eval()
    examples, z = batch(COUNTS), torch.randn(6, 5)
    latent, old = network.encode(examples), network.old_posterior(examples)
    eye = torch.eye(5)
    for i in range(6):
        parts = [
            MultivariateNormal(torch.zeros(5), eye),
            MultivariateNormal(old.mean[i], torch.diag(old.stddev[i] ** 2)),
            MultivariateNormal(torch.zeros(5), math.exp(3.0) * eye),
        ]
        density = sum(w / 8 * part.log_prob(z[i]).exp() for w, part in zip((1, 2, 5), parts, strict=True))
        assert latent.prior.log_prob(z)[i].item() == pytest.approx(density.log().item(), abs=1e-4)  # type: ignore[attr-defined]
    assert log_weights(network, examples, latent, 4).isfinite().all()  # type: ignore[arg-type]


def test_the_old_encoder_is_copied_every_few_training_passes_and_by_nothing_else() -> None:
    network = composite(refresh=3)
    examples = batch(COUNTS)

    def now_and_old() -> tuple[torch.Tensor, torch.Tensor]:
        mode = network.training
        network.eval()
        found = network.encode(examples).point.detach(), network.old_posterior(examples).mean
        network.train(mode)
        return found

    assert torch.equal(*now_and_old())
    seen = [now_and_old()[1]]
    for _ in range(7):
        moved(network, 1)
        seen.append(now_and_old()[1])
    changed = [not torch.equal(before, after) for before, after in pairwise(seen)]
    # Copied before passes 0, 3 and 6, of which the first changes nothing.
    assert changed == [False, False, False, True, False, False, True]
    network.eval()
    state = {name: value.clone() for name, value in network.state_dict().items()}
    network(examples), network.embed(examples), network.sample(3)
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())


def test_only_what_learns_is_a_parameter_and_a_saved_model_has_its_old_encoder() -> None:
    network = moved(composite(), 5).eval()
    assert {name for name, _ in network.named_parameters()} == {
        name
        for name, _ in model(COUNTS, encoder=ENCODER, likelihood=COUNT_LIKELIHOODS["multinomial"]).named_parameters()
    }
    again = composite().eval()
    again.load_state_dict(network.state_dict())
    torch.testing.assert_close(again.old_posterior(batch(COUNTS, 2)).mean.shape, torch.Size([2, 5]))
    examples = batch(COUNTS)
    assert torch.equal(again.old_posterior(examples).stddev, network.old_posterior(examples).stddev)


def test_a_kl_per_count_is_the_kl_times_the_library_size() -> None:
    network = model(COUNTS, likelihood=COUNT_LIKELIHOODS["multinomial"])
    out, term = network(batch(COUNTS)), KL(per_count=True)
    term.attach(network)
    expected = posterior_kl(out.latent).sum(1) * out.batch.x.sum(1)  # type: ignore[arg-type]
    torch.testing.assert_close(term(out, network), expected)


def test_a_prior_that_has_read_x_bounds_no_likelihood_and_nothing_is_called_so() -> None:
    """It follows the posterior wherever that is, so that a KL of 0.3 nats buys any latent."""
    network, examples = composite().eval(), batch(COUNTS)
    latent = network.encode(examples)
    z = latent.posterior.sample((50,))  # type: ignore[attr-defined]
    told = (latent.prior.log_prob(z) - latent.posterior.log_prob(z)).detach()  # type: ignore[attr-defined]
    assert float(told.min()) >= math.log(0.75) - 1e-4
    assert not network.bounds_evidence
    assert network.variational
    assert "has read x" in str(Likelihood().fits(network.spec, network))
    assert "has not read x" in str(unfit("elbo", network))
    assert model(COUNTS, encoder=ENCODER, likelihood=COUNT_LIKELIHOODS["multinomial"]).bounds_evidence


def test_refusals() -> None:
    for weights in ([1.0, 2.0], [1.0, 1.0, 0.0]):
        with pytest.raises(UserError, match="weights must be three numbers above 0"):
            composite(weights=weights)
    with pytest.raises(UserError, match="refresh must be at least 1"):
        composite(refresh=0)
    with pytest.raises(UserError, match="the posterior must be Gaussian, but bottleneck Deterministic"):
        composite("deterministic")
    stages = Stages(
        *(partial(ViTEncoder, patch=4, width=8, heads=2, depth=1), BOTTLENECKS["gaussian"], DECODER),
        *(partial(lambda spec: model(spec).likelihood), NoCorruption),
    )
    with pytest.raises(UserError, match="the old encoder is not told of masks or lengths"):
        CompositePriorAutoencoder(IMAGE, stages)
    with pytest.raises(UserError, match="per_count needs counts or interactions, not data of kind image"):
        KL(per_count=True).attach(model(IMAGE))
    with pytest.raises(UserError, match="free_bits are of the KL itself"):
        KL(per_count=True, free_bits=0.1)
