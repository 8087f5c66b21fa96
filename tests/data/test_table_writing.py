"""Samples as rows of the table that a model was trained on: types, digits, ranges, categories and shares."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from narrows.data import DataModule, Encoding, Label, Table
from narrows.data.table_writing import own_rows, rewritten
from narrows.likelihoods import MixedLikelihood

KINDS = {"zip": "categorical", "day": "date", "when": "date %d.%m.%Y %H:%M"}


def frame(rows: int = 120) -> pd.DataFrame:
    random, days = np.random.default_rng(0), pd.date_range("2020-01-01", periods=rows)
    return pd.DataFrame(
        {
            "id": range(rows),
            "age": random.integers(18, 90, rows),
            "price": random.normal(5, 2, rows).round(2),
            "kind": random.choice(["ok", "bad"], rows),
            "city": random.choice(["a", "b", "c"], rows),
            "paid": random.choice(["true", "false"], rows),
            "flag": random.choice([0, 1], rows),
            "really": random.choice([True, False], rows),
            "zip": random.choice([10115, 20095], rows),
            "day": days.strftime("%Y-%m-%d"),
            "when": pd.date_range("2020-01-01", periods=rows, freq="h").strftime("%d.%m.%Y %H:%M"),
            "whole": random.integers(0, 5, rows).astype(float),
        }
    )


def prepared(path: Path, **kinds: str) -> DataModule:
    module = DataModule(Table(str(path), label=Label("kind"), ignore=["id"], kinds=KINDS | kinds))
    module.setup()
    return module


def training_rows(module: DataModule) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    parts = list(module.ordered_loader("train"))
    x, label, index = (torch.cat([getattr(part, name) for part in parts]) for name in ("x", "label", "index"))
    return x, label, index.numpy()


def test_training_rows_come_back_as_they_were_written(tmp_path: Path) -> None:
    """From CSV with the types that pandas reads, from Parquet with its own; ignored columns are left out."""
    table = frame()
    table.to_csv(tmp_path / "t.csv", index=False)
    own = table.assign(
        when=pd.date_range("2020-01-01", periods=len(table), freq="h"),
        day=pd.date_range("2020-01-01", periods=len(table), tz="Europe/Berlin"),
        city=table["city"].astype("category"),
        price=table["price"].astype("float32"),
    )
    own.to_parquet(tmp_path / "t.parquet")
    for name, kinds in {"t.csv": {}, "t.parquet": {"when": "date"}}.items():
        module = prepared(tmp_path / name, **kinds)
        assert module.encoding is not None
        encoding = Encoding.from_dict(json.loads(json.dumps(module.encoding.to_dict())))
        x, label, index = training_rows(module)
        found = own_rows(encoding, x, label)
        if name == "t.csv":
            found.to_csv(tmp_path / "new.csv", index=False)
            found, expected = pd.read_csv(tmp_path / "new.csv"), pd.read_csv(tmp_path / "t.csv")
        else:
            expected = own
        pd.testing.assert_frame_equal(found, expected.drop(columns="id").iloc[index].reset_index(drop=True))
        torch.testing.assert_close(rewritten(encoding, x), x)
        assert "kind" not in own_rows(encoding, x)
        assert encoding.label is not None
        shares = expected["kind"].iloc[index].value_counts(normalize=True)[encoding.label.texts]
        assert encoding.label.shares == pytest.approx(shares.tolist())


def test_draws_of_a_known_decoder_have_its_marginals(tmp_path: Path) -> None:
    """Numbers are rounded and stay in the training range, and no category is one that no row has."""
    frame().to_csv(tmp_path / "t.csv", index=False)
    module = prepared(tmp_path / "t.csv")
    encoding, names = module.encoding, module.spec.feature_names or []
    assert encoding is not None
    torch.manual_seed(0)
    likelihood = MixedLikelihood(module.spec, sigma=0.5, scope="fixed")
    params = torch.zeros(20_000, len(names))
    params[:, names.index("city=a")], params[:, names.index("city=(other)")] = 1.0, 3.0
    params[:, names.index("age")], params[:, names.index("flag")] = 1.8, 2.0
    for temperature in (1.0, 0.25):
        rows = own_rows(encoding, likelihood.draw(params, temperature=temperature))
        logits = torch.tensor([1.0, 0.0, 0.0]) / temperature
        shares = rows["city"].value_counts(normalize=True)[["a", "b", "c"]]
        np.testing.assert_allclose(shares, logits.softmax(0), atol=0.015)
        assert rows["flag"].mean() == pytest.approx(1 / (1 + np.exp(-2 / temperature)), abs=0.015)
        scale, mean = (float(values[1]) for values in (encoding.scaler.scale_, encoding.scaler.mean_))
        assert rows["price"].mean() == pytest.approx(mean, abs=0.03)
        assert rows["price"].std() == pytest.approx(0.5 * scale * temperature**0.5, rel=0.03)
        assert rows["age"].max() == encoding.columns[0].cells.high
        assert rows["age"].dtype == np.int64
        assert (rows["price"] == rows["price"].round(2)).all()
        assert set(rows["zip"]) <= {"10115", "20095"}
