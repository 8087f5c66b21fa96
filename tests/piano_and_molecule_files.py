"""Small files of music and molecules for tests."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

CHORDS = ([60, 64, 67], [62, 65, 69], [59, 62, 67], [57, 60, 64])
MOLECULES = "CCO CCN CCC CC=O CCCl CC#N C1CC1 OCCO NCCN CCOC C1CCC1 CC(C)O c1ccccc1".split()  # noqa: SIM905


def write_chorales(path: Path, pieces: int = 12, seed: int = 0) -> Path:
    """Pieces of 6 to 13 frames that go through four chords, each of which lasts two frames."""
    source = np.random.default_rng(seed)

    def piece() -> list[list[int]]:
        first, frames = int(source.integers(4)), int(source.integers(6, 14))
        return [CHORDS[(first + step // 2) % 4] for step in range(frames)]

    parts = {"train": pieces, "valid": max(2, pieces // 4), "test": max(2, pieces // 4)}
    path.write_text(json.dumps({name: [piece() for _ in range(number)] for name, number in parts.items()}))
    return path


def write_molecules(path: Path, copies: int = 6) -> Path:
    """A CSV of small molecules, each as often as `copies` says."""
    path.write_text("\n".join(["smiles", *MOLECULES * copies]))
    return path
