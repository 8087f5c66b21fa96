"""New sound: a file, a folder or a zip archive, at the run's own rate and in its windows, and rebuilt file by file."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from narrows.data import Audio, Folding, Ragged
from narrows.data.sound_files import (
    WRITTEN,
    Samples,
    SoundFile,
    encode,
    find_sounds,
    in_channels,
    lost_by,
    resampled,
    write_sound,
    written_name,
)
from narrows.data.sound_windows import cut_sound
from narrows.data.sources.audio import name_of
from narrows.errors import UserError, require
from narrows.files import appearing, replacing
from narrows.new_data.examples import Chunk, Known, NewData, Write
from narrows.new_data.places_apart import PlacesApart
from narrows.new_data.problem_file import Problems, listing_problems
from narrows.types import Batch

log = logging.getLogger(__name__)

WAV = ".wav"
Keep = Callable[["Origin", Samples], None]


@dataclass(frozen=True)
class Origin:
    """The file that a window was cut from."""

    name: str
    steps: int
    """Samples at the run's rate."""
    own_steps: int
    own_rate: int
    subtype: str


@dataclass
class Window:
    """An example, and where it comes from."""

    name: str
    samples: Samples | None
    """None where the file could not be read."""
    start: int
    origin: Origin | None
    problem: str | None = None


class NewSounds(NewData):
    """The windows of sounds, as the run's own were cut, or whole sounds where the run read whole ones. For
    reconstructions windows overlap by a half at least, and are folded together: see `narrows.data.Folding`."""

    form = "sound"
    _overlapping = False

    def __init__(self, source: Any, known: Known, given: Any) -> None:
        super().__init__(source, known, given)
        self._said: set[str] = set()

    def chunks(self) -> Iterator[Chunk]:
        files = find_sounds(self.path)
        held: list[Window] = []
        for number, file in enumerate(files, 1):
            for window in self._windows(file):
                held.append(window)
                if len(held) == self.known.rows:
                    yield self._chunk(held, number / len(files))
                    held = []
        if held:
            yield self._chunk(held, 1.0)

    def _windows(self, file: SoundFile) -> Iterator[Window]:
        spec = self.known.spec
        assert isinstance(self.source, Audio)
        assert spec.rate is not None
        try:
            sound = file.read()
            samples = in_channels(sound.samples, spec.shape[0], file.where)
        except UserError as error:
            yield Window(file.name, None, 0, None, str(error))
            return
        if self._overlapping:
            self._say(lost_by([sound], spec, "rebuilt"))
        own_steps = samples.shape[1]
        samples = resampled(samples, sound.rate, spec.rate)
        origin = Origin(file.name, samples.shape[1], own_steps, sound.rate, sound.subtype)
        width = None if spec.variable else spec.shape[1]
        stride = self.source.stride
        if width is not None and self._overlapping:
            stride = min(stride or width, max(1, width // 2))
        for start, part in cut_sound(samples, width, stride):
            yield Window(name_of(file.name, start, width), part, start, origin)

    def _say(self, lines: list[str]) -> None:
        """Log each line once."""
        for line in lines:
            if line not in self._said:
                log.info("%s", line)
                self._said.add(line)

    def _chunk(self, windows: list[Window], done: float) -> Chunk:
        names, problems = [one.name for one in windows], [one.problem for one in windows]
        if not self.known.spec.variable:
            parts = [None if one.samples is None else torch.from_numpy(one.samples.copy()) for one in windows]
            return Chunk.of(names, parts, problems, done, windows)
        rows = np.array([row for row, one in enumerate(windows) if one.samples is not None], np.int64)
        batch = None
        if len(rows):
            store = Ragged.of([torch.from_numpy(one.samples) for one in windows if one.samples is not None])
            batch = Batch(store.take(slice(None)), length=store.lengths(slice(None)))
        return Chunk(names, problems, batch, rows, done, windows)

    def default_target(self) -> Path:
        suffix = self.path.suffix.lower()
        many = self.path.is_dir() or suffix == ".zip"
        return self.stem("reconstructed", "" if many else suffix if suffix in WRITTEN else WAV)

    @contextmanager
    def rebuilding(self, out: Path) -> Iterator[Write]:
        """A sound for a sound, at its own rate, as long as it and as finely stored; a folder of them for a folder or an
        archive, in which `problems.csv` lists those that could not be read."""
        self._overlapping = True
        many = self.path.is_dir() or self.path.suffix.lower() == ".zip"
        require(
            many or out.suffix.lower() in WRITTEN,
            f"a sound is written as {' or '.join(WRITTEN)}, which {out} is not by its name",
        )
        with ExitStack() as stack:
            problems = Problems()
            if many:
                folder = stack.enter_context(appearing(out))
                problems = stack.enter_context(listing_problems(folder))
                apart = PlacesApart((file.name, str(written_name(file.name))) for file in find_sounds(self.path))
                keep: Keep = lambda origin, sound: self._save(folder, apart, origin, sound)  # noqa: E731
            else:
                file = stack.enter_context(replacing(out))
                keep = lambda origin, sound: self._put(file, out, origin, sound)  # noqa: E731
            joined = _Joined(keep)

            def write(chunk: Chunk, rebuilt: Tensor | None) -> None:
                problems.add(chunk)
                windows = [chunk.beside[row] for row in chunk.rows.tolist()]
                for window, samples in zip(windows, [] if rebuilt is None else rebuilt.numpy(), strict=True):
                    joined.add(window, samples)

            yield write
            joined.end()

    def _own(self, origin: Origin, sound: Samples) -> Samples:
        """A sound at its file's own rate and length."""
        assert self.known.spec.rate is not None
        back = resampled(sound, self.known.spec.rate, origin.own_rate)[:, : origin.own_steps]
        return np.pad(back, ((0, 0), (0, origin.own_steps - back.shape[1])))

    def _save(self, folder: Path, apart: PlacesApart, origin: Origin, sound: Samples) -> None:
        wanted = written_name(origin.name)
        path = folder / apart.of(origin.name, str(wanted), wanted.suffix)
        where = f"the reconstruction of {origin.name}"
        write_sound(path, self._own(origin, sound), origin.own_rate, origin.subtype, where)

    def _put(self, file: Any, out: Path, origin: Origin, sound: Samples) -> None:
        file.write(encode(self._own(origin, sound), origin.own_rate, out.suffix, origin.subtype, str(out)))

    def own_form(self, rebuilt: Tensor, chunk: Chunk) -> list[Samples]:
        """Windows or whole sounds `[C, T]` at the run's rate, without what filled them up."""
        windows = [chunk.beside[row] for row in chunk.rows.tolist()]
        return [
            values[:, : window.origin.steps - window.start]
            for window, values in zip(windows, rebuilt.numpy(), strict=True)
        ]


class _Joined:
    """The windows of a file folded together, and kept once the file ends."""

    def __init__(self, keep: Keep) -> None:
        self._keep = keep
        self._origin: Origin | None = None
        self._folding: Folding | None = None

    def add(self, window: Window, samples: Samples) -> None:
        """Add what the model made of a window, `[C, T]`."""
        assert window.origin is not None
        if window.origin is not self._origin:
            self.end()
            self._origin = window.origin
            self._folding = Folding(len(samples), window.origin.steps, samples.shape[1])
        assert self._folding is not None
        self._folding.add(window.start, samples)

    def end(self) -> None:
        """Keep the sound."""
        if self._origin is not None and self._folding is not None:
            self._keep(self._origin, self._folding.sound())
        self._origin = self._folding = None
