"""Counts are read from every kind of file alike, and what is no file of counts is refused in a sentence."""

# mypy: disable-error-code="arg-type, union-attr"

from __future__ import annotations

import gzip
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import io, sparse
from sklearn.datasets import dump_svmlight_file

from narrows.data import Beside, CountForm, Counts, DataModule, Format, HeldOutCounts, Sparse
from narrows.data.counted import most_variable
from narrows.errors import UserError

ROWS, WIDTH = 30, 6
FEATURES = ["ape", "bee", "cat", "dog", "eel", "fox"]
WRITERS: dict[str, tuple[Callable[[Path, Any], None], dict[str, Any]]] = {}


def counts(seed: int = 0, rows: int = ROWS) -> Any:
    found = np.random.default_rng(seed).poisson(0.7, (rows, WIDTH))
    found[:, 0] += 1
    found[0] += 1  # every feature is met, the last in the first row
    return found


def writer(name: str, **options: Any) -> Any:
    def keep(function: Callable[[Path, Any], None]) -> Any:
        WRITERS[name] = function, options
        return function

    return keep


def parts(x: Any, *names: str) -> dict[str, Any]:
    matrix = sparse.csr_matrix(x)
    return dict(zip(names, (matrix.data, matrix.indices, matrix.indptr, np.array(x.shape)), strict=False))


writer("scipy.npz")(lambda path, x: sparse.save_npz(path, sparse.csr_matrix(x)))
writer("columns.npz")(lambda path, x: sparse.save_npz(path, sparse.csc_array(x)))
writer("triplets.npz")(lambda path, x: sparse.save_npz(path, sparse.coo_matrix(x)))
writer("arrays.npz")(lambda path, x: np.savez(path, **parts(x, "data", "indices", "indptr", "shape")))
writer("words.npz")(lambda path, x: np.savez(path, **parts(x, "values", "cols", "row_ptr", "shape")))
writer("shapeless.npz")(lambda path, x: np.savez(path, **parts(x, "X_data", "X_indices", "X_indptr")))
writer("dense.npz")(lambda path, x: np.savez(path, x=x))
writer("dense.npy")(lambda path, x: np.save(path, x.astype(np.uint8)))
writer("market.mtx")(lambda path, x: io.mmwrite(path, sparse.coo_matrix(x)))
writer("genes.mtx", form=CountForm(transpose=True))(lambda path, x: io.mmwrite(path, sparse.coo_matrix(x.T)))
writer("light.svm")(lambda path, x: dump_svmlight_file(x, np.arange(len(x)) % 3, str(path)))
writer("table.parquet")(lambda path, x: pd.DataFrame(x, columns=FEATURES).to_parquet(path))
writer("table.csv")(lambda path, x: pd.DataFrame(x, columns=FEATURES).to_csv(path, index=False))
writer("indexed.csv")(lambda path, x: pd.DataFrame(x, columns=FEATURES).to_csv(path))
writer("bare.tsv", form=CountForm(text=Format(separator="tab", header=False)))(
    lambda path, x: np.savetxt(path, x, "%d", "\t")
)


@writer("packed.mtx.gz")
def packed(path: Path, x: Any) -> None:
    io.mmwrite(path.with_suffix(""), sparse.coo_matrix(x))
    path.write_bytes(gzip.compress(path.with_suffix("").read_bytes()))


@writer("narrow.npz")
def narrow(path: Path, x: Any) -> None:
    found = parts(x, "data", "indices", "indptr", "shape")
    kinds = {"data": np.uint8, "indices": np.uint16, "indptr": np.int32, "shape": np.int32}
    np.savez_compressed(path, **{name: values.astype(kinds[name]) for name, values in found.items()})


@writer("second.npz", form=CountForm(key="raw"))
def second(path: Path, x: Any) -> None:
    found = {f"scaled_{name}": values for name, values in parts(x * 2, "data", "indices", "indptr", "shape").items()}
    np.savez(path, **found, **{f"raw_{name}": v for name, v in parts(x, "data", "indices", "indptr", "shape").items()})


@writer("triples.csv")
def triples(path: Path, x: Any) -> None:
    rows, columns = x.nonzero()
    lines = [f"d{row},{FEATURES[column]},{x[row, column]}" for row, column in zip(rows, columns, strict=True)]
    path.write_text("\n".join(["doc,word,count", *lines]))


@writer("twice.csv.gz", form=CountForm(layout="triples"))
def twice(path: Path, x: Any) -> None:
    rows, columns = x.nonzero()
    lines = [f"{row},{column},1" for row, column in zip(rows, columns, strict=True) for _ in range(x[row, column])]
    path.write_bytes(gzip.compress("\n".join(["a,b,c", *lines]).encode()))


