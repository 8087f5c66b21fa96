"""Tables as they are published: mixed columns, missing cells, labels that differ between files, many sets."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from narrows.data.datamodule import DataModule
from narrows.data.sources.table import HeldOutRows, Label, Table
from narrows.data.table_format import Format


def test_adult(real_data: Path) -> None:
    source = Table(
        str(real_data / "adult" / "adult.data.gz"),
        Label(14, normal=["<=50K"], train=["<=50K"], strip="."),
        format=Format(header=False, missing=["?"]),
        test=HeldOutRows(path=str(real_data / "adult" / "adult.test.gz"), skip_rows=1),
    )
    datamodule = DataModule(source)
    datamodule.setup()
    spec = datamodule.spec
    assert spec.columns is not None
    kinds = [column.kind for column in spec.columns]
    assert (kinds.count("numeric"), kinds.count("categorical"), len(kinds)) == (6, 8, 14)
    sizes = {name: sum(map(len, datamodule.ordered_loader(name))) for name in ("train", "validation", "test")}  # type: ignore[arg-type]
    assert sizes["train"] + sizes["validation"] == 24_720, "the rows of <=50K that UCI publishes"
    tests = list(datamodule.ordered_loader("test"))
    labels = torch.cat([batch.label for batch in tests if batch.label is not None])
    assert labels.bincount().tolist() == [12_435, 3_846]
    observed = torch.cat([batch.observed for batch in tests if batch.observed is not None])
    starts = torch.tensor([0, *(column.width for column in spec.columns)]).cumsum(0)[:-1]
    assert int((~observed[:, starts]).sum()) == 2203, "one for each '?' of the file"
    train = torch.cat([batch.x for batch in datamodule.ordered_loader("train")])
    torch.testing.assert_close(train[:, 0].mean(), torch.tensor(0.0), atol=1e-4, rtol=0)
    torch.testing.assert_close(train[:, 0].std(), torch.tensor(1.0), atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("name", "width", "normals", "anomalies"), [("6_cardio", 21, 1655, 176), ("40_vowels", 12, 1406, 50)]
)
def test_a_set_of_adbench(real_data: Path, name: str, width: int, normals: int, anomalies: int) -> None:
    label = Label("y", normal=[0], train=[0])
    source = Table(str(real_data / "adbench" / f"{name}.npz"), label, test=HeldOutRows(fraction=0.5, rest=True))
    datamodule = DataModule(source)
    datamodule.setup()
    assert datamodule.spec.shape == (width,)
    tested = torch.cat([batch.label for batch in datamodule.ordered_loader("test") if batch.label is not None])
    assert tested.bincount().tolist() == [round(normals / 2), anomalies]


def test_nsl_kdd(real_data: Path) -> None:
    label = Label(41, normal=["normal"], train=["normal"])
    source = Table(str(real_data / "nsl_kdd" / "KDDTest-21.txt.gz"), label, ignore=[42], format=Format(header=False))
    datamodule = DataModule(source)
    datamodule.setup()
    assert datamodule.spec.columns is not None
    categorical = [column.name for column in datamodule.spec.columns if column.kind == "categorical"]
    assert categorical == ["1", "2", "3"]
    assert all(not batch.label.any() for batch in datamodule.ordered_loader("train") if batch.label is not None)
