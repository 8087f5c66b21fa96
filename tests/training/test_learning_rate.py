"""Courses of the learning rate."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from command import TINY, run_in_process
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, ReduceLROnPlateau

from narrows.errors import UserError
from narrows.training.learning_rate import WarmUpCosine, end_epoch


def optimizer(*rates: float) -> torch.optim.Optimizer:
    return torch.optim.SGD([{"params": [torch.zeros(1, requires_grad=True)], "lr": rate} for rate in rates])


def course(scheduler: Any, epochs: int) -> list[list[float]]:
    found = []
    for _ in range(epochs):
        found.append([group["lr"] for group in scheduler.optimizer.param_groups])
        scheduler.optimizer.step()
        scheduler.step()
    return found


def test_without_warm_up_it_is_torchs_cosine() -> None:
    ours, theirs = WarmUpCosine(optimizer(0.3), 20, warm_up=0), CosineAnnealingLR(optimizer(0.3), T_max=20)
    assert course(ours, 21) == [pytest.approx(rate, abs=1e-12) for rate in course(theirs, 21)]


@pytest.mark.parametrize("rise", ["linear", "cosine"])
@pytest.mark.parametrize("warm_up", [5, 0.25])
def test_the_rise_and_the_fall(rise: Any, warm_up: float) -> None:
    found = [rates[0] for rates in course(WarmUpCosine(optimizer(2.0), 20, warm_up, 0.1, 0.01, rise), 30)]
    assert found[0] == pytest.approx(0.2)
    assert found[5] == pytest.approx(2.0)
    assert found[:6] == sorted(found[:6])
    assert found[5:21] == sorted(found[5:21], reverse=True)
    assert found[20:] == pytest.approx([0.02] * 10)
    half = [0.1 + 0.9 * e / 5 if rise == "linear" else 0.55 - 0.45 * math.cos(math.pi * e / 5) for e in range(6)]
    assert found[:6] == pytest.approx([2 * share for share in half])


def test_every_group_keeps_its_own_rate() -> None:
    for first, second in course(WarmUpCosine(optimizer(0.1, 0.4), 9, 3), 9):
        assert second == pytest.approx(4 * first)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"warm_up": 11}, "warm_up must be 0 to the 10 epochs"),
        ({"warm_up": -0.1}, "warm_up must be 0 to the 10 epochs"),
        ({"start": 1.5}, "start is a share"),
        ({"end": -1}, "end is a share"),
        ({"rise": "step"}, "linear or cosine"),
    ],
)
def test_an_option_out_of_range(options: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        WarmUpCosine(optimizer(0.1), **({"epochs": 10} | options))


def test_a_plateau_waits_for_a_validation() -> None:
    follows = ReduceLROnPlateau(optimizer(1.0), patience=0, factor=0.5)
    for judged in ({"val/loss": 1.0}, {}, {}, {"val/loss": 2.0}, {}):
        end_epoch(follows, judged)
    assert follows.optimizer.param_groups[0]["lr"] == 0.5
    other = LambdaLR(optimizer(1.0), lambda epoch: 0.5**epoch)
    other.optimizer.step()
    end_epoch(other, {})
    assert other.get_last_lr() == [0.5]
    with pytest.raises(UserError, match="follows val/loss"):
        end_epoch(follows, {"val/other": 1.0})


def test_a_plateau_that_nothing_is_validated_for_is_refused(tmp_path: Path) -> None:
    done = run_in_process(*TINY, "scheduler=plateau", "trainer.limit_val_batches=0", cwd=tmp_path)
    assert done.code == 2, done.err
    assert "validates nothing" in done.complaints[0]
