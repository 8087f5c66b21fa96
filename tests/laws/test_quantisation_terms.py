"""Terms on quantised latents, and quantisers without a codebook or with drawn codes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from codebooks import with_spread_codes
from instances import BOTTLENECKS, batch, model
from torch import Tensor

from narrows.bottlenecks._quantizer import as_rows
from narrows.bottlenecks.gumbel import GumbelVQ
from narrows.bottlenecks.lookup_free import FSQ, LFQ
from narrows.errors import UserError
from narrows.losses import Objective
from narrows.losses.quantisation import CodebookDistance, CodeKL, Commitment, LookupFreeEntropy, corners
from narrows.losses.reconstruction import NegativeLogLikelihood
from narrows.types import Batch

SHAPES = [(7,), (7, 4), (7, 3, 5)]

# ── terms ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["vq", "vq_gradient", "product_vq", "residual_vq", "lfq"])
def test_commitment_is_the_squared_distance_and_moves_the_encoder_alone(name: str) -> None:
    net = model(bottleneck=BOTTLENECKS[name])
    with_spread_codes(net.bottleneck)
    out = net(batch())
    term = Commitment()(out, net)
    by_hand = [sum((u[i] - e[i]).square().sum() for u, e in out.latent.parts) for i in range(len(out.batch))]
    torch.testing.assert_close(term, torch.stack(by_hand))
    term.mean().backward()
    assert net.bottleneck.projection.weight.grad.any()
    assert all(parameter.grad is None for key, parameter in net.named_parameters() if "books" in key)


def test_the_codebook_s_distance_moves_the_codebook_alone_towards_its_rows() -> None:
    net = model(bottleneck=BOTTLENECKS["vq_gradient"]).eval()
    with_spread_codes(net.bottleneck)
    out = net(batch())
    CodebookDistance()(out, net).sum().backward()
    (book,) = net.bottleneck.books
    ((given, _),) = out.latent.parts
    expected = torch.zeros_like(book.vectors)
    for row, code in zip(given.detach(), out.latent.codes[:, 0], strict=True):
        expected[code] += 2 * (book.vectors.detach()[code] - row)
    torch.testing.assert_close(book.vectors.grad, expected)
    assert all(parameter.grad is None for key, parameter in net.named_parameters() if "books" not in key)


@pytest.mark.parametrize(
    ("name", "term"),
    [
        *(("vq", Commitment), ("residual_vq", Commitment), ("product_vq", Commitment), ("lfq", Commitment)),
        *(("vq_gradient", CodebookDistance), ("gumbel_vq", CodeKL), ("lfq", LookupFreeEntropy)),
    ],
)
def test_loss_scale_of_quantisers_does_not_depend_on_batch_size(name: str, term: Callable[[], Any]) -> None:
    """A peer's VQ loss is 0.378 / 3.78 / 37.8 at batch 1 / 10 / 100."""
    net = model(bottleneck=BOTTLENECKS[name]).eval()
    data = batch(n=5)
    values = []
    for copies in (1, 2, 20):
        out = net(Batch(x=data.x.repeat(copies, 1, 1, 1)))
        values.append(float(term()(out, net).mean().detach()))
    assert values == pytest.approx([values[0]] * 3, rel=1e-4)
    out = net(batch(n=1))
    assert torch.isfinite(term()(out, net).mean())


def test_a_codebook_that_no_term_trains_is_refused() -> None:
    loss = Objective({"reconstruction": NegativeLogLikelihood(), "commitment": Commitment()})
    net = model(bottleneck=BOTTLENECKS["vq_gradient"])
    with pytest.raises(UserError, match=r"VectorQuantizer has a codebook that none .*; use loss=vq_gradient"):
        loss.check(type(net), net.bottleneck, type(net.corruption))
    loss.check(type(net), BOTTLENECKS["vq"]((4,)), type(net.corruption))
    Objective({"d": CodebookDistance()}).check(type(net), net.bottleneck, type(net.corruption))


