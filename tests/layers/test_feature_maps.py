"""One map of a frozen network's layers: its parts, its sides and its name."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from narrows.errors import UserError
from narrows.layers import FeatureMap, FeatureNetwork, feature_maps


def built(layers: tuple[str, ...] = ("stage2", "stage3"), size: int | None = None, **settings: Any) -> FeatureMap:
    return FeatureMap(partial(FeatureNetwork, layers=layers, size=size), **settings)


def test_layers_are_stacked_at_the_side_of_the_first() -> None:
    x = torch.rand(3, 3, 32, 48)
    first, second = FeatureNetwork(layers=["stage2", "stage3"])(x)
    found = built(patch=1)(x)
    assert found.shape == (3, 64, 8, 12)
    assert built().out_shape((3, 32, 48)) == (64, 8, 12)
    assert torch.equal(found[:, :24], first)
    assert torch.allclose(found[:, 24:], F.interpolate(second, (8, 12), mode="bilinear"), atol=1e-6)
    averaged = built()(x)
    inside = torch.stack([first[..., i : i + 6, j : j + 10] for i in range(3) for j in range(3)]).mean(0)
    assert torch.allclose(averaged[:, :24, 1:-1, 1:-1], inside, atol=1e-5)
    corner = first[..., :2, :2].mean((2, 3))
    assert torch.allclose(averaged[:, :24, 0, 0], corner, atol=1e-5)
    assert built(side=5)(x).shape == (3, 64, 5, 5)


def test_pictures_go_through_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.rand(5, 1, 32, 32)
    whole = built()(x)
    assert not whole.requires_grad
    monkeypatch.setattr(feature_maps, "PIXELS", 2 * 32**2)
    assert torch.allclose(built()(x), whole, atol=1e-4)


def test_the_fingerprint_is_of_all_that_changes_a_value() -> None:
    one = built()
    others = [built(patch=1), built(side=4), built(size=64), built(layers=("stage2", "stage4"))]
    changed = built()
    next(changed.network.tensors()).add_(1)
    prints = {features.fingerprint for features in (one, *others, changed)}
    assert len(prints) == 6
    assert built().fingerprint == one.fingerprint


@pytest.mark.parametrize("settings", [{"side": 0}, {"patch": 2}, {"patch": 0}, {"memory_limit_mb": -1}], ids=str)
def test_settings_that_mean_nothing(settings: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"datamodule\.features\."):
        built(**settings)
