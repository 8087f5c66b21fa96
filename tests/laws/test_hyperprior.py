"""Scales told by side information: the density, the rate of both, places in the table from whole numbers alone, and
that the KL is what a file costs."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import Tensor, nn

from narrows.bottlenecks._whole_numbers import FRACTION, leaky, whole_number_output
from narrows.bottlenecks.entropy import EntropyBottleneck
from narrows.bottlenecks.hyperprior import SCALES, ScaleHyperprior, SmoothedNormal, table_scales
from narrows.coding.ans_entropy_coder import decode, encode, fit_table
from narrows.coding.model_codec import rounded
from narrows.coding.side_information import SideInformation, normal_table
from narrows.corruptions import NoCorruption
from narrows.errors import UserError
from narrows.losses import Objective
from narrows.losses.divergence import KL, Rate
from narrows.losses.reconstruction import NegativeLogLikelihood
from narrows.models.autoencoder import Autoencoder
from narrows.types import Batch, Output

SHAPES = [(7,), (7, 5), (7, 3, 6)]


def test_the_density_is_a_box_around_a_normal_one_and_sums_to_one() -> None:
    scale = torch.tensor([0.11, 0.7, 3.0, 256.0], dtype=torch.float64)
    z = torch.linspace(-9, 9, 37, dtype=torch.float64)[:, None]
    ends = [norm.cdf(-z.abs().numpy() + side, scale=scale.numpy()) for side in (0.5, -0.5)]
    np.testing.assert_allclose(SmoothedNormal(scale).log_prob(z).exp(), ends[0] - ends[1], rtol=1e-6, atol=1e-30)
    for shift in (0.0, 0.3):
        whole = (torch.arange(-2000, 2001, dtype=torch.float64) + shift)[:, None]
        torch.testing.assert_close(SmoothedNormal(scale).log_prob(whole).exp().sum(0), torch.ones(4).double())


def test_far_from_zero_it_is_finite_and_its_gradient_is_the_normal_ones() -> None:
    for dtype in (torch.float32, torch.float64):
        z = torch.tensor([5.0, -100.0, 1e4], dtype=dtype, requires_grad=True)
        scale = torch.full((3,), 0.11, dtype=dtype, requires_grad=True)
        slopes = torch.autograd.grad(SmoothedNormal(scale).log_prob(z).sum(), (z, scale))
        inner = (z.detach().abs() - 0.5) / 0.11
        torch.testing.assert_close(slopes[0], -z.detach().sign() * inner / 0.11, rtol=2e-3, atol=0)
        torch.testing.assert_close(slopes[1], inner.square() / 0.11, rtol=2e-3, atol=0)
    near, beyond = (SmoothedNormal(torch.ones(1)).log_prob(torch.tensor([10.5 + side])) for side in (-1e-3, 1e-3))
    assert float(near - beyond) == pytest.approx(2e-3 * 10, rel=0.05), "no jump where the series begins"


def test_samples_follow_the_density() -> None:
    torch.manual_seed(0)
    drawn = SmoothedNormal(torch.tensor([0.2, 3.0])).sample((40_000,))
    torch.testing.assert_close(drawn.var(0), torch.tensor([0.04, 9.0]) + 1 / 12, rtol=0.03, atol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_kl_is_the_rate_of_latents_and_of_their_side_information(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    bottleneck = ScaleHyperprior(shape, dim=3, hidden=4, side=2).eval()
    latent = bottleneck(torch.randn(6, *shape))
    assert latent.side.z.shape == (6, 2, *(-(-size // 4) for size in shape[1:]))
    assert ((latent.z - latent.point).abs() <= 0.5 + 1e-2).all()
    assert ((latent.side.z - latent.side.point).abs() <= 0.5 + 1e-2).all()
    told = bottleneck.scales(latent.side.z.round(), shape[1:])
    rates = [-SmoothedNormal(told).log_prob(latent.z), -latent.side.prior.log_prob(latent.side.z)]
    both = sum(rate.flatten(1).sum(1) for rate in rates)
    torch.testing.assert_close(latent.divergence().sum(1), both)
    # What importance weights read: a bound from the same draws.
    weight = latent.prior.log_prob(latent.z) - latent.posterior.log_prob(latent.z).flatten(1).sum(1)
    torch.testing.assert_close(-weight, both)
    out = Output(Batch(latent.z), Batch(latent.z), latent, p_x=None)  # type: ignore[arg-type]
    parts = [Rate(part=part)(out, None) for part in ("latent", "side")]  # type: ignore[arg-type]
    for part, rate in zip(parts, rates, strict=True):
        torch.testing.assert_close(part, rate.flatten(1).sum(1))
    torch.testing.assert_close(KL()(out, None), parts[0] + parts[1])  # type: ignore[arg-type]
    assert bottleneck.sample_prior(4).shape == (4, 3, *shape[1:])


@pytest.mark.parametrize("shape", SHAPES)
def test_it_starts_with_the_spread_asked_for(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    bottleneck = ScaleHyperprior(shape, dim=3, spread=5.0)
    told = bottleneck.scales(torch.zeros(1, *bottleneck.side.out_shape), shape[1:])
    assert told.detach().log().mean().exp().item() == pytest.approx(5.0, rel=0.3)


# ── whole numbers ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("halvings", [0, 1, 2])
def test_places_are_those_of_the_nearest_scales(shape: tuple[int, ...], halvings: int) -> None:
    torch.manual_seed(1)
    bottleneck = ScaleHyperprior(shape, dim=3, hidden=4, side=2, halvings=halvings)
    side = torch.randint(-30, 31, (4, *bottleneck.side.out_shape))
    found = bottleneck.table_places(side, shape[1:])
    assert found.shape == (4, 3, *shape[1:])
    assert found.dtype == torch.int64
    with torch.no_grad():
        wanted = bottleneck.scales(side.float(), shape[1:]).log()
    table = torch.tensor(table_scales()).log()
    best = (wanted[..., None] - table).abs()
    chosen = best.gather(-1, found[..., None])[..., 0]
    assert (chosen - best.amin(-1)).max() < 4e-3, "but for numbers of twelve bits behind the point"
    assert len(found.unique()) > 3


def test_the_output_is_that_of_whole_numbers_of_any_size() -> None:
    """A linear layer, a leaky ReLU and another, against Python's own numbers, which are never rounded."""
    torch.manual_seed(0)
    for scale in (1e-6, 1.0, 1e3, 1e9):
        network = nn.Sequential(nn.Linear(3, 4), leaky(), nn.Linear(4, 2))
        for parameter in network.parameters():
            parameter.data.mul_(scale)
        x = torch.randint(-50, 50, (5, 3))
        found = whole_number_output(network, x)
        for row, expected in zip(x.tolist(), found.tolist(), strict=True):
            values = [Fraction(value) for value in row]
            for layer in (network[0], network[2]):
                weight, bias = layer.weight.tolist(), layer.bias.tolist()
                values = [
                    sum((Fraction(w) * v for w, v in zip(line, values, strict=True)), Fraction(b))
                    for line, b in zip(weight, bias, strict=True)
                ]
                values = [max(-(2**12), min(2**12, value)) for value in values]
                values = [value / 8 if value < 0 else value for value in values] if layer is network[0] else values
            # Of weights with sixteen bits behind the point, or of fewer that are large.
            tolerance = 2**12 * 0.02 * min(1.0, max(scale, 0.05))
            assert [float(value * 2**FRACTION) for value in values] == pytest.approx(expected, abs=tolerance, rel=1e-2)
    with pytest.raises(UserError, match="weights of its hyperprior are not finite"):
        whole_number_output(nn.Sequential(nn.Linear(3, 2)).apply(partial(_fill, value=math.nan)), x)


