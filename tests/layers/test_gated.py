"""The gated layer against its equation."""

from __future__ import annotations

import torch

from narrows.decoders.mlp import MLPDecoder
from narrows.encoders.mlp import MLPEncoder


def test_a_gated_layer_is_its_equation() -> None:
    encoder = MLPEncoder((2, 3), widths=[5, 4], activation="gated")
    x = torch.randn(7, 2, 3)
    h = x.flatten(1)
    for block in encoder.blocks:
        (W, V), (b, c) = block[0].weight.chunk(2), block[0].bias.chunk(2)
        h = (h @ W.T + b) * torch.sigmoid(h @ V.T + c)
    assert encoder.out_shape == (4,)
    torch.testing.assert_close(encoder(x), h)


def test_a_gate_that_is_open_leaves_the_line_and_a_closed_one_nothing() -> None:
    decoder = MLPDecoder((3,), (6,), widths=[4], activation="gated")
    z = torch.randn(2, 3)
    linear = decoder.blocks[0][0]
    with torch.no_grad():
        linear.bias[4:] = 50.0
    torch.testing.assert_close(decoder.blocks[0](z), linear(z)[:, :4])
    with torch.no_grad():
        linear.bias[4:] = -50.0
    assert decoder.blocks[0](z).abs().max() < 1e-15