# ── without a codebook ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("levels", [[2], [3], [8, 5, 5], [2, 2, 3], [7, 4]])
def test_fsq_has_the_product_of_its_levels_as_codes_and_reaches_every_one(levels: list[int]) -> None:
    bottleneck = FSQ((len(levels),), levels=levels)
    torch.nn.init.eye_(bottleneck.projection.weight)
    torch.nn.init.zeros_(bottleneck.projection.bias)
    grid = [torch.cat([torch.linspace(-3, 3, 61), torch.tensor([-20.0, 20.0])]) for _ in levels]
    u = torch.cartesian_prod(*grid).reshape(-1, len(levels))
    latent = bottleneck(u)
    count = math.prod(levels)
    assert bottleneck.sizes == (count,)
    assert torch.equal(latent.codes.unique(), torch.arange(count))
    assert latent.z.unique(dim=0).shape == (count, len(levels))
    assert latent.z.abs().max() <= 1
    for i, level in enumerate(levels):
        values = [(digit - level // 2) / (level // 2) for digit in range(level)]
        assert latent.z[:, i].unique().tolist() == pytest.approx(values)
    every = torch.arange(count)[:, None]
    assert bottleneck.decode_codes(every).unique(dim=0).shape == (count, len(levels))


def test_fsq_rounds_to_the_nearest_and_is_monotone() -> None:
    bottleneck = FSQ((1,), levels=[5])
    u = torch.linspace(-4, 4, 500)[:, None]
    bounded = bottleneck._bound(u)
    assert (bounded.diff(dim=0) >= 0).all()
    assert bottleneck._bound(torch.zeros(1, 1)).round() == 0
    grid = torch.arange(-2.0, 3.0)
    nearest = grid[(bounded - grid).abs().argmin(1)]
    assert torch.equal(bounded.round()[:, 0], nearest)


@pytest.mark.parametrize("levels", [2, 3, 4, 8, 16])
def test_fsq_s_bound_of_0_is_0(levels: int) -> None:
    """Even levels lie unevenly about 0, and what bounds them is shifted so that it keeps 0 where it is."""
    bounded = FSQ((1,), levels=[levels])._bound(torch.zeros(1, 1))
    torch.testing.assert_close(bounded, torch.zeros(1, 1), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["vq", "product_vq", "residual_vq"])
def test_a_commitment_moves_no_code(name: str) -> None:
    """Neither the nearest one nor, of a residual quantiser, those that left the rest to be quantised."""
    net = model(bottleneck=partial(BOTTLENECKS[name].func, **(BOTTLENECKS[name].keywords | {"ema": None})))
    books = [p for book in net.bottleneck.books for p in book.parameters()]
    assert len(books) == len(net.bottleneck.books)
    gradients = torch.autograd.grad(Commitment()(net(batch()), net).mean(), books, allow_unused=True)
    assert all(gradient is None or not gradient.any() for gradient in gradients)


@pytest.mark.parametrize("groups", [1, 2, 3])
def test_lfq_codes_are_all_sign_patterns(groups: int) -> None:
    bottleneck = LFQ((6,), dim=6, groups=groups)
    torch.nn.init.eye_(bottleneck.projection.weight)
    torch.nn.init.zeros_(bottleneck.projection.bias)
    patterns = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=6)))
    latent = bottleneck(patterns * torch.rand_like(patterns).clamp_min(0.1))
    assert torch.equal(latent.z, patterns)
    assert latent.codes.unique(dim=0).shape == (64, groups)
    assert bottleneck.sizes == (2 ** (6 // groups),) * groups
    assert torch.equal(bottleneck(torch.zeros(1, 6)).z, torch.ones(1, 6))


def lfq_entropies(u: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Per row, and of the mean, over all corners one by one; `u [N, d]`."""
    every = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=u.shape[1])))
    shares = (-(u[:, None] - every).square().sum(2) / temperature).softmax(1)
    entropies = [torch.special.entr(p).sum(-1) for p in (shares, shares.mean(0))]
    return entropies[0].mean(), entropies[1]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_lfq_s_entropies_by_brute_force(shape: tuple[int, ...], temperature: float) -> None:
    bottleneck = LFQ(shape, dim=6, groups=2)
    net, latent = model(), bottleneck(torch.randn(5, *shape))
    out = net(batch(n=5))
    out.latent = latent
    expected = torch.zeros(())
    for given, _ in latent.parts:
        sure, spread = lfq_entropies(as_rows(given), temperature)
        expected = expected + math.prod(shape[1:]) * (sure - 0.7 * spread)
    torch.testing.assert_close(LookupFreeEntropy(diversity=0.7, temperature=temperature)(out, net), expected)


def test_corners_are_a_distribution_in_the_order_of_the_codes() -> None:
    up = torch.rand(4, 5)
    shares = corners(up)
    torch.testing.assert_close(shares.sum(1), torch.ones(4))
    bottleneck = LFQ((5,), dim=5)
    bits = (bottleneck.decode_codes(torch.arange(32)[:, None]) + 1) / 2
    expected = torch.stack([(up * b + (1 - up) * (1 - b)).prod(1) for b in bits], dim=1)
    torch.testing.assert_close(shares, expected)


def test_lfq_s_entropy_has_finite_gradients_where_bits_are_certain() -> None:
    net = model(bottleneck=BOTTLENECKS["lfq"])
    with torch.no_grad():
        net.bottleneck.projection.weight.mul_(1e4)
    LookupFreeEntropy()(net(batch()), net).backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in net.parameters())


# ── drawn codes ─────────────────────────────────────────────────────────────────────────────────────────


def test_code_kl_is_the_divergence_from_the_uniform_distribution() -> None:
    net = model(bottleneck=BOTTLENECKS["gumbel_vq"])
    out = net(batch())
    q = torch.distributions.Categorical(logits=out.latent.log_probs)
    uniform = torch.distributions.Categorical(logits=torch.zeros(7))
    torch.testing.assert_close(CodeKL()(out, net), torch.distributions.kl_divergence(q, uniform))
    out.latent.log_probs = torch.full_like(out.latent.log_probs, -math.log(7))
    assert float(CodeKL()(out, net).abs().max().detach()) < 1e-6


def test_gumbel_draws_follow_the_probabilities_and_are_codes_in_evaluation() -> None:
    bottleneck = GumbelVQ((3,), dim=2, codes=4).eval()
    h = torch.randn(1, 3)
    with torch.no_grad():
        latent = bottleneck(h.expand(20_000, 3))
    found = (latent.z[:, None] == bottleneck.vectors).all(2)
    assert (found.sum(1) == 1).all()
    shares, probs = found.float().mean(0), latent.log_probs[0].exp()
    assert ((shares - probs).abs() < 5 * (probs * (1 - probs) / 20_000).sqrt() + 1e-4).all()
    assert torch.equal(latent.point[0], bottleneck.vectors[probs.argmax()])


def test_gumbel_s_temperature_is_a_function_of_the_training_batches_and_is_saved() -> None:
    net = model(bottleneck=partial(GumbelVQ, dim=3, codes=4, temperature=2.0, minimum=0.5, anneal=0.1))
    for step in range(20):
        assert float(net.bottleneck.tau) == pytest.approx(max(0.5, 2.0 * math.exp(-0.1 * step)))
        net(batch())
    net.eval()(batch())
    other = model(bottleneck=partial(GumbelVQ, dim=3, codes=4, temperature=2.0, minimum=0.5, anneal=0.1))
    other.load_state_dict(net.state_dict())
    assert int(other.bottleneck.seen) == 20


def test_hard_gumbel_codes_are_codes_in_training_too() -> None:
    bottleneck = GumbelVQ((3, 4), dim=2, codes=4, hard=True)
    z = as_rows(bottleneck(torch.randn(5, 3, 4)).z)
    assert torch.isclose(z[:, None], bottleneck.vectors).all(2).any(1).all()
    soft = as_rows(GumbelVQ((3, 4), dim=2, codes=4)(torch.randn(5, 3, 4)).z)
    assert not torch.isclose(soft[:, None], bottleneck.vectors).all(2).any()
