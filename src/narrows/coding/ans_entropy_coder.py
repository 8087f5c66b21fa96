"""Entropy coding of whole numbers as bytes, and back, by asymmetric numeral systems (ANS) under frozen integer tables.

The bytes depend on integers alone, so they are the same on every machine. `constriction` takes probabilities p_i as
floating-point numbers and ends symbol i's share of 2^24 at `floor(scale sum_{j<=i} p_j) + i + 1`, with
`scale = (2^24 - n) / sum p`. For `p_i = f_i - 1` with frequencies f that sum to 2^24, scale is exactly 1 and every sum
is a whole number that a double holds exactly, so the shares are exactly f. A test compares with an integer-only coder.

"Asymmetric numeral systems" (Duda, 2013), https://arxiv.org/abs/1311.2540; "Understanding Entropy Coding With
Asymmetric Numeral Systems (ANS): a Statistician's Perspective" (Bamler, 2022) for `constriction`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from constriction import stream
from numpy.typing import NDArray

from narrows.errors import UserError, require

Whole = NDArray[np.int64]

PRECISION = 24
"""Bits of a frequency, as `constriction` prescribes."""
TOTAL = 2**PRECISION
WORDS = 2**53
"""Whole numbers up to here have a double each."""
LARGEST = 2**16
"""Most values that a table may span; values outside are escaped."""
AT_ONCE = 2**20
"""Symbols decoded together: memory for all of them is claimed by numpy, which can refuse it, before any is decoded."""


@dataclass(frozen=True)
class Table:
    """The expected frequencies of the values in one stream of whole numbers: `frequencies[i]` of 2^24 for the value
    `low + i`, and the last one for an escape symbol, which any other value follows. Every frequency is at least 1."""

    low: int
    frequencies: tuple[int, ...]

    def __post_init__(self) -> None:
        right = 2 <= len(self.frequencies) <= LARGEST + 1 and min(self.frequencies) >= 1
        right = right and sum(self.frequencies) == TOTAL
        require(right, f"a coding table needs two or more frequencies of at least 1 that sum to {TOTAL}")
        require(abs(self.low) <= WORDS, f"a coding table cannot begin at {self.low:.3g}")

    @property
    def escape(self) -> int:
        """The escape symbol, for values without a symbol of their own."""
        return len(self.frequencies) - 1

    @cached_property
    def model(self) -> Any:
        return stream.model.Categorical(np.asarray(self.frequencies, dtype=np.float64) - 1, perfect=False)

    @cached_property
    def costs(self) -> NDArray[np.float64]:
        """The code length of every symbol in bits."""
        return PRECISION - np.log2(np.asarray(self.frequencies, dtype=np.float64))

    def symbols(self, values: Whole) -> NDArray[np.int32]:
        places = values - self.low
        return np.where((places < 0) | (places >= self.escape), self.escape, places).astype(np.int32)

    def bits(self, values: Whole) -> NDArray[np.float64]:
        """The cost of each value in bits: its ideal code length, plus the bytes of an escaped value."""
        symbols = self.symbols(values)
        costs = self.costs[symbols]
        away = symbols == self.escape
        costs[away] += [8 * len(_varint(_zigzag(int(value)))) for value in values[away]]
        return costs


def fit_table(values: Whole, low: int | None = None, high: int | None = None) -> Table:
    """Fit a table to the values seen, from `low` to `high` (by default the smallest and largest of them).

    Every value of the range gets an extra count, so that unseen values have a probability. Together the extra counts
    equal the number of values seen once, Turing's estimate of the unseen ("The population frequencies of species",
    Good, 1953); each is at most a half (Krichevsky and Trofimov, 1981).
    """
    require(len(values) > 0, "there is nothing to fit a coding table to")
    low = int(values.min()) if low is None else low
    high = int(values.max()) if high is None else high
    if high - low >= LARGEST:
        # Keep the middle part of the range; the rare values outside are escaped.
        low = int(np.median(values)) - LARGEST // 2
        high = low + LARGEST - 1
    inside = values[(values >= low) & (values <= high)]
    counts = np.append(np.bincount(inside - low, minlength=high - low + 1), len(values) - len(inside))
    extra = min(0.5, (int((counts == 1).sum()) + 1) / len(counts))
    return table_of(low, counts + extra)


def table_of(low: int, weights: NDArray[np.float64]) -> Table:
    """The table of the values from `low` on, and the escape symbol last, in proportion to these weights."""
    return Table(low, _frequencies(weights))


def _frequencies(weights: NDArray[np.float64]) -> tuple[int, ...]:
    """Frequencies in proportion to the weights, each at least 1; the remainder of rounding goes to the largest."""
    shares = weights / weights.sum()
    found = 1 + np.floor((TOTAL - len(weights)) * shares).astype(np.int64)
    found[np.argmax(found)] += TOTAL - found.sum()
    return tuple(found.tolist())


def encode(streams: Sequence[Whole], tables: Sequence[Table]) -> bytes:
    """Encode the streams, each with its table, as bytes: the length of the escaped values, these values, the code."""
    coder, escaped = stream.stack.AnsCoder(), bytearray()
    symbols = [table.symbols(values) for values, table in zip(streams, tables, strict=True)]
    for values, found, table in zip(streams, symbols, tables, strict=True):
        for value in values[found == table.escape]:
            escaped += _varint(_zigzag(int(value)))
    # The coder is a stack: write in reverse order, so that decoding reads in order.
    for found, table in zip(reversed(symbols), reversed(tables), strict=True):
        coder.encode_reverse(found, table.model)
    return _varint(len(escaped)) + bytes(escaped) + coder.get_compressed().astype("<u4").tobytes()


def decode(
    code: bytes,
    lengths: Sequence[int],
    tables: Sequence[Table],
    later: Callable[[list[Whole]], list[int]] | None = None,
) -> list[Whole]:
    """Decode the streams, of these lengths, that `encode` was given.

    Args:
        code: what it returned.
        lengths: of the streams, or of the first of them.
        tables: of all streams.
        later: the lengths of the other streams, from the values of the first.

    Raises:
        UserError: the bytes are recognisably not from these tables; a checksum must detect other damage.
        MemoryError: so many values do not fit into memory.
    """
    size, start = _read_varint(code, 0)
    rest = len(code) - start - size
    require(rest >= 0 and rest % 4 == 0, "the code is cut short")
    words = np.frombuffer(code, dtype="<u4", offset=start + size).astype(np.uint32)
    require(not len(words) or words[-1] != 0, "the code ends in a zero word, which no encoder writes")
    coder = stream.stack.AnsCoder(words)
    place, due = start, list(lengths)
    found: list[Whole] = []
    for number, table in enumerate(tables):
        if number == len(lengths) and later is not None:
            due += later(found)
        length = due[number]
        values = np.empty(length, dtype=np.int64)
        for begin in range(0, length, AT_ONCE):
            part = values[begin : begin + AT_ONCE]
            part[:] = coder.decode(table.model, len(part))
        away = np.flatnonzero(values == table.escape)
        values += table.low
        for position in away:
            value, place = _read_varint(code, place)
            values[position] = _from_zigzag(value)
        found.append(values)
    require(place == start + size and coder.is_empty(), "the code does not end where its values do")
    return found


def _zigzag(value: int) -> int:
    """Map 0, -1, 1, -2, ... to 0, 1, 2, 3, ..."""
    return 2 * value if value >= 0 else -2 * value - 1


def _from_zigzag(value: int) -> int:
    return -(value + 1) // 2 if value % 2 else value // 2


def _varint(value: int) -> bytes:
    """A number as bytes of seven bits each, lowest first; the eighth bit says that more follow (LEB128)."""
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])


def _read_varint(code: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while place < len(code) and shift < 70:
        value |= (code[place] & 127) << shift
        place, shift = place + 1, shift + 7
        if code[place - 1] < 128:
            require(value < 2**64, "the code holds a number of more than 64 bits")
            return value, place
    raise UserError("the code is cut short")
