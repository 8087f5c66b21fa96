"""The classic generator of strings: a token follows from the few before it."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from typing import Generic, TypeVar

import numpy as np

from narrows.errors import require

Token = TypeVar("Token", bound=Hashable)


class NGramSampler(Generic[Token]):
    """Sequences drawn token by token from how often each followed the same `order - 1` ones in training sequences.

    Nothing is smoothed: a sample holds only runs of `order` tokens that were there. Where two training sequences share
    a run, samples cross from one into the other.

        >>> NGramSampler([["C", "C", "O"]], order=3).sample(2, np.random.default_rng(0))
        [['C', 'C', 'O'], ['C', 'C', 'O']]

    Args:
        order: tokens that are counted together, the drawn one included.

    Raises:
        UserError: an order below 1, or no training sequence.
    """

    def __init__(self, sequences: Sequence[Sequence[Token]], order: int) -> None:
        require(order >= 1, f"an n-gram has at least 1 token, not {order}")
        require(len(sequences) > 0, "n-grams are counted in training sequences, and there are none")
        self.order = order
        self.longest = max(map(len, sequences))
        counts: dict[tuple[Token | None, ...], Counter[Token | None]] = defaultdict(Counter)
        for sequence in sequences:
            padded = (*self._begin, *sequence, None)
            for place in range(order - 1, len(padded)):
                counts[padded[place - order + 1 : place]][padded[place]] += 1
        self._next = {
            past: (list(found), np.cumsum(list(found.values())) / found.total()) for past, found in counts.items()
        }

    @property
    def _begin(self) -> tuple[Token | None, ...]:
        return (None,) * (self.order - 1)

    def sample(self, n: int, source: np.random.Generator) -> list[list[Token]]:
        """`n` sequences, cut at the length of the longest training sequence."""
        return [self._sequence(source) for _ in range(n)]

    def _sequence(self, source: np.random.Generator) -> list[Token]:
        made: list[Token] = []
        past = self._begin
        while len(made) < self.longest:
            tokens, shares = self._next[past]
            drawn = tokens[min(int(np.searchsorted(shares, source.random(), side="right")), len(tokens) - 1)]
            if drawn is None:
                break
            made.append(drawn)
            past = (*past, drawn)[1:]
        return made

    def log_probability(self, sequence: Sequence[Token]) -> float:
        """`log p` of a whole sequence with its end, in nats; minus infinity where a run of it was never seen."""
        padded = (*self._begin, *sequence, None)
        total = 0.0
        for place in range(self.order - 1, len(padded)):
            tokens, shares = self._next.get(padded[place - self.order + 1 : place], ([], np.empty(0)))
            if padded[place] not in tokens:
                return -math.inf
            total += math.log(np.diff(shares, prepend=0.0)[tokens.index(padded[place])])
        return total
