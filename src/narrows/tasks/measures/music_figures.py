"""Figures of piano rolls: notes that two share, and how alike the notes of two sets are.

A roll is uint8 `[88, T]`, 1 where a key sounds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from narrows.data.midi_files import LOWEST, Roll

Values = NDArray[np.floating]
THRESHOLDS = tuple(np.linspace(0.1, 0.6, 26).round(2).tolist())
OCTAVE = 12


def note_counts(found: Sequence[Roll], truth: Sequence[Roll]) -> NDArray[np.int64]:
    """Of each pair of rolls `[N, 3]`: values that sound in both, in `found`, and in `truth`."""
    pairs = zip(found, truth, strict=True)
    return np.array([[int((a & b).sum()), int(a.sum()), int(b.sum())] for a, b in pairs], np.int64).reshape(-1, 3)


def f1(counts: NDArray[np.int64]) -> float:
    """`2 both / (found + truth)` over all frames and keys of all rolls, of `note_counts [N, 3]`; NaN of silence."""
    both, found, truth = counts.sum(0)
    return float(2 * both / (found + truth)) if found + truth else float("nan")


def best_threshold(at: Callable[[float], Sequence[Roll]], truth: Sequence[Roll]) -> float:
    """The threshold at which rolls have the highest F1; chosen by validation, for model and classics alike."""
    return max(THRESHOLDS, key=lambda threshold: np.nan_to_num(f1(note_counts(at(threshold), truth))))


def overlap(first: Values, second: Values) -> float:
    """The area that two histograms share once each sums to 1: 1 where they are equal, 0 where they have nothing in
    common; NaN where one is empty."""
    if first.sum() == 0 or second.sum() == 0:
        return float("nan")
    return float(np.minimum(first / first.sum(), second / second.sum()).sum())


def pitch_classes(rolls: Iterable[Roll]) -> Values:
    """For each of the twelve tones from C, in how many frames a key of it sounds, `[12]`."""
    found = np.zeros(OCTAVE)
    for roll in rolls:
        np.add.at(found, (np.arange(len(roll)) + LOWEST) % OCTAVE, roll.sum(1))
    return found


def note_lengths(rolls: Iterable[Roll], longest: int) -> Values:
    """How many notes last 1, 2, ... `longest` frames or more, `[longest]`; a note is a run of frames of one key."""
    found = np.zeros(longest)
    for roll in rolls:
        edges = np.diff(np.pad(roll.astype(np.int8), ((0, 0), (1, 1))), axis=1)
        # Row by row, the n-th start belongs to the n-th end.
        lengths = (edges == -1).nonzero()[1] - (edges == 1).nonzero()[1]
        np.add.at(found, np.minimum(lengths, longest) - 1, 1)
    return found


def likeness(samples: Sequence[Roll], truth: Sequence[Roll]) -> dict[str, float]:
    """Overlaps of the pitch classes and of the note lengths of samples with those of true rolls."""
    longest = max((roll.shape[1] for roll in truth), default=1)
    return {
        "pitch_class_overlap": overlap(pitch_classes(samples), pitch_classes(truth)),
        "note_length_overlap": overlap(note_lengths(samples, longest), note_lengths(truth, longest)),
    }
