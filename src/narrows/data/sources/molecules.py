"""Molecules as tokens of their SMILES or SELFIES."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from narrows.data.contents import Contents, Part
from narrows.data.count_files import kind_of, read_lines
from narrows.data.dataset_files import existing_parts
from narrows.data.molecule_notation import (
    Notation,
    Units,
    first_word,
    no_molecules,
    no_symbols,
    require_notation,
    split_tokens,
    to_selfies,
    to_smiles,
    token_pattern,
)
from narrows.data.ragged_rows import Ragged
from narrows.data.sources.documents import Documents
from narrows.data.table_format import Format
from narrows.data.tokenisers import END, Tokeniser
from narrows.errors import UserError, require

log = logging.getLogger(__name__)

LINES = (".smi", ".smiles", ".selfies", ".txt")
LOOKED_AT = 1000
"""Texts of a file that are read as molecules before they are trained on."""


@dataclass
class HeldOutMolecules:
    """Where the test split of `Molecules` comes from.

    Args:
        fraction: of the molecules, or their number, if `path` is null; null for no test split.
        path: another file.
    """

    fraction: float | int | None = 0.1
    path: str | None = None


class Molecules:
    """Molecules as token ids `[T]` with an end mark, each as long as it is.

    A `.smi` or `.txt` has a molecule a line; a CSV, Parquet or JSONL a column of them. Both may be packed by gzip. Of a
    line or a cell the first word is the molecule: names and the extensions of CXSMILES follow a blank.

    The alphabet is that of all parts, so that every molecule can be told: of a token that training rows lack nothing is
    learnt. SELFIES are said in symbols of which every sequence is a molecule, so that whatever a model writes is valid
    by construction (`narrows.data.molecule_notation`).

    Args:
        column: of the molecules in a table.
        notation: in which models read and write them: smiles or selfies. SELFIES are made of SMILES, and back; those
            that cannot be written so are left out, and counted.
        written: the notation of the file.
        tokens: of SMILES: `atoms`, such as Cl or [NH3+], or `characters`.
        text: the format of a CSV file.
        validation_path: a file of molecules to validate on.

    Raises:
        UserError: an unknown word; (`load`) a file that is missing or broken, or holds no molecules.
    """

    def __init__(
        self,
        path: str,
        column: str = "smiles",
        notation: Notation = "smiles",
        written: Notation = "smiles",
        tokens: Units = "atoms",
        text: Format | None = None,
        validation_path: str | None = None,
        test: HeldOutMolecules | None = None,
    ) -> None:
        require_notation(notation, tokens)
        require_notation(written, tokens)
        self.path, self.column, self.validation_path = path, column, validation_path
        self.notation, self.written, self.tokens = notation, written, tokens
        self.text, self.test = text or Format(), test or HeldOutMolecules()

    def load(self) -> Contents:
        cut: dict[str, list[list[str]]] = {}
        names: dict[str, list[str]] = {}
        said = []
        for name, path in existing_parts(self.path, self.validation_path, self.test.path):
            texts = self._read(path)
            kept = [(text, tokens) for text in texts if (tokens := self.tokens_of(text))]
            require(bool(kept), f"{path} holds no molecule that can be written in {self.notation}")
            if self.notation == "selfies":
                _require_symbols([tokens for _, tokens in kept], path)
            names[name], cut[name] = [text for text, _ in kept], [tokens for _, tokens in kept]
            left = len(texts) - len(kept)
            note = f" ({left:,} that cannot be told in it left out)" if left else ""
            said.append(f"{len(kept):,} of {name}{note}")
        tokeniser = self._tokeniser([tokens for part in cut.values() for tokens in part])
        valid = ", of which every sequence is a molecule: valid by construction" if self.notation == "selfies" else ""
        kinds = f"{len(tokeniser.vocabulary) - 1} tokens{valid}"
        parts = {name: Part(_ragged(rows, tokeniser), names=names[name]) for name, rows in cut.items()}
        return Contents.of_parts(
            "tokens",
            parts,
            self.test.fraction,
            tokeniser=tokeniser,
            reading=[f"molecules in {self.notation}: {', '.join(said)}; {kinds}"],
        )

    def _read(self, path: Path) -> list[str]:
        if kind_of(path) in LINES:
            found = [first_word(line) for line in read_lines(path) if line]
            require(bool(found), f"{path} holds no molecules")
        else:
            cells = Documents(str(path), self.column, text=self.text).read()["train"].texts
            found = [first_word(cell) for cell in cells]
            longer = sum(cell.strip() != word for cell, word in zip(cells, found, strict=True))
            if longer:
                log.info("%d cells of %s hold more than a molecule: what follows a blank is not read", longer, path)
        empty = [number for number, text in enumerate(found) if not text]
        require(not empty, f"{path} has no molecule in row {empty[0] if empty else 0}")
        self._look_at(found, path)
        return found

    def _look_at(self, texts: Sequence[str], path: Path) -> None:
        """Warn of texts that are no molecules; of many texts some, evenly spaced, are looked at.

        Raises:
            UserError: none is one.
        """
        some = [texts[place] for place in range(0, len(texts), -(-len(texts) // LOOKED_AT))]
        bad = no_molecules(some) if self.written == "smiles" else None
        if not bad:
            return
        told = f"of {len(some):,} texts of {path} that were looked at {len(bad):,} are no SMILES of a molecule"
        require(len(bad) < len(some), f"{told}, such as {bad[0]!r:.60}: is another column or notation meant?")
        log.warning("%s, such as %.60r: what a model learns of them is no molecule either", told, bad[0])

    def tokens_of(self, text: str) -> list[str]:
        """The tokens of a molecule in the wanted notation; none where it cannot be written so."""
        if self.notation != self.written:
            try:
                text = to_selfies(text) if self.notation == "selfies" else to_smiles(text, self.written)
            except UserError as error:
                if "cannot be written" not in str(error):
                    raise
                return []
        return split_tokens(text, self.notation, self.tokens)

    def _tokeniser(self, rows: Sequence[Sequence[str]]) -> Tokeniser:
        counts = Counter(token for row in rows for token in row)
        ordered = sorted(counts, key=lambda token: (-counts[token], token))
        if self.notation == "smiles" and self.tokens == "characters":
            return Tokeniser("characters", [END, *ordered])
        return Tokeniser("words", [END, *ordered], pattern=token_pattern(self.notation), joiner="")


def _require_symbols(rows: Sequence[Sequence[str]], path: Path) -> None:
    unknown = set(no_symbols({symbol for row in rows for symbol in row}) or [])
    for number, row in enumerate(rows):
        found = [symbol for symbol in row if symbol in unknown]
        require(
            not found, f"molecule {number} of {path} has the symbol {''.join(found[:1])!r:.60}, which is no SELFIES"
        )


def _ragged(rows: Sequence[Sequence[str]], tokeniser: Tokeniser) -> Ragged:
    ids = tokeniser.ids
    flat = [number for row in rows for number in (*(ids[token] for token in row), 0)]
    ends = torch.tensor([len(row) + 1 for row in rows]).cumsum(0)
    return Ragged(torch.tensor(flat), ends)
