"""Your own documents: a folder of texts, or a file of them, as counts of their words."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from narrows.data.contents import Contents, Part, shortened
from narrows.data.counting import Counting, Empty
from narrows.data.dataset_files import existing_parts
from narrows.data.sparse_rows import Sparse
from narrows.data.table_format import Format
from narrows.data.text_files import Texts, numbered, read_texts
from narrows.data.vocabulary import Words


@dataclass
class HeldOutDocuments:
    """Where the test split of `Documents` comes from.

    Args:
        fraction: of the documents, or their number, if `path` is null; null for no test split.
        path: another folder or file.
    """

    fraction: float | int | None = 0.1
    path: str | None = None


class Documents:
    """Documents as counts of their words, held sparse.

    A folder holds a `.txt` for each document, in one sub-folder for each label if there are labels; a `.txt` file a
    document a line; a CSV, Parquet or JSONL a column of them; all but Parquet may be packed by gzip.

    Which words are counted is chosen by the training documents alone and kept with the run (`narrows.data.Words`,
    `vocabulary.json`).

    Args:
        column: of the documents in a table or JSONL; null finds the usual names.
        label: the column of their labels; null for none. Of a folder, sub-folders are the labels.
        empty: what becomes of documents without any of the words: refuse, drop or keep.
        text: the format of a CSV file.

    Raises:
        UserError: (`load`) nothing that can be read, a column that is not there, no document with a word.
    """

    def __init__(
        self,
        path: str,
        column: str | None = None,
        label: str | None = None,
        words: Words | None = None,
        empty: Empty = "drop",
        text: Format | None = None,
        validation_path: str | None = None,
        test: HeldOutDocuments | None = None,
    ) -> None:
        self.path = path
        self.column = column
        self.label = label
        self.words = words or Words()
        self.counting = Counting(empty, words=self.words)
        self.text = text or Format()
        self.validation_path = validation_path
        self.test = test or HeldOutDocuments()

    def load(self) -> Contents:
        read = self.read()
        counts, words = self.words.count([text for found in read.values() for text in found.texts])
        ends = np.cumsum([0, *(len(found.texts) for found in read.values())])
        classes = sorted({label for found in read.values() for label in found.labels or ()})
        parts = {
            name: Part(Sparse(counts[start:stop]), numbered(found.labels, classes), names=found.names)
            for (name, found), start, stop in zip(read.items(), ends[:-1], ends[1:], strict=True)
        }
        said = [f"{len(found.texts):,} documents ({found.said})" for found in read.values()]
        kinds = f", {len(classes)} labels ({shortened(classes)})" if classes else ", no labels"
        return Contents.of_parts(
            "counts",
            parts,
            self.test.fraction,
            feature_names=words,
            class_names=classes or None,
            counting=self.counting,
            reading=["documents: " + "; ".join(said) + kinds],
        )

    def read(self) -> dict[str, Texts]:
        """The documents of each official part as texts, in the order of its rows.

        Raises:
            UserError: a folder or file that is not there, or holds no documents.
        """
        places = existing_parts(self.path, self.validation_path, self.test.path)
        return {name: read_texts(path, self.column, self.label, self.text) for name, path in places}
