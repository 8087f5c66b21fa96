"""Generalised divisive normalisation: its formula, its inverse, and parameters that never leave their range."""

from __future__ import annotations

import pytest
import torch

from narrows.decoders import ConvDecoder, ResNetDecoder, UNetDecoder
from narrows.encoders import ConvEncoder, MLPEncoder, ResNetEncoder, UNetEncoder
from narrows.errors import UserError
from narrows.layers import GDN
from narrows.layers.bounds import at_least, between

SHAPES = [(3,), (3, 5), (3, 4, 2)]


def set_to(layer: GDN, beta: torch.Tensor, gamma: torch.Tensor) -> GDN:
    """The layer with these parameters, by what it learns."""
    with torch.no_grad():
        layer.root_beta.copy_((beta + 2.0**-36).sqrt())
        layer.root_gamma.copy_((gamma + 2.0**-36).sqrt())
    return layer


@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_the_papers_formula_at_every_position(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, *shape, dtype=torch.float64)
    beta, gamma = torch.rand(3).double() + 0.1, torch.rand(3, 3).double()
    for inverse in (False, True):
        found = set_to(GDN(3, inverse=inverse).double(), beta, gamma)(x)
        for i in range(3):
            root = (beta[i] + sum(gamma[i, j] * x[:, j] ** 2 for j in range(3))).sqrt()
            torch.testing.assert_close(found[:, i], x[:, i] * root if inverse else x[:, i] / root)


def test_it_starts_as_published_near_the_identity() -> None:
    layer = GDN(4)
    torch.testing.assert_close(layer.beta, torch.ones(4))
    torch.testing.assert_close(layer.gamma, 0.1 * torch.eye(4), atol=1e-9, rtol=0)
    x = 0.1 * torch.randn(50, 4)
    torch.testing.assert_close(layer(x), x, atol=0, rtol=1e-2)


@torch.no_grad()
def test_the_inverse_undoes_it_to_first_order() -> None:
    """One step of the fixed-point iteration, so that halving gamma quarters what is missing; the whole iteration gives
    x back."""
    torch.manual_seed(0)
    x, beta, gamma = torch.randn(200, 3).double(), torch.ones(3).double(), torch.rand(3, 3).double()
    missing = []
    for scale in (0.002, 0.001):
        there = set_to(GDN(3).double(), beta, scale * gamma)(x)
        back = set_to(GDN(3, inverse=True).double(), beta, scale * gamma)(there)
        missing.append(float((back - x).abs().max()))
    assert 1e-6 < missing[0] < 0.01
    assert missing[1] / missing[0] == pytest.approx(0.25, rel=0.1)
    there = found = set_to(GDN(3).double(), beta, 0.02 * gamma)(x)
    for _ in range(200):
        found = there * (beta + found.square() @ (0.02 * gamma).T).sqrt()
    torch.testing.assert_close(found, x)


@pytest.mark.parametrize("inverse", [False, True])
def test_parameters_stay_in_their_range_under_any_step_and_come_back(inverse: bool) -> None:
    torch.manual_seed(0)
    layer = GDN(3, inverse=inverse)
    optimizer = torch.optim.SGD(layer.parameters(), lr=5.0)
    x = torch.randn(40, 3, 4)
    for sign in (1, -1):
        for _ in range(5):
            optimizer.zero_grad()
            # The output's size pushes all parameters down in one direction, and up in the other.
            (sign * layer(x).square().mean()).backward()
            assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())
            optimizer.step()
            assert layer.beta.min() >= 0.99e-6
            assert layer.gamma.min() >= 0
            assert layer(x).isfinite().all()
    layer.root_gamma.data.fill_(-3.0)
    assert (layer.gamma == 0).all()
    before = layer.root_gamma.detach().clone()
    target = layer.gamma.sum()
    optimizer.zero_grad()
    target.neg().backward()
    optimizer.step()
    assert (layer.root_gamma > before).all(), "a gradient that would raise it passes below the bound"


def test_a_bound_passes_gradients_that_lead_back_and_no_others() -> None:
    x = torch.tensor([-2.0, 0.5, 3.0], requires_grad=True)
    for sign, expected in ((1.0, [0.0, 1.0, 1.0]), (-1.0, [-1.0, -1.0, 0.0])):
        (slope,) = torch.autograd.grad((sign * between(x, 0.0, 1.0)).sum(), x)
        assert slope.tolist() == expected
    assert between(x, 0.0, 1.0).tolist() == [0.0, 0.5, 1.0]
    with torch.no_grad():
        assert torch.equal(at_least(x, 0.0), x.clamp_min(0.0))


def test_half_precision_holds_squares_that_it_cannot_hold_itself() -> None:
    x = torch.full((1, 2), 3e4, dtype=torch.float16)
    found = GDN(2).half()(x)
    assert found.dtype == torch.float16
    torch.testing.assert_close(found.float(), torch.full((1, 2), 10**0.5), atol=0.01, rtol=0)


def test_decoders_have_the_inverse_and_encoders_the_forward_one() -> None:
    options = {"channels": [4, 4], "activation": "gdn"}
    halves = [
        *[(encoder((1, 8, 8), **options), False) for encoder in (ConvEncoder, ResNetEncoder, UNetEncoder)],
        *[(decoder((5,), (1, 8, 8), **options), True) for decoder in (ConvDecoder, ResNetDecoder, UNetDecoder)],
    ]
    for half, inverse in halves:
        found = [layer.inverse for layer in half.modules() if isinstance(layer, GDN)]
        assert found, type(half).__name__
        assert set(found) == {inverse}, type(half).__name__


def test_what_has_no_maps_refuses_it_by_name() -> None:
    with pytest.raises(UserError, match="encoder mlp has no activation 'gdn'"):
        MLPEncoder((5,), widths=[4], activation="gdn")
    with pytest.raises(UserError, match=r"encoder conv has no activation 'gnd': did you mean 'gdn'\?"):
        ConvEncoder((1, 8, 8), activation="gnd")
