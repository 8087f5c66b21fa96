"""Convolutional backbones: sizes, batch norm on a single value, and two published networks."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from narrows.decoders.conv import ConvDecoder
from narrows.decoders.resnet import ResNetDecoder
from narrows.encoders.conv import ConvEncoder
from narrows.encoders.resnet import ResNetEncoder
from narrows.layers.blocks import BatchNorm
from narrows.types import Shape

HALVES: dict[str, tuple[Any, Any, dict[str, Any], dict[str, Any]]] = {
    "conv": (ConvEncoder, ConvDecoder, {}, {}),
    "conv_other": (
        ConvEncoder,
        ConvDecoder,
        {"downsample": "maxpool", "kernel_size": 5},
        {"upsample": "nearest", "kernel_size": 5},
    ),
    "resnet": (ResNetEncoder, ResNetDecoder, {"blocks": 1}, {"blocks": 1}),
    "resnet_other": (
        ResNetEncoder,
        ResNetDecoder,
        {"blocks": 1, "norm": "batch"},
        {"blocks": 1, "norm": "batch", "upsample": "nearest"},
    ),
}
SHAPES: list[Shape] = [
    *[(1 + 2 * (side % 2), side, side) for side in range(8, 34)],
    *[(1 + 2 * (side // 2 % 2), side, 41 - side) for side in range(8, 34, 3)],
    *[(channels, steps) for channels in (1, 3) for steps in (8, 33, 140)],
]


@pytest.mark.parametrize("name", HALVES)
@pytest.mark.parametrize("stages", [1, 2, 3])
def test_both_halves_meet_at_every_size(name: str, stages: int) -> None:
    encoder_class, decoder_class, of_encoder, of_decoder = HALVES[name]
    channels = [4, 5, 6][:stages]
    for shape in SHAPES:
        x = torch.randn(2, *shape)
        small = tuple(math.ceil(side / 2**stages) for side in shape[1:])
        for flatten in (True, False):
            encoder = encoder_class(shape, channels=channels, flatten=flatten, **of_encoder)
            h = encoder(x)
            expected = (channels[-1], *small)
            assert encoder.out_shape == ((math.prod(expected),) if flatten else expected)
            assert tuple(h.shape[1:]) == encoder.out_shape
            decoder = decoder_class(encoder.out_shape, shape, channels=channels[::-1], **of_decoder)
            assert decoder(h).shape == x.shape


@pytest.mark.parametrize("name", HALVES)
def test_the_most_halvings_named_fit(name: str) -> None:
    encoder_class, decoder_class, of_encoder, of_decoder = HALVES[name]
    for side in (8, 9, 16, 17):
        most = math.ceil(math.log2(side))
        encoder = encoder_class((1, side, 40), channels=[4] * most, **of_encoder)
        assert encoder(torch.randn(2, 1, side, 40)).shape[1:] == encoder.out_shape
        decoder = decoder_class((3,), (1, side, 40), channels=[4] * most, **of_decoder)
        assert decoder(torch.randn(2, 3)).shape == (2, 1, side, 40)
        with pytest.raises(ValueError, match=rf"{side} x 40 can be halved at most {most} times"):
            encoder_class((1, side, 40), channels=[4] * (most + 1), **of_encoder)
        with pytest.raises(ValueError, match=rf"{side} x 40 can be halved at most {most} times"):
            decoder_class((3,), (1, side, 40), channels=[4] * (most + 1), **of_decoder)


def parameters(*modules: nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


def test_the_keras_tutorial_networks_can_be_expressed() -> None:
    """https://blog.keras.io/building-autoencoders-in-keras.html: 4,385 and 28,353 parameters."""
    shape = (1, 28, 28)
    encoder = ConvEncoder(shape, channels=[16, 8, 8], downsample="maxpool", flatten=False)
    assert encoder.out_shape == (8, 4, 4)
    decoder = ConvDecoder(encoder.out_shape, shape, channels=[8, 8, 16], upsample="nearest")
    assert parameters(encoder, decoder) == 4385
    encoder = ConvEncoder(shape, channels=[32, 32], downsample="maxpool", flatten=False)
    assert encoder.out_shape == (32, 7, 7)
    decoder = ConvDecoder(encoder.out_shape, shape, channels=[32, 32], upsample="nearest")
    assert parameters(encoder, decoder) == 28353


def test_batch_norm_is_torchs_where_torch_works() -> None:
    ours, theirs = BatchNorm(3), nn.BatchNorm2d(3)
    x = torch.randn(4, 3, 5, 6)
    torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(ours(x[:1]), theirs(x[:1]))
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict())
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))


def test_batch_norm_of_one_value_uses_and_keeps_the_running_statistics() -> None:
    norm = BatchNorm(3)
    norm(torch.randn(50, 3) * 2 + 1)
    before = {key: value.clone() for key, value in norm.state_dict().items()}
    x = torch.randn(1, 3, requires_grad=True)
    out = norm(x)
    expected = (x - norm.running_mean) / (norm.running_var + norm.eps).sqrt()
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(norm.state_dict(), before)
    norm(torch.randn(8, 3))  # moves the statistics before the backward of the single value
    (gradient,) = torch.autograd.grad(out.sum(), x)
    torch.testing.assert_close(gradient, (before["running_var"] + norm.eps).rsqrt()[None])