def _fill(layer: nn.Module, value: float) -> None:
    if isinstance(layer, nn.Linear):
        nn.init.constant_(layer.weight, value)


def test_no_order_of_summation_and_no_number_of_threads_changes_a_place() -> None:
    """Where floating-point sums differ in their last digits: channels are permuted, and threads taken away."""
    torch.manual_seed(0)
    bottleneck = ScaleHyperprior((7, 8, 8), dim=3, hidden=64, side=16)
    side = torch.randint(-40, 41, (2, *bottleneck.side.out_shape))
    found = whole_number_output(bottleneck.synthesis, side)
    with torch.no_grad():
        before = bottleneck.scales(side.float(), (8, 8))
    first, second, last = (bottleneck.synthesis[i] for i in (0, 2, 4))
    inner, outer = torch.randperm(64), torch.randperm(64)
    with torch.no_grad():
        first.weight.copy_(first.weight[:, inner].clone())
        first.bias.copy_(first.bias[inner].clone())
        second.weight.copy_(second.weight[inner][:, outer].clone())
        second.bias.copy_(second.bias[outer].clone())
        last.weight.copy_(last.weight[:, outer].clone())
        assert not torch.equal(bottleneck.scales(side.float(), (8, 8)), before), "floats notice"
    threads = torch.get_num_threads()
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            assert torch.equal(whole_number_output(bottleneck.synthesis, side), found)
    finally:
        torch.set_num_threads(threads)


