"""A batch travels whole: rows joined, repeated and corrupted keep what belongs to them, and padding stays padding."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from functools import partial
from typing import Any

import pytest
import torch
from instances import CORRUPTIONS, IMAGE, LIKELIHOODS, SERIES, batch, model
from torch import Tensor
from torch.distributions import Bernoulli, Multinomial

from narrows.decoders.lstm import AutoregressiveLSTMDecoder
from narrows.losses.importance import log_joint
from narrows.losses.reconstruction import HiddenNegativeLogLikelihood, NegativeLogLikelihood, normalised
from narrows.types import Batch, DataSpec, Given, Output, VariationalLatent, log_prob_of, within


def whole(n: int = 4, steps: int = 7) -> Batch:
    """Every field set."""
    x = torch.rand(n, 2, steps)
    return Batch(
        x,
        target=torch.rand_like(x),
        label=torch.arange(n),
        observed=torch.rand_like(x) < 0.7,
        hidden=torch.rand_like(x) < 0.3,
        length=torch.randint(1, steps + 1, (n,)),
        covariates=torch.rand(n, 3, steps),
        index=torch.arange(n) + 10,
    )


def tensors(of: Batch) -> dict[str, Tensor]:
    values = {field.name: getattr(of, field.name) for field in fields(of)}
    return {name: value for name, value in values.items() if isinstance(value, Tensor)}


def test_cat_puts_rows_one_after_another_with_all_that_they_have() -> None:
    one, two = whole(3), whole(2)
    joined = Batch.cat(iter([one, two]))
    assert set(tensors(joined)) == {field.name for field in fields(Batch)} - {"share"}
    for name, value in tensors(joined).items():
        assert torch.equal(value, torch.cat([tensors(one)[name], tensors(two)[name]])), name


def test_cat_pads_where_lengths_differ_and_padding_is_neither_missing_nor_hidden() -> None:
    one, two = whole(3, steps=5), whole(2, steps=9)
    joined = Batch.cat([one, two])
    assert joined.x.shape == (5, 2, 9)
    assert torch.equal(joined.x[:3, :, :5], one.x)
    assert not joined.x[:3, :, 5:].any()
    for name, blank in {"observed": True, "hidden": False}.items():
        assert bool((tensors(joined)[name][:3, :, 5:] == blank).all()), name
    assert joined.length is not None
    assert torch.equal(joined.length, torch.cat([one.length, two.length]))  # type: ignore[list-item]
    # A batch that says no length is as long as it is.
    shorter = replace(one, length=None)
    assert Batch.cat([shorter, two]).length.tolist() == [5] * 3 + two.length.tolist()  # type: ignore[union-attr]


def test_padding_changes_no_likelihood_and_no_total() -> None:
    example = replace(whole(3, steps=6), hidden=None, target=None)
    padded = Batch.cat([example, whole(1, steps=11)])
    found = [
        log_prob_of(Bernoulli(logits=torch.ones(of.x.shape)), of.x, of.judged).flatten(1).sum(1)[:3]
        for of in (example, padded)
    ]
    torch.testing.assert_close(found[1], found[0])
    torch.testing.assert_close(padded.total[:3], example.total)


def test_cat_never_takes_a_missing_value_for_an_observed_one() -> None:
    plain, gaps = Batch(torch.rand(2, 3)), Batch(torch.rand(2, 3), observed=torch.rand(2, 3) < 0.5)
    for parts in ([plain, gaps], [gaps, plain]):
        joined = Batch.cat(parts)
        expected = [torch.ones(2, 3, dtype=torch.bool) if part.observed is None else part.observed for part in parts]
        assert torch.equal(joined.observed, torch.cat(expected))  # type: ignore[arg-type]
    assert Batch.cat([plain, plain]).observed is None
    target = Batch(torch.zeros(2, 3), target=torch.ones(2, 3))
    assert torch.equal(Batch.cat([plain, target]).truth, torch.cat([plain.x, target.truth]))
    assert Batch.cat([plain, replace(plain, label=torch.zeros(2))]).label is None, "half of the labels are none"


def test_repeat_copies_every_field_in_blocks() -> None:
    one = whole(3)
    for name, value in tensors(one.repeat(4)).items():
        assert torch.equal(value, torch.cat([tensors(one)[name]] * 4)), name


def test_seen_as_keeps_the_truth() -> None:
    given = replace(whole(), target=None, hidden=None)
    x_in, hidden = torch.zeros_like(given.x), torch.ones_like(given.x, dtype=torch.bool)
    seen = given.seen_as(x_in, hidden)
    assert torch.equal(seen.truth, given.x)
    assert torch.equal(seen.total, given.total), "the library size is of the truth, not of what a corruption left"
    assert seen.hidden is hidden
    again = seen.seen_as(x_in + 1)
    assert torch.equal(again.truth, given.x)
    assert again.hidden is None
    for name in ("label", "observed", "length", "index"):
        assert getattr(seen, name) is getattr(given, name)


def test_what_is_unseen_is_hidden_or_missing() -> None:
    full = whole()
    assert full.observed is not None
    assert full.hidden is not None
    assert torch.equal(full.unseen, full.hidden | ~full.observed)  # type: ignore[arg-type]
    assert torch.equal(replace(full, hidden=None).unseen, ~full.observed)  # type: ignore[arg-type]
    assert torch.equal(replace(full, observed=None).unseen, full.hidden)  # type: ignore[arg-type]
    assert Batch(full.x).unseen is None


def test_given_tells_what_belongs_to_an_example_and_nothing_of_its_values() -> None:
    full = whole()
    given = full.given
    assert given.label is full.label
    assert given.length is full.length
    for row in range(len(full)):
        known = full.observed[row, :, : int(full.length[row])]  # type: ignore[index]
        expected = full.truth[row, :, : int(full.length[row])][known].sum()  # type: ignore[index]
        torch.testing.assert_close(given.total[row], expected)  # type: ignore[index]


@pytest.mark.parametrize("shape", [(5,), (3, 5), (2, 4, 5)])
def test_within_marks_the_first_steps(shape: tuple[int, ...]) -> None:
    inside = within(torch.tensor([0, 2, 5]), torch.zeros(3, *shape))
    assert inside.shape == (3, *shape)
    assert inside.flatten(1).sum(1).tolist() == [0, 2 * math.prod(shape[:-1]), math.prod(shape)]
    assert inside[1, ..., :2].all()


# ── what is missing changes no loss and no gradient, whatever stands in its place ───────────────────────


def gaps(spec: DataSpec, fill: float) -> Batch:
    torch.manual_seed(3)
    examples = batch(spec)
    observed = torch.rand_like(examples.x) < 0.6
    truth = examples.x.masked_fill(~observed, fill)
    return Batch(examples.x.masked_fill(~observed, 0.0), target=truth, observed=observed)


@pytest.mark.parametrize("name", LIKELIHOODS)
@pytest.mark.parametrize("kind", ["nll", "hidden", "joint"])
def test_a_missing_value_changes_no_loss_even_where_it_is_nan(name: str, kind: str) -> None:
    corrupted: dict[str, Any] = {}
    if kind == "hidden":
        corrupted["corruption"] = CORRUPTIONS["masking"]
    found = []
    for fill in (0.0, 0.4, math.nan):
        torch.manual_seed(0)
        net = model(likelihood=LIKELIHOODS[name], **corrupted)
        examples = gaps(IMAGE, fill)
        torch.manual_seed(1)
        out = net(examples)
        if kind == "joint":
            assert isinstance(out.latent, VariationalLatent)
            loss = -log_joint(net, examples, out.latent, out.latent.posterior.rsample(torch.Size((2,)))).mean()
        else:
            loss = (HiddenNegativeLogLikelihood() if kind == "hidden" else NegativeLogLikelihood())(out, net).mean()
        loss.backward()
        gradients = [p.grad.flatten() for p in net.parameters() if p.grad is not None]
        found.append(torch.cat([loss.detach()[None], *gradients]))
    assert found[0].isfinite().all()
    for other in found[1:]:
        torch.testing.assert_close(other, found[0])


def test_a_missing_value_reaches_no_later_step_of_an_autoregressive_decoder() -> None:
    spec, decoder = SERIES, partial(AutoregressiveLSTMDecoder, hidden=6)
    net = model(spec, likelihood=LIKELIHOODS["gaussian_fixed"], decoder=decoder).eval()
    z = torch.randn(6, 5)
    clean, dirty = (gaps(spec, fill) for fill in (0.0, math.nan))
    for examples in (clean, dirty):
        assert torch.equal(net.decode(z, examples).mean, net.decode(z, clean).mean)


def test_a_log_probability_of_minus_infinity_at_a_missing_value_is_no_loss() -> None:
    truth = torch.tensor([[1.0, 0.0, 1.0]])
    observed = torch.tensor([[True, False, True]])
    logits = torch.tensor([[0.0, -math.inf, 0.0]])

    class Items(Multinomial):
        """Elementwise."""

        def log_prob(self, value: Tensor) -> Tensor:
            return torch.log_softmax(logits, 1) * value.where(value != 0, 1.0)

    p_x = Items(total_count=2, logits=torch.zeros(1, 3))
    assert p_x.log_prob(truth).isinf().any()
    out = Output(Batch(truth, observed=observed), Batch(truth), None, p_x)  # type: ignore[arg-type]
    torch.testing.assert_close(out.log_likelihood, torch.tensor([-2 * math.log(2)]))


def test_normalised_patches_leave_a_missing_nan_out() -> None:
    x, observed = torch.rand(2, 1, 4, 4), torch.rand(2, 1, 4, 4) < 0.7
    clean, dirty = (normalised(x.masked_fill(~observed, fill), (2, 2), observed) for fill in (0.0, math.nan))
    assert torch.equal(clean, dirty)


# ── what a model is told ────────────────────────────────────────────────────────────────────────────────


def test_a_tensor_stands_for_a_batch_of_it() -> None:
    net, examples = model(SERIES, likelihood=LIKELIHOODS["gaussian_fixed"]).eval(), batch(SERIES)
    for method in (net.embed, net.reconstruct, net.features):
        assert torch.equal(method(examples.x), method(examples))


def test_the_likelihood_is_told_the_library_size_and_samples_have_the_usual_one() -> None:
    net = model(replace(IMAGE, totals=(3.0, 0.01)), likelihood=LIKELIHOODS["gaussian_fixed"]).eval()
    told: list[Given | None] = []
    plain = net.likelihood.forward

    def spy(params: Tensor, given: Given | None = None) -> Any:
        told.append(given)
        return plain(params, given)

    net.likelihood.forward = spy  # type: ignore[method-assign]
    examples = batch()
    net(examples)
    net.reconstruct(examples)
    net.sample(2)
    totals = [given.total for given in told if given is not None]
    assert [len(total) for total in totals if total is not None] == [6, 6, 2]
    torch.testing.assert_close(totals[0], examples.x.flatten(1).sum(1))
    torch.testing.assert_close(totals[2], torch.full((2,), math.exp(3.0)), rtol=0, atol=1.5)
