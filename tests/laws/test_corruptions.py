"""What each corruption does to the input."""

from __future__ import annotations

import pytest
import torch
from instances import CORRUPTIONS, IMAGE, SERIES

from narrows import corruptions
from narrows.errors import UserError


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_it_hides_if_and_only_if_it_says_so(name: str) -> None:
    corruption = CORRUPTIONS[name](IMAGE)
    x = torch.rand(4, *IMAGE.shape)
    before = x.clone()
    x_in, hidden = corruption(x)
    assert (hidden is not None) == corruption.hides
    assert x_in.shape == x.shape
    assert torch.equal(x, before), "the clean input is the target: it must not change"
    assert torch.equal(x_in, x) == corruption.identity


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_equal_counters_give_equal_noise(name: str) -> None:
    corruption, x = CORRUPTIONS[name](IMAGE), torch.rand(4, *IMAGE.shape)
    draws = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        draws.append(corruption(x)[0])
    assert torch.equal(draws[0], draws[1])
    assert corruption.identity or not torch.equal(draws[0], draws[2])


def test_gaussian_noise_has_its_sigma_and_respects_the_range() -> None:
    x = torch.full((50, *IMAGE.shape), 0.5)
    noisy, _ = corruptions.GaussianNoise(IMAGE, sigma=0.5, clip=False)(x)
    assert (noisy - x).std().item() == pytest.approx(0.5, rel=0.05)
    clipped, _ = corruptions.GaussianNoise(IMAGE, sigma=0.5)(x)
    assert clipped.min() >= 0
    assert clipped.max() <= 1


def test_masking_hides_the_share_it_says() -> None:
    x = torch.rand(100, *IMAGE.shape) + 0.1
    masked, hidden = corruptions.Masking(IMAGE, p=0.3)(x)
    assert hidden.float().mean().item() == pytest.approx(0.3, abs=0.02)
    assert torch.equal(masked == 0, hidden)


def test_salt_and_pepper_in_equal_parts() -> None:
    x = torch.full((100, *IMAGE.shape), 0.5)
    noisy, _ = corruptions.SaltAndPepper(IMAGE, p=0.4)(x)
    assert (noisy == 0).float().mean().item() == pytest.approx(0.2, abs=0.02)
    assert (noisy == 1).float().mean().item() == pytest.approx(0.2, abs=0.02)


def test_salt_and_pepper_needs_a_range() -> None:
    with pytest.raises(UserError, match="smallest and a largest"):
        corruptions.SaltAndPepper(SERIES)


@pytest.mark.parametrize("p", [0.0, 1.0, -0.1])
@pytest.mark.parametrize("kind", [corruptions.Masking, corruptions.SaltAndPepper])
def test_shares_lie_inside_zero_and_one(kind: type, p: float) -> None:
    with pytest.raises(UserError, match=r"p must be in \(0, 1\)"):
        kind(IMAGE, p=p)
