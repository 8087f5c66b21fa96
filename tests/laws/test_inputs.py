"""Inputs: what the encoder sees, how masks follow, and which stages take examples of different lengths."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from instances import (
    BOTTLENECKS,
    CORRUPTIONS,
    COUNTS,
    DECODER,
    ENCODER,
    IMAGE,
    INPUTS,
    LIKELIHOODS,
    LOSSES,
    SERIES,
    TABLE,
    batch,
    model,
)
from torch import Tensor, nn

from narrows.corruptions import GaussianNoise, Masking, NoCorruption
from narrows.decoders.lstm import AutoregressiveLSTMDecoder
from narrows.encoders.lstm import LSTMEncoder
from narrows.encoders.mlp import MLPEncoder
from narrows.encoders.vit import ViTEncoder
from narrows.errors import UserError
from narrows.inputs import Input
from narrows.models.conditional import ConditionalAutoencoder
from narrows.models.stages import Stages
from narrows.models.vamp import VampAutoencoder, inside, outside
from narrows.types import Batch, DataSpec, within

SPECS = {"image": IMAGE, "series": SERIES, "vector": TABLE}


def gapped(spec: DataSpec) -> Batch:
    examples = batch(spec)
    examples.observed = torch.rand_like(examples.x) < 0.7
    examples.hidden = torch.rand_like(examples.x) < 0.3
    return examples


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
@pytest.mark.parametrize("name", INPUTS)
def test_an_input_gives_the_shape_it_says_and_so_does_its_mask(name: str, spec: DataSpec) -> None:
    built, examples = INPUTS[name](spec), gapped(spec)
    assert built(examples).shape == (6, *built.out_shape)
    assert examples.unseen is not None
    mask = built.mask(examples.unseen)
    assert mask is None or (mask.shape == (6, *built.out_shape) and mask.dtype == torch.bool)


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
@pytest.mark.parametrize("name", INPUTS)
def test_what_the_mask_leaves_does_not_depend_on_what_is_unseen(name: str, spec: DataSpec) -> None:
    built, examples = INPUTS[name](spec), gapped(spec)
    assert examples.unseen is not None
    mask = built.mask(examples.unseen)
    found = [built(replace(examples, x=examples.x.masked_fill(examples.unseen, fill))) for fill in (0.0, 9.0)]
    if mask is not None:
        found = [seen.masked_fill(mask, 0.0) for seen in found]
    assert torch.equal(*found)


@pytest.mark.parametrize("name", INPUTS)
def test_examples_do_not_mix(name: str) -> None:
    built, examples = INPUTS[name](SERIES), gapped(SERIES)
    alone = [built(Batch(x[None], observed=seen[None])) for x, seen in zip(examples.x, examples.observed, strict=True)]
    assert torch.equal(torch.cat(alone), built(replace(examples, hidden=None)))


def test_the_indicator_says_what_is_seen() -> None:
    examples = gapped(SERIES)
    seen = INPUTS["missing_indicator"](SERIES)(examples)
    assert torch.equal(seen[:, :2], examples.x)
    assert torch.equal(seen[:, 2:] == 1, ~examples.unseen)  # type: ignore[operator]
    assert (INPUTS["missing_indicator"](SERIES)(Batch(examples.x))[:, 2:] == 1).all()


@pytest.mark.parametrize(("name", "order"), [("l1_normalise", 1), ("l2_normalise", 2)])
def test_normalised_rows_have_norm_one_over_what_is_seen(name: str, order: int) -> None:
    examples = gapped(SERIES)
    assert examples.unseen is not None
    examples.x[0] = 0
    seen = INPUTS[name](SERIES)(examples)
    expected = examples.x * ~examples.unseen
    norms = expected.flatten(1).norm(order, dim=1)[:, None, None]
    torch.testing.assert_close(seen, torch.where(norms > 0, expected / norms, 0.0))
    assert (seen[0] == 0).all()


def test_log1p_is_finite_and_odd_below_zero_and_has_the_slope_of_counts_at_zero() -> None:
    x = torch.tensor([[-1e6, -1.5, -1.0, 0.0, 1.0, 1e5, 0.5]], requires_grad=True)
    seen = INPUTS["log1p"](DataSpec((7,), "counts", 9))(Batch(x))
    torch.testing.assert_close(seen, x.sign() * x.abs().log1p())
    (slope,) = torch.autograd.grad(seen.sum(), x)
    torch.testing.assert_close(slope, 1 / (1 + x.abs()))


def test_normalised_log1p_sees_rows_of_any_library_size_alike_and_those_of_the_usual_one_as_they_are() -> None:
    spec = replace(COUNTS, totals=(math.log(8.0), 0.5))
    plain, normalised = INPUTS["log1p"](spec), INPUTS["log1p"](spec, normalise=True)
    x = torch.tensor([[5.0, 0.0, 1.0, 2.0, 0.0, 0.0]]).double()
    for size in (0.25, 1.0, 1000.0):
        torch.testing.assert_close(normalised(Batch(size * x)), plain(Batch(x)))
    nothing = normalised(Batch(torch.zeros(1, 6)))
    assert torch.equal(nothing, torch.zeros(1, 6))
    # What is unseen has no say in the library size.
    seen = torch.tensor([[True, True, True, True, True, False]])
    hidden = normalised(Batch(x + torch.tensor([[0.0, 0.0, 0.0, 0.0, 0.0, 9.0]]), observed=seen))
    torch.testing.assert_close(hidden[:, :5], plain(Batch(x))[:, :5])
    for other in (TABLE, replace(spec, totals=None)):
        with pytest.raises(UserError, match=r"input log1p has normalise, .* use input\.normalise=false"):
            INPUTS["log1p"](other, normalise=True)


@pytest.mark.parametrize("name", ["log1p", "l1_normalise", "l2_normalise"])
def test_an_input_s_dropout_comes_after_it_in_training_alone_and_keeps_the_mean(name: str) -> None:
    torch.manual_seed(0)
    spec = DataSpec((2000,), "interactions", 9)
    dropping, examples = INPUTS[name](spec, dropout=0.75), Batch(torch.rand(4, 2000).round())
    plain = INPUTS[name](spec)(examples)
    dropped = dropping(examples)
    kept = dropped != 0
    torch.testing.assert_close(dropped[kept], 4 * plain[kept])
    assert kept.sum() / (plain != 0).sum() == pytest.approx(0.25, abs=0.05)
    assert torch.equal(dropping.eval()(examples), plain)
    with pytest.raises(UserError, match=f"input {name} needs dropout of at least 0 and below 1, not 1"):
        INPUTS[name](spec, dropout=1.0)


@pytest.mark.parametrize("name", INPUTS)
def test_every_parameter_learns_from_any_input(name: str) -> None:
    net = model(input=INPUTS[name], corruption=CORRUPTIONS["masking"])
    LOSSES["elbo"]()(net(gapped(IMAGE)), net).total.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in net.parameters())
    assert net.reconstruct(batch()).shape == batch().x.shape


def test_an_input_without_weights_leaves_no_trace_in_a_model_s_state() -> None:
    assert not [name for name in model(input=INPUTS["missing_indicator"]).state_dict() if name.startswith("input")]


def test_an_encoder_that_reads_masks_is_told_of_its_input_s_own() -> None:
    told: list[Tensor | None] = []

    class Spy(ViTEncoder):
        def forward(self, x: Tensor, hidden: Tensor | None = None) -> Tensor:
            told.append(hidden)
            return super().forward(x, hidden)

    net = model(
        replace(IMAGE, num_classes=3),
        encoder=partial(Spy, patch=4, width=8, heads=2, depth=1),
        bottleneck=BOTTLENECKS["deterministic"],
        input=INPUTS["missing_indicator"],
    )
    examples = gapped(IMAGE)
    net.encode(examples)
    net.encode(batch())
    assert told[0] is not None
    assert torch.equal(told[0][:, :1], examples.unseen)  # type: ignore[arg-type]
    assert not told[0][:, 1:].any(), "which values are missing is never hidden"
    assert told[1] is None


# ── beside an input that is no longer the data ──────────────────────────────────────────────────────────


class Looked(Input):
    """Token ids `[B, T]` to vectors `[B, 3, T]`."""

    takes_variable = True

    def __init__(self, spec: DataSpec) -> None:
        super().__init__(spec)
        self.out_shape = (3, *spec.shape)
        self.table = nn.Embedding(10, 3)

    def forward(self, batch: Batch) -> Tensor:
        return self.table(batch.x).movedim(-1, 1)

    def mask(self, unseen: Tensor) -> Tensor:
        return unseen[:, None].expand(-1, 3, -1)


TOKENS = DataSpec(shape=(7,), kind="tokens", size=9, num_classes=3, vocabulary=list("abcdefghij"))


def test_classes_stand_beside_what_an_input_makes_of_tokens() -> None:
    told = {"input": Looked, "likelihood": LIKELIHOODS["categorical"]}
    net = ConditionalAutoencoder(TOKENS, _stages(**told))
    assert net.seen_shape == (3 + 3, 7)
    examples = Batch(torch.randint(10, (4, 7)), label=torch.tensor([0, 1, 2, 2]))
    seen, _ = net.shown(examples)
    assert torch.equal(seen[:, 3:, 0], torch.eye(3)[examples.label])
    assert net.encode(examples).z.shape == (4, 5)
    with pytest.raises(UserError, match="classes beside tokens, which input Identity leaves as they are"):
        ConditionalAutoencoder(TOKENS, _stages(likelihood=LIKELIHOODS["categorical"]))


def _stages(**changed: Any) -> Stages:
    parts = {"encoder": ENCODER, "bottleneck": BOTTLENECKS["gaussian"], "decoder": DECODER}
    return Stages(**parts | {"likelihood": LIKELIHOODS["bernoulli"], "corruption": NoCorruption} | changed)


def test_kinds_that_a_stage_cannot_take_are_refused_by_name() -> None:
    with pytest.raises(UserError, match=r"corruption Masking takes data of kind image, .*vector, .*, not tokens"):
        Masking(TOKENS)
    assert NoCorruption(TOKENS)(Batch(torch.zeros(2, 7, dtype=torch.long)))[1] is None
    with pytest.raises(UserError, match="input missing_indicator puts 0 and 1 beside numbers, which tokens are not"):
        INPUTS["missing_indicator"](TOKENS)
    for name in ("log1p", "l1_normalise", "l2_normalise"):
        with pytest.raises(UserError, match=f"input {name} computes with numbers, which tokens are not"):
            INPUTS[name](TOKENS)


# ── examples of different lengths ───────────────────────────────────────────────────────────────────────

VARIABLE = replace(SERIES, variable=True)


RAGGED = {
    "encoder": partial(LSTMEncoder, hidden=5, bidirectional=True),
    "decoder": partial(AutoregressiveLSTMDecoder, hidden=5),
    "likelihood": LIKELIHOODS["gaussian_fixed"],
}


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("name", INPUTS)
def test_padding_changes_no_loss_no_gradient_and_no_latent(name: str, reverse: bool) -> None:
    stages = RAGGED | {"decoder": partial(AutoregressiveLSTMDecoder, hidden=5, reverse=reverse)}
    net = model(VARIABLE, input=INPUTS[name], bottleneck=BOTTLENECKS["deterministic"], **stages).double()
    short = Batch(torch.rand(3, 2, 5).double(), length=torch.tensor([5, 2, 4]))
    padded = replace(short, x=torch.cat([short.x, torch.full((3, 2, 4), 7.0)], 2))
    # Padding inside the shorter batch too: two of its examples are shorter than it is.
    other = replace(padded, x=padded.x.where(within(padded.length, padded.x), -3.0))  # type: ignore[arg-type]
    found = []
    for examples in (short, padded, other):
        net.zero_grad()
        out = net(examples)
        loss = LOSSES["reconstruction"]()(out, net).total
        loss.backward()
        gradients = [p.grad.flatten() for p in net.parameters() if p.grad is not None]
        found.append(torch.cat([loss.detach()[None], out.latent.z.detach().flatten(), *gradients]))
    for changed in found[1:]:
        torch.testing.assert_close(changed, found[0], rtol=1e-4, atol=1e-5)
    alone = [net(Batch(x[None, :, :steps])).log_likelihood for x, steps in zip(short.x, (5, 2, 4), strict=True)]
    torch.testing.assert_close(torch.cat(alone), net(padded).log_likelihood, rtol=1e-4, atol=1e-4)


def test_a_corruption_leaves_padding_alone_and_never_hides_it() -> None:
    examples = Batch(torch.rand(50, 2, 9) + 1, length=torch.randint(1, 9, (50,)))
    inside = torch.arange(9) < examples.length[:, None, None]  # type: ignore[index]
    for corruption in (Masking(VARIABLE, p=0.5), GaussianNoise(VARIABLE)):
        x_in, hidden = corruption(examples)
        assert torch.equal(x_in[~inside.expand_as(x_in)], examples.x[~inside.expand_as(x_in)])
        assert not torch.equal(x_in, examples.x)
        assert hidden is None or (bool(hidden.any()) and not hidden[~inside.expand_as(hidden)].any())


def test_stages_of_one_length_are_refused_by_name() -> None:
    built = model(VARIABLE, bottleneck=BOTTLENECKS["deterministic"], **RAGGED)
    assert built.reconstruct(Batch(torch.rand(2, 2, 5), length=torch.tensor([5, 3]))).shape == (2, 2, 5)
    fixed: dict[str, Any] = {
        "encoder": (partial(MLPEncoder, widths=[4]), "encoder MLPEncoder takes examples of one length"),
        "corruption": (CORRUPTIONS["block"], "corruption Block takes examples of one length"),
        "likelihood": (partial(Unsaid), "likelihood Unsaid takes examples of one length"),
        "input": (partial(Fixed), "input Fixed takes examples of one length"),
    }
    for stage, (build, sentence) in fixed.items():
        with pytest.raises(UserError, match=sentence):
            model(VARIABLE, **RAGGED | {stage: build})
    with pytest.raises(UserError, match="decoder MLPDecoder takes examples of one length"):
        model(VARIABLE, encoder=RAGGED["encoder"], likelihood=LIKELIHOODS["gaussian_fixed"])
    with pytest.raises(UserError, match="model vamp: learnt inputs have one length"):
        VampAutoencoder(VARIABLE, _stages(**RAGGED))


def test_a_tensor_of_examples_that_differ_in_length_is_refused() -> None:
    net = model(VARIABLE, bottleneck=BOTTLENECKS["deterministic"], **RAGGED)
    for method in (net.encode, net.embed, net.reconstruct, net.features, net.corrupted):
        with pytest.raises(UserError, match="differ in length, which a tensor does not say: give a Batch"):
            method(torch.rand(2, 2, 5))


class Unsaid(LIKELIHOODS["laplace"].func):  # type: ignore[misc,name-defined]
    takes_variable = False


class Fixed(Input):
    def forward(self, batch: Batch) -> Tensor:
        return batch.x


# ── ranges with one end ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("ends", [(0.0, float("inf")), (float("-inf"), 2.0), (-1.0, 3.0), None])
def test_free_values_are_held_inside_the_range_and_come_back(ends: tuple[float, float] | None) -> None:
    spec = DataSpec(shape=(5,), kind="counts", size=9, value_range=ends)
    raw = torch.linspace(-8, 8, 50).reshape(10, 5).double()
    held = inside(raw, spec)
    low, high = ends or (-float("inf"), float("inf"))
    assert bool(((held >= low) & (held <= high)).all())
    well_inside = raw[held.sub(low).minimum(high - held) > 0.3]
    expected = inside(well_inside, spec)
    torch.testing.assert_close(inside(outside(expected, spec), spec), expected)


def test_noise_and_specs_with_one_end() -> None:
    spec = DataSpec(shape=(50,), kind="counts", size=9, value_range=(0.0, float("inf")), totals=(2.5, 0.5))
    x = torch.zeros(20, 50)
    noisy, _ = GaussianNoise(spec, sigma=1.0)(Batch(x))
    assert noisy.min() == 0, "counts are never below 0"
    assert noisy.max() > 1
    assert spec.bounds is None
    assert spec.to_dict()["value_range"] == (0.0, None)
    assert DataSpec.from_dict(spec.to_dict()) == spec
    assert replace(spec, value_range=(0.0, 1.0)).bounds == (0.0, 1.0)


def test_a_spec_that_was_recorded_before_still_loads() -> None:
    recorded = IMAGE.to_dict()
    del recorded["variable"], recorded["totals"]
    assert DataSpec.from_dict(recorded | {"value_range": [0.0, 1.0]}) == IMAGE
