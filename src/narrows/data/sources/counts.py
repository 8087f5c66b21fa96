"""Your own counts: documents as bags of words, genes of cells, or anything else that is counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from narrows.data.array_keys import AUTO, LABELS
from narrows.data.checks import MOST_CLASSES
from narrows.data.contents import Contents, Part, shortened
from narrows.data.count_files import read_counts, read_lines
from narrows.data.count_form import CountFile, CountForm
from narrows.data.counted import require_counts
from narrows.data.counting import Counting, Empty
from narrows.data.dataset_files import existing, read_arrays
from narrows.data.sparse_rows import Sparse
from narrows.errors import UserError, nearest, printable, require

LABEL_KEYS = {*LABELS, "celltype", "category", "class", "classes", "topic", "cluster", "celltypes"}
NAME_KEYS = {"featurenames", "features", "names", "genes", "genenames", "vocabulary", "vocab", "words", "terms"}
ROW_KEYS = {"rownames", "barcodes", "cells", "docids", "ids"}
"""Keys of labels and names in a file of arrays, in small letters without marks."""


@dataclass
class Beside:
    """Where labels or names are that come with the counts.

    Args:
        key: of an array in the same file (a column of a dense table, or of a .h5ad's observations); `auto` finds the
            usual names; null for none.
        path: a file of their own, one a line, or a .npy; it goes before `key`.
    """

    key: str | None = AUTO
    path: str | None = None


@dataclass
class HeldOutCounts:
    """Where the test split of `Counts` comes from.

    Args:
        fraction: of the rows, or their number, if `path` is null; null for no test split.
        path: another file of the same features.
        label_path: a file of its labels; null for those in `path` by the key of the training labels.
    """

    fraction: float | int | None = 0.1
    path: str | None = None
    label_path: str | None = None


class Counts:
    """Rows of counts, held sparse, from any file that `read_counts` reads.

    Where both files name their features, columns of the validation and test files are matched by name; those that the
    training file does not have are left out, and the reading line says how many.

    Args:
        label: where the labels are.
        names: where the names of the features are.
        empty: what becomes of rows without any count: refuse, drop or keep.
        train_labels: only rows with these labels are trained and validated on; the test split keeps all.
        validation_path: another file to validate on.

    Raises:
        UserError: (`load`) a file that cannot be read, values that are no counts, labels or names of another number.
    """

    def __init__(
        self,
        path: str,
        label: Beside | None = None,
        names: Beside | None = None,
        empty: Empty = "refuse",
        train_labels: Sequence[int] | None = None,
        form: CountForm | None = None,
        validation_path: str | None = None,
        test: HeldOutCounts | None = None,
    ) -> None:
        self.path = path
        self.label = label or Beside()
        self.names = names or Beside()
        self.train_labels = train_labels
        self.form = form or CountForm()
        self.counting = Counting(empty, variable=self.form.variable)
        self.validation_path = validation_path
        self.test = test or HeldOutCounts()

    def load(self) -> Contents:
        places = {"train": (self.path, "source.path", self.label)}
        # A file of labels belongs to one file of counts.
        key = self.label.key
        if self.validation_path is not None:
            places["validation"] = (self.validation_path, "source.validation_path", Beside(key))
        if self.test.path is not None:
            places["test"] = (self.test.path, "source.test.path", Beside(key, self.test.label_path))
        files = {name: self._read(*place) for name, place in places.items()}
        features = self._features(files["train"])
        said = [aligned(file, features, files["train"]) for name, file in files.items() if name != "train"]
        labels = {name: labels_of(file, places[name][2]) for name, file in files.items()}
        classes = Classes([label for label in labels.values() if label is not None], files["train"])
        parts = {name: _part(file, classes.of(labels[name])) for name, file in files.items()}
        return Contents.of_parts(
            "counts",
            parts,
            self.test.fraction,
            train_labels=self.train_labels,
            feature_names=features,
            class_names=classes.names,
            counting=self.counting,
            reading=[_described(files, classes), *filter(None, said)],
        )

    def _read(self, path: str, setting: str, label: Beside) -> CountFile:
        found = read_counts(existing(path, setting), self.form, label.key)
        require_counts(found.matrix, str(found.path), found.features)
        return found

    def _features(self, file: CountFile) -> list[str] | None:
        """The names of the features, those of the training file or of their own."""
        names = file.features
        if self.names.path is not None:
            names = read_lines(existing(self.names.path, "source.names.path"))
        elif self.names.key != AUTO or names is None:
            found = _array(file, self.names.key, NAME_KEYS, "source.names")
            names = None if found is None else _texts(found)
        if names is None:
            return None
        width = file.matrix.shape[1]
        require(
            len(names) == width,
            f"{file.path} has {width:,} features, but there are {len(names):,} names: one for each is due",
        )
        return names


def aligned(file: CountFile, features: list[str] | None, train: CountFile) -> str:
    """Bring the columns of another file into the order of the training file's; what was done, if anything.

    Raises:
        UserError: other features.
    """
    own, width = file.features, train.matrix.shape[1]
    if own is None or features is None or own == features:
        lacking = width - file.matrix.shape[1]
        # Files that list what is filled end with the last feature that is.
        require(
            lacking == 0 or (lacking > 0 and file.said == "svmlight"),
            f"{file.path} has {file.matrix.shape[1]:,} features, but {train.path} {width:,}: both must have the same",
        )
        file.matrix.resize(len_of(file), width)
        return ""
    for names, path in ((features, train.path), (own, file.path)):
        require(
            len(set(names)) == len(names),
            f"features of {path} share a name, and {file.path} is matched by name: name each once",
        )
    places = {name: place for place, name in enumerate(features)}
    known = [place for place, name in enumerate(own) if name in places]
    require(bool(known), f"no feature of {file.path} ({shortened(own)}) is one of {train.path} ({shortened(features)})")
    chosen = file.matrix[:, known].tocoo()
    column = np.array([places[own[place]] for place in known])[chosen.col]
    file.matrix = sparse.csr_matrix((chosen.data, (chosen.row, column)), (len_of(file), width))
    unknown = len(own) - len(known)
    return f"{unknown:,} features of {file.path.name} are not in the training file and left out" if unknown else ""


def len_of(file: CountFile) -> int:
    return int(file.matrix.shape[0])


def labels_of(file: CountFile, label: Beside) -> NDArray[Any] | None:
    """The labels as the file has them, `[N]`; None if there are none.

    Raises:
        UserError: no such key or file, or not one for each row.
    """
    if label.path is not None:
        found: NDArray[Any] | None = _read_labels(existing(label.path, "source.label.path"))
    else:
        found = _array(file, label.key, LABEL_KEYS, "source.label")
    if found is None:
        return None
    where = f" in {label.path}" if label.path else ""
    require(
        found.ndim == 1 and len(found) == len_of(file),
        f"{file.path} has {len_of(file):,} rows, but its labels{where} are of shape {list(found.shape)}: one for each "
        "row is due",
    )
    if found.dtype.kind == "f" and not np.array_equal(found, np.round(found)):
        # What was found by its name alone is a target of a regression.
        asked = label.path is not None or label.key != AUTO
        require(not asked, f"the labels of {file.path}{where} are fractions, and labels are whole numbers or texts")
        return None
    bare = [row for row, text in enumerate(_texts(found)) if not text]
    require(not bare, f"row {bare[0] if bare else 0} of {file.path} has no label{where}")
    return found


def _array(file: CountFile, key: str | None, usual: set[str], setting: str) -> NDArray[Any] | None:
    """The array of this key, or of a usual one where it is `auto`; None if there is none.

    Raises:
        UserError: no such key.
    """
    if key is None:
        return None
    found = _key(file, usual if key == AUTO else {_plain(key)})
    require(
        found is not None or key == AUTO,
        f"{setting}.key={key}: {file.path} has no such array or column; {nearest(key, file.columns)}",
    )
    return None if found is None else np.asarray(file.columns[found])


def _read_labels(path: Path) -> NDArray[Any]:
    if path.suffix.lower() != ".npy":
        return np.array(read_lines(path))
    return read_arrays(path, ["y"])["y"]


class Classes:
    """Labels as numbers: whole numbers unchanged, texts in their order.

    Args:
        labels: of every file that has some.
        file: the training file, which may hold the names of classes that are numbers.
    """

    def __init__(self, labels: Sequence[NDArray[Any]], file: CountFile) -> None:
        every = np.concatenate([np.asarray(_texts(label)) for label in labels]) if labels else np.zeros(0, str)
        known = sorted(set(every.tolist()))
        whole = all(_is_class(text) for text in known)
        self._codes = {text: int(float(text)) if whole else code for code, text in enumerate(known)}
        self.names = None if whole else known
        given = _key(file, {f"{_plain(key)}names" for key in file.columns} | {"classnames", "targetnames"})
        if whole and given is not None and known:
            names = _texts(file.columns[given])
            self.names = names if len(names) > max(self._codes.values()) and min(self._codes.values()) >= 0 else None

    def of(self, label: NDArray[Any] | None) -> Tensor | None:
        return None if label is None else torch.tensor([self._codes[text] for text in _texts(label)])

    def __len__(self) -> int:
        return len(self._codes)


def _is_class(text: str) -> bool:
    try:
        return float(text).is_integer() and abs(float(text)) < MOST_CLASSES
    except ValueError:
        return False


def _part(file: CountFile, label: Tensor | None) -> Part:
    key = _key(file, ROW_KEYS)
    names = _texts(file.columns[key]) if file.rows is None and key is not None else file.rows
    return Part(Sparse(file.matrix), label, names=names if names and len(names) == len_of(file) else None)


def _described(files: dict[str, CountFile], classes: Classes) -> str:
    train = files["train"]
    filled = train.matrix.nnz / max(1, train.matrix.shape[0] * train.matrix.shape[1])
    said = f"counts: {train.matrix.shape[0]:,} rows of {train.matrix.shape[1]:,} features, {filled:.2%} filled"
    said += f" ({train.said} of {printable(train.path.name)})"
    said += f", {len(classes):,} class{'es' if len(classes) > 1 else ''}" if len(classes) else ", no labels"
    others = [f"{len_of(file):,} in {printable(file.path.name)}" for name, file in files.items() if name != "train"]
    return "; ".join([said, *others])


def _plain(name: str) -> str:
    return "".join(char for char in name.lower() if char.isalnum())


def _key(file: CountFile, usual: set[str]) -> str | None:
    """The one array or column of the file whose name is a usual one.

    Raises:
        UserError: several are.
    """
    found = [name for name in file.columns if _plain(name) in usual]
    if len(found) > 1:
        raise UserError(f"{file.path} has several arrays that may be meant ({', '.join(found)}): name one of them")
    return found[0] if found else None


def _texts(values: Any) -> list[str]:
    return [value.decode(errors="replace") if isinstance(value, bytes) else str(value) for value in values.tolist()]
