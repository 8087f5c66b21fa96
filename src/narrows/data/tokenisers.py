"""Tokenisers: text to token ids and back, by characters, bytes, words or sub-words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Literal, get_args

from narrows.errors import UserError, nearest, require

Level = Literal["characters", "bytes", "words", "subwords"]
END, UNKNOWN = "<end>", "<unk>"
"""The texts of the end mark and of what stands for every token that the vocabulary does not hold."""


@dataclass
class Tokeniser:
    """The tokens that a run's model knows, and how text is cut into them.

    Args:
        level: what a token is. `words` are what `pattern` finds, joined by `joiner` when they are read back;
            `subwords` are those of a byte-pair encoding, `merges`.
        vocabulary: the text of each id. Where it begins with `<end>`, every text ends with that mark; `<unk>`, where it
            is in it, stands for all that it does not hold.
        lowercase: whether capitals are made small first.

    Raises:
        UserError: a vocabulary that cannot be read, or holds a token twice.

    Example:
        >>> tokeniser = Tokeniser("words", ["<end>", "<unk>", "a", "rose", "is"])
        >>> tokeniser.encode("a rose is a tulip"), tokeniser.decode([2, 3, 4, 2, 1, 0, 0])
        ([2, 3, 4, 2, 1, 0], 'a rose is a <unk>')
    """

    level: Level
    vocabulary: list[str]
    pattern: str = r"\S+"
    joiner: str = " "
    lowercase: bool = False
    merges: str | None = field(default=None, repr=False)
    """The `tokenizers` library's own JSON, of sub-words."""

    def __post_init__(self) -> None:
        levels = get_args(Level)
        require(self.level in levels, f"unknown tokens.level={self.level!r}: {nearest(str(self.level), levels)}")
        good = isinstance(self.vocabulary, list) and all(isinstance(word, str) for word in self.vocabulary)
        require(good and len(self.vocabulary) > 0, "a tokeniser's vocabulary is a list of texts, at least one")
        twice = len(set(self.vocabulary)) < len(self.vocabulary)
        require(not twice, "a tokeniser's vocabulary holds a token twice")
        require((self.merges is not None) == (self.level == "subwords"), "merges are of sub-words, and of nothing else")
        compiled(self.pattern)

    @property
    def end(self) -> int | None:
        """The id of the end mark; None where texts have none."""
        return 0 if self.vocabulary[0] == END else None

    @property
    def unknown(self) -> int | None:
        """The id of `<unk>`; None where every text can be told."""
        return self.ids.get(UNKNOWN)

    @cached_property
    def ids(self) -> dict[str, int]:
        """The id of each token."""
        return {word: number for number, word in enumerate(self.vocabulary)}

    def encode(self, text: str) -> list[int]:
        """The ids of a text, with the end mark where there is one.

        Raises:
            UserError: a token that the vocabulary does not hold, and no `<unk>` to stand for it.
        """
        found = self._subwords.encode(text).ids if self.level == "subwords" else self._looked_up(text)
        return found if self.end is None else [*found, self.end]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids up to the first end mark, which is left out."""
        kept = []
        for number in ids:
            if number == self.end:
                break
            kept.append(int(number))
        if self.level == "subwords":
            return str(self._subwords.decode(kept, skip_special_tokens=False))
        if self.level == "bytes":
            first = 0 if self.end is None else 1
            return bytes(number - first for number in kept).decode(errors="replace")
        return (self.joiner if self.level == "words" else "").join(self.vocabulary[number] for number in kept)

    def tokens(self, text: str) -> list[str]:
        """What a text is cut into, of characters and words, before the vocabulary is asked."""
        return cut(text, self.level, self.pattern, self.lowercase)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Tokeniser:
        """The tokeniser that was recorded.

        Raises:
            UserError: values that are none of a tokeniser.
        """
        types = {"level": str, "vocabulary": list, "pattern": str, "joiner": str, "lowercase": bool}
        right = isinstance(values, dict) and set(values) == {*types, "merges"}
        right = right and all(isinstance(values[name], kind) for name, kind in types.items())
        require(right and isinstance(values["merges"], str | None), "these are not the values of a tokeniser")
        return cls(**values)

    def _looked_up(self, text: str) -> list[int]:
        if self.level == "bytes":
            first = 0 if self.end is None else 1
            return [value + first for value in text.encode(errors="surrogateescape")]
        unknown = self.unknown
        found = [self.ids.get(token, unknown) for token in self.tokens(text)]
        if None in found:
            strange = self.tokens(text)[found.index(None)]
            raise UserError(f"the vocabulary of {len(self.vocabulary):,} {self.level} does not hold {strange!r:.60}")
        return found  # type: ignore[return-value]

    @cached_property
    def _subwords(self) -> Any:
        from tokenizers import Tokenizer  # an extra, and slow to import

        try:
            return Tokenizer.from_str(self.merges)
        except Exception as error:  # the library raises nothing more specific
            raise UserError(f"the recorded sub-words cannot be read ({error})") from error


def compiled(pattern: str) -> re.Pattern[str]:
    """The regular expression of a word.

    Raises:
        UserError: it is none, or has groups.
    """
    try:
        found = re.compile(pattern)
    except re.error as error:
        raise UserError(f"tokens.pattern={pattern!r} is no regular expression ({error})") from error
    require(found.groups == 0, f"tokens.pattern={pattern!r} has groups: write (?:...) instead of (...)")
    return found


def cut(text: str, level: Level, pattern: str, lowercase: bool) -> list[str]:
    """The characters, or the words, of a text."""
    text = text.lower() if lowercase else text
    return list(text) if level == "characters" else compiled(pattern).findall(text)


def bytes_vocabulary(marks: Sequence[str]) -> list[str]:
    """The marks, and all 256 bytes as `\\x00` to `\\xff`."""
    return [*marks, *(f"\\x{value:02x}" for value in range(256))]
