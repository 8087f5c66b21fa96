"""The lapped transform: orthonormal, inverted by its transpose, and what an untrained encoder and decoder are."""

from __future__ import annotations

import pytest
import torch

from narrows.bottlenecks import ResidualVQ
from narrows.decoders import LappedDecoder
from narrows.encoders import LappedEncoder
from narrows.layers.lapped_transforms import LappedAnalysis, LappedSynthesis, mdct


@pytest.mark.parametrize("hop", [2, 6, 16])
def test_rows_are_orthonormal_and_overlapping_halves_cancel(hop: int) -> None:
    """`P P' = I`, and rows of neighbouring frames are orthogonal."""
    rows = mdct(hop).double()
    torch.testing.assert_close(rows @ rows.T, torch.eye(hop, dtype=torch.float64), atol=1e-6, rtol=0)
    overlap = rows[:, hop:] @ rows[:, :hop].T
    torch.testing.assert_close(overlap, torch.zeros_like(overlap), atol=1e-6, rtol=0)


@pytest.mark.parametrize(("channels", "hop"), [(1, 8), (2, 4)])
def test_the_synthesis_inverts_the_analysis_but_for_half_a_hop_at_the_ends(channels: int, hop: int) -> None:
    x = torch.randn(3, channels, 6 * hop)
    analysis, synthesis = LappedAnalysis(channels, hop), LappedSynthesis(channels, hop)
    frames = analysis(x)
    assert frames.shape == (3, channels * hop, 6)
    back = synthesis(frames)
    inside = slice(hop // 2, -hop // 2)
    torch.testing.assert_close(back[..., inside], x[..., inside], atol=1e-5, rtol=0)
    assert not torch.allclose(back, x, atol=0.01)
    quiet = torch.zeros_like(x)
    quiet[..., hop:-hop] = x[..., hop:-hop]
    # What is silent at its ends keeps its energy.
    torch.testing.assert_close(analysis(quiet).square().sum(), quiet.square().sum(), atol=1e-3, rtol=0)


def test_an_untrained_codec_quantises_the_transform_itself() -> None:
    """Networks start as nothing and the linear map as the identity: with as many codes as frames all comes back."""
    x = torch.randn(2, 1, 48)
    encoder, bottleneck = LappedEncoder((1, 48), hop=8, width=4), ResidualVQ((8, 6), dim=8, codes=12, identity=True)
    decoder = LappedDecoder((8, 6), (1, 48), hop=8, width=4)
    with torch.no_grad():
        h = encoder(x)
        torch.testing.assert_close(bottleneck.projection(h), h)
        bottleneck.start(bottleneck(h))
        back = decoder(bottleneck(h).z)
    torch.testing.assert_close(back[..., 4:-4], x[..., 4:-4], atol=1e-4, rtol=0)


def test_sound_of_another_length_is_read_as_windows_are() -> None:
    """Away from its ends: a frame depends on the frames around it alone."""
    encoder = LappedEncoder((1, 64), hop=8, width=4, units=1)
    torch.nn.init.normal_(encoder.between.change[-1].weight)
    x = torch.randn(1, 1, 128)
    # A window's first frames read what stands before it: two convolutions of three frames.
    torch.testing.assert_close(encoder(x)[..., 5:11], encoder(x[..., 16:112])[..., 3:9], atol=1e-5, rtol=1e-4)
