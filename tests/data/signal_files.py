"""Signals written as a table and read back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from narrows.data.contents import Contents
from narrows.data.sources.series import Series
from narrows.errors import UserError


def load(frame: pd.DataFrame, folder: Path, **settings: Any) -> Contents:
    frame.to_csv(folder / "s.csv", index=False)
    return Series(str(folder / "s.csv"), **({"window": 20, "standardise": "none"} | settings)).load()


def refusal(frame: pd.DataFrame, folder: Path, **settings: Any) -> str:
    with pytest.raises(UserError) as caught:
        load(frame, folder, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def served(contents: Contents) -> torch.Tensor:
    return contents.train.x.take(slice(None))
