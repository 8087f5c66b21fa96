"""A stage that gives another shape than it says is caught where it hands its values on."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from instances import IMAGE, batch, model
from torch import Tensor, nn

from narrows.layers import shapes
from narrows.models import Autoencoder
from narrows.types import Latent

STAGES = ("corruption", "input", "encoder", "bottleneck", "decoder")


def lying(stage: str, shorten: Any) -> Autoencoder:
    """A model whose `stage` gives its last axis one shorter than it says."""
    built = model()
    getattr(built, stage).register_forward_hook(lambda *call: shorten(call[-1]))
    return built


def shorter(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value[..., :-1]
    if isinstance(value, Latent):
        value.z, value.point = value.z[..., :-1], value.point[..., :-1]
        return value
    x_in, hidden = value
    return x_in[..., :-1], hidden


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_that_gives_another_shape_is_named(stage: str) -> None:
    built = lying(stage, shorter)
    name = type(getattr(built, stage)).__name__
    with pytest.raises(AssertionError, match=f"{name} gives examples of shape .* but says "):
        built(batch())


@pytest.mark.parametrize("stage", STAGES)
def test_an_axis_too_many_is_caught(stage: str) -> None:
    built = lying(stage, lambda value: value.unsqueeze(1) if isinstance(value, Tensor) else shorter(value))
    with pytest.raises(AssertionError, match="but says "):
        built(batch())


def test_only_the_last_axis_of_variable_data_is_free() -> None:
    stage = nn.Identity()
    shapes.checked(stage, torch.zeros(2, 3, 7), (3, 5), variable=True)
    for other in (torch.zeros(2, 4, 5), torch.zeros(2, 5), torch.zeros(2, 1, 3, 5)):
        with pytest.raises(AssertionError, match="Identity"):
            shapes.checked(stage, other, (3, 5), variable=True)


def test_without_the_tests_nothing_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shapes, "CHECKED", False)
    values = torch.zeros(2, 3)
    assert shapes.checked(nn.Identity(), values, IMAGE.shape) is values