def test_side_information_of_any_size_has_a_place() -> None:
    bottleneck = ScaleHyperprior((7, 4), dim=3, hidden=4, side=2)
    for value in (2**62, -(2**62), 0):
        found = bottleneck.table_places(torch.full((1, *bottleneck.side.out_shape), value), (4,))
        assert ((found >= 0) & (found < SCALES)).all()


# ── files ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("scale", [0.001, 0.11, 1.0, 30.0, 1e5])
def test_a_table_is_of_the_rounded_normal_values(scale: float) -> None:
    table = normal_table(scale)
    assert table.low <= -1
    values = np.rint(np.random.default_rng(0).normal(0, scale, 20_000)).astype(np.int64)
    if scale > 1e4:
        # Spans as much as a table may; what is beyond is escaped and comes back.
        np.testing.assert_array_equal(decode(encode([values], [table]), [20_000], [table])[0], values)
        return
    own = [norm.logsf(np.abs(k) - 0.5, scale=scale) for k in values]
    nats = -sum(
        a + np.log(-np.expm1(norm.logsf(abs(k) + 0.5, scale=scale) - a)) for k, a in zip(values, own, strict=True)
    )
    assert table.bits(values).sum() == pytest.approx(nats / math.log(2), rel=0.01, abs=1)


def test_side_information_is_read_as_a_file_has_it_and_learns() -> None:
    torch.manual_seed(0)
    bottleneck = ScaleHyperprior((7,), dim=3, hidden=4, side=2)
    read = []
    bottleneck.synthesis.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
    drawn, plain = (lambda side: side.z.round()), (lambda side: side.point.round())
    latent = bottleneck.eval()(torch.randn(50, 7))
    assert torch.equal(read[0], drawn(latent.side))
    latent = bottleneck.train()(torch.randn(50, 7))
    rows = [(read[1] == rule(latent.side)).all(1) for rule in (drawn, plain)]
    assert (rows[0] | rows[1]).all()
    assert not rows[0].all()
    assert not rows[1].all()
    latent.own_rate.sum().backward()
    assert bottleneck.side.projection.weight.grad.abs().min() > 0  # type: ignore[union-attr]


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 5))])
def test_the_kl_is_what_a_file_costs_and_less_than_a_factorised_density_does(seed: int) -> None:
    """Examples that are loud or quiet as a whole: scales that know it cost less, by what they should."""
    torch.manual_seed(seed)
    loud = torch.where(torch.rand(200, 1, 1) < 0.5, 0.05, 3.0)
    # In double precision every processor learns the same.
    h = (loud * torch.randn(200, 1, 32) / 10).double()
    hyperprior, factorised = (_trained(build, h) for build in (ScaleHyperprior, EntropyBottleneck))
    sent = _file_of_loud_and_quiet(hyperprior, h)
    values = factorised(h).point.detach().numpy().round().astype(np.int64).ravel()
    alone = 8 * len(encode([values], [fit_table(values)]))
    # Under noise quiet latents cost a tenth of a bit that they do not cost when they are rounded.
    assert 0.6 * _bits(hyperprior, h) < sent < 0.95 * _bits(hyperprior, h)
    assert alone == pytest.approx(_bits(factorised, h), rel=0.05)
    # Rounded, quiet examples are free and loud ones cost log2(3 sqrt(2 pi e)) bits a value.
    least = float((loud > 1).sum()) * 32 * math.log2(3 * math.sqrt(2 * math.pi * math.e))
    assert least < sent < 1.25 * least
    assert sent < 0.95 * alone


