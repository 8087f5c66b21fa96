"""New music as piano rolls: MIDI files, a JSON of pitches, or rolls, whole or in windows as the run's own were."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from narrows.data import Music, Ragged
from narrows.data.folders import files_below
from narrows.data.midi_files import write_midi
from narrows.data.piano_rolls import FRAMES_PER_BEAT, MIDI, cut, read_parts
from narrows.errors import UserError, require
from narrows.files import appearing, replacing
from narrows.new_data.array_files import write_array
from narrows.new_data.examples import Chunk, NewData, Write
from narrows.new_data.places_apart import PlacesApart, renamed
from narrows.new_data.problem_file import Problems, listing_problems
from narrows.types import Batch

MID = ".mid"
Piece = tuple[str, NDArray[np.uint8] | None, str | None, float]
"""Name, roll `[88, T]`, problem and share read so far."""


class NewMusic(NewData):
    """Pieces of a MIDI file or a folder of them, a JSON of pitches or rolls in a .npz, whole or in the run's windows;
    what is left at the end of a piece is a shorter one."""

    form = "music"

    def chunks(self) -> Iterator[Chunk]:
        assert isinstance(self.source, Music)
        names: list[str] = []
        pieces: list[str] = []
        rolls: list[NDArray[np.uint8] | None] = []
        problems: list[str | None] = []
        done = 0.0
        for name, roll, problem, done in self._pieces():
            parts = [(0, roll)] if roll is None else cut(roll, self.source.window, None)
            for start, frames in parts:
                whole = frames is None or self.source.window is None
                names.append(name if whole or frames is None else f"{name}:{start}-{start + frames.shape[1] - 1}")
                pieces.append(name)
                rolls.append(frames)
                problems.append(problem)
                if len(names) == self.known.rows:
                    yield _chunk(names, pieces, rolls, problems, done)
                    names, pieces, rolls, problems = [], [], [], []
        if names:
            yield _chunk(names, pieces, rolls, problems, done)

    def _pieces(self) -> Iterator[Piece]:
        if not self.is_midi:
            parts = read_parts(self.path, self.source.frames_per_beat)
            found = [(name, roll) for part in parts.values() for name, roll in zip(part.names, part.rolls, strict=True)]
            for number, (name, roll) in enumerate(found, 1):
                yield name, roll, None, number / len(found)
            return
        files = self._files()
        require(bool(files), f"{self.path} holds no MIDI file (.mid or .midi)")
        for number, file in enumerate(files, 1):
            name, share = self.name_of(file), number / len(files)
            try:
                (part,) = read_parts(file, self.source.frames_per_beat).values()
            except UserError as error:
                yield name, None, str(error), share
                continue
            yield name, part.rolls[0], None, share

    def _files(self) -> list[Path]:
        files = files_below(self.path) if self.path.is_dir() else [self.path]
        return [file for file in files if file.suffix.lower() in MIDI and file.is_file()]

    @property
    def is_midi(self) -> bool:
        """Whether the pieces are MIDI files."""
        return self.path.is_dir() or self.path.suffix.lower() in MIDI

    def default_target(self) -> Path:
        return self.stem("reconstructed", "" if self.path.is_dir() else MID if self.is_midi else ".npz")

    @contextmanager
    def rebuilding(self, out: Path) -> Iterator[Write]:
        """MIDI files for MIDI files, else a .npz with a roll `[88, T]` for each piece: what sounds with a probability
        of more than a half."""
        ending = MID if self.is_midi else ".npz"
        require(
            self.path.is_dir() or out.suffix.lower() == ending,
            f"this music is written as {ending}, which {out} is not by its name",
        )
        with ExitStack() as stack:
            keep: Callable[[str, NDArray[np.uint8]], None]
            problems = Problems()
            if self.path.is_dir():
                folder = stack.enter_context(appearing(out))
                problems = stack.enter_context(listing_problems(folder))
                names = map(self.name_of, self._files())
                apart = PlacesApart((name, renamed(name, MID)) for name in names)
                keep = lambda name, roll: self._save_midi(  # noqa: E731
                    roll, apart.place(folder, name, renamed(name, MID), MID)
                )
            elif self.is_midi:
                keep = lambda name, roll: self._save_midi(roll, out)  # noqa: E731
            else:
                file = stack.enter_context(replacing(out))
                archive = stack.enter_context(zipfile.ZipFile(file, "w"))
                keep = lambda name, roll: write_array(archive, name, roll)  # noqa: E731
            pieces = _Joined(keep)

            def write(chunk: Chunk, rebuilt: Tensor | None) -> None:
                problems.add(chunk)
                pieces.add(chunk, None if rebuilt is None else self.own_form(rebuilt, chunk))

            yield write
            pieces.end()

    def _save_midi(self, roll: NDArray[np.uint8], path: Path) -> None:
        write_midi(roll, path, self.source.frames_per_beat or FRAMES_PER_BEAT)

    def own_form(self, rebuilt: Tensor, chunk: Chunk) -> list[NDArray[np.uint8]]:
        """Rolls `[88, T]`, each of its own length."""
        assert chunk.batch is not None
        assert chunk.batch.length is not None
        sounds = (rebuilt > 0.5).to(torch.uint8).numpy()
        return [roll[:, :length] for roll, length in zip(sounds, chunk.batch.length.tolist(), strict=True)]


class _Joined:
    """The windows of a piece one after another, kept once the piece ends."""

    def __init__(self, keep: Callable[[str, NDArray[np.uint8]], None]) -> None:
        self._keep = keep
        self._name: str | None = None
        self._rolls: list[NDArray[np.uint8]] = []

    def add(self, chunk: Chunk, rolls: Any) -> None:
        """Add the rolls of a chunk's readable examples."""
        for row, roll in zip(chunk.rows.tolist(), rolls or [], strict=True):
            name = chunk.beside[row]
            if name != self._name:
                self.end()
            self._name = name
            self._rolls.append(roll)

    def end(self) -> None:
        """Keep the piece."""
        if self._name is not None:
            self._keep(self._name, np.concatenate(self._rolls, 1))
        self._name, self._rolls = None, []


def _chunk(
    names: list[str],
    pieces: list[str],
    rolls: list[NDArray[np.uint8] | None],
    problems: list[str | None],
    done: float,
) -> Chunk:
    """Windows as the model reads them; `beside` are the names of their pieces."""
    places = np.array([place for place, roll in enumerate(rolls) if roll is not None], np.int64)
    batch = None
    if len(places):
        store = Ragged.of([torch.from_numpy(np.ascontiguousarray(roll)) for roll in rolls if roll is not None])
        batch = Batch(store.take(slice(None)).float(), length=store.lengths(slice(None)))
    return Chunk(names, problems, batch, places, done, pieces)
