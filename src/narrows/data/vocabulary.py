"""The vocabulary of documents: chosen by the training documents, kept with the run, and used on new texts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from narrows.errors import UserError, require

PATTERN = r"(?u)\b\w\w+\b"
"""Words of at least two letters or digits."""


@dataclass
class Words:
    """Which words of documents are counted; all of it is scikit-learn's `CountVectorizer`.

    Args:
        max_features: so many of the words that are most frequent in the training documents; null for all.
        stop_words: words that are never counted: `english`, or a list; null for none.
        min_df, max_df: a word is in at least and at most so many training documents, or such a share of them (0.5).
        lowercase: whether capitals are made small first.
        pattern: the regular expression of a word.
    """

    max_features: int | None = None
    stop_words: str | Sequence[str] | None = None
    min_df: int | float = 1
    max_df: int | float = 1.0
    lowercase: bool = True
    pattern: str = PATTERN

    def __post_init__(self) -> None:
        if self.stop_words is not None and not isinstance(self.stop_words, str):
            self.stop_words = list(map(str, self.stop_words))
        require(
            not isinstance(self.stop_words, str) or self.stop_words == "english",
            f"words.stop_words={self.stop_words!r} is neither english nor a list of words nor null",
        )
        require(
            self.max_features is None or self.max_features >= 1,
            f"words.max_features={self.max_features} must be at least 1, or null",
        )
        for name in ("min_df", "max_df"):
            value = getattr(self, name)
            good = not isinstance(value, bool) and (value >= 1 if isinstance(value, int) else 0 <= value <= 1)
            require(good, f"words.{name}={value!r} is neither a number of documents nor a share from 0 to 1")
        try:
            groups = re.compile(self.pattern).groups
        except re.error as error:
            raise UserError(f"words.pattern={self.pattern!r} is no regular expression ({error})") from error
        require(groups <= 1, f"words.pattern={self.pattern!r} has {groups} groups: at most one is the word")

    def count(self, texts: Sequence[str], vocabulary: Sequence[str] | None = None) -> tuple[Any, list[str]]:
        """The words of each text, CSR `[N, D]`, and what they are, in order; only those of `vocabulary`, if given.

        Raises:
            UserError: no text holds a word.
        """
        from sklearn.feature_extraction.text import CountVectorizer

        counter = CountVectorizer(
            lowercase=self.lowercase,
            token_pattern=self.pattern,
            stop_words=None if vocabulary is not None else self.stop_words,
            vocabulary=None if vocabulary is None else list(vocabulary),
        )
        try:
            counts = counter.fit_transform(texts)
        except ValueError as error:  # an empty vocabulary
            raise UserError(f"none of the {len(texts):,} documents holds a word of words.pattern={self.pattern}") from (
                error
            )
        return sparse.csr_matrix(counts), counter.get_feature_names_out().tolist()

    def choose(self, counts: Any) -> NDArray[np.int64]:
        """The columns of the training documents' counts, CSR `[N, D]`, that are kept, in ascending order.

        Raises:
            UserError: none is.
        """
        documents = counts.shape[0]
        inside = np.bincount(counts.indices, minlength=counts.shape[1])
        least, most = (value if isinstance(value, int) else value * documents for value in (self.min_df, self.max_df))
        kept = np.flatnonzero((inside >= max(least, 1)) & (inside <= most))
        require(
            len(kept) > 0,
            f"no word is in at least words.min_df={self.min_df} and at most words.max_df={self.max_df} of the "
            f"{documents:,} training documents: lower the first, or raise the second",
        )
        if self.max_features is not None and len(kept) > self.max_features:
            often = np.asarray(counts.sum(0)).ravel()[kept]
            kept = np.sort(kept[np.argsort(-often, kind="stable")[: self.max_features]])
        return kept


@dataclass
class Vocabulary:
    """The words that a run's model knows, in the order of its features, and how they were read."""

    words: list[str]
    how: Words

    def count(self, texts: Sequence[str]) -> tuple[Any, int]:
        """The counts of new texts, CSR `[N, D]`, and the number of different words in them that the run does not know
        (and that are no stop words)."""
        counts, _ = self.how.count(texts, self.words)
        try:
            _, met = self.how.count(texts)
        except UserError:  # texts without any word
            met = []
        return counts, len(set(met) - set(self.words))

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Vocabulary:
        return cls(list(values["words"]), Words(**values["how"]))
