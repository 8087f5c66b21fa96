"""Topic models: what a topic is, how topics join to a document, and what the prior of their weights is."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from instances import BOTTLENECKS, COUNT_LIKELIHOODS, COUNTS, ENCODER, IMAGE, LIKELIHOODS, model
from torch import nn

from narrows.bottlenecks.logistic_normal import LogisticNormal
from narrows.corruptions import NoCorruption
from narrows.decoders.topics import EmbeddedTopicDecoder, TopicDecoder
from narrows.errors import UserError
from narrows.models.conditional import ConditionalAutoencoder
from narrows.models.stages import Stages
from narrows.types import Batch, Given

DECODERS: dict[str, Any] = {
    "product": TopicDecoder,
    "plain_product": partial(TopicDecoder, norm=False),
    "mixture": partial(EmbeddedTopicDecoder, width=4),
    "background": partial(EmbeddedTopicDecoder, width=4, background=True),
}


def seen(name: str) -> Any:
    """A decoder of 3 topics and 6 words, after some batches."""
    torch.manual_seed(0)
    decoder = DECODERS[name]((3,), (6,)).double()
    for _ in range(5):
        decoder(torch.randn(20, 3).double())
    return decoder


@pytest.mark.parametrize("name", DECODERS)
def test_topics_are_distributions_of_words_and_looking_at_them_changes_nothing(name: str) -> None:
    decoder = seen(name)
    before = {key: value.clone() for key, value in decoder.state_dict().items()}
    topics = decoder.topics()
    assert topics.shape == (3, 6)
    assert bool((topics > 0).all())
    torch.testing.assert_close(topics.sum(1), torch.ones(3).double())
    assert decoder.training
    assert not topics.requires_grad
    assert all(torch.equal(value, before[key]) for key, value in decoder.state_dict().items())


@pytest.mark.parametrize("name", DECODERS)
def test_a_document_of_one_topic_has_that_topic_s_words(name: str) -> None:
    decoder = seen(name).eval()
    z = 60 * torch.eye(3).double()
    torch.testing.assert_close(decoder(z).softmax(1), decoder.topics(), rtol=1e-6, atol=1e-8)


def test_embedded_topics_are_mixed_and_products_are_multiplied() -> None:
    z = torch.randn(4, 3).double()
    theta = z.softmax(1)
    mixture, product = seen("mixture").eval(), seen("plain_product").eval()
    torch.testing.assert_close(mixture(z).softmax(1), theta @ mixture.topics(), rtol=1e-6, atol=1e-8)
    experts = (theta @ product.topics().log()).softmax(1)
    torch.testing.assert_close(product(z).softmax(1), experts)


def test_a_background_is_one_more_topic_that_no_latent_weighs_and_that_stays_as_it_is() -> None:
    decoder, z = seen("background"), torch.randn(4, 3).double()
    decoder.frequencies.copy_(torch.tensor([0.5, 0.1, 0.1, 0.1, 0.1, 0.1]))
    decoder.share.data.fill_(0.7)
    theta = torch.cat([z, torch.full((4, 1), 0.7).double()], 1).softmax(1)
    words = theta @ torch.cat([decoder.topics(), decoder.frequencies[None]])
    torch.testing.assert_close(decoder(z).softmax(1), words, rtol=1e-6, atol=1e-8)
    assert {name for name, _ in decoder.named_parameters()} == {"rho.weight", "alpha.weight", "share"}
    kept = EmbeddedTopicDecoder((3,), (6,), width=4, learn_words=False)
    kept(torch.randn(2, 3)).sum().backward()
    assert kept.rho.weight.grad is None
    assert kept.alpha.weight.grad is not None


@pytest.mark.parametrize(("dim", "concentration"), [(3, 1.0), (50, 0.02), (10, 5.0)])
def test_the_prior_is_the_laplace_approximation_of_a_dirichlet(dim: int, concentration: float) -> None:
    """Equation 6 of the paper, which is for any Dirichlet, at a symmetric one."""
    bottleneck = LogisticNormal((4,), dim=dim, concentration=concentration)
    prior = bottleneck(torch.randn(2, 4)).prior
    a = torch.full((dim,), concentration)
    variance = (1 - 2 / dim) / a + (1 / a).sum() / dim**2
    torch.testing.assert_close(prior.variance[0], variance)
    torch.testing.assert_close(prior.mean[0], a.log() - a.log().mean())
    torch.manual_seed(0)
    drawn = bottleneck.sample_prior(20_000)
    torch.testing.assert_close(drawn.std(0), variance.sqrt(), rtol=0.05, atol=0)


def test_the_posterior_s_parameters_are_normalised_over_the_batch() -> None:
    bottleneck = LogisticNormal((4,), dim=5)
    posterior = bottleneck(10 * torch.randn(64, 4) + 3).posterior
    nothing, one = torch.zeros(5), torch.ones(5)
    for values in (posterior.mean, 2 * posterior.stddev.log()):
        torch.testing.assert_close(values.mean(0), nothing, rtol=0, atol=1e-5)
        torch.testing.assert_close(values.std(0, correction=0), one, rtol=0, atol=1e-3)
    with torch.no_grad():
        bottleneck.shift.fill_(2.0)
    assert bottleneck(torch.randn(64, 4)).posterior.mean.mean().item() == pytest.approx(2.0, abs=1e-4)


def test_topics_of_planted_documents_are_found() -> None:
    """Documents of disjoint vocabularies: every topic of either decoder is of one vocabulary."""
    torch.manual_seed(0)
    own = torch.zeros(2, 10)
    own[0, :5] = own[1, 5:] = 0.2
    x = torch.distributions.Multinomial(20, own.repeat(40, 1)).sample()
    spec = replace(COUNTS, shape=(10,), totals=(3.0, 0.01))
    for decoder in (TopicDecoder, partial(EmbeddedTopicDecoder, width=6)):
        network = model(
            spec,
            encoder=partial(ENCODER.func, widths=[16]),
            bottleneck=partial(LogisticNormal, dim=2, concentration=0.1),
            decoder=decoder,
            likelihood=COUNT_LIKELIHOODS["multinomial_without"],
        )
        optimizer = torch.optim.Adam(network.parameters(), 0.03)
        for _ in range(150):
            out = network(Batch(x))
            (out.latent.divergence().sum(1) - out.log_likelihood).mean().backward()
            optimizer.step()
            optimizer.zero_grad()
        topics = network.decoder.topics()
        first = topics[:, :5].sum(1)
        assert first.max() > 0.9, decoder
        assert first.min() < 0.1, decoder
        samples = network.eval().sample(8, Given(total=torch.full((8,), 10.0)))
        torch.testing.assert_close(samples.sum(1), torch.full((8,), 10.0))


def test_refusals() -> None:
    with pytest.raises(UserError, match="decoder topics turns a vector of topics into a vector of words, not"):
        TopicDecoder((3, 2), (6,))
    with pytest.raises(UserError, match="decoder embedded_topics needs width of at least 1"):
        EmbeddedTopicDecoder((3,), (6,), width=0)
    with pytest.raises(UserError, match="dropout of at least 0 and below 1"):
        TopicDecoder((3,), (6,), dropout=1.0)
    with pytest.raises(UserError, match="dim must be at least 2, not 1"):
        LogisticNormal((4,), dim=1)
    with pytest.raises(UserError, match="concentration must be above 0"):
        LogisticNormal((4,), concentration=0.0)
    words = r"decoder TopicDecoder writes one logit for every word, .* likelihood \w+ does not read"
    with pytest.raises(UserError, match=words):
        model(replace(IMAGE, shape=(9,), kind="vector"), decoder=TopicDecoder)
    with pytest.raises(UserError, match=words):
        model(COUNTS, decoder=TopicDecoder, likelihood=COUNT_LIKELIHOODS["zinb"])
    with pytest.raises(UserError, match=words):
        model(COUNTS, decoder=TopicDecoder, likelihood=LIKELIHOODS["gaussian_fixed"])
    stages = Stages(ENCODER, BOTTLENECKS["gaussian"], TopicDecoder, COUNT_LIKELIHOODS["multinomial"], NoCorruption)
    with pytest.raises(UserError, match="model ConditionalAutoencoder puts others beside the latent"):
        ConditionalAutoencoder(COUNTS, stages)
    assert not isinstance(TopicDecoder((3,), (6,), norm=False).norm, nn.BatchNorm1d)
