"""VQ-VAE-2: two maps of codes. It is no bottleneck that treats every position alike: its top codes see several."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from codebooks import with_spread_codes
from instances import IMAGE, LIKELIHOODS, MAP_BOTTLENECKS, SERIES, batch, model
from torch import Tensor

from narrows.bottlenecks.hierarchical import HierarchicalVQ
from narrows.decoders.conv import ConvDecoder
from narrows.encoders.conv import ConvEncoder
from narrows.errors import UserError
from narrows.losses import Objective
from narrows.losses.quantisation import CodebookDistance, Commitment
from narrows.losses.reconstruction import NegativeLogLikelihood
from narrows.models.autoencoder import Autoencoder
from narrows.tasks.figure_table import FigureTable
from narrows.tasks.latent import _Sums
from narrows.types import DataSpec

SHAPES = [(7, 4), (7, 3, 5), (7, 2, 2)]
MAPS = {
    "encoder": partial(ConvEncoder, channels=[4], flatten=False),
    "decoder": partial(ConvDecoder, channels=[4]),
}


def network(name: str = "hierarchical_vq", spec: DataSpec = IMAGE) -> Autoencoder:
    net = model(spec, bottleneck=MAP_BOTTLENECKS[name], likelihood=LIKELIHOODS["gaussian_fixed"], **MAPS)
    with_spread_codes(net.bottleneck)
    return net


@pytest.mark.parametrize("name", MAP_BOTTLENECKS)
@pytest.mark.parametrize("shape", SHAPES)
def test_it_returns_what_it_says(name: str, shape: tuple[int, ...]) -> None:
    bottleneck = with_spread_codes(MAP_BOTTLENECKS[name](shape)).eval()
    latent = bottleneck(torch.randn(9, *shape))
    size, half = shape[1:], tuple(-(-side // 2) for side in shape[1:])
    assert type(latent) is bottleneck.returns
    assert latent.z.shape == latent.point.shape == (9, *bottleneck.out_shape) == (9, 10, *size)
    top, bottom = torch.Size(half).numel(), torch.Size(size).numel()
    assert latent.codes.shape == (9, top + bottom)
    assert latent.codes.dtype == torch.long
    assert latent.sizes == bottleneck.sizes == (6,) * (top + bottom)
    assert {key: (n, codes.shape) for key, (n, codes) in latent.books.items()} == {
        "top": (6, (9, *half)),
        "bottom": (6, (9, *size)),
    }
    assert torch.equal(latent.books["top"][1].flatten(1), latent.codes[:, :top])
    assert latent.codes.unique().numel() > 1
    # Through a transposed convolution, whose sums follow the layout in memory on some processors.
    torch.testing.assert_close(bottleneck.decode_codes(latent.codes), latent.point)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_code_is_the_nearest(shape: tuple[int, ...]) -> None:
    bottleneck = with_spread_codes(HierarchicalVQ(shape, dim=5, codes=6))
    latent = bottleneck(torch.randn(4, *shape))
    for book, (given, vectors), (_, codes) in zip(bottleneck.books, latent.parts, latent.books.values(), strict=True):
        rows = given.movedim(1, -1).flatten(0, -2)
        assert torch.equal(torch.cdist(rows, book.vectors).argmin(1), codes.flatten())
        torch.testing.assert_close(vectors.movedim(1, -1).flatten(0, -2), book.vectors[codes.flatten()])


def test_the_bottom_codes_are_conditioned_on_the_top_ones() -> None:
    bottleneck = with_spread_codes(HierarchicalVQ((7, 4, 4), dim=5, codes=6)).eval()
    h = torch.randn(8, 7, 4, 4)
    before = bottleneck(h)
    with torch.no_grad():
        bottleneck.books[0].vectors.add_(3 * torch.randn(6, 5))
    after = bottleneck(h)
    assert not torch.equal(before.parts[1][0], after.parts[1][0]), "what the bottom quantises"
    given = bottleneck.projection(h) + bottleneck.condition(bottleneck.books[0].lookup(after.books["top"][1]))
    torch.testing.assert_close(after.parts[1][0], given)


def test_both_levels_reach_the_decoder_and_the_encoder() -> None:
    bottleneck = with_spread_codes(HierarchicalVQ((7, 4, 4), dim=5, codes=6))
    h = torch.randn(3, 7, 4, 4, requires_grad=True)
    latent = bottleneck(h)
    for half in latent.z.chunk(2, 1):
        assert half.flatten(1).std(1).min() > 0
        (gradient,) = torch.autograd.grad(half.square().sum(), h, retain_graph=True)
        assert gradient.flatten(1).any(1).all()


@pytest.mark.parametrize("name", MAP_BOTTLENECKS)
@pytest.mark.parametrize(("spec", "n"), [(IMAGE, 6), (IMAGE, 1), (SERIES, 6)])
def test_every_parameter_gets_a_gradient_and_the_codes_learn(name: str, spec: DataSpec, n: int) -> None:
    net = network(name, spec)
    terms = {"nll": NegativeLogLikelihood(), "commitment": Commitment()}
    gradient = name.endswith("gradient")
    objective = Objective(terms | ({"distance": CodebookDistance()} if gradient else {}))
    objective.check(type(net), net.bottleneck, type(net.corruption))
    net(batch(spec, n))
    before = [book.vectors.clone() for book in net.bottleneck.books]
    objective(net(batch(spec, n)), net).total.backward()
    for key, parameter in net.named_parameters():
        assert parameter.grad is not None, key
        assert torch.isfinite(parameter.grad).all(), key
    for book, old in zip(net.bottleneck.books, before, strict=True):
        assert gradient or not torch.equal(book.vectors, old)


@pytest.mark.parametrize("name", MAP_BOTTLENECKS)
def test_codes_are_deterministic_in_evaluation_and_saved(name: str) -> None:
    net = network(name)
    net(batch())
    net.eval()
    x = batch().x
    assert torch.equal(net.encode(x).codes, net.encode(x).codes)
    alone = torch.cat([net.encode(row[None]).codes for row in x])
    assert torch.equal(net.encode(x).codes, alone)
    again = network(name).eval()
    again.load_state_dict(net.state_dict())
    assert torch.equal(again.reconstruct(x), net.reconstruct(x))


def test_both_codebooks_start_where_their_rows_will_be() -> None:
    """k-means of the bottom must see the rows that the new top codes make."""
    torch.manual_seed(1)
    net = model(IMAGE, bottleneck=partial(HierarchicalVQ, dim=5, codes=6, kmeans=30), **MAPS)
    data = batch(n=40)
    net(data)
    latent = net.encode(data.x)
    for book, (given, _) in zip(net.bottleneck.books, latent.parts, strict=True):
        rows = given.detach().movedim(1, -1).flatten(0, -2)
        centres = means_of_cells(rows, book.vectors)
        torch.testing.assert_close(book.vectors, centres, rtol=1e-3, atol=1e-4)


def means_of_cells(rows: Tensor, vectors: Tensor) -> Tensor:
    codes = torch.cdist(rows, vectors).argmin(1)
    return torch.stack([rows[codes == k].mean(0) if (codes == k).any() else vectors[k] for k in range(len(vectors))])


def test_usage_is_that_of_each_level() -> None:
    net = network().eval()
    sums = _Sums()
    data = [batch(n=5).x, batch(n=7).x]
    for x in data:
        sums.add(net.encode(x))
    table = FigureTable()
    sums.fill(table, 0.01)
    found = table.named()
    codes = [torch.cat([net.encode(x).books[level][1].flatten() for x in data]) for level in ("top", "bottom")]
    for level, seen in zip(("top", "bottom"), codes, strict=True):
        assert found[f"test/codebook_usage/{level}"] == seen.unique().numel() / 6
        shares = torch.bincount(seen, minlength=6) / seen.numel()
        expected = torch.special.entr(shares).sum().exp()
        assert found[f"test/perplexity/{level}"] == pytest.approx(float(expected), rel=1e-5)
    assert found["test/codebook_usage"] == pytest.approx(sum(c.unique().numel() / 6 for c in codes) / 2)


@pytest.mark.parametrize(
    ("shape", "options", "sentence"),
    [
        ((7,), {}, "hierarchical_vq halves a map, but the encoder gives a vector of 7"),
        ((7, 1, 4), {}, "can be halved at most 0 times"),
        ((7, 4), {"dim": 0}, "dim must be at least 1"),
        ((7, 4), {"codes": 1}, "bottleneck hierarchical_vq: codes must be at least 2"),
    ],
)
def test_refusals(shape: tuple[int, ...], options: dict[str, int], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        HierarchicalVQ(shape, **options)
