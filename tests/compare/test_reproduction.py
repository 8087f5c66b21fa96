"""Figures are equal to the bit, within the tolerance, or not."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path

import pytest
import torch

from narrows.compare.bitwise_equality import (
    Verdict,
    judge,
    judge_value,
    judge_weights,
    read_judged_history,
    read_judged_metrics,
    relative_difference,
)
from narrows.errors import UserError

NEXT = math.nextafter(1.0, 2.0)
OTHER_NAN = struct.unpack("<d", struct.pack("<Q", 0x7FF8000000000001))[0]


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        (1.5, 1.5, Verdict.EQUAL),
        (math.nan, math.nan, Verdict.EQUAL),
        (math.nan, OTHER_NAN, Verdict.EQUAL),
        (math.inf, math.inf, Verdict.EQUAL),
        (1.0, NEXT, Verdict.CLOSE),
        (0.0, -0.0, Verdict.CLOSE),
        (1e300, 1e300 * (1 + 5e-7), Verdict.CLOSE),
        (-1e-300, -1e-300 * (1 + 5e-7), Verdict.CLOSE),
        (1.0, 1.0 + 3e-6, Verdict.DIFFERENT),
        (1.0, -1.0, Verdict.DIFFERENT),
        (0.0, 1e-30, Verdict.DIFFERENT),
        (1e308, -1e308, Verdict.DIFFERENT),
        (1.0, math.nan, Verdict.DIFFERENT),
        (math.inf, -math.inf, Verdict.DIFFERENT),
        (1e308, math.inf, Verdict.DIFFERENT),
    ],
)
def test_two_figures(before: float, after: float, verdict: Verdict) -> None:
    assert judge_value("x", before, after, 1e-6).verdict is verdict
    assert judge_value("x", after, before, 1e-6).verdict is verdict


def test_no_tolerance_accepts_no_other_bit() -> None:
    assert judge_value("x", 1.0, NEXT, 0.0).verdict is Verdict.DIFFERENT


def test_the_difference_is_relative_and_symmetric() -> None:
    assert relative_difference(2.0, 1.0) == relative_difference(1.0, 2.0) == 0.5
    assert relative_difference(1e308, -1e308) == 2.0


def test_a_figure_on_one_side_alone_is_named() -> None:
    found = judge("metrics", {"a": 1.0, "gone": 2.0}, {"a": 1.0, "new": 3.0}, 1e-6)
    assert {c.name: c.verdict for c in found.comparisons} == {
        "a": Verdict.EQUAL,
        "gone": Verdict.MISSING,
        "new": Verdict.EXTRA,
    }
    assert found.verdict is Verdict.EXTRA
    assert found.sentence() == ("3 metrics: 1 only in the reproduction, 1 missing in the reproduction, 1 bitwise equal")


def test_the_worst_come_first_and_equal_ones_not_at_all() -> None:
    found = judge("metrics", {"a": 1.0, "b": 1.0, "c": 1.0}, {"a": 1.1, "b": 1.0, "c": 2.0}, 1e-6)
    assert [c.name for c in found.worst(5)] == ["c", "a"]
    assert [item["name"] for item in found.to_dict()["unequal"]] == ["c", "a"]
    assert found.to_dict()["counts"] == {"equal": 1, "close": 0, "different": 2, "missing": 0, "extra": 0}


def test_equal_ones_take_one_short_sentence() -> None:
    figures = {str(i): float(i) for i in range(37)}
    assert judge("metrics", figures, figures, 0.0).sentence() == "37 metrics bitwise equal"
    assert judge("history rows", {}, {}, 0.0).sentence() == "no history rows"


def test_wall_clock_is_not_judged(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text(json.dumps({"test/loss": 1, "throughput/steps": 3.0, "x": math.nan}))
    metrics = read_judged_metrics(tmp_path / "metrics.json")
    assert list(metrics) == ["test/loss", "x"]
    (tmp_path / "metrics.csv").write_text(
        "step,metric,value\n1,throughput/steps,3.0\n1,val/loss,2.5\n1,val/loss,2.5\n2,val/loss,nan\n"
    )
    history = read_judged_history(tmp_path / "metrics.csv")
    assert list(history) == [(1, "val/loss", 0), (1, "val/loss", 1), (2, "val/loss", 0)]


def test_a_doubled_row_is_extra(tmp_path: Path) -> None:
    rows = {(1, "val/loss", 0): 1.0}
    found = judge("history rows", rows, rows | {(1, "val/loss", 1): 1.0}, 0.0)
    assert [c.name for c in found.worst(3)] == ["val/loss at step 1 (value 2)"]


def test_no_history_is_an_empty_one(tmp_path: Path) -> None:
    assert read_judged_history(tmp_path / "metrics.csv") == {}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "its first line"),
        ("a,b\n", "its first line"),
        ("step,metric,value\n1,a\n", "line 2"),
        ("step,metric,value\n1,a,2\nx,a,2\n", "line 3"),
        ("step,metric,value\n1,a,b\n", "line 2"),
    ],
)
def test_a_damaged_history_is_named(text: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text(text)
    with pytest.raises(UserError, match=f"metrics.csv is damaged.*{sentence}"):
        read_judged_history(tmp_path / "metrics.csv")


@pytest.mark.parametrize("text", ["", "[1]", '{"a": "1"}', '{"a": true}', "{"])
def test_damaged_metrics_are_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text(text)
    with pytest.raises(UserError, match=r"metrics\.json"):
        read_judged_metrics(tmp_path / "metrics.json")


def test_weights_are_judged_by_their_bits() -> None:
    weights = {"w": torch.tensor([0.0, 1.0, math.nan]), "n": torch.tensor(3), "flag": torch.tensor([True])}
    assert judge_weights(weights, {k: v.clone() for k, v in weights.items()}, 0.0).verdict is Verdict.EQUAL
    minus = weights | {"w": torch.tensor([-0.0, 1.0, math.nan])}
    assert judge_weights(weights, minus, 0.0).verdict is not Verdict.EQUAL


@pytest.mark.parametrize(
    ("after", "verdict"),
    [
        (torch.tensor([1.0, NEXT]), Verdict.EQUAL),  # in single precision
        (torch.tensor([1.0, 1 + 2.0**-23]), Verdict.CLOSE),
        (torch.tensor([1.0, 1.1]), Verdict.DIFFERENT),
        (torch.tensor([1.0, math.inf]), Verdict.DIFFERENT),
        (torch.tensor([1.0, 1.0], dtype=torch.float64), Verdict.DIFFERENT),
        (torch.tensor([[1.0, 1.0]]), Verdict.DIFFERENT),
    ],
)
def test_a_tensor_is_equal_close_or_different(after: torch.Tensor, verdict: Verdict) -> None:
    assert judge_weights({"w": torch.ones(2)}, {"w": after}, 1e-6).verdict is verdict


def test_a_tensor_on_one_side_alone_is_named() -> None:
    found = judge_weights({"a": torch.ones(1)}, {"b": torch.ones(1)}, 1e-6)
    assert [c.verdict for c in found.comparisons] == [Verdict.MISSING, Verdict.EXTRA]
