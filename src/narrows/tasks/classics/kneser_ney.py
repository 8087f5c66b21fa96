"""Interpolated modified Kneser-Ney: the n-gram language model that stands beside a neural one.

Legend: N tokens in all, V tokens in the vocabulary, n the order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from narrows.errors import require

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]
FALLBACK = (0.5, 1.0, 1.5)
"""The discounts of counts from which none can be told, as in KenLM."""


@dataclass
class _Order:
    """The n-grams of one length, sorted by `keys`, and their contexts."""

    keys: Integers
    """What tells an n-gram: its suffix's number and its first token."""
    contexts: Integers
    """Likewise of the contexts, the n-grams without their last token."""
    kept: Floats
    """Of each n-gram: its count less the discount, by the sum of its context's counts."""
    left: Floats
    """Of each context: what the discounts leave to the shorter n-grams."""


class KneserNey:
    """`P(w | h) = max(c(hw) - D, 0) / c(h) + left(h) P(w | h')`, where h' is h without its first token.

    The longest n-grams have their counts, shorter ones the number of different tokens that stand before them; below the
    unigrams is the uniform distribution over the vocabulary. The discount D depends on the count being 1, 2 or more and
    is fitted to the numbers of counts of 1 to 4. Before a row stand `order - 1` marks, which are never predicted.

    "An Empirical Study of Smoothing Techniques for Language Modeling" (Chen and Goodman, 1998), section 3.

    Args:
        order: n, the longest n-gram.
        words: V; every row holds ids below it.

    Raises:
        UserError: an order below 1.
    """

    def __init__(self, order: int, words: int) -> None:
        require(order >= 1, f"Kneser-Ney has an order of at least 1, not {order}")
        self.order, self.words = order, words
        self._orders: list[_Order] = []

    def fit(self, rows: Sequence[Integers]) -> KneserNey:
        """Count the n-grams of rows of ids, each `[T]`; the end mark is a token like any other."""
        tokens, places = self._laid_out(rows)
        suffix, context = np.zeros(len(places), np.int64), np.zeros(len(places), np.int64)
        grams: list[tuple[Integers, Integers, Integers]] = []
        counts: list[Integers] = []
        for length in range(1, self.order + 1):
            first = tokens[places - length + 1]
            keys, gram, number = np.unique(suffix * (self.words + 1) + first, return_inverse=True, return_counts=True)
            if length > 1:
                context_keys, context = np.unique(context * (self.words + 1) + first, return_inverse=True)
                # How many different tokens stand before each shorter n-gram.
                counts.append(np.bincount(keys // (self.words + 1), minlength=len(grams[-1][0])))
            else:
                context_keys = np.zeros(1, np.int64)
            of_gram = np.zeros(len(keys), np.int64)
            of_gram[gram] = context
            grams.append((keys, context_keys, of_gram))
            suffix = gram
        counts.append(number)
        self._orders = [_order(*found, count) for found, count in zip(grams, counts, strict=True)]
        return self

    def nats(self, rows: Sequence[Integers]) -> Floats:
        """`-log P` of each row, `[N]`."""
        tokens, places = self._laid_out(rows)
        probability = self._probability(tokens, places)
        row = np.repeat(np.arange(len(rows)), [len(of) for of in rows])
        return np.bincount(row, -np.log(probability), len(rows)).astype(np.float64)

    def after(self, history: Sequence[int]) -> Floats:
        """`P(w | history)` of every token, `[V]`; it sums to 1."""
        row = np.asarray(history, np.int64)
        rows = [np.append(row, word) for word in range(self.words)]
        tokens, places = self._laid_out(rows)
        return self._probability(tokens, places[len(row) :: len(row) + 1])

    def _probability(self, tokens: Integers, places: Integers) -> Floats:
        probability = np.full(len(places), 1 / self.words)
        suffix, context = np.zeros(len(places), np.int64), np.zeros(len(places), np.int64)
        for length, found in enumerate(self._orders, 1):
            first = tokens[places - length + 1]
            suffix = _find(found.keys, suffix, first, self.words)
            if length > 1:
                context = _find(found.contexts, context, first, self.words)
            kept = np.where(suffix >= 0, found.kept[suffix], 0.0)
            probability = np.where(context >= 0, kept + found.left[context] * probability, probability)
        return probability

    def _laid_out(self, rows: Sequence[Integers]) -> tuple[Integers, Integers]:
        """All tokens with the marks before each row, and the places of those that are predicted."""
        before = np.full(self.order - 1, self.words, np.int64)
        tokens = np.concatenate([piece for row in rows for piece in (before, np.asarray(row, np.int64))])
        return tokens, np.flatnonzero(tokens != self.words)


def _find(keys: Integers, numbers: Integers, first: Integers, words: int) -> Integers:
    """The number of each longer n-gram, -1 where it was never met."""
    wanted = numbers * (words + 1) + first
    place = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
    return np.where((numbers >= 0) & (keys[place] == wanted), place, -1)


def _order(keys: Integers, contexts: Integers, of_gram: Integers, counts: Integers) -> _Order:
    discount = np.array([0.0, *discounts(counts)])[counts.clip(max=3)]
    total = np.bincount(of_gram, counts, len(contexts))
    taken = np.bincount(of_gram, discount, len(contexts))
    return _Order(keys, contexts, (counts - discount) / total[of_gram], taken / total)


def discounts(counts: Integers) -> tuple[float, float, float]:
    """What is taken off counts of 1, of 2 and of 3 or more (Chen and Goodman, equation 17)."""
    one, two, three, four = (int((counts == number).sum()) for number in (1, 2, 3, 4))
    if not (one and two and three):
        return FALLBACK
    share = one / (one + 2 * two)
    found = (1 - 2 * share * two / one, 2 - 3 * share * three / two, 3 - 4 * share * four / three)
    sane = all(0 <= discount <= number for number, discount in enumerate(found, 1))
    return found if sane else FALLBACK
