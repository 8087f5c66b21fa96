"""Small files of music and molecules for tests."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np

from narrows.data.midi_files import write_midi
from narrows.data.piano_rolls import read_pieces

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")

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


def write_midis(folder: Path, pieces: int = 12) -> None:
    """The same pieces as MIDI files, a chord of two beats each, without parts."""
    chorales = write_chorales(folder.with_suffix(".json"), pieces)
    for part in read_pieces(chorales, None).values():
        for roll, name in zip(part.rolls, part.names, strict=True):
            write_midi(roll, folder / f"{name}.mid")


def readme_command(what: str) -> list[str]:
    """The arguments with which the README trains on one's own music or, in their place, molecules."""
    (music,) = re.findall(r"`(narrows train[^`]*datamodule=music[^`]*)`", README)
    arguments = shlex.split(music)[2:]
    if what == "music":
        return arguments
    (molecules,) = re.findall(r"the same with `(datamodule=molecules[^`]*)`", README)
    kept = [argument for argument in arguments if "music" not in argument and "source.path" not in argument]
    return [*kept, *shlex.split(molecules)]
