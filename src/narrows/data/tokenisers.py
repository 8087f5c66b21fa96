"""Tokenisers: text to token ids and back, by characters, bytes, words or sub-words."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Literal, get_args

from narrows.errors import UserError, nearest, require

Level = Literal["characters", "bytes", "words", "subwords"]
END, UNKNOWN = "<end>", "<unk>"
"""The texts of the end mark and of what stands for every token that the vocabulary does not hold."""

PATTERN = r"\w+|[^\w\s]"
"""Words, and each punctuation mark on its own."""


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
        """The id of each token that may stand in a text: the end mark may not."""
        first = 0 if self.end is None else 1
        return {word: number for number, word in enumerate(self.vocabulary[first:], first)}

    def encode(self, text: str) -> list[int]:
        """The ids of a text, with the end mark where there is one.

        Raises:
            UserError: a token that the vocabulary does not hold, and no `<unk>` to stand for it.
        """
        found = self._looked_up(text)
        return found if self.end is None else [*found, self.end]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids up to the first end mark, which is left out."""
        kept = []
        for number in ids:
            if number == self.end:
                break
            kept.append(int(number))
        first = 0 if self.end is None else 1
        if self.level == "subwords":
            return str(self._subwords.decode([number - first for number in kept]))
        if self.level == "bytes":
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
        first = 0 if self.end is None else 1
        if self.level == "bytes":
            return [value + first for value in text.encode(errors="surrogateescape")]
        if self.level == "subwords":
            return [number + first for number in self._subwords.encode(text).ids]
        unknown = self.unknown
        found = [self.ids.get(token, unknown) for token in self.tokens(text)]
        if None in found:
            strange = self.tokens(text)[found.index(None)]
            raise UserError(f"the vocabulary of {len(self.vocabulary):,} {self.level} does not hold {strange!r:.60}")
        return found  # type: ignore[return-value]

    @cached_property
    def _subwords(self) -> Any:
        try:
            return library().Tokenizer.from_str(self.merges)
        except Exception as error:  # the library raises nothing more specific
            raise UserError(f"the recorded sub-words cannot be read ({error})") from error


@dataclass
class Tokens:
    """What the tokens of texts are, and which of them a model knows.

    Args:
        level: characters, bytes, words, or `subwords` (byte pairs, which need the `tokenizers` package).
        most: words or characters: so many of the training texts' most frequent ones are kept, the others are `<unk>`;
            null for all. Sub-words: how many there are.
        min_count: those that stand fewer times in the training texts are `<unk>` too; with 1, training has no `<unk>`,
            so that one in another text costs very much.
        lowercase: whether capitals are made small first.
        pattern: the regular expression of a word; what it does not find is lost.
        windows: texts are one running text, without end marks, cut into windows of so many tokens; null: every text is
            an example, and ends with a mark.
        longest: texts of more tokens, the end mark counted, are cut there, and how many is said; null: none is.

    Raises:
        UserError: a number that is none, or an unknown level.
    """

    level: Level = "words"
    most: int | None = 10000
    min_count: int = 2
    lowercase: bool = False
    pattern: str = PATTERN
    windows: int | None = None
    longest: int | None = 512

    def __post_init__(self) -> None:
        Tokeniser(self.level, [END], merges="" if self.level == "subwords" else None)  # refuses an unknown level
        compiled(self.pattern)
        for name in ("most", "windows", "longest"):
            value = getattr(self, name)
            require(value is None or value >= 2, f"tokens.{name}={value} must be at least 2, or null")
        require(self.min_count >= 1, f"tokens.min_count={self.min_count} must be at least 1")
        require(self.level != "subwords" or self.most is not None, "tokens.most says how many sub-words there are")

    def fit(self, texts: Sequence[str]) -> Tokeniser:
        """The tokeniser whose vocabulary these texts choose.

        Raises:
            UserError: no text holds a token.
        """
        marks = [END] if self.windows is None else []
        if self.level == "bytes":
            return Tokeniser("bytes", [*marks, *(f"\\x{value:02x}" for value in range(256))])
        if self.level == "subwords":
            return self._byte_pairs(texts, marks)
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(cut(text, self.level, self.pattern, self.lowercase))
        require(
            bool(counts), f"none of the {len(texts):,} training texts holds a word of tokens.pattern={self.pattern}"
        )
        marks += [UNKNOWN]
        known = [token for token in counts if counts[token] >= self.min_count and token not in (END, UNKNOWN)]
        require(bool(known), f"no token stands tokens.min_count={self.min_count} times in the training texts: lower it")
        # Ties go by the text, so that the order of the rows does not matter.
        ordered = sorted(known, key=lambda token: (-counts[token], token))
        pattern = self.pattern if self.level == "words" else r"\S+"
        return Tokeniser(self.level, [*marks, *ordered[: self.most]], pattern=pattern, lowercase=self.lowercase)

    def _byte_pairs(self, texts: Sequence[str], marks: list[str]) -> Tokeniser:
        pieces = library()
        model = pieces.Tokenizer(pieces.models.BPE())
        if self.lowercase:
            model.normalizer = pieces.normalizers.Lowercase()
        model.pre_tokenizer = pieces.pre_tokenizers.ByteLevel(add_prefix_space=False)
        model.decoder = pieces.decoders.ByteLevel()
        alphabet = pieces.pre_tokenizers.ByteLevel.alphabet()
        trainer = pieces.trainers.BpeTrainer(
            vocab_size=self.most, min_frequency=self.min_count, initial_alphabet=sorted(alphabet), show_progress=False
        )
        model.train_from_iterator(texts, trainer)
        words = [model.id_to_token(number) for number in range(model.get_vocab_size())]
        return Tokeniser("subwords", [*marks, *words], lowercase=self.lowercase, merges=model.to_str())


def library() -> Any:
    """The `tokenizers` package, which is an extra.

    Raises:
        UserError: it is not installed.
    """
    try:
        import tokenizers  # nothing else needs it
    except ImportError as error:
        raise UserError(
            "tokens.level=subwords needs the tokenizers package, which is not installed: pip install 'narrows[text]', "
            "or choose characters, bytes or words"
        ) from error
    return tokenizers


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
