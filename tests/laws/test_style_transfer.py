"""Statistics that are matched are the style's, and what is the same picture stays it."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from narrows.bottlenecks import Deterministic, Gaussian, VectorQuantizer
from narrows.corruptions import NoCorruption
from narrows.decoders import ConvDecoder, MLPDecoder, ResNetDecoder
from narrows.encoders import ConvEncoder, FeatureEncoder, MLPEncoder, ResNetEncoder
from narrows.errors import UserError
from narrows.layers import FeatureNetwork
from narrows.layers.feature_statistics import METHODS, adain, transport, wct
from narrows.likelihoods import GaussianLikelihood
from narrows.models import Autoencoder, Stages, StyleTransfer
from narrows.models.any_size import side_multiples
from narrows.types import DataSpec

PICTURES = DataSpec((3, 16, 16), "image", 10, value_range=(0.0, 1.0))
STAGES = {
    "conv": (
        partial(ConvEncoder, channels=[6, 8], activation="elu", flatten=False),
        partial(Deterministic, dim=5),
        partial(ConvDecoder, channels=[8, 6]),
    ),
    "resnet": (
        partial(ResNetEncoder, channels=[8, 8], blocks=1, flatten=False),
        partial(Gaussian, dim=5),
        partial(ResNetDecoder, channels=[8, 8], blocks=1, upsample="nearest"),
    ),
    "codes": (
        partial(ConvEncoder, channels=[6, 8], flatten=False),
        partial(VectorQuantizer, dim=5, codes=8),
        partial(ConvDecoder, channels=[8, 6]),
    ),
    "frozen": (
        partial(FeatureEncoder, network=partial(FeatureNetwork, layers=["stem"])),
        partial(Deterministic, dim=None),
        partial(ConvDecoder, channels=[8, 6]),
    ),
}


def built(name: str) -> Autoencoder:
    return Autoencoder(PICTURES, Stages(*STAGES[name], GaussianLikelihood, NoCorruption)).eval()


def maps(channels: int = 4) -> tuple[Tensor, Tensor]:
    """Correlated channels of two pictures of different sizes."""
    content, style = torch.randn(2, channels, 7, 9), torch.randn(2, channels, 11, 6)
    mix = torch.randn(channels, channels)
    return content, 3 * torch.einsum("cd,bdhw->bchw", mix, style) + 2


def covariance(x: Tensor) -> Tensor:
    return torch.stack([torch.cov(each.double().flatten(1), correction=0) for each in x])


def test_after_adain_each_channel_has_the_mean_and_deviation_of_the_style() -> None:
    content, style = maps()
    found = adain(content, style)
    torch.testing.assert_close(found.mean((2, 3)), style.mean((2, 3)), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.std((2, 3), correction=0), style.std((2, 3), correction=0), rtol=1e-4, atol=1e-4)
    whitened = (content - content.mean((2, 3), keepdim=True)) / content.std((2, 3), keepdim=True)
    again = (found - found.mean((2, 3), keepdim=True)) / found.std((2, 3), keepdim=True)
    torch.testing.assert_close(again, whitened, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("match", [wct, transport])
def test_after_the_others_channels_have_the_covariance_of_the_style(match: object) -> None:
    content, style = maps()
    found = match(content, style)  # type: ignore[operator]
    torch.testing.assert_close(covariance(found), covariance(style), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.mean((2, 3)), style.mean((2, 3)), rtol=1e-4, atol=1e-4)


def test_transport_moves_the_content_least() -> None:
    content, style = maps()
    moved = {name: (METHODS[name](content, style) - content).square().mean() for name in ("wct", "transport")}
    assert moved["transport"] < moved["wct"]


@pytest.mark.parametrize("name", METHODS)
def test_a_channel_without_variance_gives_no_noise(name: str) -> None:
    content, style = maps()
    content[:, 1] = 0.3
    found = METHODS[name](content, style)
    assert found.isfinite().all()
    torch.testing.assert_close(found.mean((2, 3)), style.mean((2, 3)), rtol=1e-3, atol=1e-3)
    flat = METHODS[name](torch.zeros_like(content), style)
    torch.testing.assert_close(flat, style.mean((2, 3), keepdim=True).expand_as(flat), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", STAGES)
def test_strength_0_and_content_as_style_are_the_plain_reconstruction(name: str) -> None:
    model, content, style = built(name), torch.rand(2, 3, 16, 16), torch.rand(1, 3, 16, 16)
    plain = model.reconstruct(content)
    for method in METHODS:
        transfer = StyleTransfer(model, method)
        assert torch.equal(transfer(content, style, 0.0), plain)
        if name != "codes":  # untrained, all of them are one
            assert (transfer(content, style, 1.0) - plain).abs().max() > 1e-4
        for strength in (0.4, 1.0):
            torch.testing.assert_close(transfer(content, content, strength), plain, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_the_latent_has_the_statistics_of_the_style_s(method: str) -> None:
    model, content, style = built("conv"), torch.rand(2, 3, 16, 16), torch.rand(1, 3, 24, 20)
    transfer = StyleTransfer(model, method, ["latent"])
    read: list[Tensor] = []
    handle = model.decoder.register_forward_pre_hook(lambda _, given: read.append(given[0]))
    transfer(content, style, 1.0)
    handle.remove()
    wanted, found = model.encode(style).point, read[-1]
    torch.testing.assert_close(found.mean((2, 3)), wanted.mean((2, 3)).expand(2, -1), rtol=1e-3, atol=1e-4)
    spread = [covariance(x) if method != "adain" else x.std((2, 3), correction=0).double() for x in (found, wanted)]
    torch.testing.assert_close(spread[0], spread[1].expand_as(spread[0]), rtol=1e-2, atol=1e-5)


@pytest.mark.parametrize("name", STAGES)
def test_pictures_may_have_any_size(name: str) -> None:
    model = built(name)
    assert side_multiples(model) == (4, 4)
    transfer = StyleTransfer(model)
    assert transfer(torch.rand(1, 3, 19, 30), torch.rand(1, 3, 21, 17), 0.7).shape == (1, 3, 19, 30)
    with pytest.raises(UserError, match=r"pictures of shape \[1, 20, 20\] do not fit a run of \[3, 16, 16\]"):
        transfer(torch.rand(1, 1, 20, 20), torch.rand(1, 3, 16, 16), 1.0)


def test_layers_are_where_the_map_changes_its_size() -> None:
    for name in ("conv", "resnet"):
        every = ["encoder1", "encoder2", "latent", "decoder1", "decoder2"]
        transfer = StyleTransfer(built(name), layers=every)
        found = transfer.features(torch.rand(1, 3, 16, 16))
        assert {key: tuple(h.shape[2:]) for key, h in found.items()} == dict(
            zip(every, [(8, 8), (4, 4), (4, 4), (4, 4), (8, 8)], strict=True)
        )
    with pytest.raises(UserError, match="no layer 'encoder1'"):  # within a frozen network nothing is matched
        StyleTransfer(built("frozen"), layers=["encoder1"])
    assert StyleTransfer(built("frozen")).layers == ["latent"]


def test_what_has_no_style_is_refused_in_one_sentence() -> None:
    model = built("conv")
    with pytest.raises(UserError, match="no layer 'encoder3' to match: did you mean"):
        StyleTransfer(model, layers=["encoder3"])
    with pytest.raises(UserError, match="unknown method 'adaim': did you mean 'adain'"):
        StyleTransfer(model, "adaim")
    vector = Stages(MLPEncoder, Gaussian, MLPDecoder, GaussianLikelihood, NoCorruption)
    with pytest.raises(UserError, match=r"its latent is a vector, \[8\], which has no statistics over positions"):
        StyleTransfer(Autoencoder(PICTURES, vector))
    row = DataSpec((4,), "vector", 10)
    with pytest.raises(UserError, match="its data are vector, and style is of pictures"):
        StyleTransfer(Autoencoder(row, vector))
