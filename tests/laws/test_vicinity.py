"""The term that judges neighbours of the examples."""

from __future__ import annotations

import pytest
import torch
from instances import BOTTLENECKS, COUNT_LIKELIHOODS, COUNTS, LIKELIHOODS, SERIES, batch, model

from narrows.errors import UserError
from narrows.losses.reconstruction import NegativeLogLikelihood
from narrows.losses.vicinity import Vicinity
from narrows.types import Batch

STAGES = {"bottleneck": BOTTLENECKS["deterministic"], "likelihood": LIKELIHOODS["gaussian_fixed"]}


def test_neighbours_lie_along_differences_of_examples_at_the_scale() -> None:
    torch.manual_seed(0)
    x = torch.randn(400, 3, 5).double() * torch.tensor([1.0, 3.0, 0.0])[:, None]
    moves = torch.cat([Vicinity(scale=0.5)._near(Batch(x), None).x - x for _ in range(50)]).flatten(1)
    # The variance of e (x_i - x_j) is twice that of x, and directions in which examples do not differ are left alone.
    torch.testing.assert_close(moves.var(0), 0.25 * 2 * x.flatten(1).var(0), rtol=0.1, atol=1e-9)
    assert moves.mean(0).abs().max() < 0.1
    assert torch.equal(moves.reshape(-1, 3, 5)[:, 2], torch.zeros(20_000, 5).double())


def test_examples_that_are_all_alike_have_themselves_for_neighbours() -> None:
    net = model(SERIES, **STAGES).train()
    examples = batch(SERIES)
    alike = Batch(examples.x[:1].repeat(4, 1, 1))
    torch.testing.assert_close(Vicinity()(net(alike), net), NegativeLogLikelihood()(net(alike), net))


def test_in_evaluation_the_examples_alone_are_judged() -> None:
    net = model(SERIES, **STAGES).eval()
    assert torch.equal(Vicinity()(net(batch(SERIES)), net), torch.zeros(len(batch(SERIES))))


def test_a_value_missing_in_any_of_the_three_is_not_judged() -> None:
    torch.manual_seed(0)
    examples = batch(SERIES, n=30)
    known = torch.ones_like(examples.x, dtype=torch.bool)
    known[:15, :, 3] = False
    filled = [examples.x.masked_fill(~known, value) for value in (0.0, 1e6)]
    found = []
    for x in filled:
        torch.manual_seed(1)
        found.append(Vicinity()._near(Batch(x, observed=known), None))
    assert torch.equal(found[0].observed, found[1].observed)
    assert (~found[0].observed).sum() > (~known).sum()
    torch.testing.assert_close(*(near.x.where(near.observed, 0) for near in found))


def test_neighbours_stay_inside_the_data_s_range() -> None:
    x = torch.rand(200, 4)
    near = Vicinity(scale=3.0)._near(Batch(x), (0.0, 1.0)).x
    assert near.min() == 0
    assert near.max() == 1


def test_what_has_no_neighbours_is_refused() -> None:
    with pytest.raises(UserError, match=r"term vicinity adds .* tokens, counts or of different lengths"):
        Vicinity().attach(model(COUNTS, likelihood=COUNT_LIKELIHOODS["poisson"]))
    with pytest.raises(UserError, match="scale must be above 0, not 0"):
        Vicinity(scale=0.0)
