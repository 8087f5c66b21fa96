"""Laws of the stages that read and write tokens."""

# mypy: disable-error-code="union-attr"

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch
from instances import BOTTLENECKS, IMAGE, LIKELIHOODS, LOSSES, TOKEN_CORRUPTIONS, TOKEN_INPUTS, TOKENS, model

from narrows.decoders import AutoregressiveGRUDecoder, AutoregressiveLSTMDecoder
from narrows.encoders import GRUEncoder, LSTMEncoder
from narrows.errors import UserError
from narrows.likelihoods import CategoricalLikelihood
from narrows.types import Batch, DataSpec, log_prob_of, within

WORDS = len(TOKENS.vocabulary or [])


def examples(rows: int = 6, steps: int = 9) -> Batch:
    length = torch.randint(1, steps + 1, (rows,))
    length[0] = steps
    x = torch.randint(1, WORDS, (rows, steps)).masked_fill(torch.arange(steps) >= length[:, None] - 1, 0)
    return Batch(x, length=length)


def test_the_likelihood_is_the_softmax_of_the_vocabulary_at_every_step() -> None:
    likelihood, batch = CategoricalLikelihood(TOKENS), examples()
    assert likelihood.out_shape == (WORDS, 9)
    logits = torch.randn(6, WORDS, 9)
    p_x = likelihood(logits)
    found = p_x.log_prob(batch.x)
    for row in range(6):
        for step in range(9):
            expected = logits[row, :, step].log_softmax(0)[batch.x[row, step]]
            assert found[row, step].item() == pytest.approx(expected.item(), abs=1e-5)
    assert torch.equal(likelihood.point(p_x), logits.argmax(1))
    judged = log_prob_of(p_x, batch.x, batch.judged)
    assert not judged[~within(batch.length, batch.x)].any()
    torch.manual_seed(0)
    drawn = likelihood(logits[:1]).sample([4000])  # type: ignore[list-item]
    share = torch.nn.functional.one_hot(drawn[:, 0], WORDS).double().mean(0)
    torch.testing.assert_close(share, logits[0].T.softmax(1).double(), atol=0.04, rtol=0)


def test_tokens_have_no_mean_and_need_a_vocabulary() -> None:
    likelihood = CategoricalLikelihood(TOKENS)
    assert not likelihood.has_mean
    assert CategoricalLikelihood(IMAGE).has_mean
    with pytest.raises(NotImplementedError):
        _ = likelihood(torch.zeros(1, WORDS, 9)).mean
    with pytest.raises(UserError, match="needs the vocabulary of tokens"):
        CategoricalLikelihood(replace(TOKENS, vocabulary=None, end=None))


@pytest.mark.parametrize("name", sorted(LIKELIHOODS.keys() - {"categorical"}))
def test_a_likelihood_of_numbers_refuses_tokens(name: str) -> None:
    with pytest.raises(UserError, match="judges numbers, which tokens are not; use likelihood=categorical"):
        LIKELIHOODS[name](replace(TOKENS, value_range=(0.0, 1.0)))


def test_an_embedding_zeroes_padding_and_tells_nothing_of_what_is_hidden() -> None:
    embedding, batch = TOKEN_INPUTS["embedding"](TOKENS), examples()
    seen = embedding(batch)
    assert seen.shape == (6, *embedding.out_shape) == (6, 4, 9)
    padding = ~within(batch.length, batch.x)[:, None].expand_as(seen)
    assert not seen[padding].any()
    assert seen[~padding].all()
    assert torch.equal(embedding(replace(batch, x=batch.x.where(within(batch.length, batch.x), 3))), seen)
    hidden = (torch.rand(6, 9) < 0.4) & within(batch.length, batch.x)
    found = [embedding(replace(batch, x=batch.x.masked_fill(hidden, word), hidden=hidden)) for word in (1, 4)]
    assert torch.equal(*found)
    assert not torch.equal(found[0], seen)
    assert torch.equal(embedding.mask(hidden), hidden[:, None].expand(6, 4, 9))
    short = Batch(batch.x[1:2, : batch.length[1]], length=batch.length[1:2])
    assert torch.equal(embedding(short), seen[1:2, :, : batch.length[1]])
    with pytest.raises(UserError, match="input embedding reads tokens of a vocabulary, not data of kind image"):
        TOKEN_INPUTS["embedding"](IMAGE)


