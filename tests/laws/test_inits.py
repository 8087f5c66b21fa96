"""How weights are drawn."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from instances import BOTTLENECKS, IMAGE
from torch import nn

from narrows.bottlenecks.gaussian import Gaussian
from narrows.corruptions import NoCorruption
from narrows.decoders.mlp import MLPDecoder
from narrows.encoders.conv import ConvEncoder
from narrows.errors import UserError
from narrows.likelihoods.elementwise import BernoulliLikelihood
from narrows.models.autoencoder import Autoencoder
from narrows.models.initial_weights import Init
from narrows.models.stages import Stages

STAGES = Stages(
    encoder=partial(ConvEncoder, channels=[64, 64]),
    bottleneck=BOTTLENECKS["gaussian"],
    decoder=partial(MLPDecoder, widths=[400], activation="gated"),
    likelihood=BernoulliLikelihood,
    corruption=NoCorruption,
)


VARIANCES: dict[str, Callable[[int, int], float]] = {
    "torch": lambda inputs, outputs: 1 / (3 * inputs),
    "glorot": lambda inputs, outputs: 2 / (inputs + outputs),
    "he": lambda inputs, outputs: 2 / inputs,
}


@pytest.mark.parametrize("init", VARIANCES)
def test_every_layer_has_the_variance_of_its_fans(init: Init) -> None:
    net = Autoencoder(IMAGE, STAGES, init=init)
    layers = [layer for layer in net.modules() if isinstance(layer, (nn.Linear, nn.Conv2d))]
    assert len(layers) == 5
    for layer in layers:
        outputs, inputs = layer.weight.shape[0], layer.weight[0].numel()
        outputs *= layer.weight[0, 0].numel()
        tolerance = 6 / layer.weight.numel() ** 0.5
        assert float(layer.weight.detach().square().mean()) == pytest.approx(
            VARIANCES[init](inputs, outputs), rel=tolerance
        )
    silent = [not layer.bias.any() for layer in layers]
    assert all(silent) if init == "glorot" else not any(silent)


def test_another_is_refused() -> None:
    with pytest.raises(UserError, match=r"model\.init must be torch, glorot or he, not 'zeros'"):
        Autoencoder(IMAGE, STAGES, init="zeros")  # type: ignore[arg-type]


def test_a_posterior_s_log_variance_is_held_in_its_range() -> None:
    free, held = Gaussian((7,), dim=30), Gaussian((7,), dim=30, log_variance=[-1.0, 0.5])
    held.load_state_dict(free.state_dict())
    h = 5 * torch.randn(40, 7)
    raw, inside = (2 * net.posterior(h).stddev.log() for net in (free, held))
    assert raw.min() < -1.5
    assert raw.max() > 1
    torch.testing.assert_close(inside, raw.clamp(-1.0, 0.5))
    torch.testing.assert_close(held(h).point, free(h).point)


@pytest.mark.parametrize("bounds", [[], [1.0], [2.0, -6.0], [1.0, 1.0], [0.0, 1.0, 2.0]])
def test_a_range_is_two_rising_numbers(bounds: list[float]) -> None:
    with pytest.raises(UserError, match=r"log_variance must be null or \[least, largest\]"):
        BOTTLENECKS["gaussian"]((7,), log_variance=bounds)