def loaded(source: Counts) -> DataModule:
    data = DataModule(source, validation="auto")
    data.setup()
    return data


@pytest.mark.parametrize("name", sorted(WRITERS))
def test_every_kind_of_file_holds_the_same_counts(name: str, tmp_path: Path) -> None:
    write, options = WRITERS[name]
    write(tmp_path / name, counts())
    contents = Counts(str(tmp_path / name), **options).load()
    assert contents.kind == "counts"
    assert isinstance(contents.train.x, Sparse)
    assert np.array_equal(contents.train.x.take(slice(None)).numpy(), counts())
    assert f"{ROWS} rows of {WIDTH} features" in contents.reading[0]
    if name in ("table.csv", "table.parquet", "triples.csv", "indexed.csv"):
        assert contents.feature_names == FEATURES
    if name == "triples.csv":
        assert contents.train.names == [f"d{row}" for row in range(ROWS)]
    if name == "light.svm":
        assert contents.train.label.tolist() == [row % 3 for row in range(ROWS)]


def test_labels_and_names_come_from_keys_columns_and_files(tmp_path: Path) -> None:
    x, kinds = counts(), np.arange(ROWS) % 3
    arrays = parts(x, "data", "indices", "indptr", "shape")
    cells = {"cell_type": kinds, "cell_type_names": np.array(["B", "NK", "T"]), "genes": np.array(FEATURES)}
    np.savez(tmp_path / "cells.npz", **arrays, **cells, barcodes=np.array([f"b{row}" for row in range(ROWS)]))
    data = loaded(Counts(str(tmp_path / "cells.npz")))
    assert (data.spec.num_classes, data.spec.class_names, data.spec.feature_names) == (3, ["B", "NK", "T"], FEATURES)
    part, rows = data.part("test"), data._split("test").rows.tolist()
    assert part.names == [f"b{row}" for row in rows]
    assert part.label.tolist() == [row % 3 for row in rows]

    sparse.save_npz(tmp_path / "plain.npz", sparse.csr_matrix(x))
    (tmp_path / "names.txt").write_text("\n".join(FEATURES) + "\n")
    (tmp_path / "kinds.txt").write_text("\n".join(f"kind {kind}" for kind in kinds))
    data = loaded(
        Counts(
            str(tmp_path / "plain.npz"),
            label=Beside(path=str(tmp_path / "kinds.txt")),
            names=Beside(path=str(tmp_path / "names.txt")),
        )
    )
    assert (data.spec.class_names, data.spec.feature_names) == (["kind 0", "kind 1", "kind 2"], FEATURES)

    frame = pd.DataFrame(x, columns=FEATURES)
    frame.insert(3, "group", [f"g{kind}" for kind in kinds])
    frame.to_csv(tmp_path / "groups.csv", index=False)
    data = loaded(Counts(str(tmp_path / "groups.csv"), label=Beside("group")))
    assert (data.spec.class_names, data.spec.shape) == (["g0", "g1", "g2"], (WIDTH,))
    plain = loaded(Counts(str(tmp_path / "cells.npz"), label=Beside(None), names=Beside(None)))
    assert (plain.spec.num_classes, plain.spec.feature_names) == (None, None)
    np.savez(tmp_path / "target.npz", **arrays, y=np.full(ROWS, 0.5))
    assert loaded(Counts(str(tmp_path / "target.npz"))).spec.num_classes is None


def test_other_files_are_validated_and_tested_on_and_matched_by_name(tmp_path: Path) -> None:
    x, y = counts(), counts(1, 12)
    pd.DataFrame(x, columns=FEATURES).to_csv(tmp_path / "train.csv", index=False)
    pd.DataFrame(y, columns=FEATURES).to_csv(tmp_path / "validation.csv", index=False)
    other = pd.DataFrame(y[:, ::-1], columns=FEATURES[::-1]).drop(columns="dog")
    other.insert(2, "gnu", 7)
    other.to_csv(tmp_path / "test.csv", index=False)
    paths = {name: str(tmp_path / f"{name}.csv") for name in ("train", "validation", "test")}
    data = loaded(Counts(paths["train"], validation_path=paths["validation"], test=HeldOutCounts(path=paths["test"])))
    assert len(data.part("train")) == ROWS
    assert np.array_equal(data.part("validation").x.take(slice(None)).numpy(), y)
    y[:, 3] = 0
    assert np.array_equal(data.part("test").x.take(slice(None)).numpy(), y)
    assert "1 features of test.csv are not in the training file and left out" in data.reading
    np.save(tmp_path / "train.npy", x)
    np.save(tmp_path / "narrow.npy", y[:, :5])
    with pytest.raises(UserError, match=r"narrow\.npy has 5 features, but .*train\.npy 6: both must have the same"):
        Counts(str(tmp_path / "train.npy"), test=HeldOutCounts(path=str(tmp_path / "narrow.npy"))).load()


