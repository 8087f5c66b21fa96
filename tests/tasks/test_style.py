"""Figures of style whose answers are known, pairs, and the task beside its classics."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from tasks.standins import Rows, context

from narrows.bottlenecks import Deterministic
from narrows.corruptions import NoCorruption
from narrows.decoders import ConvDecoder
from narrows.encoders import ConvEncoder
from narrows.errors import UserError
from narrows.layers import FeatureNetwork
from narrows.likelihoods import GaussianLikelihood
from narrows.models import Autoencoder, Stages
from narrows.tasks import Style
from narrows.tasks.base import run_tasks
from narrows.tasks.classics.colour_transfers import COLOUR_TRANSFERS
from narrows.tasks.measures.style_figures import content_mse, gram, gram_at, gram_distance
from narrows.tasks.style import styles_of
from narrows.types import Batch, DataSpec

# ── figures ─────────────────────────────────────────────────────────────────────────────────────────────


def test_gram_distance_is_0_of_equals_and_1_of_nothing() -> None:
    style = [torch.randn(2, 4, 6, 5), torch.randn(2, 3, 2, 2)]
    assert gram_distance(style, style).tolist() == [0, 0]
    assert gram_distance([0 * layer for layer in style], style).tolist() == pytest.approx([1, 1])
    assert gram(torch.ones(1, 2, 3, 3)).tolist() == [[[1, 1], [1, 1]]]
    louder = gram_distance([3 * style[0]], [style[0]])
    assert louder.tolist() == pytest.approx([64, 64], rel=1e-5), "(9 - 1) squared"


def test_gram_distance_does_not_ask_where_things_are_and_content_error_does() -> None:
    maps = torch.randn(1, 4, 8, 8)
    moved = maps.roll((3, 2), (2, 3))
    assert gram_distance([moved], [maps]).item() == pytest.approx(0, abs=1e-10)
    assert content_mse(moved, maps).item() > 1
    assert content_mse(maps, maps).item() == 0
    assert content_mse(0.9 * maps, maps).item() == pytest.approx(0.01, rel=1e-4)


def test_a_periodic_picture_keeps_its_style_where_it_is_shifted() -> None:
    network = FeatureNetwork(layers=["stage1", "stage2"])
    tile = torch.rand(1, 3, 16, 16)
    picture = tile.repeat(1, 1, 6, 6)
    shifted, other = picture.roll((4, 8), (2, 3)), torch.rand(1, 3, 16, 16).repeat(1, 1, 6, 6)
    with torch.no_grad():
        seen = [network(x) for x in (picture, shifted, other)]
    same, unlike = gram_distance(seen[1], seen[0]).item(), gram_distance(seen[2], seen[0]).item()
    assert same < 0.1 * unlike, "edges alone differ"
    assert content_mse(seen[1][-1], seen[0][-1]).item() > 0.3


def test_the_curve_is_read_at_the_content_error_of_another() -> None:
    curve = [(0.2, 1.0), (0.4, 0.6), (0.8, 0.5)]
    assert gram_at(0.3, curve) == pytest.approx(0.8)
    assert gram_at(0.6, curve) == pytest.approx(0.55)
    assert gram_at(0.4, curve) == 0.6
    assert gram_at(9.0, curve) == 0.5, "no strength costs so much content"
    assert math.isnan(gram_at(0.1, curve)), "all cost more"
    assert gram_at(0.7, [(0.2, 1.0), (0.4, 0.6), (0.8, 0.9)]) == 0.6, "a weaker strength is the better answer"


def test_a_style_is_another_example_of_another_class() -> None:
    label = torch.tensor([0, 0, 0, 1, 1, 2])
    places = styles_of(label, 6, seed=3)
    assert (label[places] != label).all()
    assert torch.equal(places, styles_of(label, 6, seed=3))
    for alike in (None, torch.zeros(6, dtype=torch.long)):
        assert (styles_of(alike, 6, seed=0) != torch.arange(6)).all()


# ── classics ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", COLOUR_TRANSFERS)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_classic_leaves_a_picture_that_has_the_style_alone(name: str, channels: int) -> None:
    picture = np.random.default_rng(0).uniform(0.1, 0.9, (channels, 24, 20))
    np.testing.assert_allclose(COLOUR_TRANSFERS[name](picture, picture), picture, atol=1e-6)


def test_classics_have_what_they_take_of_the_style() -> None:
    random = np.random.default_rng(0)
    content, style = random.uniform(0.3, 0.5, (3, 40, 40)), random.uniform(0.4, 0.7, (3, 40, 40)) ** 2
    matched = COLOUR_TRANSFERS["histogram"](content, style)
    np.testing.assert_allclose(np.sort(matched.reshape(3, -1)), np.sort(style.reshape(3, -1)), atol=1e-3)
    moved = COLOUR_TRANSFERS["reinhard"](content, style)
    for own, wanted in ((moved.mean((1, 2)), style.mean((1, 2))), (moved.std((1, 2)), style.std((1, 2)))):
        np.testing.assert_allclose(own, wanted, atol=0.02)
    swapped = COLOUR_TRANSFERS["fourier"](content, style)
    assert swapped.mean((1, 2)) == pytest.approx(style.mean((1, 2)), abs=1e-3), "frequency 0 is the mean"
    grey = np.full((1, 8, 8), 0.2)
    assert COLOUR_TRANSFERS["reinhard"](grey, grey + 0.3) == pytest.approx(grey + 0.3)


# ── the task ────────────────────────────────────────────────────────────────────────────────────────────


def _data() -> Rows:
    torch.manual_seed(0)
    x = torch.rand(12, 3, 1, 1) * 0.6 + 0.2 + 0.1 * torch.randn(12, 3, 32, 32)
    label = torch.arange(12) % 3
    splits = {name: Batch(x.clamp(0, 1), label=label) for name in ("train", "validation", "test")}
    return Rows(splits, kind="image", value_range=(0.0, 1.0), num_classes=3)


def _model(data: Rows) -> Autoencoder:
    stages = Stages(
        partial(ConvEncoder, channels=[16], flatten=False),
        partial(Deterministic, dim=12),
        partial(ConvDecoder, channels=[16]),
        GaussianLikelihood,
        NoCorruption,
    )
    return Autoencoder(data.spec, stages)


SMALL = {"features": partial(FeatureNetwork, layers=["stem", "stage1"]), "strengths": [0.5, 1.0], "max_examples": 6}


def test_the_task_judges_every_strength_and_classic_and_draws(tmp_path: Path) -> None:
    data = _data()
    judged = context(_model(data), data)
    judged.directory = tmp_path
    found = run_tasks({"style": Style(**SMALL)}, judged)  # type: ignore[arg-type]
    assert found["test/style/gram_distance"] == found["test/style/strength_1/gram_distance"]
    assert found["test/style/strength_0.5/content_mse"] != found["test/style/content_mse"]
    for name in COLOUR_TRANSFERS:
        assert {f"test/style/{name}/{key}" for key in ("gram_distance", "content_mse", "artfid")} <= set(found)
    assert found["test/style/histogram/gram_distance"] < 0.3 * found["test/style/content/gram_distance"]
    assert "at_histogram" not in str(list(found)), "an untrained decoder loses more content than any classic"
    assert any("already" in said for said in judged.warnings)
    assert {path.stem for path in (tmp_path / "figures").iterdir()} == {"style", "style_trade_off"}
    again = run_tasks({"style": Style(**SMALL)}, context(judged.model, data))  # type: ignore[arg-type]
    assert again == found


def test_another_network_gives_its_name(tmp_path: Path) -> None:
    data = _data()
    options = SMALL | {"features": partial(FeatureNetwork, layers=["stem"], size=48)}
    found = run_tasks({"style": Style(**options)}, context(_model(data), data))  # type: ignore[arg-type]
    assert "test/style/gram_distance_efficientnet_lite0_48" in found
    assert "test/style/gram_distance" not in found


def test_what_has_no_style_is_left_out_and_options_are_refused() -> None:
    row = DataSpec((4,), "vector", 10)
    assert "style is of pictures" in str(Style().fits(row, _Latent(row)))  # type: ignore[arg-type]
    for options, sentence in (
        ({"strengths": [0.0]}, "strengths must be above 0 and at most 1"),
        ({"strengths": []}, "strengths must be above 0"),
        ({"method": "gatys"}, "unknown method 'gatys'"),
        ({"max_examples": 1}, "max_examples must be at least 2"),
    ):
        with pytest.raises(UserError, match=sentence):
            Style(**options)  # type: ignore[arg-type]


class _Latent:
    def __init__(self, spec: DataSpec) -> None:
        self.spec = spec
