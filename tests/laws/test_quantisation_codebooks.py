"""How codebooks learn, against their definitions."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from codebooks import codebook
from instances import BOTTLENECKS, batch, model

from narrows.bottlenecks._quantizer import Codebook
from narrows.bottlenecks.discrete import ResidualVQ, VectorQuantizer

# ── learning ────────────────────────────────────────────────────────────────────────────────────────────


def test_moving_averages_equal_their_definition() -> None:
    book = codebook(codes=4, width=2, ema=0.8)
    counts, sums = book.counts.double(), book.vectors.double() * book.counts.double()[:, None]
    for size in (20, 20, 3, 1, 20):
        h = torch.randn(size, 2)
        codes = book(h)[0]
        for k in range(4):
            chosen = h[codes == k].double()
            counts[k] = 0.8 * counts[k] + 0.2 * len(chosen)
            sums[k] = 0.8 * sums[k] + 0.2 * chosen.sum(0)
        book.learn(h, codes)
        torch.testing.assert_close(book.counts.double(), counts, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(book.vectors.double(), sums / counts[:, None], rtol=1e-4, atol=1e-5)


def test_an_unused_code_stays_where_it_is_for_ever() -> None:
    book = codebook(codes=2, width=1, ema=0.5)
    book.vectors.copy_(torch.tensor([[0.0], [100.0]]))
    for _ in range(300):
        book.learn(torch.randn(4, 1), torch.zeros(4, dtype=torch.long))
    assert book.vectors[1] == 100
    assert torch.isfinite(book.vectors).all()


def test_a_codebook_learns_once_per_training_pass_and_never_from_encoding() -> None:
    net = model(bottleneck=partial(VectorQuantizer, dim=5, codes=7, kmeans=0, revive_after=None))
    book, data = net.bottleneck.books[0], batch()
    before = book.vectors.clone()
    net.encode(data.x)
    assert torch.equal(book.vectors, before)
    given, codes = net.encode(data.x).parts[0][0], net.encode(data.x).codes[:, 0]
    net(data)
    expected = codebook(7, 5, ema=0.99)
    expected.vectors.copy_(before)
    expected.learn(given.detach(), codes)
    assert torch.equal(book.vectors, expected.vectors)


def test_k_means_puts_the_codes_on_the_clusters() -> None:
    centres = torch.tensor([[0.0, 0.0], [50.0, 0.0], [0.0, 50.0], [50.0, 50.0]])
    rows = (centres[:, None] + torch.randn(4, 25, 2)).flatten(0, 1)
    book = Codebook(40, 2, ema=0.99, kmeans=10, revive_after=None)
    assert not book.ready
    book.start(rows)
    assert book.ready
    # As Lloyd's algorithm leaves it: every used code is the mean of its rows.
    codes, vectors = book(rows)
    assert float((rows - vectors).square().sum(1).mean()) < 1.0
    for code in codes.unique():
        torch.testing.assert_close(book.vectors[code], rows[codes == code].mean(0), atol=0.5, rtol=0)


def test_k_means_starts_once_and_a_loaded_codebook_is_not_started_again() -> None:
    net = model(bottleneck=BOTTLENECKS["residual_vq"])
    assert not any(book.ready for book in net.bottleneck.books)
    net(batch(n=64))
    assert all(book.ready for book in net.bottleneck.books)
    other = model(bottleneck=BOTTLENECKS["residual_vq"])
    other.load_state_dict(net.state_dict())
    other(batch(n=1))
    for mine, theirs in zip(other.bottleneck.books, net.bottleneck.books, strict=True):
        assert float((mine.vectors - theirs.vectors).abs().max()) < 0.1
    net.load_state_dict(model(bottleneck=BOTTLENECKS["residual_vq"]).state_dict())
    assert not any(book.ready for book in net.bottleneck.books)


def test_residual_levels_start_one_after_another() -> None:
    bottleneck = ResidualVQ((7,), dim=5, codes=8, levels=3)
    h = torch.randn(200, 7)
    bottleneck.learn(bottleneck(h))
    errors = [given.square().sum(1).mean() for given, _ in bottleneck(h).parts]
    assert errors[0] > 1.5 * errors[1] > 1.5 * errors[2]


@pytest.mark.parametrize("ema", [0.9, None])
def test_dead_codes_are_revived_on_rows_of_the_batch(ema: float | None) -> None:
    book = codebook(codes=3, width=2, ema=ema, revive_after=4)
    with torch.no_grad():
        book.vectors.copy_(torch.tensor([[0.0, 0.0], [1e3, 1e3], [-1e3, 1e3]]))
    for passed in range(1, 5):
        h = torch.randn(10, 2)
        codes = book(h)[0]
        assert (codes == 0).all()
        book.learn(h, codes)
        assert (book.vectors[1:].abs().max() < 10) == (passed == 4)
    assert all((h == vector).all(1).any() for vector in book.vectors[1:].detach())
    assert not torch.equal(book.vectors[1], book.vectors[2])
    assert book.idle.tolist() == [0, 0, 0]


def test_a_code_that_is_used_is_never_revived() -> None:
    book = codebook(codes=2, width=1, ema=0.99, revive_after=3)
    for step in range(12):
        book.learn(torch.ones(4, 1), torch.full((4,), int(step % 3 == 0)))
    assert (book.idle < 3).all()
    assert torch.equal(book.counts > 0.5, torch.tensor([True, True]))


def test_dead_codes_come_to_life_in_training() -> None:
    """A bad start: all codes far away but one. With revival nearly all are used after a few batches."""
    used = {}
    for patience in (None, 2):
        bottleneck = VectorQuantizer((7,), dim=5, codes=16, kmeans=0, revive_after=patience).train()
        bottleneck.books[0].vectors.add_(100 * torch.arange(16)[:, None])
        for _ in range(20):
            bottleneck.learn(bottleneck(torch.randn(200, 7)))
        used[patience] = bottleneck(torch.randn(2000, 7)).codes.unique().numel()
    assert used[None] == 1
    assert used[2] >= 15


def test_more_codes_than_rows_is_no_error() -> None:
    bottleneck = BOTTLENECKS["vq"]((7,))
    for _ in range(3):
        bottleneck.learn(bottleneck(torch.randn(1, 7)))
    assert torch.isfinite(bottleneck.books[0].vectors).all()
