"""Long sounds in pieces, so that memory does not grow with their length."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

LONGEST = 2**18
"""Samples of a piece: half a minute at 8 kHz."""


@dataclass(frozen=True)
class Piece:
    """A part of a sound, in samples, and what is read around it, so that convolutions see at its ends what they would
    see in the whole."""

    read: slice
    start: int
    stop: int

    def kept(self, hop: int) -> slice:
        """The part itself in what was made of all that was read, a value for every `hop` samples."""
        return slice((self.start - self.read.start) // hop, (self.stop - self.read.start) // hop)


def pieces(steps: int, hop: int, around: int) -> Iterator[Piece]:
    """The pieces of a sound of so many samples, a multiple of hop.

    Args:
        hop: of which all their ends are multiples.
        around: samples that are read before and behind each, at least.
    """
    length, margin = LONGEST // hop * hop, -(-around // hop) * hop
    for start in range(0, steps, max(hop, length)):
        stop = min(start + max(hop, length), steps)
        yield Piece(slice(max(0, start - margin), min(steps, stop + margin)), start, stop)
