"""New counts: rows of a file of counts, documents by the words that a run knows, or the items that users have had."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from narrows.data import CountForm, Documents, Interactions
from narrows.data.count_files import read_counts, read_lines
from narrows.data.histories import read_histories
from narrows.data.sparse_rows import canonical
from narrows.errors import UserError, require
from narrows.new_data.examples import Chunk, NewData, Write
from narrows.new_data.rebuilt_archive import rebuilding_archive
from narrows.new_data.text_rows import text_rows
from narrows.types import Batch


class NewCounts(NewData):
    """Rows of counts of the run's features, dense a few at a time.

    Where file and run name the features, columns are found by name, and those that the run does not know are left out;
    else both must have the same number.
    """

    form = "counts"

    def chunks(self) -> Iterator[Chunk]:
        if isinstance(self.source, Documents):
            yield from self._documents()
            return
        matrix, names = self._histories() if isinstance(self.source, Interactions) else self._matrix()
        size = self.known.rows
        for start in range(0, matrix.shape[0], size):
            rows = matrix[start : start + size]
            called = names[start : start + size] if names else [str(start + row) for row in range(rows.shape[0])]
            yield self._chunk(rows, called, [None] * rows.shape[0], (start + rows.shape[0]) / matrix.shape[0])

    def _chunk(self, rows: Any, names: Sequence[str], problems: Sequence[str | None], done: float) -> Chunk:
        told = [
            problem or self._problem(rows.data[first:last])
            for problem, first, last in zip(problems, rows.indptr[:-1], rows.indptr[1:], strict=True)
        ]
        good = np.array([row for row, problem in enumerate(told) if problem is None], np.int64)
        batch = Batch(torch.from_numpy(rows[good].toarray().astype(np.float32))) if len(good) else None
        return Chunk(list(names), told, batch, good, done)

    def _problem(self, values: Any) -> str | None:
        """Why the stored values of a row are no counts; None if they are."""
        if not np.isfinite(values).all() or (values < 0).any():
            return "it holds numbers below 0, NaN or infinite, which are no counts"
        if self.known.spec.kind == "counts" and (values != np.floor(values)).any():
            return "it holds fractions, and counts are whole numbers"
        kept = getattr(getattr(self.source, "counting", None), "empty", "drop") == "keep"
        return "it has none of the features that the run knows" if not len(values) and not kept else None

    def _matrix(self) -> tuple[Any, list[str] | None]:
        """The rows as CSR `[N, D]` in the order of the run's features, and their names."""
        if not isinstance(self.given, Path):
            features = list(map(str, self.given)) if hasattr(self.given, "columns") else None
            found = sparse.csr_matrix(self.given if sparse.issparse(self.given) else np.asarray(self.given))
            return self._aligned(found, features, "the array"), None
        label = getattr(getattr(self.source, "label", None), "key", None)
        file = read_counts(self.path, getattr(self.source, "form", None) or CountForm(), label)
        features, beside = file.features, getattr(getattr(self.source, "names", None), "path", None)
        if features is None and beside is not None and Path(beside).expanduser().is_file():
            features = read_lines(Path(beside).expanduser())
        return self._aligned(file.matrix, features, str(self.path), ends=file.said == "svmlight"), file.rows

    def _aligned(self, matrix: Any, own: list[str] | None, where: str, *, ends: bool = False) -> Any:
        names, width = self.known.spec.feature_names, self.known.spec.shape[0]
        if own is None or names is None or own == names or len(own) != matrix.shape[1]:
            # Files that list what is filled end with the last feature that is.
            fits = matrix.shape[1] == width or (ends and matrix.shape[1] < width)
            require(fits, f"{where} has {matrix.shape[1]:,} features without names, and the run knows {width:,}")
            found = canonical(matrix)
            found.resize(found.shape[0], width)
            return found
        require(len(set(own)) == len(own), f"features of {where} share a name, by which they are found: name each once")
        places = {name: place for place, name in enumerate(names)}
        known = [place for place, name in enumerate(own) if name in places]
        require(bool(known), f"no feature of {where} ({', '.join(own[:3])}, ...) is one that the run knows")
        chosen = sparse.coo_matrix(sparse.csr_matrix(matrix)[:, known])
        columns = np.array([places[own[place]] for place in known])[chosen.col]
        return canonical(sparse.csr_matrix((chosen.data, (chosen.row, columns)), (matrix.shape[0], width)))

    def _histories(self) -> tuple[Any, list[str]]:
        names = self.known.spec.feature_names
        if names is None or not isinstance(self.given, Path):
            raise UserError("the items that users have had are read from a file, by the names of the run's items")
        found = read_histories(self.source, self.path, names)
        return canonical(found.x), found.users

    def _documents(self) -> Iterator[Chunk]:
        words = self.known.vocabulary
        if words is None:
            raise UserError("this run has no vocabulary, so that it reads no new documents")
        rows: list[Any] = []
        for row in text_rows(self.given, self.source):
            rows.append(row)
            if len(rows) == self.known.rows:
                yield self._counted(rows)
                rows = []
        if rows:
            yield self._counted(rows)

    def _counted(self, rows: Sequence[Any]) -> Chunk:
        vocabulary = self.known.vocabulary
        assert vocabulary is not None
        counts, _ = vocabulary.how.count([row.text or "" for row in rows], vocabulary.words)
        return self._chunk(canonical(counts), [row.name for row in rows], [row.problem for row in rows], rows[-1].done)

    def default_target(self) -> Path:
        return self.stem("reconstructed", ".npz")

    @contextmanager
    def rebuilding(self, out: Path) -> Iterator[Write]:
        """A .npz of `x` `[N, D]`, NaN where a row could not be read, with `names` and `features`."""
        require(out.suffix.lower() == ".npz", f"counts are written as .npz, which {out} is not by its name")
        spec = self.known.spec
        features = {} if spec.feature_names is None else {"features": np.array(spec.feature_names, dtype=np.str_)}
        with rebuilding_archive(out, spec.shape, features) as write:
            yield write

    def own_form(self, rebuilt: Tensor, chunk: Chunk) -> Any:
        return rebuilt.numpy()
