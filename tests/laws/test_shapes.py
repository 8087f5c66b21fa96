"""A stage that gives another shape than it says is caught where it hands its values on."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from instances import batch, model
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
    with pytest.raises(AssertionError, match=f"{name} gives examples of .* but says "):
        built(batch())


@pytest.mark.parametrize("stage", STAGES)
def test_an_axis_too_many_is_caught(stage: str) -> None:
    built = lying(stage, lambda value: value.unsqueeze(1) if isinstance(value, Tensor) else shorter(value))
    with pytest.raises(AssertionError, match="but says "):
        built(batch())


def test_an_axis_of_any_size_is_free_and_no_other() -> None:
    stage, shape = nn.Identity(), (3, None)
    longer = torch.zeros(2, 3, 7)
    shapes.checked(stage, longer, longer, (shape, shape))
    for other in (torch.zeros(2, 4, 7), torch.zeros(2, 7), torch.zeros(2, 1, 3, 7)):
        with pytest.raises(AssertionError, match="Identity"):
            shapes.checked(stage, longer, other, (shape, shape))


def test_of_examples_of_another_size_nothing_is_said() -> None:
    larger = torch.zeros(2, 3, 9)
    assert shapes.checked(nn.Identity(), larger, larger, ((3, 5), (3, 5))) is larger


def test_without_the_tests_nothing_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shapes, "CHECKED", False)
    values = torch.zeros(2, 3)
    assert shapes.checked(nn.Identity(), values, values, ((3,), (4,))) is values
