"""Your own text: sentences, documents or running text as tokens."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from narrows.data.contents import Contents, Part, shortened
from narrows.data.dataset_files import existing_parts
from narrows.data.sources.documents import HeldOutDocuments
from narrows.data.table_format import Format
from narrows.data.text_files import Texts, numbered, read_running, read_texts
from narrows.data.tokenised import held_as_bytes
from narrows.data.tokenisers import Tokens
from narrows.errors import require


class Text:
    """Texts as tokens, each with its end mark; or with `tokens.windows` one running text in windows of one length.

    A `.txt` file holds a text a line; a folder a `.txt` for each text, in one sub-folder for each label if there are
    labels; a CSV, Parquet or JSONL a column of them; all but Parquet may be packed by gzip. Running text is all of a
    `.txt` file, or of the files of a folder in the order of their names; its splits are cut in order. Blank texts are
    left out.

    Args:
        column: of the texts in a table or JSONL; null finds the usual names.
        label: the column of their labels; null for none. Of a folder, sub-folders are the labels.
        tokens: what the tokens are; the vocabulary is chosen by the training texts and kept with the run
            (`tokeniser.json`).
        text: the format of a CSV file.

    Raises:
        UserError: (`load`) nothing that can be read, a column that is not there, no text that is not blank.
    """

    def __init__(
        self,
        path: str,
        column: str | None = None,
        label: str | None = None,
        tokens: Tokens | None = None,
        text: Format | None = None,
        validation_path: str | None = None,
        test: HeldOutDocuments | None = None,
    ) -> None:
        self.path = path
        self.column = column
        self.label = label
        self.tokens = tokens or Tokens()
        self.text = text or Format()
        self.validation_path = validation_path
        self.test = test or HeldOutDocuments()

    def load(self) -> Contents:
        """The texts' bytes, which the datamodule makes tokens of."""
        read = self.read()
        classes = sorted({label for found in read.values() for label in found.labels or ()})
        parts = {
            name: Part(held_as_bytes(found.texts), numbered(found.labels, classes), names=found.names)
            for name, found in read.items()
        }
        running = self.tokens.windows is not None
        kinds = f", {len(classes)} labels ({shortened(classes)})" if classes else ""
        what = "running text" if running else "texts"
        return Contents.of_parts(
            "tokens",
            parts,
            self.test.fraction,
            tokens=self.tokens,
            neighbours=0 if running else None,
            class_names=classes or None,
            reading=[f"{what}: " + "; ".join(found.said for found in read.values()) + kinds],
        )

    def read(self) -> dict[str, Texts]:
        """The texts of each official part, in the order of its rows; of running text the pieces between which it can be
        divided.

        Raises:
            UserError: a folder or file that is not there, or holds no text.
        """
        places = existing_parts(self.path, self.validation_path, self.test.path)
        return {name: self._read(path) for name, path in places}

    def _read(self, path: Path) -> Texts:
        if self.tokens.windows is not None:
            require(
                self.column is None and self.label is None, "running text (tokens.windows) has no columns or labels"
            )
            found = read_running(path)
            characters = sum(map(len, found.texts))
            return replace(found, said=f"{characters:,} characters ({found.said})")
        return _without_blank(read_texts(path, self.column, self.label, self.text))


def _without_blank(found: Texts) -> Texts:
    """The texts that hold more than white space; how many were left out is said."""
    kept = [row for row, text in enumerate(found.texts) if text.strip()]
    require(len(kept) > 0, f"all texts ({found.said}) are blank")
    blank = len(found.texts) - len(kept)
    said = f"{len(kept):,} ({found.said}{f'; {blank:,} blank ones left out' if blank else ''})"
    labels, names = (None if of is None else [of[row] for row in kept] for of in (found.labels, found.names))
    return Texts([found.texts[row] for row in kept], labels, names, said)
