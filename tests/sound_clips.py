"""Small clips of sound for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from narrows.data.sound_files import write_sound

RATE = 8000


def tone(frequency: float, steps: int, rate: int = RATE, loud: float = 0.5) -> np.ndarray:
    """`[1, steps]`."""
    return (loud * np.sin(2 * np.pi * frequency * np.arange(steps) / rate))[None].astype(np.float32)


def write_clips(folder: Path, takes: int = 4, rate: int = RATE) -> Path:
    """Clips of two words by two speakers, `word_speaker_take.wav`, of different lengths."""
    for word, frequency in (("no", 300), ("yes", 700)):
        for speaker in ("ada", "max"):
            for take in range(takes):
                steps = 500 + 90 * take + 40 * len(word)
                write_sound(folder / f"{word}_{speaker}_{take}.wav", tone(frequency + 10 * take, steps, rate), rate)
    return folder