def test_word_dropout_hides_the_share_it_says_and_no_padding() -> None:
    batch = examples(400)
    x_in, hidden = TOKEN_CORRUPTIONS["word_dropout"](TOKENS)(batch)
    inside = within(batch.length, batch.x)
    assert hidden[inside].float().mean().item() == pytest.approx(0.4, abs=0.05)
    assert not hidden[~inside].any()
    assert torch.equal(x_in, batch.x.masked_fill(hidden, 1))
    assert torch.equal(batch.x, batch.seen_as(x_in, hidden).truth)
    unmarked = replace(TOKENS, vocabulary=list("abc"), end=None)
    x_in, hidden = TOKEN_CORRUPTIONS["word_dropout"](unmarked)(Batch(torch.full((3, 9), 2)))
    assert torch.equal(x_in == 0, hidden)
    with pytest.raises(UserError, match="takes data of kind tokens, not image"):
        TOKEN_CORRUPTIONS["word_dropout"](IMAGE)
    with pytest.raises(UserError, match=r"p must be in \(0, 1\)"):
        TOKEN_CORRUPTIONS["word_dropout"].func(TOKENS, p=1.0)  # type: ignore[attr-defined]


def test_an_end_mark_outside_the_vocabulary_is_refused() -> None:
    recorded = TOKENS.to_dict()
    assert DataSpec.from_dict(recorded) == TOKENS
    with pytest.raises(UserError, match="the end mark has the id 7, but the vocabulary holds 7 tokens"):
        DataSpec.from_dict(recorded | {"end": 7})


PARTS = {
    "lstm": (partial(LSTMEncoder, hidden=5, bidirectional=True), partial(AutoregressiveLSTMDecoder, hidden=6)),
    "gru": (partial(GRUEncoder, hidden=5), partial(AutoregressiveGRUDecoder, hidden=6, shared_embedding=True)),
}


@pytest.mark.parametrize("name", PARTS)
def test_neither_padding_nor_the_rest_of_a_batch_changes_a_loss_a_gradient_or_a_latent(name: str) -> None:
    encoder, decoder = PARTS[name]
    net = model(
        TOKENS,
        encoder=encoder,
        decoder=decoder,
        input=TOKEN_INPUTS["embedding"],
        likelihood=CategoricalLikelihood,
        bottleneck=BOTTLENECKS["deterministic"],
    ).double()
    whole = examples()
    longer = Batch(torch.nn.functional.pad(whole.x, (0, 5)), length=whole.length)
    filled = replace(longer, x=longer.x.where(within(longer.length, longer.x), 3))
    alone = [Batch(whole.x[i : i + 1, :steps], length=whole.length[i : i + 1]) for i, steps in enumerate(whole.length)]
    found = []
    for batches in ([whole], [longer], [filled], alone):
        net.zero_grad()
        outs = [net(batch) for batch in batches]
        for batch, out in zip(batches, outs, strict=True):
            (LOSSES["reconstruction"]()(out, net).total * len(batch)).backward()
        gradients = [parameter.grad.flatten().clone() for parameter in net.parameters() if parameter.grad is not None]
        scores = torch.cat([out.log_likelihood.detach() for out in outs])
        latents = torch.cat([out.latent.z.detach() for out in outs]).flatten()
        found.append(torch.cat([scores, latents, *gradients]))
    for changed in found[1:]:
        torch.testing.assert_close(changed, found[0], rtol=1e-6, atol=1e-8)
    told = [net.reconstruct(batch) for batch in (whole, longer)]
    assert torch.equal(*told), "free running is not told the length"
