"""New films: a file, a folder of frames or a folder of films, in the run's clips, and rebuilt frame by frame."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from narrows.coding.eight_bits import eight_bits
from narrows.data import Film, Video
from narrows.data.batch_loader import unit
from narrows.data.film_files import (
    ARRAYS,
    ENDINGS,
    GIF,
    NPY,
    Frames,
    find_films,
    plain_name,
    put_film,
    read_films,
)
from narrows.data.film_pace import Pace, of_animation, of_every
from narrows.errors import UserError, require
from narrows.files import appearing, replacing
from narrows.new_data.examples import Chunk, Known, NewData, Write
from narrows.new_data.pictures import drawn
from narrows.new_data.places_apart import PlacesApart
from narrows.new_data.problem_file import Problems, listing_problems


@dataclass
class FoldedFilm:
    """A film, and what has been said of its clips so far: the frames that the model made of them, or their scores."""

    name: str
    ending: str
    clips: int
    counts: NDArray[np.float64] = field(repr=False)
    """How many clips cover each frame, `[T]`."""
    sums: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0), repr=False)
    """`[C, T, ...]`, once there is a clip."""
    done: int = 0
    pace: list[int] = field(default_factory=list, repr=False)
    """Milliseconds of each frame, where the film says so."""

    def add(self, start: int, clip: NDArray[np.floating]) -> bool:
        """Add what is said of a clip, `[C, F, ...]`; whether the film is complete."""
        if self.done == 0:
            self.sums = np.zeros((len(clip), len(self.counts), *clip.shape[2:]))
        self.sums[:, start : start + clip.shape[1]] += clip
        self.counts[start : start + clip.shape[1]] += 1
        self.done += 1
        return self.done == self.clips

    def mean(self) -> NDArray[np.float64]:
        """Of the clips that cover each frame, `[C, T, ...]`."""
        found: NDArray[np.float64] = self.sums / self.counts.reshape(-1, *[1] * (self.sums.ndim - 2))
        return found

    def frames(self) -> NDArray[np.uint8]:
        """`[T, H, W]` or `[T, H, W, 3]`."""
        pixels = np.asarray(eight_bits(torch.from_numpy(self.mean()))).transpose(1, 2, 3, 0)
        return pixels[..., 0] if pixels.shape[-1] == 1 else pixels


@dataclass
class ClipPiece:
    """A clip, and the film that it is of."""

    name: str
    values: Tensor | None
    film: FoldedFilm | None
    start: int = 0
    problem: str | None = None


class NewVideo(NewData):
    """The clips of films, side by side, the last one of a film so that it ends with it. A rebuilt film has as many
    frames as it had (of a run that takes every n-th frame, these), the mean where two clips overlap: a GIF, or an array
    of bytes."""

    form = "films"

    def __init__(self, source: Video, known: Known, given: Any) -> None:
        super().__init__(source, known, given)
        self.video = source
        self.films = find_films(self.path)

    def chunks(self, stride: int | None = None) -> Iterator[Chunk]:
        """See `NewData`.

        Args:
            stride: frames, among those that are taken, from a clip to the next; None: clips side by side.
        """
        held: list[ClipPiece] = []
        for number, film in enumerate(self.films, 1):
            for piece in self._pieces(film, stride):
                held.append(piece)
                if len(held) == self.known.rows:
                    yield self._chunk(held, number / len(self.films))
                    held = []
        if held:
            yield self._chunk(held, 1.0)

    def _pieces(self, film: Film, stride: int | None) -> Iterator[ClipPiece]:
        try:
            pace: Pace = []
            for name, frames in read_films(film, self.video.size, self.video.key, pace):
                taken = frames[:: self.video.clips.step]
                shown = of_animation(of_every(pace, self.video.clips.step, len(taken)))
                yield from self._clips(name, film, taken, stride, shown)
        except UserError as error:
            yield ClipPiece(film.name, None, None, problem=str(error))

    def _clips(self, name: str, film: Film, frames: Frames, stride: int | None, pace: list[int]) -> Iterator[ClipPiece]:
        channels, count, height, width = self.known.spec.shape
        if frames.shape[1:] != (channels, height, width):
            found = f"{frames.shape[1]} x {frames.shape[2]} x {frames.shape[3]}"
            problem = f"its frames are {found}, the run's {channels} x {height} x {width}"
            yield ClipPiece(name, None, None, problem=problem)
            return
        if len(frames) < count:
            yield ClipPiece(name, None, None, problem=f"it has {len(frames)} frames, fewer than the {count} of a clip")
            return
        starts = list(range(0, len(frames) - count + 1, stride or count))
        starts += [] if starts[-1] + count == len(frames) else [len(frames) - count]
        whole = FoldedFilm(name, _ending(film), len(starts), np.zeros(len(frames)), pace=pace)
        for start in starts:
            clip = np.ascontiguousarray(frames[start : start + count].swapaxes(0, 1))
            values = unit(torch.from_numpy(clip))
            values = values if self.known.drawn is None else drawn(values, self.known.drawn)
            yield ClipPiece(f"{name}:{start}-{start + count - 1}", values, whole, start)

    def _chunk(self, pieces: list[ClipPiece], done: float) -> Chunk:
        names, problems = [one.name for one in pieces], [one.problem for one in pieces]
        return Chunk.of(names, [one.values for one in pieces], problems, done, pieces)

    @property
    def _many(self) -> bool:
        return len(self.films) > 1 or (self.path.is_dir() and not self.films[0].frames)

    def default_target(self) -> Path:
        if self._many:
            return self.stem("reconstructed", "")
        array = self.path.suffix.lower() in ARRAYS
        plain = self.path.with_suffix("") if self.path.suffix.lower() in ENDINGS else self.path
        return plain.with_name(f"{plain.name}.reconstructed{NPY if array else GIF}")

    @contextmanager
    def rebuilding(self, out: Path) -> Iterator[Write]:
        """A film for a film, a folder of them for several, in which `problems.csv` lists what could not be read."""
        ending = out.suffix.lower()
        require(
            self._many or ending in (GIF, NPY), f"a film is written as .gif or .npy, which {out} is not by its name"
        )
        with ExitStack() as stack:
            problems, folder, file = Problems(), None, None
            apart = PlacesApart((film.name, f"{plain_name(film.name)}{_ending(film)}") for film in self.films)
            if self._many:
                folder = stack.enter_context(appearing(out))
                problems = stack.enter_context(listing_problems(folder))
            else:
                file = stack.enter_context(replacing(out))

            def write(chunk: Chunk, rebuilt: Tensor | None) -> None:
                problems.add(chunk)
                pieces = [chunk.beside[row] for row in chunk.rows.tolist()]
                for piece, clip in zip(pieces, [] if rebuilt is None else rebuilt.numpy(), strict=True):
                    if not piece.film.add(piece.start, clip):
                        continue
                    if folder is not None:
                        name, ending_of_film = piece.film.name, piece.film.ending
                        wanted = f"{plain_name(name)}{ending_of_film}"
                        target = apart.place(folder, name, wanted, ending_of_film)
                        with target.open("wb") as opened:
                            put_film(opened, piece.film.frames(), piece.film.ending, piece.film.pace)
                    else:
                        put_film(file, piece.film.frames(), ending, piece.film.pace)

            yield write

    def own_form(self, rebuilt: Tensor, chunk: Chunk) -> Any:
        """Clips of bytes, `[M, C, T, H, W]`."""
        return eight_bits(rebuilt)


def _ending(film: Film) -> str:
    """That of a reconstruction: an array for an array, else a GIF."""
    return NPY if film.path.suffix.lower() in ARRAYS else GIF
