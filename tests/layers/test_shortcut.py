"""The linear map past a perceptron's layers: training starts linear, and can leave that."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from narrows.decoders.mlp import MLPDecoder
from narrows.encoders.mlp import MLPEncoder
from narrows.errors import UserError

STAGES = {
    "encoder": lambda **options: MLPEncoder((6,), widths=[8, 5], shortcut=True, **options),
    "decoder": lambda **options: MLPDecoder((6,), (5,), widths=[9, 8], shortcut=True, **options),
}


def departure(stage: nn.Module) -> Tensor:
    """How far f(x + y) + f(0) is from f(x) + f(y), which are equal if f is linear but for a constant."""
    x, y = torch.randn(2, 64, 6, dtype=torch.float64)
    return (stage(x + y) + stage(torch.zeros_like(x)) - stage(x) - stage(y)).abs().max()


@pytest.mark.parametrize("name", STAGES)
@pytest.mark.parametrize("options", [{}, {"norm": "batch"}, {"norm": "layer"}, {"activation": "gated"}])
def test_it_starts_linear_and_learns_what_no_line_can(name: str, options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    stage = STAGES[name](**options).double()
    assert departure(stage) < 1e-12
    x = torch.randn(256, 6, dtype=torch.float64)
    wanted = x[:, :5].abs() + x[:, 1:]
    optimizer, errors = torch.optim.Adam(stage.parameters(), lr=0.01), []
    for _ in range(400):
        error = (stage(x) - wanted).pow(2).mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        errors.append(error.item())
    line = torch.cat([x, torch.ones(256, 1, dtype=torch.float64)], 1)
    best = (line @ torch.linalg.lstsq(line, wanted).solution - wanted).pow(2).mean().item()
    assert departure(stage) > 0.1
    assert errors[-1] < 0.5 * best


def test_a_decoder_keeps_its_bias_ungated() -> None:
    decoder = MLPDecoder((6,), (5,), widths=[8], shortcut=True)
    last = decoder.blocks[-1][0]  # type: ignore[index]
    torch.testing.assert_close(decoder(torch.zeros(1, 6))[0], last.bias)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: MLPEncoder((6,), widths=[], shortcut=True), "encoder mlp has a shortcut past no layers: give widths"),
        (lambda: MLPDecoder((6,), (5,), widths=[], shortcut=True), "decoder mlp has a shortcut past no layers"),
        (lambda: MLPDecoder((6,), (5,), tied=True, shortcut=True), "neither tied nor of unit norm"),
        (lambda: MLPDecoder((6,), (5,), unit_norm=True, shortcut=True), "use decoder.shortcut=false"),
    ],
)
def test_a_shortcut_that_cannot_be_is_refused(make: Any, told: str) -> None:
    with pytest.raises(UserError, match=told):
        make()
