"""The U-Net: sizes that meet, and no way from x to p(x|z) but z."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from instances import IMAGE, batch, model
from torch import nn

from narrows.bottlenecks.deterministic import Deterministic
from narrows.decoders.unet import UNetDecoder
from narrows.encoders.unet import UNetEncoder
from narrows.layers.attention import MapAttention
from narrows.models.autoencoder import Autoencoder

CHANNELS = [8, 12]


def unet(flatten: bool, dim: int) -> Autoencoder:
    return model(
        encoder=partial(UNetEncoder, channels=CHANNELS, flatten=flatten, attention=True),
        decoder=partial(UNetDecoder, channels=CHANNELS[::-1], attention=True),
        bottleneck=partial(Deterministic, dim=dim),
    ).double()


@pytest.mark.parametrize("flatten", [True, False], ids=["vector", "map"])
def test_fixed_z_gives_the_same_whatever_was_encoded(flatten: bool) -> None:
    net, examples = unet(flatten, dim=2).eval(), batch()
    x, other = examples.x.double(), torch.rand_like(examples.x.double())
    z = net.encode(x).point
    before = net.decode(z).mean
    net.encode(other)
    assert torch.equal(net.decode(z).mean, before)
    assert not torch.equal(net.reconstruct(other), before)


@pytest.mark.parametrize("flatten", [True, False], ids=["vector", "map"])
def test_the_reconstruction_has_no_more_directions_than_the_latent(flatten: bool) -> None:
    net = unet(flatten, dim=2).eval()
    x = torch.rand(1, *IMAGE.shape, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda v: net.decode(net.encode(v).point).mean, x).reshape(64, 64)
    values = torch.linalg.svdvals(jacobian)
    size = 2 if flatten else 8
    assert values[size - 1] > 1e-9 * values[0]
    assert (values[size:] < 1e-12 * values[0]).all(), "a skip from the encoder would leak here"


def test_every_size_reads_the_latent_itself() -> None:
    net = UNetDecoder((3,), IMAGE.shape, channels=[8, 6, 4]).eval()
    z = torch.randn(2, 3)
    whole = net(z)
    for skip in net.skips:
        kept = [parameter.clone() for parameter in skip.parameters()]
        with torch.no_grad():
            for parameter in skip.parameters():
                parameter.zero_()
            assert not torch.allclose(net(z), whole)
            for parameter, value in zip(skip.parameters(), kept, strict=True):
                parameter.copy_(value)
    assert [skip(z).shape[1:] for skip in net.skips] == [(8, 2, 2), (6, 4, 4), (4, 8, 8)]


def test_attention_is_over_the_positions_of_a_map() -> None:
    layer = MapAttention(8, "group", "it").double()
    x = torch.randn(2, 8, 3, 4, dtype=torch.float64)
    out = layer(x)
    order = torch.randperm(12)
    moved = layer(x.flatten(2)[..., order].view_as(x))
    torch.testing.assert_close(moved.flatten(2), out.flatten(2)[..., order])
    nn.init.zeros_(layer.attention.output.weight)
    nn.init.zeros_(layer.attention.output.bias)
    assert torch.equal(layer(x), x)
