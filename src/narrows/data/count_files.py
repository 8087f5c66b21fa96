"""Reading files of counts as sparse rows: arrays of numpy and SciPy, Matrix Market, svmlight, AnnData, and tables."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from narrows.data.array_keys import AUTO, find_training
from narrows.data.count_form import CountFile, CountForm
from narrows.data.dataset_files import array_names, read_arrays
from narrows.data.sparse_rows import canonical
from narrows.errors import UserError, nearest, require
from narrows.files import require_no_pipe

PACKED = (".gz", ".xz", ".bz2")
SVMLIGHT = (".svm", ".svmlight", ".libsvm")
TABLES = (".csv", ".tsv", ".txt", ".parquet", ".pq")
VALUES, COLUMNS, ENDS = ("data", "values", "counts"), ("indices", "columns", "cols"), ("indptr", "rowptr", "ptr")
MOST_FEATURES = 2**26
KNOWN = ".npz, .npy, .mtx, .svm (svmlight), .h5ad, .csv, .tsv, .txt or .parquet, also .gz"


def read_counts(path: Path, form: CountForm, label: str | None = None) -> CountFile:
    """The counts of a file, by its name's ending.

    Args:
        label: the column of a dense table that holds no counts but labels.

    Raises:
        UserError: no known ending; a file that is broken, or holds no matrix of numbers.
    """
    require_no_pipe(path)
    kind = kind_of(path)
    if kind in TABLES:
        from narrows.data.count_tables import read_table  # pandas is slow to import

        return read_table(path, form.layout, form.text, label)
    reader = {".npz": _npz, ".npy": _npy, ".mtx": _matrix_market, ".h5ad": _anndata}.get(kind, _svmlight)
    require(kind in (".npz", ".npy", ".mtx", ".h5ad", *SVMLIGHT), f"{path} is no file of counts: {KNOWN} are read")
    with explained(path):
        found = reader(path, form)
        matrix = found.matrix.T if form.transpose else found.matrix
        if form.transpose:
            found.features, found.rows = found.rows, found.features
        require(matrix.ndim == 2, f"{path} holds an array of shape {list(matrix.shape)}: counts are [N, D]")
        require(matrix.dtype.kind in "biuf", f"{path} holds values of type {matrix.dtype}, and counts are numbers")
        require(
            matrix.shape[1] <= MOST_FEATURES,
            f"{path} has {matrix.shape[1]:,} features, and no batch of more than {MOST_FEATURES:,} fits in memory"
            f"{'' if form.transpose else ': are its examples in columns (source.form.transpose=true)?'}",
        )
        found.matrix = canonical(matrix)
    return found


def kind_of(path: Path) -> str:
    """The ending of a file's name, without that of a compression."""
    return (path.with_suffix("") if path.suffix.lower() in PACKED else path).suffix.lower()


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Errors of the libraries that read a file, of which there are many, as one sentence that names it."""
    try:
        yield
    except UserError as error:
        raise error if str(path) in str(error) else UserError(f"{path}: {error}") from error
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path} cannot be read as counts ({reason})") from error


def _npy(path: Path, form: CountForm) -> CountFile:
    return CountFile(path, read_arrays(path, ["x"])["x"], "dense array")


def _npz(path: Path, form: CountForm) -> CountFile:
    names = array_names(path)
    if not names:
        return _npy(path, form)
    found = _sparse_keys(names, form.key, path)
    if found is None:
        key = find_training(names, path, "source.form.key").x if form.key == AUTO else form.key
        arrays = read_arrays(path, names if key in names else [key])
        matrix, used, said = arrays[key], {key}, f"dense array '{key}'"
    else:
        arrays, used = read_arrays(path, names), set(found.values())
        matrix, said = _assembled({name: arrays[key] for name, key in found.items()}, path), "sparse rows"
    return CountFile(path, matrix, said, columns={name: array for name, array in arrays.items() if name not in used})


def _sparse_keys(names: Sequence[str], key: str, path: Path) -> dict[str, str] | None:
    """The keys of a sparse matrix's arrays by what they are; None if the file holds none.

    Raises:
        UserError: it holds several.
    """
    plain = {"".join(char for char in name.lower() if char.isalnum()): name for name in names}
    prefix = "" if key == AUTO else "".join(char for char in key.lower() if char.isalnum())
    found: list[dict[str, str]] = []
    for word, name in plain.items():
        for end in VALUES:
            start = word.removesuffix(end)
            if not word.endswith(end) or (key != AUTO and start != prefix):
                continue
            others = {what: next((start + w for w in words if start + w in plain), None) for what, words in OTHERS}
            whole = {what: plain[other] for what, other in others.items() if other is not None} | {"data": name}
            if {"indices", "indptr"} <= whole.keys() or {"row", "col"} <= whole.keys():
                found.append(whole)
    said = ", ".join(one["data"] for one in found)
    require(len(found) < 2, f"{path} holds several sparse matrices ({said}): set source.form.key to how one begins")
    return found[0] if found else None


OTHERS = (
    *(("indices", COLUMNS), ("indptr", ENDS), ("shape", ("shape", "size"))),
    *(("format", ("format",)), ("row", ("row", "rows")), ("col", ("col", "cols")), ("is_array", ("isarray",))),
)
"""The other arrays of a sparse matrix, by the names that are usual for them, in small letters without marks."""


def _assembled(arrays: dict[str, Any], path: Path) -> Any:
    layout = arrays.get("format", np.array("csr" if "indptr" in arrays else "coo")).item()
    layout = layout.decode() if isinstance(layout, bytes) else str(layout)
    shape = tuple(int(size) for size in arrays["shape"]) if "shape" in arrays else None
    if layout == "coo":
        return sparse.coo_matrix((arrays["data"], (arrays["row"], arrays["col"])), shape)
    make = {"csr": sparse.csr_matrix, "csc": sparse.csc_matrix}.get(layout)
    if make is None or "indptr" not in arrays:
        raise UserError(f"{path} holds a sparse matrix of format {layout}: save it as csr, csc or coo")
    # Indices of few bits: SciPy takes signed ones alone.
    indices, ends = (arrays[name].astype(np.int64) for name in ("indices", "indptr"))
    matrix = make((arrays["data"], indices, ends), shape)
    matrix.check_format(full_check=True)
    return matrix


def _matrix_market(path: Path, form: CountForm) -> CountFile:
    from scipy.io import mmread

    return CountFile(path, mmread(path), "Matrix Market")


def _svmlight(path: Path, form: CountForm) -> CountFile:
    from sklearn.datasets import load_svmlight_file

    matrix, label = load_svmlight_file(str(path))
    return CountFile(path, matrix, "svmlight", columns={"label": label})


def _anndata(path: Path, form: CountForm) -> CountFile:
    try:
        import anndata
    except ImportError as error:
        raise UserError(f"reading {path} needs anndata: pip install 'narrows[anndata]'") from error
    found = anndata.read_h5ad(path)
    require(
        form.key == AUTO or form.key in found.layers,
        f"{path} has no layer '{form.key}': {nearest(form.key, found.layers)}",
    )
    matrix = found.X if form.key == AUTO else found.layers[form.key]
    columns = {str(name): found.obs[name].astype(str).to_numpy() for name in found.obs}
    return CountFile(path, matrix, "AnnData", list(map(str, found.var_names)), list(map(str, found.obs_names)), columns)


def read_lines(path: Path) -> list[str]:
    """The lines of a text file, also .gz, without blank ones at its end.

    They end with LF, CR LF or CR; other characters that Unicode calls line ends stand in texts, and in JSON.

    Raises:
        UserError: a file that cannot be read.
    """
    require_no_pipe(path)
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data).decode("utf-8-sig")
    except (OSError, EOFError, ValueError) as error:
        utf8 = ": save it as UTF-8" if isinstance(error, UnicodeDecodeError) else ""
        raise UserError(f"{path} cannot be read as lines of text ({error}){utf8}") from error
    return [line.strip() for line in io.StringIO(text.rstrip(), newline=None)]
