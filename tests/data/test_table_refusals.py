"""What is read wrongly elsewhere without a word: refused by line, text and column, with a way out that works."""

from __future__ import annotations

import re
import shlex
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser

from narrows.data.datamodule import DataModule
from narrows.data.sources.table import HeldOutRows, Label, Table
from narrows.data.table_format import Format
from narrows.data.table_kinds import read_kinds
from narrows.errors import UserError

ROWS = 60
RANDOM = np.random.default_rng(0)
WIDTH, HEIGHT = RANDOM.normal(20, 5, ROWS).round(2), RANDOM.normal(1000, 200, ROWS).round(1)


def prepared(path: Path, **options: Any) -> DataModule:
    module = DataModule(Table(str(path), **options))
    module.setup()
    return module


def told(module: DataModule) -> list[str]:
    """What the source said of its files."""
    return [line for line in module.reading if line.startswith("table: ")]


def refusal(path: Path, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        prepared(path, **options)
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


def ways_out(sentence: str) -> list[dict[str, Any]]:
    """The options that a sentence names, as a shell and Hydra read them."""
    quoted = [shlex.split(found)[0] for found in re.findall(r"'datamodule[^\n]*?\]'(?!\\)", sentence)]
    plain = re.findall(r"datamodule\.source\.format\.\w+=\w+", sentence)
    found = []
    for text in quoted or plain:
        override = OverridesParser.create().parse_override(text)
        name, value = str(override.key_or_group).removeprefix("datamodule.source."), override.value()
        found.append({"format": Format(**{name[7:]: value})} if name.startswith("format.") else {name: value})
    return found


def written(folder: Path, column: Any, name: str = "a.csv", **how: Any) -> Path:
    pd.DataFrame({"a": column, "b": HEIGHT}).to_csv(folder / name, index=False, **how)
    return folder / name


@pytest.mark.parametrize("text", ["?", "#N/A", "None", "<NA>", "-", "inf", "-inf", "1e400", "it's", 'a "b"', "ü"])
def test_a_column_of_numbers_stays_one_whatever_a_few_of_its_cells_hold(tmp_path: Path, text: str) -> None:
    cells = WIDTH.astype(object)
    cells[::15] = text
    path = written(tmp_path, cells)
    sentence = refusal(path)
    assert f"line 2 of {path}: '{text}' in column 'a' is no finite number; " in sentence
    outs = ways_out(sentence)
    module = prepared(path, **outs[0])
    assert [(c.name, c.kind) for c in module.spec.columns or []] == [("a", "numeric"), ("b", "numeric")]
    assert told(module) == ["table: 2 numeric (a, b); 60 rows, 4 missing cells"]
    for other in outs[1:]:
        assert prepared(path, **other).reading[0].startswith("table: 1 numeric (b), 1 categorical (a: ")


def test_where_numbers_end_and_names_begin(tmp_path: Path) -> None:
    half = [f"{number}" if place % 3 else f"{number} kg" for place, number in enumerate(WIDTH)]
    assert "'20.63 kg' in column 'a'" in refusal(written(tmp_path, half))
    assert "66.7% of the column's cells are numbers" in refusal(written(tmp_path, half))
    total = [*map(str, WIDTH[:-1]), "total"]
    assert "line 61" in refusal(written(tmp_path, total))
    many = [*map(str, RANDOM.normal(size=1500)), "?"]
    pd.DataFrame({"a": many}).to_csv(tmp_path / "many.csv", index=False)
    assert "line 1502" in refusal(tmp_path / "many.csv")
    codes = {
        "codes": [f"{number} a" for number in range(12)] * 5,
        "grades": ["K", "1", "2", "3", "4"] * 12,
        "truths": ["true", "false", "unknown"] * 20,
    }
    for name, cells in codes.items():
        kinds = [column.kind for column in prepared(written(tmp_path, cells)).spec.columns or []]
        assert kinds == ["categorical", "numeric"], name


DISGUISED: dict[str, tuple[list[str], str, dict[str, str]]] = {
    "decimal comma": ([f"{v}".replace(".", ",") for v in WIDTH], "decimal comma", {"decimal": "comma"}),
    "thousands": ([f"{v * 1000:,.0f}" for v in WIDTH], "thousands=comma", {"thousands": "comma"}),
    "both": ([f"{v * 1000:,.2f}" for v in WIDTH], "thousands=comma", {"thousands": "comma"}),
    "apostrophes": ([f"{v * 1e6:,.0f}".replace(",", "'") for v in WIDTH], "apostrophe", {"thousands": "apostrophe"}),
    "blanks": ([f"{v * 1e6:,.1f}".replace(",", " ") for v in WIDTH], "thousands=blank", {"thousands": "blank"}),
    "German": (
        [f"{v * 1e6:,.1f}".translate(str.maketrans(",.", ".,")) for v in WIDTH],
        "thousands=point",
        {"thousands": "point", "decimal": "comma"},
    ),
    "percent": ([f"{v} %" for v in WIDTH], "looks like a percentage", {}),
    "dollar": ([f"${v}" for v in WIDTH], "looks like a sum of money", {}),
}


@pytest.mark.parametrize("name", DISGUISED)
def test_numbers_in_another_guise_are_named_and_can_be_read(tmp_path: Path, name: str) -> None:
    cells, said, way_out = DISGUISED[name]
    path = written(tmp_path, cells, sep=";")
    sentence = refusal(path, format=Format("semicolon"))
    assert f"line 2 of {path}: '{cells[0]}' in column 'a'" in sentence
    assert said in sentence
    if way_out:
        frame = pd.DataFrame({"a": WIDTH, "b": HEIGHT})
        marked = frame.map(lambda number: str(number).replace(".", ",")) if way_out.get("decimal") else frame
        marked.assign(a=cells).to_csv(path, index=False, sep=";")
        read = Table(str(path), format=Format("semicolon", **way_out)).load().train.x.take(slice(None))
        plain = np.array([float(re.sub(r"[^0-9.]", "", f"{value}")) for value in WIDTH])
        assert np.corrcoef(read[:, 0].numpy(), plain)[0, 1] > 0.9999
        assert torch.equal(read[:, 1], torch.from_numpy(HEIGHT))


def test_a_point_is_not_guessed_at_where_the_comma_is_decimal(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a;b\n" + "1,5;2\n" * 20 + "1.234;2\n")
    sentence = refusal(tmp_path / "a.csv", format=Format(";", "comma"))
    assert "line 22" in sentence
    assert "format.thousands=point" in sentence
    read = Table(str(tmp_path / "a.csv"), format=Format(";", ",", ".")).load().train.x.take(slice(None))
    assert read[-1].tolist() == [1234.0, 2.0]


@pytest.mark.parametrize(("separator", "word"), [(";", "semicolon"), ("\t", "tab"), (" ", "blank"), ("|", "bar")])
def test_another_separator_is_seen_in_the_header(tmp_path: Path, separator: str, word: str) -> None:
    path = written(tmp_path, WIDTH, sep=separator)
    sentence = refusal(path)
    assert f"is one cell, {f'a{separator}b'!r}, which holds what looks like another separator" in sentence
    (way_out,) = ways_out(sentence)
    assert way_out["format"].separator == separator
    assert word in sentence
    assert told(prepared(path, **way_out)) == ["table: 2 numeric (a, b); 60 rows"]
    assert "is one cell" in refusal(path, format=Format(header=False)) or separator == " "
    assert "separator=comma" in refusal(written(tmp_path, WIDTH), format=Format(";"))


def test_a_first_row_of_numbers_is_no_header(tmp_path: Path) -> None:
    for head, names in {"5.1,3.5\n": None, "7\n": None, "0,1\n": ["0", "1"], "2019,2020\n": ["2019", "2020"]}.items():
        (tmp_path / "a.csv").write_text(head + head.replace("1", "2") * 12)
        if names is None:
            assert "holds numbers, not the names of columns: add a line of names" in refusal(tmp_path / "a.csv")
        else:
            assert prepared(tmp_path / "a.csv").spec.feature_names == names


def test_columns_that_name_rows(tmp_path: Path) -> None:
    columns: dict[str, tuple[Any, str]] = {
        "name": (
            [f"person {place}" for place in range(ROWS)],
            "60 different texts in 60 cells, such as 'person 0'",
        ),
        "few": ([f"p{place // 2}" for place in range(ROWS)], ""),
        "when": ([str(date.fromordinal(737000 + place)) for place in range(ROWS)], "holds dates, such as '2018-11-02'"),
        "at": ([f"{1 + place % 28:02}.11.2026 08:30" for place in range(ROWS)], "such as '01.11.2026 08:30'"),
        "lap": (
            [f"{place // 9}:{place % 60:02}.5" for place in range(ROWS)],
            "times or durations, such as '0:00.5'",
        ),
        "Unnamed: 0": (range(ROWS), "a column has no name ('Unnamed: 0')"),
        "": (range(ROWS), "a column has no name ('')"),
    }
    for name, (cells, said) in columns.items():
        path = tmp_path / "a.csv"
        pd.DataFrame({name: cells, "b": HEIGHT}).to_csv(path, index=False)
        if not said:
            assert prepared(path).reading[0].startswith("table: 1 numeric (b), 1 categorical (few: 30 levels)")
            continue
        sentence = refusal(path)
        assert said in sentence
        assert told(prepared(path, **ways_out(sentence)[0])) == [
            "table: 1 numeric (b); 60 rows",
            f"table: left out: {name or 'one without a name'}",
        ]
        if "kinds" in sentence:
            assert prepared(path, **ways_out(sentence)[1]).spec.columns


def test_dates_by_choice(tmp_path: Path) -> None:
    days = pd.Series(pd.date_range("2026-01-01", periods=ROWS, freq="12h"))
    frame = pd.DataFrame({"when": days, "own": days.dt.strftime("%d.%m.%Y %H:%M"), "b": HEIGHT})
    frame.loc[7, ["when", "own"]] = None
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame.to_parquet(tmp_path / "a.parquet")
    kinds = ["when: date", "own: date %d.%m.%Y %H:%M"]
    for name in ("a.csv", "a.parquet"):
        module = prepared(tmp_path / name, kinds=kinds)
        assert told(module) == ["table: 1 numeric (b), 2 date (when, own); 60 rows, 2 missing cells"]
        (rows,) = (batch.index for batch in module.ordered_loader("test"))
        (x,) = (batch.x for batch in module.ordered_loader("test"))
        assert module.encoding is not None
        decoded = pd.to_datetime(module.encoding.decode(x.double().numpy())["when"])
        apart = (decoded.to_numpy() - days[rows.tolist()].to_numpy()).astype("timedelta64[s]").astype(int)
        assert (abs(apart[[row != 7 for row in rows.tolist()]]) <= 2).all()
    frame.loc[3, "own"] = "31.02.2026 10:00"
    frame.to_csv(tmp_path / "a.csv", index=False)
    assert "line 5" in (said := refusal(tmp_path / "a.csv", kinds=kinds))
    assert "'31.02.2026 10:00' in column 'own' is no date of the form %d.%m.%Y %H:%M" in said
    assert "'912.7' in column 'b' is no date of the form YYYY-MM-DD" in refusal(
        tmp_path / "a.csv", kinds={**read_kinds(kinds), "b": "date"}
    )
    frame.assign(long=days.diff()).to_parquet(tmp_path / "b.parquet")
    sentence = refusal(tmp_path / "b.parquet", ignore=["when", "own"])
    assert "column 'long' holds durations" in sentence
    assert prepared(tmp_path / "b.parquet", ignore=["when", "own"], **ways_out(sentence)[1]).spec.shape == (2,)


def test_kinds_of_any_column(tmp_path: Path) -> None:
    frame = pd.DataFrame({"zip code": [10115, 20095] * 30, "Größe (cm): neu": WIDTH, "b": HEIGHT})
    frame.to_csv(tmp_path / "a.csv", index=False)
    for kinds in (["zip code: categorical", "Größe (cm): neu: numeric"], {"zip code": "categorical"}):
        module = prepared(tmp_path / "a.csv", kinds=kinds)
        assert module.reading[0] == "table: 2 numeric (Größe (cm): neu, b), 1 categorical (zip code: 2 levels); 60 rows"
    assert "'zip code' is no 'column: kind'" in refusal(tmp_path / "a.csv", kinds=["zip code"])
    assert "did you mean 'categorical'" in refusal(tmp_path / "a.csv", kinds=["zip code: categoric"])


def test_parquet(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    plain = pd.DataFrame({"a": WIDTH, "b": HEIGHT})
    nested = {"lists": [[1.0, 2.0]] * ROWS, "structures": [{"x": 1, "y": 2}] * ROWS}
    for what, cells in nested.items():
        plain.assign(vec=cells).to_parquet(tmp_path / "a.parquet")
        sentence = refusal(tmp_path / "a.parquet")
        assert f"column 'vec' holds {what}" in sentence
        assert prepared(tmp_path / "a.parquet", **ways_out(sentence)[0]).spec.shape == (2,)
    for name in ("a.pq", "A.PARQUET", "table"):
        plain.to_parquet(tmp_path / name)
        assert told(prepared(tmp_path / name)) == ["table: 2 numeric (a, b); 60 rows"]
    plain.assign(a=plain["a"].where(plain.index != 5, np.inf)).to_parquet(tmp_path / "b.parquet")
    assert "row 6 of" in (said := refusal(tmp_path / "b.parquet"))
    assert "'inf' in column 'a' is no finite number; mend the file" in said
    pq.write_table(pa.table([WIDTH, HEIGHT], names=["a", "a"]), tmp_path / "c.parquet")
    assert "more than one column 'a': name each once" in refusal(tmp_path / "c.parquet")
    plain[:0].to_parquet(tmp_path / "d.parquet")
    assert "holds no rows" in refusal(tmp_path / "d.parquet")
    plain.set_index("a").to_parquet(tmp_path / "e.parquet")
    assert told(prepared(tmp_path / "e.parquet"))[1] == "table: left out: the index a"


def test_files_that_are_no_table(tmp_path: Path) -> None:
    path = written(tmp_path, WIDTH)
    assert "has no column that a model reads" in refusal(path, ignore=["a"], label=Label("b"))
    for name, content, said in [
        ("x.csv", b"PK\x03\x04rest", "is an archive or a spreadsheet"),
        ("nul.csv", b"a,b\n1,\x002\n", "line 2 of"),
        ("long.csv", b"a,b\n" + b"1" * 2**24 + b",2\n", "line 2 of"),
        ("wide.csv", "a,b\n1,2\n".encode("utf-16-le"), "set datamodule.source.format.encoding=utf-16"),
        ("d.csv", b"a,b,,\n1,2,3,4\n", "a column has no name"),
    ]:
        (tmp_path / name).write_bytes(content)
        assert said in refusal(tmp_path / name), name
    assert "is a folder" in refusal(tmp_path)
    np.savez(tmp_path / "empty.npz", x=np.zeros((0, 3)))
    assert "holds no rows" in refusal(tmp_path / "empty.npz")
    np.savez(tmp_path / "none.npz", x=np.zeros((3, 0)))
    assert "holds no columns" in refusal(tmp_path / "none.npz")
    np.savez(tmp_path / "complex.npz", x=np.zeros(3, complex))
    assert "is of type complex128" in refusal(tmp_path / "complex.npz")
    (tmp_path / "b.csv").write_bytes("a,b\n1,2\n3,5\n4,6\n".encode("utf-16"))
    assert told(prepared(tmp_path / "b.csv")) == ["table: 2 numeric (a, b); 3 rows"]
    for wrong in ("\n", '"', "ab", "x"):
        with pytest.raises(UserError, match="must be one character, or one of"):
            Format(wrong)
    with pytest.raises(UserError, match="need two marks"):
        Format(thousands="point")


def test_labels_are_told_and_huge_ones_are_names(tmp_path: Path) -> None:
    colours, codes = np.array(["red", "blue"] * 30), np.array([10**12, 10**12 + 1] * 30)
    frame = pd.DataFrame({"kind": colours, "code": codes, "a": WIDTH, "b": HEIGHT})
    frame.to_csv(tmp_path / "a.csv", index=False)
    module = prepared(tmp_path / "a.csv", label=Label("kind"), ignore=["code"])
    assert told(module) == [
        "table: 2 numeric (a, b); 60 rows; label: kind (0 is blue, 1 is red)",
        "table: left out: code",
    ]
    assert (module.spec.num_classes, module.spec.class_names) == (2, ["blue", "red"])
    module = prepared(tmp_path / "a.csv", label=Label("code"), ignore=["kind"])
    assert (module.spec.num_classes, module.spec.class_names) == (2, ["1000000000000", "1000000000001"])
    anomalies = prepared(tmp_path / "a.csv", label=Label("kind", normal=["red"]), ignore=["code"])
    assert anomalies.spec.class_names == ["red", "anomaly"]
    held = HeldOutRows(path=str(tmp_path / "a.csv"))
    module = prepared(tmp_path / "a.csv", ignore=["kind", 1], test=held)
    assert module.reading[0] == "table: 2 numeric (a, b); 60 rows and 60 of the test file"
