"""What each corruption does to the input."""

from __future__ import annotations

import pytest
import torch
from instances import CORRUPTIONS, IMAGE, SERIES

from narrows import corruptions
from narrows.errors import UserError
from narrows.types import Batch, DataSpec


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_it_hides_if_and_only_if_it_says_so(name: str) -> None:
    corruption = CORRUPTIONS[name](IMAGE)
    x = torch.rand(4, *IMAGE.shape)
    before = x.clone()
    x_in, hidden = corruption(Batch(x))
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
        draws.append(corruption(Batch(x))[0])
    assert torch.equal(draws[0], draws[1])
    assert corruption.identity or not torch.equal(draws[0], draws[2])


def test_gaussian_noise_has_its_sigma_and_respects_the_range() -> None:
    x = torch.full((50, *IMAGE.shape), 0.5)
    noisy, _ = corruptions.GaussianNoise(IMAGE, sigma=0.5, clip=False)(Batch(x))
    assert (noisy - x).std().item() == pytest.approx(0.5, rel=0.05)
    clipped, _ = corruptions.GaussianNoise(IMAGE, sigma=0.5)(Batch(x))
    assert clipped.min() >= 0
    assert clipped.max() <= 1


def test_masking_hides_the_share_it_says() -> None:
    x = torch.rand(100, *IMAGE.shape) + 0.1
    masked, hidden = corruptions.Masking(IMAGE, p=0.3)(Batch(x))
    assert hidden.float().mean().item() == pytest.approx(0.3, abs=0.02)
    assert torch.equal(masked == 0, hidden)


def test_salt_and_pepper_in_equal_parts() -> None:
    x = torch.full((100, *IMAGE.shape), 0.5)
    noisy, _ = corruptions.SaltAndPepper(IMAGE, p=0.4)(Batch(x))
    assert (noisy == 0).float().mean().item() == pytest.approx(0.2, abs=0.02)
    assert (noisy == 1).float().mean().item() == pytest.approx(0.2, abs=0.02)


def test_salt_and_pepper_needs_a_range() -> None:
    with pytest.raises(UserError, match="smallest and a largest"):
        corruptions.SaltAndPepper(SERIES)


@pytest.mark.parametrize("p", [0.0, 1.0, -0.1])
@pytest.mark.parametrize("kind", [corruptions.Masking, corruptions.SaltAndPepper, corruptions.SwapNoise])
def test_shares_lie_inside_zero_and_one(kind: type, p: float) -> None:
    with pytest.raises(UserError, match=r"p must be in \(0, 1\)"):
        kind(IMAGE, p=p)


def test_speckle_is_proportional_to_the_value() -> None:
    x = torch.cat([torch.zeros(200, *IMAGE.shape), torch.full((200, *IMAGE.shape), 0.5)])
    noisy, _ = corruptions.Speckle(IMAGE, sigma=0.4, clip=False)(Batch(x))
    assert not noisy[:200].any()
    assert (noisy[200:] / 0.5 - 1).std().item() == pytest.approx(0.4, rel=0.05)
    assert corruptions.Speckle(IMAGE, sigma=5.0)(Batch(x))[0].max() <= 1


