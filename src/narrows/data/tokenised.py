"""Texts as tokens: the vocabulary is chosen by the training texts, once rows are divided into splits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from narrows.data.contents import Contents, Part
from narrows.data.ragged_rows import Ragged
from narrows.data.splits import Split
from narrows.data.stores import Dense, Store
from narrows.data.tokenisers import END, UNKNOWN, Tokeniser
from narrows.errors import require


def held_as_bytes(texts: Sequence[str]) -> Ragged:
    """Texts as the rows of a store, in UTF-8; none of them is empty."""
    rows = [text.encode(errors="surrogateescape") for text in texts]
    ends = np.cumsum([len(row) for row in rows], dtype=np.int64)
    return Ragged(torch.frombuffer(bytearray(b"".join(rows)), dtype=torch.uint8), torch.from_numpy(ends))


def texts_of(store: Store) -> list[str]:
    """The texts that `held_as_bytes` holds."""
    assert isinstance(store, Ragged)
    return [store.row(row).numpy().tobytes().decode(errors="surrogateescape") for row in range(len(store))]


def prepare(contents: Contents, splits: dict[str, Split], said: list[str]) -> tuple[Contents, dict[str, Split]]:
    """The contents with their tokeniser, and the splits as tokens; others unchanged. What was done is added to `said`.

    Raises:
        UserError: training texts without a token, or a split too short for one window.
    """
    how = contents.tokens
    if how is None:
        return contents, splits
    texts = {name: texts_of(split.part.x) for name, split in splits.items()}
    tokeniser = how.fit(texts["train"])
    if how.windows is None:
        found = {name: _ended(tokeniser, texts[name], how.longest, name, said) for name in splits}
        served = {name: replace(split, part=_with(split.part, found[name])) for name, split in splits.items()}
    else:
        served = {name: _windows(tokeniser, texts[name], how.windows, name, said) for name in splits}
    said.append(_describe(tokeniser, served))
    return replace(contents, tokeniser=tokeniser), served


def _ended(tokeniser: Tokeniser, texts: Sequence[str], longest: int | None, name: str, said: list[str]) -> Ragged:
    """Every text and its end mark."""
    rows = [tokeniser.encode(text) for text in texts]
    longest = longest or max(map(len, rows))
    long = [len(row) for row in rows if len(row) > longest]
    if long:
        said.append(
            f"{len(long):,} of {len(rows):,} {name} texts were cut to {longest} tokens, the longest of {max(long):,} "
            "(tokens.longest)"
        )
        rows = [row if len(row) <= longest else [*row[: longest - 1], row[-1]] for row in rows]
    return Ragged.of([torch.tensor(row, dtype=torch.int32) for row in rows])


def _windows(tokeniser: Tokeniser, texts: Sequence[str], steps: int, name: str, said: list[str]) -> Split:
    """The running text in windows, one after another; what is left at its end makes none, and is said."""
    ids = tokeniser.encode("".join(texts))
    whole, rest = divmod(len(ids), steps)
    require(whole > 0, f"the {name} split holds {len(ids)} tokens, fewer than tokens.windows={steps}: bring more text")
    if rest:
        said.append(f"the last {rest} of {len(ids):,} {name} tokens make no window of {steps}, and are left out")
    x = torch.tensor(ids[: whole * steps], dtype=torch.int32).reshape(whole, steps)
    return Split(Part(Dense(x)), torch.arange(whole), "tokens")


def _with(part: Part, x: Store) -> Part:
    return replace(part, x=x)


def _describe(tokeniser: Tokeniser, splits: dict[str, Split]) -> str:
    """The line of the vocabulary, and what each split holds of it."""
    marks = [mark for mark in (END, UNKNOWN) if mark in tokeniser.vocabulary[:2]]
    beside = f", beside {' and '.join(marks)}" if marks else ""
    steps = max(split.part.x.shape[-1] for split in splits.values())
    if tokeniser.end is None:
        ends = f"running text in windows of {steps}, without end marks"
    else:
        ends = f"an end mark counted in each text; {steps} the longest"
    held = {name: _held(splits[name]) for name in ("train", "validation", "test") if name in splits}
    counts = {name: sum(part.numel() for part in parts) for name, parts in held.items()}
    line = (
        f"tokens: {tokeniser.level}, {len(tokeniser.vocabulary) - len(marks):,} in the vocabulary of the training texts"
        f"{beside}; "
        f"{', '.join(f'{name} {count:,}' for name, count in counts.items())} tokens ({ends})"
    )
    if tokeniser.unknown is None:
        return line
    unknown = {name: sum(int((part == tokeniser.unknown).sum()) for part in parts) for name, parts in held.items()}
    line += f"; {UNKNOWN} is " + ", ".join(f"{unknown[name] / counts[name]:.2%} of {name}" for name in held)
    if unknown["train"] == 0 < sum(unknown.values()):
        line += ", so that no training text teaches what it costs: raise tokens.min_count"
    return line


def _held(split: Split) -> list[torch.Tensor]:
    """The tokens of a split without padding."""
    store = split.part.x
    return [store.values] if isinstance(store, Ragged) else list(store.chunks())
