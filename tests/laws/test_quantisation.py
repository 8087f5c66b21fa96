"""What quantisers promise, against brute force."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from codebooks import codebook, with_spread_codes
from instances import BOTTLENECKS, IMAGE, batch, model
from torch import Tensor

from narrows.bottlenecks._quantizer import as_rows, rotated, straight_through
from narrows.bottlenecks.discrete import ResidualVQ, VectorQuantizer
from narrows.bottlenecks.gumbel import GumbelVQ
from narrows.bottlenecks.lookup_free import FSQ, LFQ
from narrows.errors import UserError
from narrows.types import QuantizedLatent

QUANTISERS = [name for name, build in BOTTLENECKS.items() if issubclass(build((4,)).returns, QuantizedLatent)]
SHAPES = [(7,), (7, 4), (7, 3, 5)]


# ── codes ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", QUANTISERS)
def test_codes_give_back_the_latent_and_lie_in_their_alphabets(name: str, shape: tuple[int, ...]) -> None:
    bottleneck = with_spread_codes(BOTTLENECKS[name](shape)).eval()
    latent = bottleneck(torch.randn(9, *shape))
    assert latent.codes.shape == (9, len(latent.sizes), *shape[1:])
    assert latent.sizes == bottleneck.sizes
    for codes, size in zip(latent.codes.unbind(1), latent.sizes, strict=True):
        assert codes.dtype == torch.long
        assert 0 <= codes.min() <= codes.max() < size
    assert latent.codes.unique().numel() > 1
    decoded = bottleneck.decode_codes(latent.codes)
    assert torch.equal(decoded, latent.point) or (name == "residual_vq" and torch.allclose(decoded, latent.point))


@pytest.mark.parametrize("name", QUANTISERS)
def test_codes_are_deterministic_in_evaluation(name: str) -> None:
    net = model(bottleneck=BOTTLENECKS[name])
    net(batch())
    net.eval()
    data, before = batch(), {key: value.clone() for key, value in net.state_dict().items()}
    first, again = net.encode(data.x), net(data).latent
    assert torch.equal(first.codes, again.codes)
    assert torch.equal(first.point, again.point)
    assert all(torch.equal(value, net.state_dict()[key]) for key, value in before.items())


@pytest.mark.parametrize("shape", SHAPES)
def test_nearest_code_by_brute_force(shape: tuple[int, ...]) -> None:
    book = codebook(codes=11, width=7)
    h = torch.randn(5, *shape)
    codes, vectors = book(h)
    for row, code, vector in zip(as_rows(h), codes.flatten(), as_rows(vectors), strict=True):
        gaps = [float((row - other).square().sum()) for other in book.vectors]
        assert int(code) == gaps.index(min(gaps))
        assert torch.equal(vector, book.vectors[code])


def test_a_code_is_its_own_code() -> None:
    book = codebook(codes=50, width=4)
    assert torch.equal(book.nearest(book.vectors), torch.arange(50))
    codes, vectors = book(torch.randn(30, 4, 6))
    again, same = book(vectors)
    assert torch.equal(again, codes)
    assert torch.equal(same, vectors)


def test_a_residual_level_quantises_what_the_levels_before_it_have_left() -> None:
    bottleneck = with_spread_codes(ResidualVQ((7, 4), dim=5, codes=6, levels=3))
    h = torch.randn(2, 7, 4)
    latent, rest = bottleneck(h), bottleneck.projection(h)
    for book, (given, vectors) in zip(bottleneck.books, latent.parts, strict=True):
        torch.testing.assert_close(given, rest)
        torch.testing.assert_close(vectors, book(rest)[1])
        rest = rest - vectors
    torch.testing.assert_close(latent.z, bottleneck.projection(h) - rest)


def test_a_product_quantiser_is_a_quantiser_for_every_slice() -> None:
    bottleneck = with_spread_codes(VectorQuantizer((7, 4), dim=6, codes=5, groups=3))
    h = torch.randn(2, 7, 4)
    latent, u = bottleneck(h), bottleneck.projection(h)
    for i, book in enumerate(bottleneck.books):
        codes, vectors = book(u[:, 2 * i : 2 * i + 2])
        assert torch.equal(latent.codes[:, i], codes)
        assert torch.equal(latent.z[:, 2 * i : 2 * i + 2], vectors)


# ── gradients ───────────────────────────────────────────────────────────────────────────────────────────


def test_dropped_levels_leave_the_sum_of_the_first_ones() -> None:
    bottleneck = ResidualVQ((4,), dim=3, codes=5, levels=3, dropout=1.0)
    with torch.no_grad():
        for _ in range(2):
            bottleneck.learn(bottleneck(torch.randn(60, 4)))
    h = torch.randn(200, 4)
    latent = bottleneck(h)
    sums = torch.stack([bottleneck.decode_codes(latent.codes[:, :kept]) for kept in (1, 2, 3)])
    near = (sums - latent.z).abs().amax(2) < 1e-5
    assert near.any(0).all()
    shares = near.float().mean(1)
    assert (shares[:2] > 0.2).all()
    assert (latent.codes == bottleneck.eval()(h).codes).all(), "what is dropped changes no code"
    torch.testing.assert_close(bottleneck(h).z, sums[2])
    with pytest.raises(UserError, match=r"dropout must be in \[0, 1\]"):
        ResidualVQ((4,), dropout=1.5)


@pytest.mark.parametrize("name", ["vq", "product_vq", "residual_vq", "lfq"])
def test_the_gradient_passes_straight_through(name: str) -> None:
    bottleneck = with_spread_codes(BOTTLENECKS[name]((7, 4)))
    bottleneck.projection.register_forward_hook(lambda module, given, u: kept.append(u))
    kept: list[Tensor] = []
    z = bottleneck(torch.randn(3, 7, 4)).z
    kept[0].retain_grad()
    upstream = torch.randn_like(z)
    z.backward(upstream)
    assert torch.equal(kept[0].grad, upstream)


def test_straight_through_has_the_value_to_the_bit() -> None:
    value, source = torch.randn(100, 3) * 1e-3, torch.randn(100, 3, requires_grad=True)
    assert torch.equal(straight_through(value, source), value)
    assert torch.equal(rotated(value, source), value)


def test_the_rotation_trick_turns_the_gradient_and_scales_it_by_the_ratio_of_lengths() -> None:
    e, q = torch.randn(1, 5, dtype=torch.double), torch.randn(1, 5, dtype=torch.double)
    jacobian = torch.autograd.functional.jacobian(lambda u: rotated(q, u)[0], e)[:, 0]
    ratio = q.norm() / e.norm()
    rotation = jacobian / ratio
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(5, dtype=torch.double))
    assert float(torch.linalg.det(rotation)) == pytest.approx(1)
    torch.testing.assert_close((jacobian @ e[0]), q[0])


@pytest.mark.parametrize("shape", [(5,), (5, 4), (5, 2, 3)])
def test_the_rotation_trick_survives_equal_opposite_and_zero_vectors(shape: tuple[int, ...]) -> None:
    for value, source in [(1.0, 1.0), (1.0, -1.0), (0.0, 1.0), (1.0, 0.0), (0.0, 0.0)]:
        u = torch.full((2, *shape), source, requires_grad=True)
        rotated(torch.full((2, *shape), value), u).sum().backward()
        assert torch.isfinite(u.grad).all()


def test_fsq_s_gradient_is_that_of_the_bound() -> None:
    bottleneck = FSQ((3,), levels=[4, 5, 8]).double()
    h = torch.randn(6, 3, dtype=torch.double, requires_grad=True)
    bottleneck(h).z.sum().backward()
    step = 1e-6 * torch.randn_like(h)
    smooth = [bottleneck._bound(bottleneck.projection(h.detach() + s)) / bottleneck.middle for s in (step, -step)]
    assert float((h.grad * step).sum()) == pytest.approx(float((smooth[0] - smooth[1]).sum().detach() / 2), rel=1e-5)


# ── files, refusals ─────────────────────────────────────────────────────────────────────────────────────


def test_the_state_of_a_codebook_is_saved_with_the_weights(tmp_path: Any) -> None:
    net = model(bottleneck=BOTTLENECKS["vq"])
    for _ in range(3):
        net(batch())
    torch.save(net.state_dict(), tmp_path / "weights")
    other = model(bottleneck=BOTTLENECKS["vq"])
    other.load_state_dict(torch.load(tmp_path / "weights", weights_only=True))
    data = batch(IMAGE)
    torch.manual_seed(3)
    net(data)
    torch.manual_seed(3)
    other(data)
    for key, value in net.state_dict().items():
        assert torch.equal(value, other.state_dict()[key]), key


REFUSED = [
    (partial(VectorQuantizer, codes=1), "bottleneck vq: codes must be at least 2, not 1"),
    (partial(VectorQuantizer, dim=6, groups=4), "groups must be at least 1 and divide dim=6, not 4"),
    (partial(VectorQuantizer, ema=1.0), r"ema must be in \[0, 1\), or null, not 1.0"),
    (partial(VectorQuantizer, kmeans=-1), "kmeans must be at least 0 iterations"),
    (partial(VectorQuantizer, revive_after=0), "revive_after must be at least 1 batch"),
    (partial(ResidualVQ, levels=0), "bottleneck residual_vq: levels must be at least 1"),
    (partial(FSQ, levels=[]), "bottleneck fsq: levels must be one or more numbers from 2 to 256"),
    (partial(FSQ, levels=[5, 1]), r"not \[5, 1\]"),
    (partial(FSQ, levels=[256] * 8), "more codes than can be counted"),
    (partial(LFQ, dim=34, groups=2), "into at most 16 bits each, not 2"),
    (partial(GumbelVQ, minimum=2.0), "minimum must be above 0 and at most temperature=1.0, not 2.0"),
    (partial(GumbelVQ, anneal=-1.0), "anneal must be at least 0"),
]


@pytest.mark.parametrize(("build", "sentence"), REFUSED)
def test_bad_options_of_quantisers_are_refused(build: Callable[..., Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        build((4,))
