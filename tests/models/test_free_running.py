"""A model with an autoregressive decoder: the truth is fed where a batch is given, its own values elsewhere."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from backbone_instances import SENTENCES, WORDS
from instances import COUNTS, LIKELIHOODS, SERIES, batch
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution

from narrows.bottlenecks.gaussian import Gaussian
from narrows.corruptions import NoCorruption
from narrows.decoders.gru import AutoregressiveGRUDecoder
from narrows.encoders.gru import GRUEncoder
from narrows.errors import UserError
from narrows.inputs import Input
from narrows.likelihoods import PoissonLikelihood
from narrows.likelihoods.elementwise import Likelihood
from narrows.models.autoencoder import Autoencoder
from narrows.models.stages import Stages
from narrows.types import Batch, DataSpec, Given, Shape

SPEC: DataSpec = SENTENCES["spec"]


class Words(Likelihood):
    has_mean, takes_variable, takes_tokens, writes_logits = False, True, True, True

    @property
    def out_shape(self) -> Shape:
        return (len(WORDS), *self.data_shape)

    def forward(self, params: Tensor, given: Given | None = None) -> Distribution:
        return Categorical(logits=params.transpose(1, 2), validate_args=False)

    def point(self, p_x: Distribution) -> Tensor:
        return p_x.logits.argmax(-1)  # type: ignore[attr-defined, no-any-return]


class Embedded(Input):
    takes_variable = True

    def __init__(self, spec: DataSpec) -> None:
        super().__init__(spec)
        self.out_shape = (4, *spec.shape)
        self.table = nn.Embedding(len(WORDS), 4)

    def forward(self, batch: Batch) -> Tensor:
        found: Tensor = self.table(batch.x).transpose(1, 2)
        return found


def network(spec: DataSpec = SPEC, **options: Any) -> Autoencoder:
    torch.manual_seed(0)
    parts = [partial(GRUEncoder, hidden=4), partial(Gaussian, dim=3)]
    decoder = partial(AutoregressiveGRUDecoder, hidden=5, **options)
    if spec.kind != "tokens":
        return Autoencoder(spec, Stages(*parts, decoder, LIKELIHOODS["gaussian_fixed"], NoCorruption))
    return Autoencoder(spec, Stages(*parts, decoder, Words, NoCorruption, Embedded))


def sentences() -> Batch:
    return Batch(torch.tensor([[3, 2, 0, 0], [1, 4, 2, 0]]), length=torch.tensor([3, 4]))


def test_nobody_tells_it_where_a_sentence_ends() -> None:
    net = network().eval()
    examples = sentences()
    z = net.encode(examples).point
    told, other = (net.point_at(z, given) for given in (examples.given, Given(length=torch.tensor([1, 1]))))
    assert torch.equal(told, other)
    assert told.shape == (2, *SPEC.shape)
    assert torch.equal(net.reconstruct(examples), told)
    ended = (told == SPEC.end).long().cumsum(1).bool()
    assert (told[ended] == SPEC.end).all()


def test_series_without_an_end_mark_are_as_long_as_their_batch() -> None:
    spec = DataSpec((2, 9), "series", 9, variable=True)
    net = network(spec).eval()
    examples = Batch(torch.randn(2, 2, 7), length=torch.tensor([5, 7]))
    assert net.reconstruct(examples).shape == (2, 2, 7)
    assert net.point_at(torch.zeros(2, 3)).shape == (2, 2, 9)
    assert net.point_at(torch.zeros(2, 3), Given(length=torch.tensor([4, 6]))).shape == (2, 2, 6)


def test_draws_are_fed_back_and_have_the_model_s_distribution() -> None:
    """Of two steps over five words, 4,000 draws have the frequencies that teacher forcing gives."""
    net = network(DataSpec((2,), "tokens", 9, vocabulary=WORDS)).eval()
    z = torch.randn(1, 3)
    torch.manual_seed(1)
    for parameter in net.decoder.parameters():
        nn.init.normal_(parameter, std=0.9)
    for temperature in (1.0, 0.5):
        drawn = net.point_at(z.expand(4000, -1), draw=True, temperature=temperature)
        found = torch.bincount(5 * drawn[:, 0] + drawn[:, 1], minlength=25) / 4000
        pairs = torch.cartesian_prod(torch.arange(5), torch.arange(5))
        logits = net.params(z.expand(25, -1), Batch(pairs)) / temperature
        exact = logits.log_softmax(1).gather(1, pairs[:, None]).sum((1, 2)).exp()
        assert exact.sum().item() == pytest.approx(1, abs=1e-4)
        assert (found - exact).abs().sum() < 0.1


def test_colder_draws_are_nearer_to_the_point_and_other_families_say_their_own() -> None:
    for name, power in (("gaussian_fixed", 0.5), ("laplace", 1.0)):
        likelihood = LIKELIHOODS[name](SERIES)
        params = torch.zeros(400, *likelihood.out_shape)
        wide, narrow = (likelihood.draw(params, temperature=t).std().item() for t in (1.0, 0.25))
        assert narrow / wide == pytest.approx(0.25**power, rel=0.05)
    with pytest.raises(UserError, match="temperature must be above 0, not 0"):
        network().sample(2, temperature=0.0)
    with pytest.raises(UserError, match="PoissonLikelihood has no temperature other than 1"):
        PoissonLikelihood(COUNTS).draw(torch.zeros(3, *COUNTS.shape), temperature=0.5)


def test_scheduled_sampling_feeds_the_decoder_its_own_guess_and_trains() -> None:
    net = network(SERIES, scheduled_sampling=0.5).train()
    plain = network(SERIES).train()
    examples = batch(SERIES)
    outs = []
    for one in (net, plain):
        torch.manual_seed(3)
        outs.append(one(examples).p_x.mean)
    assert torch.equal(outs[0][..., 0], outs[1][..., 0])
    assert not torch.allclose(outs[0], outs[1])
    outs[0].square().sum().backward()
    assert all(parameter.grad is not None for parameter in net.decoder.parameters())
