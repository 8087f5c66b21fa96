"""A small signal on a large offset keeps its digits: statistics and scaling are in double precision, then float32."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from narrows.data.contents import Contents, Part, Scaling
from narrows.data.datamodule import DataModule
from narrows.data.sources.arrays import Arrays
from narrows.data.sources.series import Series
from narrows.data.sources.table import Table
from narrows.errors import UserError

OFFSET = 1.7e9 + np.random.default_rng(0).normal(size=(500, 6))
STEPS = np.arange(2000)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    np.savez(tmp_path / "offset.npz", x=OFFSET, whole=np.round(OFFSET * 1000).astype(np.int64))
    np.save(tmp_path / "offset.npy", OFFSET)
    pd.DataFrame(OFFSET, columns=list("abcdef")).to_csv(tmp_path / "offset.csv", index=False)
    pressure = pd.DataFrame({"p": 101325 + 0.05 * np.sin(STEPS / 23), "a": np.sin(STEPS / 10)})
    pressure.to_csv(tmp_path / "pressure.csv", index=False)
    metres = pd.DataFrame({"north": 5400000 + 3 * np.sin(STEPS / 23), "east": 600000 + 3 * np.cos(STEPS / 23)})
    metres.to_csv(tmp_path / "utm.csv", index=False)
    return tmp_path


def training_rows(source: Any) -> torch.Tensor:
    return torch.cat([batch.x for batch in DataModule(source).ordered_loader("train")])


@pytest.mark.parametrize("how", ["standard", "minmax"])
def test_scaled_numbers_keep_their_digits(folder: Path, how: Any) -> None:
    path = {name: str(folder / name) for name in ("offset.npz", "offset.csv", "pressure.csv", "utm.csv")}
    sources = {
        "arrays": Arrays(path["offset.npz"], standardise=how),
        "whole numbers": Arrays(path["offset.npz"], x_key="whole", standardise=how),
        "table": Table(path["offset.csv"], scaling=Scaling(how)),
        "pressure": Series(path["pressure.csv"], 20, standardise=how),
        "metres": Series(path["utm.csv"], 20, standardise=how),
    }
    for name, source in sources.items():
        x = training_rows(source)
        assert x.dtype == torch.float32, name
        for feature in range(x.shape[1]):
            values = x[:, feature].flatten()
            if how == "standard":
                assert abs(float(values.double().mean())) < 1e-5, name
                assert abs(float(values.double().std(correction=0)) - 1) < 1e-5, name
            else:
                assert (float(values.min()), float(values.max())) == (0.0, 1.0), name
            assert len(values.unique()) > 0.9 * len(values), name


def test_what_does_not_vary_is_only_shifted() -> None:
    x = torch.stack([torch.full((50,), 0.1), torch.full((50,), 1e9), torch.arange(50.0)], 1).double()
    x[::2, 0] += 1e-17 + torch.finfo(torch.float64).eps / 8  # the last digit of a sum
    source = SimpleNamespace(load=lambda: Contents("vector", Part(x), test_fraction=0.2, standardise="standard"))
    served = training_rows(source)
    assert served[:, :2].abs().max() < 1e-9
    assert abs(float(served[:, 2].std(correction=0)) - 1) < 1e-5


def test_numbers_that_float32_cannot_tell_apart_are_refused_where_nothing_is_scaled(folder: Path) -> None:
    sentence = "models compute in float32, whose numbers are .* apart there: it cannot tell these apart; "
    refused = {
        "feature 0 lies around 1.7e.09 and deviates by 0.9.*standardise=standard": [
            Arrays(str(folder / "offset.npz")),
            Arrays(str(folder / "offset.npy")),
        ],
        sentence + "take the offset off first": [Arrays(str(folder / "offset.npy"), mapped=True)],
        "feature 'a' lies around 1.7e.*set source.scaling.method=standard": [
            Table(str(folder / "offset.csv"), scaling=Scaling("none"))
        ],
        "feature 'p' lies around 101325 and deviates by 0.03": [
            Series(str(folder / "pressure.csv"), 20, standardise="none")
        ],
        "feature 'north'": [Series(str(folder / "utm.csv"), 20, standardise="none")],
    }
    for message, sources in refused.items():
        for source in sources:
            with pytest.raises(UserError, match=message):
                DataModule(source).setup()


def test_ordinary_numbers_are_served_as_they_are_and_have_the_fingerprint_of_float32(tmp_path: Path) -> None:
    kelvin = 290 + 10 * np.random.default_rng(1).normal(size=(60, 3))
    kelvin[:, 2] = 7.1  # a constant
    prints = set()
    for name, x in {"double": kelvin, "single": kelvin.astype(np.float32)}.items():
        np.save(tmp_path / f"{name}.npy", x)
        for mapped in (False, True):
            data = DataModule(Arrays(str(tmp_path / f"{name}.npy"), mapped=mapped))
            data.setup()
            prints.add(data.spec.fingerprint)
            rows = torch.cat([batch.index for batch in data.ordered_loader("train")])
            served = torch.cat([batch.x for batch in data.ordered_loader("train")])
            assert torch.equal(served, torch.from_numpy(kelvin.astype(np.float32))[rows])
    assert len(prints) == 1


def test_other_digits_behind_float32_are_other_data(tmp_path: Path) -> None:
    prints = set()
    for place, x in enumerate((OFFSET, OFFSET + 0.25 * (OFFSET > 1.7e9))):
        np.save(tmp_path / f"{place}.npy", x)
        data = DataModule(Arrays(str(tmp_path / f"{place}.npy"), standardise="standard"))
        data.setup()
        prints.add(data.spec.fingerprint)
    assert len(prints) == 2


def test_the_estimator_for_rows_in_memory_refuses_them_too() -> None:
    from narrows.training.fit_in_memory import fit

    with pytest.raises(UserError, match=r"float32.*scale the rows first"):
        fit(OFFSET, ["variant=undercomplete"], None)
