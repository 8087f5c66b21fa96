"""Regularised autoencoders: norms of latents and weights, and the decoder's Jacobian."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from instances import BOTTLENECKS, LIKELIHOODS, batch, model

from narrows.decoders.conv import ConvDecoder
from narrows.encoders.conv import ConvEncoder
from narrows.errors import UserError
from narrows.losses.geometry import DecoderContraction
from narrows.losses.norms import DecoderNorm, LatentNorm


def test_the_latent_s_norm_and_its_gradient_once() -> None:
    """field.md 3: RAE_L2's encoder gradient doubled."""
    net = model(bottleneck=BOTTLENECKS["deterministic"])
    out = net(batch())
    value = LatentNorm()(out, net)
    torch.testing.assert_close(value, torch.stack([0.5 * sum(v**2 for v in row) for row in out.latent.z]))
    (slope,) = torch.autograd.grad(value.sum(), out.latent.z)
    torch.testing.assert_close(slope, out.latent.z)


def test_the_decoder_s_norm_is_of_its_parameters_alone() -> None:
    net = model(bottleneck=BOTTLENECKS["deterministic"])
    value = DecoderNorm()(net(batch()), net)
    assert value.item() == pytest.approx(
        sum(float((p.detach() ** 2).sum()) for p in net.decoder.parameters()), rel=1e-5
    )
    value.backward()
    assert all(p.grad is None for p in [*net.encoder.parameters(), *net.bottleneck.parameters()])
    for p in net.decoder.parameters():
        torch.testing.assert_close(p.grad, 2 * p.detach())


def test_the_norm_may_be_of_the_convolutions_kernels_alone() -> None:
    net = model(
        bottleneck=BOTTLENECKS["deterministic"],
        encoder=partial(ConvEncoder, channels=[4, 6]),
        decoder=partial(ConvDecoder, channels=[6, 4], norm="batch"),
    )
    term = DecoderNorm(parameters="kernels")
    term.attach(net)
    term(net(batch()), net).backward()
    for name, p in net.decoder.named_parameters():
        if p.ndim == 4:
            torch.testing.assert_close(p.grad, 2 * p.detach())
        else:
            assert p.grad is None, name


def test_kernels_of_a_decoder_without_any_are_refused() -> None:
    with pytest.raises(UserError, match="MLPDecoder has no convolutions whose kernels could be penalised"):
        DecoderNorm(parameters="kernels").attach(model())
    with pytest.raises(UserError, match="parameters must be all or kernels, not 'biases'"):
        DecoderNorm(parameters="biases")  # type: ignore[arg-type]


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian_fixed"])
def test_decoder_contraction_is_the_jacobian_exactly_and_on_average(likelihood: str) -> None:
    net = model(bottleneck=BOTTLENECKS["deterministic"], likelihood=LIKELIHOODS[likelihood])
    out = net(batch(n=3))

    def mean(z: torch.Tensor) -> torch.Tensor:
        return net.decode(z[None]).mean[0]

    rows = [torch.autograd.functional.jacobian(mean, z).square().sum() for z in out.latent.z.detach()]
    expected = torch.stack(rows)
    torch.testing.assert_close(DecoderContraction(method="exact")(out, net), expected)
    draws = torch.stack([DecoderContraction(samples=20)(out, net).detach() for _ in range(100)])
    assert ((draws.mean(0) - expected).abs() < 5 * draws.std(0) / math.sqrt(100) + 1e-7).all()


def test_decoder_contraction_moves_the_decoder_and_leaves_the_encoder() -> None:
    net = model(bottleneck=BOTTLENECKS["deterministic"])
    DecoderContraction()(net(batch()), net).mean().backward()
    assert all(p.grad is None for p in net.encoder.parameters())
    assert any(p.grad is not None and p.grad.any() for p in net.decoder.parameters())
    with torch.no_grad():
        assert not DecoderContraction()(net(batch()), net).requires_grad


def test_senseless_options_are_refused() -> None:
    with pytest.raises(UserError, match="DecoderContraction: method must be"):
        DecoderContraction(method="forward")
    with pytest.raises(UserError, match="samples must be at least 1"):
        DecoderContraction(samples=0)
