"""New texts as the tokens that a run knows, and what it rebuilds as texts again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from narrows.data import Molecules, Ragged, Tokeniser
from narrows.data.molecule_notation import first_word
from narrows.data.text_files import read_running
from narrows.errors import UserError, require
from narrows.files import replacing
from narrows.new_data.examples import Chunk, Known, NewData, Write
from narrows.new_data.text_rows import TextRow, text_rows
from narrows.types import Batch

Row = tuple[str, list[int] | None, str | None, float]
"""Name, token ids, problem and share read so far."""


class NewTexts(NewData):
    """Texts, molecules, or one running text in windows, as the run's own were; in Python also a list of texts.

    A text of more tokens than any that the run knew is cut there, and `problem` says so.
    """

    form = "texts"

    def __init__(self, source: Any, known: Known, given: Any) -> None:
        super().__init__(source, known, given)
        require(known.tokeniser is not None, "this run has no tokeniser, so that it reads no new texts")
        assert known.tokeniser is not None
        self.tokeniser: Tokeniser = known.tokeniser
        tokens = getattr(source, "tokens", None)
        self.running = getattr(tokens, "windows", None) is not None

    def chunks(self) -> Iterator[Chunk]:
        rows: list[Row] = []
        for row in self._windows() if self.running else map(self._encoded, text_rows(self.given, self.source)):
            rows.append(row)
            if len(rows) == self.known.rows:
                yield self._chunk(rows)
                rows = []
        if rows:
            yield self._chunk(rows)

    def _chunk(self, rows: list[Row]) -> Chunk:
        names, ids, problems, done = zip(*rows, strict=True)
        places = np.array([place for place, one in enumerate(ids) if one is not None], np.int64)
        batch = None
        if len(places):
            store = Ragged.of([torch.tensor(one, dtype=torch.int64) for one in ids if one is not None])
            length = store.lengths(slice(None)) if self.known.spec.variable else None
            batch = Batch(store.take(slice(None)), length=length)
        return Chunk(list(names), list(problems), batch, places, done[-1])

    def _encoded(self, row: TextRow) -> Row:
        """The tokens of a text, with its end mark."""
        name, text, problem, done = row
        if text is not None and not text.strip():
            text, problem = None, "it is blank"
        if text is None:
            return name, None, problem, done
        try:
            ids = self._ids(text)
        except UserError as error:
            return name, None, str(error), done
        longest = self.known.spec.shape[-1]
        if len(ids) <= longest:
            return name, ids, None, done
        said = f"it has {len(ids)} tokens, and was cut to {longest}, the longest that the run was trained on"
        return name, [*ids[: longest - 1], ids[-1]], said, done

    def _ids(self, text: str) -> list[int]:
        if not isinstance(self.source, Molecules):
            return self.tokeniser.encode(text)
        tokens = self.source.tokens_of(first_word(text))
        require(bool(tokens), f"it is no molecule that can be written in {self.source.notation}")
        strange = [token for token in tokens if token not in self.tokeniser.ids]
        require(not strange, f"the run's alphabet does not hold {''.join(strange[:1])!r:.60}")
        return [*(self.tokeniser.ids[token] for token in tokens), 0]

    def _windows(self) -> Iterator[Row]:
        """A running text in windows of the run's length; what is left at its end makes none."""
        whole = "".join(read_running(self.path).texts)
        ids, steps = self.tokeniser.encode(whole), self.known.spec.shape[-1]
        require(len(ids) >= steps, f"{self.path} holds {len(ids)} tokens, and a window of the run has {steps}")
        for start in range(0, len(ids) - steps + 1, steps):
            yield f"{start}-{start + steps - 1}", ids[start : start + steps], None, (start + steps) / len(ids)

    def default_target(self) -> Path:
        return self.stem("reconstructed", ".txt")

    @contextmanager
    def rebuilding(self, out: Path) -> Iterator[Write]:
        """A text a line, blank where one could not be read; of a running text its windows one after another."""
        with replacing(out) as file:

            def write(chunk: Chunk, rebuilt: Tensor | None) -> None:
                texts = [] if rebuilt is None else self.own_form(rebuilt, chunk)
                if self.running:
                    glue = self.tokeniser.joiner if self.tokeniser.level == "words" else ""
                    file.write("".join(f"{text}{glue}" for text in texts).encode(errors="replace"))
                    return
                lines = [""] * len(chunk)
                for row, text in zip(chunk.rows.tolist(), texts, strict=True):
                    lines[row] = " ".join(text.splitlines())
                file.write("".join(f"{line}\n" for line in lines).encode(errors="replace"))

            yield write

    def own_form(self, rebuilt: Tensor, chunk: Chunk) -> list[str]:
        return [self.tokeniser.decode(row) for row in rebuilt.tolist()]
