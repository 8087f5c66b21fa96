"""Tables: what columns are, how cells become numbers, and what training rows alone decide."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.preprocessing import MinMaxScaler, QuantileTransformer, RobustScaler, StandardScaler

from narrows.data.contents import Scaling
from narrows.data.datamodule import DataModule
from narrows.data.sources.table import HeldOutRows, Label, Table
from narrows.data.table_files import read_chunks
from narrows.data.table_format import Format
from narrows.data.table_scaling_and_encoding import Encoding
from narrows.errors import UserError
from narrows.types import Column, DataSpec

ROWS = 80


def frame(rows: int = ROWS) -> pd.DataFrame:
    random = np.random.default_rng(0)
    made = pd.DataFrame(
        {
            "id": np.arange(rows),
            "width": random.normal(5, 2, rows).round(3),
            "colour": random.choice(["red", "green", "blue"], rows),
            "paid": random.choice(["true", "False"], rows),
            "zip": random.choice([10115, 20095], rows),
            "kind": random.choice(["ok", "ok", "slow", "broken"], rows),
        }
    )
    made.loc[3, "width"] = np.nan
    made.loc[[5, 6], "colour"] = None
    return made


def prepared(path: Path, table: dict[str, Any] | None = None, **settings: Any) -> DataModule:
    options: dict[str, Any] = {"ignore": ["id"], "kinds": {"zip": "categorical"}, "label": Label("kind")}
    module = DataModule(Table(str(path), **(options | (table or {}))), **settings)
    module.setup()
    return module


def everything(module: DataModule, split: str = "train") -> Any:
    parts = list(module.ordered_loader(split))  # type: ignore[arg-type]
    x = torch.cat([part.x for part in parts])
    observed = torch.cat([torch.ones_like(p.x, dtype=torch.bool) if p.observed is None else p.observed for p in parts])
    rows = torch.cat([part.index for part in parts if part.index is not None]).numpy()
    labels = torch.cat([part.label for part in parts if part.label is not None])
    return x, observed, rows, labels


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "table.csv"
    frame().to_csv(file, index=False)
    return file


def test_columns_are_told_apart_and_named(path: Path) -> None:
    spec = prepared(path).spec
    assert spec.columns == [
        Column("width", "numeric"),
        Column("colour", "categorical", 4),
        Column("paid", "binary"),
        Column("zip", "categorical", 3),
    ]
    colours, zips = ["blue", "green", "red", "(other)"], ["10115", "20095", "(other)"]
    names = ["width", *(f"colour={name}" for name in colours), "paid", *(f"zip={name}" for name in zips)]
    assert (spec.shape, spec.kind, spec.feature_names) == ((9,), "vector", names)
    assert DataSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


@pytest.mark.parametrize("scaling", ["standard", "minmax", "robust", "quantile", "none"])
def test_numbers_are_scaled_by_the_training_rows_alone(path: Path, scaling: Any) -> None:
    module = prepared(path, {"scaling": Scaling(scaling)})
    oracle: Any = {
        "standard": StandardScaler(),
        "minmax": MinMaxScaler(),
        "robust": RobustScaler(),
        "quantile": QuantileTransformer(output_distribution="normal", n_quantiles=module.spec.size, subsample=None),
        "none": StandardScaler(with_mean=False, with_std=False),
    }[scaling]
    widths = frame()[["width"]].to_numpy()
    oracle.fit(widths[everything(module)[2]])
    for split in ("train", "validation", "test"):
        x, observed, rows, _ = everything(module, split)
        seen = observed[:, 0].numpy()
        np.testing.assert_allclose(x[seen, 0], oracle.transform(widths[rows])[seen, 0], rtol=1e-5, atol=1e-6)


def test_outliers_are_cut_where_asked(path: Path) -> None:
    plain, cut = (everything(prepared(path, {"scaling": Scaling(clip=clip)}))[0] for clip in (None, 0.5))
    assert plain[:, 0].abs().max() > 0.5
    torch.testing.assert_close(cut[:, 0], plain[:, 0].clamp(-0.5, 0.5), atol=0.02, rtol=0)
    assert torch.equal(cut[:, 1:], plain[:, 1:])


def test_gaps_are_the_training_mean_and_not_observed(path: Path) -> None:
    module = prepared(path, split_seed=3)
    x, observed, rows, _ = everything(module)
    table = frame().iloc[rows]
    assert (~observed[:, 0]).nonzero().flatten().tolist() == np.flatnonzero(table["width"].isna()).tolist() != []
    gap = ~observed[:, 1]
    assert gap.nonzero().flatten().tolist() == np.flatnonzero(table["colour"].isna()).tolist() != []
    assert torch.equal(observed[:, 1:5], (~gap)[:, None].expand(-1, 4)), "a group is missing as a whole"
    torch.testing.assert_close(x[~observed[:, 0], 0], torch.zeros(int((~observed[:, 0]).sum())), atol=1e-6, rtol=0)
    shares = table["colour"].value_counts(normalize=True)[["blue", "green", "red"]].to_numpy()
    np.testing.assert_allclose(x[gap, 1:4], np.broadcast_to(shares, (int(gap.sum()), 3)), rtol=1e-5)
    torch.testing.assert_close(x[~gap, 1:4].sum(1), torch.ones(int((~gap).sum())))
    shuffled = next(iter(module.train_dataloader()))
    assert shuffled.observed is not None
    places = [int(np.flatnonzero(rows == row)[0]) for row in shuffled.index.tolist()]  # type: ignore[union-attr]
    assert torch.equal(shuffled.observed, observed[places]), "a shuffled batch carries its own mask"


def test_an_encoding_comes_back_from_json_to_the_bit_and_decodes(path: Path) -> None:
    for scaling in ("standard", "minmax", "robust", "quantile", "none"):
        module = prepared(path, {"scaling": Scaling(scaling)})
        assert module.encoding is not None
        again = Encoding.from_dict(json.loads(json.dumps(module.encoding.to_dict())))
        x, observed, rows, _ = everything(module, "test")
        decoded = again.decode(x.double().numpy())
        pd.testing.assert_frame_equal(decoded, module.encoding.decode(x.double().numpy()))
        table = frame().iloc[rows].reset_index(drop=True)
        seen = observed[:, 0].numpy()
        np.testing.assert_allclose(decoded["width"][seen].astype(float), table["width"][seen], rtol=1e-4)
        assert (decoded["zip"] == table["zip"].astype(str)).all()
        assert (decoded["paid"] == (table["paid"] == "true")).all()
        named = observed[:, 1].numpy()
        assert (decoded["colour"][named] == table["colour"][named]).all()


def test_an_unseen_category_is_reported_and_has_a_place(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    frame().to_csv(tmp_path / "a.csv", index=False)
    other = frame(10)
    other.loc[2, "colour"] = "purple"
    other.to_csv(tmp_path / "b.csv", index=False)
    module = prepared(tmp_path / "a.csv", {"test": HeldOutRows(path=str(tmp_path / "b.csv"))})
    assert "categories that no training row has, served as 'other': 1 in 'colour'" in caplog.text
    x, observed, _, _ = everything(module, "test")
    assert len(x) == 10
    assert x[2, 1:5].tolist() == [0, 0, 0, 1]
    assert observed[2].all()


def test_labels(path: Path) -> None:
    kinds = frame()["kind"]
    _, _, rows, labels = everything(prepared(path))
    assert [["broken", "ok", "slow"][label] for label in labels.tolist()] == kinds.iloc[rows].tolist()
    binary = prepared(path, {"label": Label("kind", normal=["ok", "slow"])})
    _, _, rows, labels = everything(binary)
    assert labels.tolist() == (kinds.iloc[rows] == "broken").astype(int).tolist()
    one_class = prepared(path, {"label": Label("kind", train=["slow"])})
    assert set(everything(one_class)[3].tolist()) == {2}
    assert set(everything(one_class, "test")[3].tolist()) > {2}, "the test split keeps every label"


def test_the_test_split_may_have_all_that_is_not_trained_on(path: Path) -> None:
    label = Label("kind", normal=["ok"], train=["ok"])
    module = prepared(path, {"label": label, "test": HeldOutRows(fraction=0.5, rest=True)})
    rows = {split: everything(module, split)[2] for split in ("train", "validation", "test")}
    assert sorted(np.concatenate(list(rows.values()))) == list(range(ROWS)), "every row is in one split"
    normal = np.flatnonzero(frame()["kind"] == "ok")
    assert set(rows["train"]) | set(rows["validation"]) < set(normal)
    assert len(set(rows["test"]) & set(normal)) == round(len(normal) / 2)


def test_the_same_table_however_it_is_written(tmp_path: Path) -> None:
    table = frame()
    table["width"] = table["width"].round(1)
    table.to_csv(tmp_path / "plain.csv", index=False)
    with gzip.open(tmp_path / "packed.csv.gz", "wt") as file:
        table.to_csv(file, index=False)
    table.to_csv(tmp_path / "odd.txt", sep=";", index=False, header=False, encoding="utf-16", na_rep="?")
    table.to_parquet(tmp_path / "table.parquet")
    names = list(table)
    odd = Format(";", header=False, names=names, missing=["?"], encoding="utf-16")
    by_place = Format(";", header=False, missing=["?"], encoding="utf-16")
    x = everything(prepared(tmp_path / "plain.csv"))[0]
    assert torch.equal(x, everything(prepared(tmp_path / "packed.csv.gz"))[0])
    assert torch.equal(x, everything(prepared(tmp_path / "table.parquet"))[0])
    assert torch.equal(x, everything(prepared(tmp_path / "odd.txt", {"format": odd}))[0])
    options = {"format": by_place, "ignore": [0], "kinds": {"4": "categorical"}, "label": Label(-1)}
    assert torch.equal(x, everything(prepared(tmp_path / "odd.txt", options))[0])


def test_texts_that_mean_a_missing_cell_do_so_in_parquet_and_arrays(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {"width": [str(i) for i in range(30)], "paid": ["yes", "no", "?"] * 10, "kind": ["a", "b"] * 15}
    )
    table.loc[3, "width"] = "?"
    table.to_parquet(tmp_path / "a.parquet")
    table.to_csv(tmp_path / "a.csv", index=False)
    np.savez(tmp_path / "a.npz", **{name: table[name].to_numpy(dtype=str) for name in table})
    options = {"format": Format(missing=["?"]), "ignore": [], "kinds": {}}
    parts = [everything(prepared(tmp_path / name, options)) for name in ("a.csv", "a.parquet", "a.npz")]
    assert not parts[0][1].all()
    for x, observed, *_ in parts[1:]:
        assert torch.equal(x, parts[0][0])
        assert torch.equal(observed, parts[0][1])


def test_blank_lines_are_passed_over_and_counted(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("skipped\na,b\n\n\n\n1,2\n\n3,4\n\n\n5\n")
    chunks = list(read_chunks(tmp_path / "a.csv", Format(skip_rows=1), rows=2))
    assert [line for chunk in chunks for line in chunk.lines] == [6, 8, 11]
    assert chunks[1].broken == {0: "1 cells in place of 2"}


def test_arrays_are_tables_too(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    np.savez(tmp_path / "a.npz", X=random.normal(size=(40, 3)), y=random.integers(2, size=40))
    module = prepared(tmp_path / "a.npz", {"label": Label("y", normal=[0]), "ignore": [], "kinds": {}})
    assert module.spec.feature_names == ["X0", "X1", "X2"]
    assert module.spec.num_classes == 2


def test_the_fingerprint_is_of_the_content(path: Path, tmp_path: Path) -> None:
    first = prepared(path).spec.fingerprint
    assert prepared(path).spec.fingerprint == first
    for place, change in enumerate([("red", "pink"), (",ok", ",OK"), ("green", "")]):
        other = tmp_path / f"{place}.csv"
        other.write_text(path.read_text().replace(*change))
        assert prepared(other).spec.fingerprint != first, change


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("a,b\n1,2\n3\n", {}, "line 3 of .* has 1 cells in place of 2"),
    ("a,b\n1,2\n3,4,5\n", {}, "line 3 of .* has 3 cells in place of 2"),
    ("a,a\n1,2\n", {}, "more than one column 'a'"),
    ("", {}, "holds no rows"),
    ("a,b\n", {}, "holds no rows"),
    ("a,b\n1,x\n2,3\n", {"kinds": {"b": "numeric"}}, "line 2 of .*: 'x' in column 'b' is no finite number"),
    ("a,b\n1,2\n2,inf\n", {"kinds": {"b": "numeric"}}, "line 3 of .*: 'inf' in column 'b' is no finite number"),
    ("a,b\n1,x\n2,y\n3,z\n", {"kinds": {"b": "binary"}}, "cannot be binary: it has 3 different values"),
    ("a,b\n1,2\n", {"kinds": {"b": "text"}}, "column 'b' cannot be 'text'"),
    ("a,b\n1,2\n", {"kinds": {"c": "numeric"}}, "source.kinds names column 'c': .*valid: a, b"),
    ("a,b\n1,2\n", {"label": Label("c")}, "source.label.column=c: .* has no such column; .*valid: a, b"),
    ("a,b\n1,2\n", {"ignore": [7]}, "source.ignore=7, but .* has 2 columns"),
    ("a,b\n1,\n2,x\n", {"label": Label("b")}, "1 rows of .* have no label in column 'b'"),
    ("a,b\n1,x\n2,y\n", {"label": Label("b", normal=["z"])}, "no row has the label 'z'"),
    ("a,b\n1,\n2,\n", {}, "column 'b' has no value at all: name it in source.ignore"),
    ("a,b\n" + "".join(f"{i},t{i}\n" for i in range(1001)), {}, "column 'b' has 1001 different texts"),
]


@pytest.mark.parametrize(("text", "options", "message"), REFUSED)
def test_what_is_refused(tmp_path: Path, text: str, options: dict[str, Any], message: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        prepared(tmp_path / "a.csv", {"ignore": [], "kinds": {}, "label": Label(), **options})


def test_settings_that_contradict_each_other() -> None:
    with pytest.raises(UserError, match=r"name its column in label\.column"):
        Label(normal=["a"])
    with pytest.raises(UserError, match="must be the same values, or null"):
        Label("kind", normal=["a", "b"], train=["a"])
    with pytest.raises(UserError, match=r"scaling\.method='log': .*valid: minmax, none"):
        Scaling("log")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="must be above 0, or null"):
        Scaling(clip=0)
    contradictions = [
        (HeldOutRows(rest=True, path="b.csv"), "joins rows of the training file, but test.path is another"),
        (HeldOutRows(skip_rows=1), "test.skip_rows is of the file test.path"),
        (HeldOutRows(rest=True), "set both"),
    ]
    for test, message in contradictions:
        with pytest.raises(UserError, match=message):
            Table("a.csv", test=test)
    with pytest.raises(UserError, match="set one of them"):
        Format(names=["a"])


def test_parquet_without_pyarrow_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame().to_parquet(tmp_path / "a.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(UserError, match=r"needs pyarrow: pip install 'narrows\[parquet\]'"):
        prepared(tmp_path / "a.parquet")


def test_a_file_that_is_not_what_its_name_says(tmp_path: Path) -> None:
    for name, reason in {
        "a.parquet": "as Parquet",
        "a.csv.gz": "as text",
        "a.csv": "as text",
        "a.npz": "numpy",
    }.items():
        (tmp_path / name).write_bytes(b"\xfe\xfe\x00nonsense\xff")
        with pytest.raises(UserError, match=f"{name} cannot be read.*{reason}"):
            prepared(tmp_path / name)