@pytest.mark.parametrize(("spec", "sides"), [(IMAGE, (3, 3)), (SERIES, (5,))], ids=["image", "series"])
@pytest.mark.parametrize("place", ["random", "centre"])
def test_a_block_is_one_box_through_all_channels(spec: DataSpec, sides: tuple[int, ...], place: str) -> None:
    x = torch.rand(200, *spec.shape) + 0.1
    x_in, hidden = corruptions.Block(spec, size=0.4, place=place)(Batch(x))
    assert torch.equal(x_in, x.masked_fill(hidden, 0.0))
    starts = set()
    for mask in hidden:
        assert (mask == mask[:1]).all()
        where = mask[0].nonzero()
        first, last = where.min(0).values, where.max(0).values
        assert tuple((last - first + 1).tolist()) == sides
        assert len(where) == torch.Size(sides).numel(), "a full box"
        starts.add(tuple(first.tolist()))
    if place == "centre":
        assert starts == {tuple((size - side) // 2 for size, side in zip(spec.shape[1:], sides, strict=True))}
    else:
        possible = torch.Size([n - s + 1 for n, s in zip(spec.shape[1:], sides, strict=True)]).numel()
        assert len(starts) > 0.7 * possible


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"size": 0.0}, r"size must be in \(0, 1\)"),
        ({"size": 1.0}, r"size must be in \(0, 1\)"),
        ({"place": "left"}, "place must be random, centre or end, not 'left'"),
    ],
)
def test_block_refuses(options: dict[str, object], sentence: str) -> None:
    with pytest.raises(UserError, match=f"corruption block: {sentence}"):
        corruptions.Block(IMAGE, **options)
    with pytest.raises(UserError, match=r"needs images or series, not data of shape \[7\]"):
        corruptions.Block(DataSpec(shape=(7,), kind="vector", size=9))


@pytest.mark.parametrize("spec", [IMAGE, DataSpec(shape=(3, 6, 10), kind="image", size=9), SERIES])
@pytest.mark.parametrize("ratio", [0.5, 0.75])
def test_patches_hides_exactly_so_many_whole_ones(spec: DataSpec, ratio: float) -> None:
    x = torch.rand(300, *spec.shape) + 0.1
    x_in, hidden = corruptions.Patches(spec, size=2, ratio=ratio)(Batch(x))
    assert torch.equal(x_in, x.masked_fill(hidden, 0.0))
    assert torch.equal(hidden, hidden[:, :1].expand_as(hidden)), "through all channels"
    away = hidden[:, 0]
    for axis in range(1, away.ndim):
        assert torch.equal(away.index_select(axis, torch.arange(0, away.shape[axis], 2)), half(away, axis, 1))
        away = half(away, axis, 0)
    away = away.flatten(1)
    assert (away.sum(1) == round(ratio * away.shape[1])).all()
    assert len(away.unique(dim=0)) > 10, "of each example's own"
    torch.testing.assert_close(
        away.float().mean(0), torch.full((away.shape[1],), away.sum() / away.numel()), atol=0.12, rtol=0
    )


def half(values: torch.Tensor, axis: int, start: int) -> torch.Tensor:
    return values.index_select(axis, torch.arange(start, values.shape[axis], 2))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"size": 3}, "patches of side 3, which do not cover 8 x 8 evenly; use 1, 2, 4, 8"),
        ({"size": 4, "ratio": 0.1}, "ratio 0.1 hides 0 of 4 patches"),
        ({"size": 4, "ratio": 0.95}, "ratio 0.95 hides 4 of 4 patches"),
    ],
)
def test_patches_refuses(options: dict[str, object], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        corruptions.Patches(IMAGE, **options)
    with pytest.raises(UserError, match=r"corruption patches cuts images .* not data of shape \[7\]"):
        corruptions.Patches(DataSpec(shape=(7,), kind="vector", size=9))


def test_swap_noise_takes_values_of_the_same_feature_from_other_rows() -> None:
    x = torch.arange(50.0)[:, None] + 1000 * torch.arange(6.0)
    x_in, hidden = corruptions.SwapNoise(DataSpec(shape=(6,), kind="vector", size=9), p=0.3)(Batch(x))
    assert hidden.float().mean().item() == pytest.approx(0.3, abs=0.08)
    assert torch.equal(x_in != x, hidden), "never its own value"
    assert torch.equal(x_in // 1000, x // 1000), "the same feature"
    assert len((x_in - x)[hidden].unique()) > 20, "from any other row"


def test_swap_noise_leaves_a_single_row_alone() -> None:
    x = torch.rand(1, *IMAGE.shape)
    x_in, hidden = corruptions.SwapNoise(IMAGE, p=0.9)(Batch(x))
    assert torch.equal(x_in, x)
    assert not hidden.any()