def _trained(build: Callable[..., Any], h: Tensor) -> Any:
    bottleneck = build((1, 32), dim=1, **({"hidden": 16, "side": 4} if build is ScaleHyperprior else {})).double()
    nn.init.ones_(bottleneck.projection.weight)
    nn.init.zeros_(bottleneck.projection.bias)
    learnt = [p for name, p in bottleneck.named_parameters() if not name.startswith("projection")]
    optimizer = torch.optim.Adam(learnt, lr=0.01)
    for _ in range(300):
        optimizer.zero_grad()
        bottleneck(h).divergence().sum(1).mean().backward()
        optimizer.step()
    return bottleneck.eval()


def _bits(bottleneck: Any, h: Tensor) -> float:
    """A mean, because a draw that rounds loud to quiet costs thousands."""
    return float(sum(bottleneck(h).divergence().detach().sum() for _ in range(8))) / 8 / math.log(2)


def _file_of_loud_and_quiet(bottleneck: Any, h: Tensor) -> int:
    """Bits of a file, which is read again and whose latents cost what their density says."""
    latent, shape = bottleneck(h), (len(h), (32,))
    told = SideInformation(bottleneck)
    streams = rounded(told.split(latent), 1.0)
    tables = [*map(fit_table, streams[: told.own]), *told.tables(1.0)]
    code = encode(streams, tables)
    later = partial(told.later_lengths, count=len(h), positions=(32,))
    back = decode(code, told.lengths(*shape), tables, later)
    for found, sent in zip(back, streams, strict=True):
        np.testing.assert_array_equal(found, sent)
    side = latent.side.point.detach().round()
    law = SmoothedNormal(bottleneck.scales(side, (32,))).log_prob(latent.point.round()).detach().sum()
    own = 8 * len(encode(streams[told.own :], tables[told.own :]))
    assert own == pytest.approx(-law.item() / math.log(2), rel=0.03)
    y = told.joined(back[told.own :], told.places(back, *shape))
    np.testing.assert_array_equal(y, latent.point.detach().numpy().round())
    return 8 * len(code)


# ── what is refused ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "options",
    [{"dim": 0}, {"hidden": 0}, {"side": 0}, {"halvings": -1}, {"components": 0}, {"spread": 0.0}, {"gain": 0.0}],
)
def test_senseless_options_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(UserError, match=rf"bottleneck scale_hyperprior: {next(iter(options))} must be"):
        ScaleHyperprior((7,), **options)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="reads vectors, sequences and images"):
        ScaleHyperprior((7, 2, 2, 2))


def test_densities_that_nothing_trains_are_refused() -> None:
    terms = {"reconstruction": NegativeLogLikelihood(), "side_rate": Rate(part="side")}
    with pytest.raises(UserError, match="bottleneck ScaleHyperprior has a prior that none of the loss terms"):
        Objective(terms).check(Autoencoder, ScaleHyperprior((4,)), NoCorruption)
    with pytest.raises(UserError, match=r"reads a HyperpriorLatent, but .* use bottleneck=scale_hyperprior"):
        Objective({**terms, "kl": KL()}).check(Autoencoder, EntropyBottleneck((4,)), NoCorruption)
    with pytest.raises(UserError, match="term rate: part must be latent or side, not 'z'"):
        Rate(part="z")  # type: ignore[arg-type]
