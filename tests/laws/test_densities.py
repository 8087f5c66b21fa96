"""Densities over latents: they integrate to one, find what is known, and sample what they say."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from instances import BOTTLENECKS, DENSITIES, IMAGE, batch, model
from sklearn.covariance import ledoit_wolf
from torch import Tensor
from torch.distributions import MultivariateNormal

from narrows.bottlenecks.deterministic import Deterministic
from narrows.bottlenecks.discrete import VectorQuantizer
from narrows.bottlenecks.gaussian import Gaussian
from narrows.bottlenecks.hierarchical import HierarchicalVQ
from narrows.densities.autoregressive import AutoregressiveCodes
from narrows.densities.base import Density
from narrows.densities.by_class import ClassMixtures
from narrows.densities.flow import FlowDensity
from narrows.densities.gaussians import GaussianDensity, MixtureDensity
from narrows.densities.pseudo_inputs import VampDensity
from narrows.densities.second_stage import SecondStage
from narrows.errors import UserError
from narrows.models.autoencoder import Autoencoder
from narrows.types import Batch, CodebookLatent, QuantizedLatent

PLANE = model(bottleneck=partial(Deterministic, dim=2))
LABELLED = replace(IMAGE, num_classes=3)
ON_THE_PLANE: dict[str, Callable[[], Density]] = {
    "gaussian": lambda: GaussianDensity(PLANE),
    "mixture": lambda: MixtureDensity(PLANE, components=3),
    "flow": lambda: FlowDensity(PLANE, transforms=3, widths=[32], epochs=15, lr=1e-2),
    "second_stage": lambda: SecondStage(PLANE, widths=[64, 64], epochs=30),
    "by_class": lambda: labelled(torch.arange(3000) % 3, components=3),
    "vamp": lambda: VampDensity(model(bottleneck=partial(Gaussian, dim=2)).eval(), pseudo_inputs=20, epochs=3),
}


def labelled(label: Tensor, **options: Any) -> ClassMixtures:
    """For latents in the plane, of these classes."""
    density = ClassMixtures(model(LABELLED, bottleneck=partial(Deterministic, dim=2)), **options)
    density.label = label
    return density


def banana(n: int) -> Tensor:
    """`x ~ N(0, 2^2)`, `y | x ~ N(x^2 / 4, 0.3^2)`, far from the origin and in unequal units."""
    x = 2 * torch.randn(n)
    return torch.stack([100 + x, 0.01 * (x.square() / 4 + 0.3 * torch.randn(n))], 1)


BANANA_ENTROPY = sum(0.5 * math.log(2 * math.pi * math.e) + math.log(sd) for sd in (2.0, 0.003))


def learnt(density: Density, rows: Tensor, held: Tensor) -> Density:
    with torch.no_grad():
        density.learn(rows, held)
    return density.eval()


class Rows:
    """A datamodule of examples in memory."""

    def __init__(self, x: Tensor) -> None:
        self.spec, self.x = IMAGE, x

    def ordered_loader(self, split: str) -> list[Batch]:
        rows = self.x[10:] if split == "train" else self.x[:10]
        return [Batch(x=part, label=torch.arange(len(part)) % 3) for part in rows.split(16)]


@pytest.fixture(scope="module")
def fitted() -> dict[str, Density]:
    """Each on the banana; the VampPrior, whose components are posteriors, on the latents of its model."""
    torch.manual_seed(0)
    rows, held = banana(3000), banana(1000)
    found = {name: learnt(make(), rows, held) for name, make in ON_THE_PLANE.items() if name != "vamp"}
    net = model(bottleneck=partial(Gaussian, dim=2)).eval()
    found["vamp"] = VampDensity(net, pseudo_inputs=20, epochs=3)
    found["vamp"].fit(net, Rows(torch.rand(60, 1, 8, 8)), 0)
    return found


def exact(density: Density, z: Tensor) -> Tensor:
    """A second stage by quadrature over its own latent instead of its bound."""
    if not isinstance(density, SecondStage):
        return density.log_prob(z)
    axis = torch.linspace(-5, 5, 71)
    u = torch.cartesian_prod(axis, axis)
    p_z = density.stage.decode(u)
    prior = MultivariateNormal(torch.zeros(2), torch.eye(2)).log_prob(u) + 2 * math.log(float(axis[1] - axis[0]))
    joint = [(p_z.log_prob(row).sum(1) + prior).logsumexp(0) for row in density.standard(z)]
    return torch.stack(joint) - density.scale.log().sum()


# ── (a) a density ───────────────────────────────────────────────────────────────────────────────────────


@torch.no_grad()
@pytest.mark.parametrize("name", [name for name in ON_THE_PLANE if name != "second_stage"])
def test_it_integrates_to_one(name: str, fitted: dict[str, Density]) -> None:
    density = fitted[name]
    drawn = density.sample(4000)
    middle, reach = drawn.mean(0), 14 * drawn.std(0)
    steps = 601
    axes = [torch.linspace(float(m - r / 2), float(m + r / 2), steps) for m, r in zip(middle, reach, strict=True)]
    area = float(reach[0] * reach[1]) / (steps - 1) ** 2
    mass = sum(float(density.log_prob(part).exp().sum()) for part in torch.cartesian_prod(*axes).split(400_000)) * area
    assert mass == pytest.approx(1, abs=0.01)


@torch.no_grad()
@pytest.mark.parametrize("name", ON_THE_PLANE)
def test_samples_follow_the_density(name: str, fitted: dict[str, Density]) -> None:
    """Importance weights: `E_p[q / p] = 1`, for Gaussians q about several of the draws, narrow enough to lie in p."""
    density = fitted[name]
    drawn = density.sample(4000 if name == "second_stage" else 40_000)
    log_p = exact(density, drawn)
    for middle in drawn[log_p.argsort(descending=True)[[0, len(drawn) // 4, len(drawn) // 2]]]:
        q = MultivariateNormal(middle, scale_tril=(0.1 * drawn.std(0)).diag())
        ratio = (q.log_prob(drawn) - log_p).exp()
        error = float(ratio.std()) / math.sqrt(len(ratio))
        assert error < 0.2
        assert float(ratio.mean()) == pytest.approx(1, abs=4 * error)


@torch.no_grad()
def test_a_second_stage_s_bound_is_one(fitted: dict[str, Density]) -> None:
    density = fitted["second_stage"]
    assert isinstance(density, SecondStage)
    z = banana(200)
    true, bound = exact(density, z).mean(), density.log_prob(z).mean()
    loose = (density.elbo(density.standard(z)) - density.scale.log().sum()).mean()
    assert loose < bound + 0.02
    assert bound < true + 0.02
    assert float(bound) == pytest.approx(float(true), abs=0.05)


# ── (b) what is known ───────────────────────────────────────────────────────────────────────────────────


def test_a_gaussian_has_the_mean_and_covariance_of_the_latents() -> None:
    rows = torch.randn(500, 2) @ torch.tensor([[300.0, 1.0], [0.0, 0.02]]) + torch.tensor([1e3, -5.0])
    density = learnt(GaussianDensity(PLANE, ridge=1e-9), rows, rows)
    exactly = MultivariateNormal(rows.double().mean(0), torch.cov(rows.double().T, correction=0))
    torch.testing.assert_close(density.log_prob(rows).double(), exactly.log_prob(rows.double()), atol=1e-2, rtol=1e-3)
    drawn = density.sample(50_000).double()
    torch.testing.assert_close(drawn.mean(0), exactly.mean, atol=4.0, rtol=0.01)
    torch.testing.assert_close(torch.cov(drawn.T), exactly.covariance_matrix, atol=0.0, rtol=0.05)


def test_a_mixture_finds_the_mixture_it_was_drawn_from() -> None:
    centres = torch.tensor([[0.0, 0.0], [8.0, 0.0], [0.0, 80.0]])
    factors = torch.tensor([[[1.0, 0.0], [0.9, 0.3]], [[0.5, 0.0], [-2.0, 3.0]], [[2.0, 0.0], [0.0, 5.0]]])
    weights = torch.tensor([0.5, 0.3, 0.2])

    def drawn(n: int) -> Tensor:
        which = torch.multinomial(weights, n, replacement=True)
        return centres[which] + (factors[which] @ torch.randn(n, 2, 1)).squeeze(2)

    def true(z: Tensor) -> Tensor:
        return torch.logsumexp(MultivariateNormal(centres, scale_tril=factors).log_prob(z[:, None]) + weights.log(), 1)

    rows, held = drawn(4000), drawn(2000)
    density = learnt(MixtureDensity(PLANE, components=3), rows, held)
    assert density.judge(held) == pytest.approx(float(true(held).mean()), abs=0.02)
    assert density.weights.sort().values == pytest.approx(weights.sort().values, abs=0.03)  # type: ignore[union-attr]
    one = learnt(GaussianDensity(PLANE), rows, held)
    assert one.judge(held) < density.judge(held) - 0.5


@pytest.mark.parametrize(("name", "gap"), [("flow", 0.12), ("second_stage", 0.5)])
def test_a_banana_is_learnt(name: str, gap: float, fitted: dict[str, Density]) -> None:
    """Nothing is likelier than the truth, and a wrong log-determinant is off by more than the gap either way."""
    held = banana(4000)
    figure = fitted[name].judge(held)
    assert -BANANA_ENTROPY - gap < figure < -BANANA_ENTROPY + 0.05
    assert figure > fitted["gaussian"].judge(held) + 0.5


def test_pseudo_inputs_better_the_examples_that_they_start_at() -> None:
    torch.manual_seed(3)
    net, data = model(bottleneck=partial(Gaussian, dim=2)).eval(), Rows(torch.rand(400, 1, 8, 8))
    with torch.no_grad():
        net.bottleneck.projection.weight[:2] *= 20
        net.bottleneck.projection.weight[2:] *= 0.1
    few = VampDensity(net, pseudo_inputs=4, epochs=60, lr=5e-2, patience=60)
    first: list[float] = []
    learn = few.learn

    def watched(train: Tensor, held: Tensor) -> None:
        few.means.copy_(few.components()[0])
        few.scales.copy_(few.components()[1])
        first.append(few.judge(train))
        learn(train, held)

    few.learn = watched  # type: ignore[method-assign]
    figures = few.fit(net, data, 0)
    assert figures["density/log_prob_train"] > first[0] + 0.1
    mean, scale = few.components()
    assert torch.equal(mean, few.means)
    z = torch.randn(5, 2)
    slow = torch.stack([torch.distributions.Normal(m, s).log_prob(z).sum(1) for m, s in zip(mean, scale, strict=True)])
    torch.testing.assert_close(few.log_prob(z), slow.logsumexp(0) - math.log(4))


# ── (c) codes ───────────────────────────────────────────────────────────────────────────────────────────


def over_codes(sizes: tuple[int, ...], positions: tuple[int, ...], **options: Any) -> AutoregressiveCodes:
    """A density over codes of these alphabets, its weights large enough for every code to matter."""
    net = model(bottleneck=partial(VectorQuantizer, dim=4, codes=3))
    net.bottleneck.sizes, net.bottleneck.out_shape = sizes, (4, *positions)
    density = AutoregressiveCodes(net, **{"width": 8, "layers": 2, "heads": 2} | options)
    for parameter in density.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return density.eval()


TINY = [((3,), (2, 2)), ((2, 3), (2,)), ((4, 2, 3), ())]


@torch.no_grad()
@pytest.mark.parametrize(("sizes", "positions"), TINY)
def test_probabilities_of_all_codes_sum_to_one(sizes: tuple[int, ...], positions: tuple[int, ...]) -> None:
    density = over_codes(sizes, positions)
    alphabets = [range(size) for size in sizes for _ in range(math.prod(positions))]
    every = torch.tensor(list(itertools.product(*alphabets))).reshape(-1, len(sizes), *positions)
    assert float(density.log_prob(every).double().exp().sum()) == pytest.approx(1, abs=1e-5)
    assert density.log_prob(every).exp().std() > 1e-4


@torch.no_grad()
@pytest.mark.parametrize(("sizes", "positions"), TINY)
def test_a_code_depends_on_those_before_it_alone(sizes: tuple[int, ...], positions: tuple[int, ...]) -> None:
    density = over_codes(sizes, positions)
    length = density.length
    limits = torch.tensor(sizes).repeat(length // len(sizes))
    sequence = (torch.rand(1, length) * limits).long()
    before = density.log_probs(sequence).nan_to_num(neginf=0)
    for changed in range(length):
        other = sequence.clone()
        other[0, changed] = (other[0, changed] + 1) % limits[changed]
        after = density.log_probs(other).nan_to_num(neginf=0)
        torch.testing.assert_close(after[:, : changed + 1], before[:, : changed + 1])
        for later in range(changed + 1, length):
            assert not torch.allclose(after[:, later], before[:, later]), (changed, later)


@pytest.mark.parametrize(("sizes", "positions"), TINY)
def test_order_and_place_are_inverse(sizes: tuple[int, ...], positions: tuple[int, ...]) -> None:
    density = over_codes(sizes, positions)
    codes = torch.stack([torch.randint(size, (5, *positions)) for size in sizes], 1)
    assert torch.equal(density.in_place(density.in_order(codes)), codes)


@torch.no_grad()
@pytest.mark.parametrize(("sizes", "positions"), TINY)
def test_codes_are_drawn_as_often_as_is_said(sizes: tuple[int, ...], positions: tuple[int, ...]) -> None:
    """Which also proves that going on step by step gives what the whole sequence at once does."""
    density = over_codes(sizes, positions)
    drawn = density.sample_codes(20_000)
    assert drawn.shape == (20_000, len(sizes), *positions)
    found, counts = drawn.unique(dim=0, return_counts=True)
    expected = density.log_prob(found).exp()
    torch.testing.assert_close(counts / 20_000, expected, atol=0.015, rtol=0)
    assert float(expected.sum()) > 0.97


def test_a_pattern_is_learnt_and_drawn() -> None:
    """The second alphabet repeats the first, and each code follows from the one before; only the first is free."""
    net = model(bottleneck=partial(VectorQuantizer, dim=4, codes=5, groups=2))
    net.bottleneck.out_shape = (4, 6)
    density = AutoregressiveCodes(net, width=32, layers=2, heads=2, epochs=25, batch_size=64, lr=5e-3)
    start = torch.randint(5, (600, 1))
    row = (start + 2 * torch.arange(6)) % 5
    learnt(density, torch.stack([row, row], 1)[100:], torch.stack([row, row], 1)[:100])
    assert density.judge(torch.stack([row, row], 1)[:100]) == pytest.approx(-math.log(5), abs=0.1)
    drawn = density.sample_codes(50)
    follows = (drawn[:, 0, 1:] == (drawn[:, 0, :-1] + 2) % 5).float().mean()
    assert follows > 0.95
    assert (drawn[:, 0] == drawn[:, 1]).float().mean() > 0.95


def test_codes_on_two_scales_are_one_sequence() -> None:
    """Coarse and fine maps have places of their own, and no position in common."""
    bottleneck = HierarchicalVQ((4, 4, 4), dim=5, codes=6)
    net = model(bottleneck=partial(VectorQuantizer, dim=4, codes=3))
    net.bottleneck = bottleneck
    density = AutoregressiveCodes(net, width=8, layers=1, heads=2)
    codes = bottleneck(torch.randn(3, 4, 4, 4)).codes
    assert density.length == codes.shape[1] == 4 + 16
    assert density.log_prob(codes).isfinite().all()
    assert density.sample_codes(2).shape == (2, 20)
    assert density.sample(2).shape == (2, 10, 4, 4)


# ── (d) with models ─────────────────────────────────────────────────────────────────────────────────────

FITS = {
    name: [key for key, make in DENSITIES.items() if issubclass(BOTTLENECKS[name]((4,)).returns, make.func.requires)]
    for name in BOTTLENECKS
}
PAIRS = [(bottleneck, density) for bottleneck, fits in FITS.items() for density in fits]


def state(net: Autoencoder) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in net.state_dict().items() if not name.startswith("density.")}


@pytest.mark.parametrize(("bottleneck", "name"), PAIRS)
def test_every_bottleneck_can_be_sampled_and_is_left_alone(bottleneck: str, name: str) -> None:
    net, data = model(LABELLED, bottleneck=BOTTLENECKS[bottleneck]), Rows(torch.rand(60, 1, 8, 8))
    net(batch())
    before, stream = state(net), torch.get_rng_state()
    densities = [DENSITIES[name](net) for _ in range(2)]
    for density in densities[1:]:
        density.load_state_dict(densities[0].state_dict())
    stream = torch.get_rng_state()
    first, again = (density.fit(net, data, 5) for density in densities)
    assert torch.equal(stream, torch.get_rng_state())
    assert net.training
    assert first == again
    assert all(torch.equal(a, b) for a, b in zip(*(d.state_dict().values() for d in densities), strict=True))
    assert set(first) == set(densities[0].figures())
    assert all(math.isfinite(value) for value in first.values())
    assert all(p.grad is None for p in net.parameters())
    net.density = densities[0]
    assert net.generative
    assert net.eval().draw(3).shape == (3, *net.latent_shape)
    assert net.sample(3).shape == (3, 1, 8, 8)
    assert torch.isfinite(net.sample(3)).all()
    assert not torch.equal(net.draw(3), net.draw(3)) or bottleneck in QUANTISED
    assert all(torch.equal(tensor, state(net)[key]) for key, tensor in before.items())


QUANTISED = {name for name in BOTTLENECKS if issubclass(BOTTLENECKS[name]((4,)).returns, QuantizedLatent)}


def test_every_bottleneck_has_a_density() -> None:
    assert all(len(fits) >= 4 for fits in FITS.values())
    assert {name for name, fits in FITS.items() if "autoregressive" in fits} == QUANTISED
    gaussian = {"gaussian", "logistic_normal", "logistic_normal_plain"}
    assert {name for name, fits in FITS.items() if "vamp" in fits} == gaussian


def test_a_density_of_codes_gives_latents_of_the_codebook() -> None:
    net = model(bottleneck=partial(VectorQuantizer, dim=4, codes=3, groups=2)).eval()
    net.density = DENSITIES["autoregressive"](net)
    rows = net.draw(20).unflatten(1, (2, 2))
    for i, book in enumerate(net.bottleneck.books):
        assert torch.cdist(rows[:, i], book.vectors).min(1).values.max() < 1e-6


def test_what_is_read_is_what_the_decoder_was_trained_on() -> None:
    """Corrupted as in training; of a posterior a draw and not its mean; of a quantiser the codes."""
    net, data = model(bottleneck=BOTTLENECKS["gaussian"]).eval(), Rows(torch.zeros(2010, 1, 8, 8))
    found = DENSITIES["gaussian"](net).gather(net, data, "train", torch.device("cpu"))
    posterior = net.encode(torch.zeros(1, 1, 8, 8)).posterior
    torch.testing.assert_close(found.std(0), posterior.scale[0], rtol=0.1, atol=0)
    quantised = model(bottleneck=BOTTLENECKS["product_vq"]).eval()
    latent = quantised.encode(torch.rand(4, 1, 8, 8))
    assert isinstance(latent, CodebookLatent)
    assert torch.equal(DENSITIES["autoregressive"](quantised).read(latent), latent.codes)


def test_wrong_latents_and_options_are_refused() -> None:
    net = model(bottleneck=BOTTLENECKS["deterministic"])
    with pytest.raises(UserError, match="VampDensity reads a GaussianLatent, but bottleneck Deterministic returns a L"):
        VampDensity(net)
    with pytest.raises(UserError, match="AutoregressiveCodes reads a QuantizedLatent"):
        AutoregressiveCodes(net)
    with pytest.raises(UserError, match="the latent has 5,000 values, and a full covariance is kept to 4,096"):
        GaussianDensity(model(bottleneck=partial(Deterministic, dim=5000)))
    with pytest.raises(UserError, match="50 training examples are too few for 51 components"):
        MixtureDensity(net, components=51).fit(net, Rows(torch.rand(60, 1, 8, 8)), 0)
    with pytest.raises(UserError, match="by_class needs data with classes"):
        ClassMixtures(net)
    with pytest.raises(UserError, match="alphabet of 131,072 codes is too large"):
        over_codes((2**17,), (2,))
    with pytest.raises(UserError, match="validation split"):
        MixtureDensity(net).fit(net, Empty(), 0)


@torch.no_grad()
def test_a_density_by_class_draws_the_class_that_is_asked_for() -> None:
    """Of few rows one shrunk Gaussian; classes of other shares, and one without rows."""
    torch.manual_seed(0)
    label = torch.tensor([0] * 3 + [2] * 900)
    rows = torch.randn(903, 2) + torch.where(label == 0, 40.0, -40.0)[:, None]
    rows[3::2, 0] -= 20
    density = learnt(labelled(label, components=2), rows, rows)
    assert isinstance(density, ClassMixtures)
    assert density.weights[0].tolist() == [1, 0]
    found = {kind: density.sample_of(torch.full((4000,), kind)) for kind in (0, 2)}
    about = density.standard(rows[:3]).double()
    shrunk = ledoit_wolf((about - about.mean(0)).numpy(), assume_centered=True)[0] * 3 / 2
    torch.testing.assert_close(
        density.factors[0, 0] @ density.factors[0, 0].T, torch.tensor(shrunk).float() + 1e-4 * torch.eye(2)
    )
    for kind, drawn in found.items():
        torch.testing.assert_close(drawn.mean(0), rows[label == kind].mean(0), rtol=0, atol=0.6)
        torch.testing.assert_close(
            drawn[:, 0].std(), rows[label == kind][:, 0].std(), rtol=0.5 if kind == 0 else 0.05, atol=0
        )
    assert (density.sample(2000) > 0).all(1).double().mean() < 0.02
    net = model(LABELLED, bottleneck=partial(Deterministic, dim=2)).eval()
    net.density = density
    assert net.classes(3).tolist() == [0, 2, 0]
    assert (net.draw(50, torch.zeros(50).long()) > 0).all()
    with pytest.raises(UserError, match="no training row is of class 1"):
        density.sample_of(torch.tensor([0, 1]))


class Empty(Rows):
    def __init__(self) -> None:
        super().__init__(torch.rand(60, 1, 8, 8))

    def ordered_loader(self, split: str) -> list[Batch]:
        return super().ordered_loader(split) if split == "train" else []


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("gaussian", {"ridge": 0.0}),
        ("mixture", {"components": 0}),
        ("mixture", {"iterations": 0}),
        ("by_class", {"components": 0}),
        ("by_class", {"ridge": 0.0}),
        ("flow", {"transforms": 0}),
        ("flow", {"epochs": 0}),
        ("flow", {"lr": 0.0}),
        ("second_stage", {"dim": 0}),
        ("vamp", {"pseudo_inputs": 0}),
        ("autoregressive", {"layers": 0}),
        ("autoregressive", {"heads": 5}),
        ("autoregressive", {"patience": 0}),
    ],
)
def test_senseless_options_are_refused(name: str, options: dict[str, Any]) -> None:
    fits = {"vamp": "gaussian", "autoregressive": "vq"}
    net = model(LABELLED, bottleneck=BOTTLENECKS[fits.get(name, "deterministic")])
    with pytest.raises(UserError, match=rf"density {name}: {next(iter(options))} must be"):
        DENSITIES[name].func(net, **options)