def test_a_number_of_rows_is_held_out(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", counts())
    data = loaded(Counts(str(tmp_path / "x.npy"), test=HeldOutCounts(fraction=7)))
    assert len(data.part("test")) == 7
    assert not loaded(Counts(str(tmp_path / "x.npy"), test=HeldOutCounts(fraction=None))).has("test")
    for wrong in (0, 1, 1.5, ROWS):
        with pytest.raises(UserError, match="test="):
            loaded(Counts(str(tmp_path / "x.npy"), test=HeldOutCounts(fraction=wrong)))


def test_the_most_variable_features_are_kept_by_the_training_rows(tmp_path: Path) -> None:
    """Against the definition, on the dense matrix; the test rows, where another feature varies most, are not asked."""
    x = counts(1, 60)
    x[:30:2, 3] += 6
    x[1:31:5, 1] += 9
    x[45:, 5] += np.arange(15) * 9
    x[:, 1] += 1  # no row is without counts
    np.savez(tmp_path / "all.npz", x=x[:45], genes=FEATURES)
    np.savez(tmp_path / "test.npz", x=x[45:], genes=FEATURES)
    test = HeldOutCounts(path=str(tmp_path / "test.npz"))
    data = DataModule(
        Counts(str(tmp_path / "all.npz"), form=CountForm(variable=2), test=test), batch_size=8, validation=5
    )
    data.setup()
    assert data.spec.feature_names == ["bee", "dog"]
    assert data.spec.shape == (2,)
    assert "2 of 6 features kept, which vary most over the training rows" in data.reading
    assert np.array_equal(data.part("test").x.matrix.toarray(), x[45:, [1, 3]])
    train = x[:45].astype(float)
    mean = train.sum(1, keepdims=True) * train.sum(0) / train.sum()
    residual = ((train - mean) / np.sqrt(mean + mean**2 / 100)).clip(-np.sqrt(45), np.sqrt(45))
    order = np.argsort(-residual.var(0))
    for number in (1, 3, 99):
        assert most_variable(sparse.csr_matrix(x[:45]), number).tolist() == sorted(order[:number].tolist())
    with pytest.raises(UserError, match="variable=0 is no number of features of at least 1"):
        Counts("here", form=CountForm(variable=0))


def bad(change: Callable[[Any], Any]) -> Callable[[Path], None]:
    return lambda path: np.savez(path, **change(parts(counts(), "data", "indices", "indptr", "shape")))


def spoilt(**changed: Any) -> Callable[[Path], None]:
    return bad(lambda found: found | changed)


@pytest.mark.parametrize(
    ("name", "write", "options", "sentence"),
    [
        ("a.docx", lambda path: path.write_text("x"), {}, r"a\.docx is no file of counts: \.npz, \.npy"),
        ("a.npz", lambda path: path.write_text("x"), {}, "cannot be read as numpy arrays"),
        ("a.mtx", lambda path: path.write_text("x"), {}, r"a\.mtx cannot be read as counts"),
        ("a.svm", lambda path: path.write_text("one two"), {}, r"a\.svm cannot be read as counts"),
        (
            "a.csv",
            lambda path: path.write_text("a,b,c,d\n1,2,3,4\n1,x,3,4"),
            {},
            "line 3 of .* holds 'x' in column 'b'",
        ),
        ("a.csv", lambda path: path.write_text("a,b,c,d\n1,,3,4"), {}, "in column 'b', where a count is due"),
        ("a.csv", lambda path: path.write_text("doc,word,n\n1,a,x"), {}, "line 2 of .* is no row, feature and count"),
        ("a.csv", lambda path: path.write_text("doc,size,n\n1,4,5"), {}, "set source.form.layout to dense or triples"),
        ("a.csv", lambda path: path.write_text("a,b\n1,2,3"), {}, "line 2 of .* has 3 cells in place of 2"),
        ("a.npz", spoilt(indptr=np.array([0, 3, 900])), {}, "cannot be read as counts"),
        ("a.npz", spoilt(indices=np.full(parts(counts(), "d", "i")["i"].shape, 99)), {}, "cannot be read as counts"),
        ("a.npz", spoilt(format=np.array("bsr")), {}, "a sparse matrix of format bsr: save it as csr, csc or coo"),
        ("a.npz", spoilt(data=np.array(["a", "b"])), {}, "cannot be read as counts|values of type"),
        (
            "a.npz",
            spoilt(data=parts(counts(), "d")["d"] / 4),
            {},
            r"holds \d*\.\d+ in row .* counts must be whole numbers",
        ),
        ("a.npz", spoilt(data=-parts(counts(), "d")["d"]), {}, "in row 0 at feature 0, and .* counts must be whole"),
        ("a.npz", spoilt(label=np.zeros(ROWS + 1)), {}, r"has 30 rows, but its labels are of shape \[31\]"),
        ("a.npz", spoilt(y=np.zeros(ROWS), label=np.zeros(ROWS)), {}, r"several arrays that may be meant \(y, label\)"),
        ("a.npz", spoilt(genes=np.array(["a"])), {}, "has 6 features, but there are 1 names"),
        ("a.npz", spoilt(), {"label": Beside("kind")}, "source.label.key=kind: .* has no such array"),
        ("a.npz", spoilt(), {"names": Beside("kind")}, "source.names.key=kind: .* has no such array"),
        ("a.npy", lambda path: np.save(path, np.zeros((2, 3, 4))), {}, r"shape \[2, 3, 4\]: counts are \[N, D\]"),
        ("a.npy", lambda path: np.save(path, counts() * 0), {}, "no counts: set source.empty=drop"),
        ("a.npy", lambda path: np.save(path, np.full((9, 3), np.nan)), {}, "row 0 holds nan at position 0"),
        ("a.npz", spoilt(y=np.full(ROWS, 0.5)), {"label": Beside("y")}, "are fractions, and labels are whole numbers"),
        (
            "a.csv",
            lambda path: path.write_text("a,b,k\n1,2,x\n1,2,"),
            {"label": Beside("k")},
            "row 1 of .* has no label",
        ),
        (
            "a.npz",
            spoilt(shape=np.array([ROWS, 10**12])),
            {},
            "has 1,000,000,000,000 features, and no batch of more than",
        ),
        ("a.npz", lambda path: second(path, counts()), {}, "several sparse matrices .* set source.form.key"),
    ],
)
def test_what_is_no_file_of_counts_is_refused(
    name: str, write: Callable[[Path], None], options: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    write(tmp_path / name)
    with pytest.raises(UserError, match=sentence) as found:
        loaded(Counts(str(tmp_path / name), **options))
    assert "\n" not in str(found.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"missing\.npz does not exist: set source\.path"):
        Counts(str(tmp_path / "missing.npz")).load()
    with pytest.raises(UserError, match=r"unknown form\.layout='wide'"):
        CountForm(layout="wide")
    with pytest.raises(UserError, match="unknown empty='skip'"):
        Counts("x", empty="skip")


def test_annotated_data_need_their_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cells.h5ad").write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "anndata", None)
    with pytest.raises(UserError, match=r"needs anndata: pip install 'narrows\[anndata\]'"):
        Counts(str(tmp_path / "cells.h5ad")).load()


@pytest.mark.filterwarnings("ignore")  # the library warns of its own options
def test_annotated_data_bring_their_names_and_labels(tmp_path: Path) -> None:
    anndata = pytest.importorskip("anndata")
    anndata.settings.allow_write_nullable_strings = True
    x, names = counts(), [f"cell{row}" for row in range(ROWS)]
    about = pd.DataFrame({"cell_type": [f"t{row % 2}" for row in range(ROWS)]}, index=names)
    made = anndata.AnnData(sparse.csr_matrix(x.astype(np.float32) * 2), about, pd.DataFrame(index=FEATURES))
    made.layers["counts"] = sparse.csr_matrix(x)
    made.write_h5ad(tmp_path / "cells.h5ad")
    contents = Counts(str(tmp_path / "cells.h5ad"), form=CountForm(key="counts")).load()
    assert np.array_equal(contents.train.x.take(slice(None)).numpy(), x)
    assert np.array_equal(Counts(str(tmp_path / "cells.h5ad")).load().train.x.take(slice(None)).numpy(), 2 * x)
    assert (contents.feature_names, contents.train.names, contents.class_names) == (FEATURES, names, ["t0", "t1"])
    assert contents.train.label.tolist() == [row % 2 for row in range(ROWS)]
    with pytest.raises(UserError, match="has no layer 'count': did you mean 'counts'"):
        Counts(str(tmp_path / "cells.h5ad"), form=CountForm(key="count")).load()


def test_real_counts_are_read_by_their_yamls(real_data: Path) -> None:
    from command import composed

    from narrows.config.hydra_versions import instantiate

    wanted = {
        "newsgroups20": ((2000,), 11268 - 1127, 7505, 21),
        "newsgroups20_etm": ((3072,), 11214, 7531, None),
        "scrna": ((2000,), 1899, 528, 9),
    }
    for name, (shape, train, test, classes) in wanted.items():
        data = instantiate(composed(f"datamodule={name}", f"data_dir={real_data}").datamodule)
        data.setup()
        assert (data.spec.shape, len(data.part("test")), data.spec.num_classes) == (shape, test, classes)
        assert abs(data.spec.size - train) <= 1
        assert torch.isfinite(torch.tensor(data.spec.totals)).all()
