"""Held-out rows that also stand in training are counted and said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from narrows.data import DataModule, Digits, ImageFolder, Packed, Part, duplicates
from narrows.data.array_reading import describe_contents
from narrows.data.contents import Contents
from narrows.data.duplicates import count_shared
from narrows.data.splits import Plan, divide


def shared(train: torch.Tensor, test: torch.Tensor) -> int:
    splits = divide(Contents("vector", Part(train), test=Part(test)), Plan(0.1, None, 0, 0))
    kept = {tuple(row.view(torch.uint8).tolist()) for row in splits["train"].part.x.take(slice(None))}
    found = count_shared(splits)
    assert found is not None
    for name in ("validation", "test"):
        rows = splits[name].part.x.take(slice(None))
        assert found[name] == sum(tuple(row.view(torch.uint8).tolist()) in kept for row in rows)
    return found["test"]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.int64])
@pytest.mark.parametrize("width", [1, 3, 8, 37])
def test_the_count_is_that_of_equal_rows(dtype: torch.dtype, width: int) -> None:
    source = torch.Generator().manual_seed(0)
    train = torch.randint(0, 2, (300, width), generator=source).to(dtype)
    assert shared(train, torch.randint(0, 3, (200, width), generator=source).to(dtype)) >= 0
    assert shared(train, train[:50] + 5) == 0
    assert shared(torch.cat([train, train[:1] + 5]).repeat(2, 1), train[:20]) == 20


def test_rows_whose_quick_sums_are_equal_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    train, test = torch.arange(60.0).reshape(20, 3), torch.arange(60.0).reshape(20, 3) + 0.5
    monkeypatch.setattr(duplicates, "_sums", lambda store: torch.zeros(len(store)).numpy())
    assert shared(train, test) == 0
    assert shared(train.repeat(3, 1), torch.cat([test, train[:2]])) == 2


def test_every_run_says_it(tmp_path: Path) -> None:
    data = DataModule(Digits())
    data.setup()
    assert data.reading == [
        "data: 1,797 images of 1 channel x 8 x 8 pixels, 10 classes",
        "splits: train 1,455, validation 162, test 180; none of those held out also stands in train",
    ]
    for number in range(20):
        Image.new("L", (4, 4), number % 10).save(tmp_path / f"{number}.png")
    for memory, said in ((2048, " also stand in train"), (0, "splits: train 16, validation 2, test 2")):
        data = DataModule(ImageFolder(str(tmp_path), size=4, memory_limit_mb=memory))
        data.setup()
        assert data.reading[1].endswith(said)


@pytest.mark.parametrize(
    ("kind", "shape", "said"),
    [
        ("vector", (3,), "data: 20 vectors of 3 values"),
        ("series", (1, 5), "data: 20 series of 1 channel x 5 time steps"),
        ("tokens", (7,), "data: 20 examples of kind tokens and shape [7]"),
        ("image", (7,), "data: 20 examples of kind image and shape [7]"),
    ],
)
def test_data_whose_source_says_nothing(kind: Any, shape: Any, said: str) -> None:
    assert describe_contents(Contents(kind, Part(torch.zeros(20, *shape)))) == said


def test_what_is_held_as_bits_is_searched_and_what_is_large_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    bits = torch.arange(40, dtype=torch.uint8)[:, None] // 2
    splits = divide(Contents("image", Part(Packed(bits, (1, 2, 4))), test_fraction=0.2), Plan(0.1, None, 0, 0))
    found = count_shared(splits)
    assert found is not None
    assert found["test"] > 0
    monkeypatch.setattr(duplicates, "MOST_BYTES", 10)
    assert count_shared(splits) is None
