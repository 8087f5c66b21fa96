"""Sound: a file, a folder or a zip archive of clips, whole or in windows."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from narrows.data.clip_names import ClipNames
from narrows.data.contents import Contents, Part
from narrows.data.dataset_files import existing
from narrows.data.image_tree import PARTS, number_classes
from narrows.data.ragged_rows import Ragged
from narrows.data.sound_files import Samples, Sound, SoundFile, find_sounds, in_channels, resampled
from narrows.data.sound_windows import cut_sound
from narrows.data.time_order import Timeline
from narrows.errors import require


@dataclass
class Clip:
    """A clip as it is trained on."""

    name: str
    samples: Samples
    fields: dict[str, str]
    """What its name says."""


class Audio:
    """Clips of sound `[C, T]`, with values in [-1, 1], each as long as it is or in windows of one length.

    A path is a file, or a folder or zip archive of files that soundfile reads: WAV, FLAC, Ogg, MP3, AIFF. Folders
    `train`, `valid` and `test` around all of them are the splits of these names; otherwise test clips are told by their
    names (`names.test`) or are a fraction of the clips. A clip's windows stay together; of a single clip the
    last ones are held out.

    Args:
        window: samples of an example, the last one of a clip filled up with zeros; null: whole clips, which differ in
            length.
        stride: samples from window to window; null: `window`.
        rate: samples of a second, to which all are brought; null: the files' own, which must be one.
        mono: whether channels are averaged to one; otherwise all files must have as many.
        names: what the names of files say.
        test: fraction of the clips (or of the groups that `names.group` makes) held out, where nothing else says which
            are test clips; null: no test split.

    Raises:
        UserError: an option out of its range; (`load`) a file that is missing, empty, cut short or no sound, names that
            do not fit, or files of several rates or numbers of channels.
    """

    def __init__(
        self,
        path: str,
        window: int | None = 8192,
        stride: int | None = None,
        rate: int | None = None,
        mono: bool = True,
        names: ClipNames | None = None,
        test: float | None = 0.1,
    ) -> None:
        for option, value in {"window": window, "stride": stride, "rate": rate}.items():
            require(value is None or value >= 1, f"source.{option}={value} must be at least 1, or null")
        require(stride is None or window is not None, "source.stride is of windows: set source.window too")
        require(
            stride is None or window is None or stride <= window,
            f"source.stride={stride} leaves out what lies between windows of {window}: it must be at most as long",
        )
        require(test is None or 0 < test < 1, f"source.test={test} is no fraction between 0 and 1")
        self.path, self.window, self.stride, self.rate, self.mono = path, window, stride, rate, mono
        self.names, self.test = names or ClipNames(), test

    def load(self) -> Contents:
        root = existing(self.path, "source.path")
        files = find_sounds(root)
        clips, rate, identity, changed = self._read(files)
        parts = self._divided(clips)
        field = self.names.label_field([clip.fields for clip in clips])
        numbers = {} if field is None else number_classes(sorted({clip.fields[field] for clip in clips}))
        made = {name: self._part(own, field, numbers) for name, own in parts.items()}
        places = {name: place for name, (_, place) in made.items()}
        order = [clip for own in parts.values() for clip in own]
        groups = self._groups(parts["train"], places["train"])
        alone = self.window is not None and len(groups.unique()) == 1
        return Contents.of_parts(
            "audio",
            {name: part for name, (part, _) in made.items()},
            self.test,
            groups=None if alone else groups,
            neighbours=self._neighbours if alone else None,
            class_names=_in_order(numbers),
            timeline=self._timeline(parts, places),
            rate=rate,
            identity=identity,
            reading=[self._say(order, rate, made) + changed + ("; held out: the last windows" if alone else "")],
        )

    def _read(self, files: Sequence[SoundFile]) -> tuple[list[Clip], int, str | None, str]:
        """The clips at the source's own rate and with its channels, that rate, what they are told by where some were
        resampled, because processors differ in the last digits of that, and what was changed, for people."""
        sounds = [file.read() for file in files]
        rates = sorted({sound.rate for sound in sounds})
        require(
            self.rate is not None or len(rates) == 1,
            f"{self.path} holds sounds of {' and '.join(map(str, rates[:3]))} samples a second: set source.rate, to "
            "which all are brought",
        )
        rate = self.rate or rates[0]
        wanted = 1 if self.mono else len(sounds[0].samples)
        found = []
        for file, sound in zip(files, sounds, strict=True):
            samples = in_channels(sound.samples, wanted, file.where)
            found.append(Clip(file.name, resampled(samples, sound.rate, rate), self.names.read(file.name)))
        return found, rate, None if rates == [rate] else self._identity(sounds, rate), _changed(sounds, rate, wanted)

    def _identity(self, sounds: Sequence[Sound], rate: int) -> str:
        digest = hashlib.sha256(f"{rate} {self.window} {self.stride} {self.mono}".encode())
        for sound in sounds:
            digest.update(f"|{sound.rate} {sound.samples.shape}".encode())
            digest.update(sound.samples.astype("<f4").tobytes())
        return digest.hexdigest()

    def _divided(self, clips: Sequence[Clip]) -> dict[str, list[Clip]]:
        """The clips of each official part, by its name."""
        tops = [PARTS.get(clip.name.split("/")[0].lower()) if "/" in clip.name else None for clip in clips]
        parts: dict[str, list[Clip]] = {}
        for clip, top in zip(clips, tops, strict=True):
            inside = top if None not in tops and top is not None else "train"
            parts.setdefault("test" if self.names.is_test(clip.fields) else inside, []).append(clip)
        require("train" in parts, f"{self.path} holds no clip to train on: all are of {' and '.join(sorted(parts))}")
        require(
            self.names.test is None or "test" in parts,
            f"source.names.test={dict(self.names.test or {})} is true of no clip of {self.path}",
        )
        return parts

    def _part(self, clips: Sequence[Clip], field: str | None, numbers: dict[str, int]) -> tuple[Part, torch.Tensor]:
        """The examples of a part, and of each the number of its clip and where it begins, int64 `[N, 2]`."""
        rows, names, places = [], [], []
        for number, clip in enumerate(clips):
            for start, samples in cut_sound(clip.samples, self.window, self.stride):
                rows.append(torch.from_numpy(np.ascontiguousarray(samples)))
                names.append(name_of(clip.name, start, self.window))
                places.append((number, start))
        place = torch.tensor(places)
        label = None
        if field is not None:
            label = torch.tensor([numbers[clips[number].fields[field]] for number, _ in places])
        return Part(Ragged.of(rows) if self.window is None else torch.stack(rows), label, names=names), place

    @property
    def _neighbours(self) -> int:
        """How many of the windows that follow one overlap with it."""
        assert self.window is not None
        return -(-self.window // (self.stride or self.window)) - 1

    def _groups(self, clips: Sequence[Clip], places: torch.Tensor) -> torch.Tensor:
        """What each training example belongs to: its clip, or what `names.group` says."""
        if self.names.group is None:
            return places[:, 0]
        values = [clip.fields[self.names.group] for clip in clips]
        known = {value: number for number, value in enumerate(sorted(set(values)))}
        return torch.tensor([known[value] for value in values])[places[:, 0]]

    def _timeline(self, parts: dict[str, list[Clip]], places: dict[str, torch.Tensor]) -> Timeline | None:
        """Where windows lie in their clips; those of all parts are numbered one after another."""
        if self.window is None:
            return None
        first, found = 0, {}
        for name, clips in parts.items():
            found[name] = places[name] + torch.tensor([first, 0])
            first += len(clips)
        every = [clip for clips in parts.values() for clip in clips]
        lengths = [clip.samples.shape[1] for clip in every]
        return Timeline(self.window, [clip.name for clip in every], [None] * len(every), lengths, found)

    def _say(self, clips: Sequence[Clip], rate: int, made: dict[str, tuple[Part, torch.Tensor]]) -> str:
        seconds = sum(clip.samples.shape[1] for clip in clips) / rate
        counted = ", ".join(f"{len(part):,} of {name}" for name, (part, _) in made.items())
        what = "whole clips" if self.window is None else f"windows of {self.window:,} samples"
        return f"sound: {len(clips):,} clips, {seconds:,.0f} s at {rate:,} Hz, {what} ({counted})"


def _changed(sounds: Sequence[Sound], rate: int, channels: int) -> str:
    """How many clips were brought to the rate and the channels, if any."""
    resampled_ones = sorted(sound.rate for sound in sounds if sound.rate != rate)
    averaged = sum(len(sound.samples) != channels for sound in sounds)
    said = f"; {averaged:,} of several channels averaged to one" if averaged else ""
    if resampled_ones:
        own = " and ".join(f"{one:,}" for one in sorted(set(resampled_ones))[:3])
        said += f"; {len(resampled_ones):,} resampled from {own} Hz"
    return said


def name_of(clip: str, start: int, window: int | None) -> str:
    """The name of a window of a clip, or of the whole one."""
    return clip if window is None else f"{clip}:{start}-{start + window - 1}"


def _in_order(numbers: dict[str, int]) -> list[str] | None:
    """The name of every class, by number; a number that no name has is its own name."""
    if not numbers:
        return None
    named = {number: name for name, number in numbers.items()}
    return [named.get(number, str(number)) for number in range(max(named) + 1)]
