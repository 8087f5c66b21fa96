"""Films, cut into clips of as many frames."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from narrows.data.contents import Contents, Part
from narrows.data.dataset_files import existing
from narrows.data.film_files import Film, Frames, FrameSize, find_films, read_films
from narrows.data.film_masks import Marks, mask_key, packed, read_masks, split_off_masks
from narrows.data.film_pace import Pace, is_uneven
from narrows.data.image_tree import PARTS
from narrows.errors import nearest, require

Split = Literal["auto", "video", "time"]


@dataclass(frozen=True)
class Clips:
    """How films are cut.

    Args:
        frames: of a clip.
        stride: frames from the beginning of a clip to that of the next; null: clips side by side.
        step: frames of the film from frame to frame of a clip; 1 takes every frame.

    Raises:
        UserError: a number below 1.
    """

    frames: int = 8
    stride: int | None = None
    step: int = 1

    def __post_init__(self) -> None:
        for name in ("frames", "stride", "step"):
            value = getattr(self, name)
            require(value is None or value >= 1, f"source.clips.{name}={value} must be at least 1")

    @property
    def span(self) -> int:
        """Frames of the film from the first to the last of a clip, both counted."""
        return (self.frames - 1) * self.step + 1

    @property
    def away(self) -> int:
        """The stride."""
        return self.span if self.stride is None else self.stride

    @property
    def neighbours(self) -> int:
        """How many of the clips that follow one overlap with it."""
        return -(-self.span // self.away) - 1

    def starts(self, length: int) -> range:
        """Where the clips of a film of so many frames begin."""
        return range(0, length - self.span + 1, self.away)

    def cut(self, film: NDArray[Any], start: int) -> NDArray[Any]:
        """A clip `[C, T, H, W]` of a film `[T, C, H, W]`, or of its masks."""
        return film[start : start + self.span : self.step].swapaxes(0, 1)


@dataclass
class Reel:
    """A film that was read."""

    name: str
    part: str
    frames: Frames
    marks: Marks | None = None
    """What is anomalous, where some test film has a mask."""


class Video:
    """Clips `[C, T, H, W]` of bytes, in the order of films and frames.

    A path is a film or a folder of films: folders of frames (in the order of the numbers in their names), animations
    (GIF), arrays of bytes (`[T, H, W]`, `[T, H, W, C]`, or many, `[N, T, H, W]`), and MP4 and others by the library av.
    Folders `train`, `valid` and `test` around all films are the splits of these names. Otherwise whole films are held
    out, or the last clips of each; a clip that shares a frame's time with a held-out one is then left out, so that no
    frame is on both sides.

    Where `ground_truth` stands beside `train` and `test`, its films `<name>_mask`, of any of these forms, mark what is
    anomalous in `test/<name>`, pixel by pixel; test films without one are normal. A clip in which nothing is marked has
    the label 0, as all that are trained on, another 1 (`Part.anomalous`, which tasks alone ask for).

    Args:
        clips: frames of a clip, and where the next begins.
        size: height and width of frames, one number for both or `[height, width]`; null: as they are, and all alike.
        channels: 1 (grey) or 3 (colour).
        split: `video` holds whole films out, `time` the last clips of each; `auto`: `time` of a single film, else
            `video`.
        test: fraction held out, where no folder is the test split; null: no test split.
        key: the array of a .npz that holds the films; `auto`: `x`, `images`, or the only one.

    Raises:
        UserError: an option out of its range; (`load`) files that are missing or broken, frames of different sizes, or
            films that are all shorter than a clip.
    """

    def __init__(
        self,
        path: str,
        clips: Clips | None = None,
        size: int | Sequence[int] | None = None,
        channels: Literal[1, 3] = 1,
        split: Split = "auto",
        test: float | None = 0.1,
        key: str = "auto",
    ) -> None:
        known = get_args(Split)
        require(split in known, f"unknown source.split={split!r}: {nearest(str(split), known)}")
        require(test is None or 0 < test < 1, f"source.test={test} is no fraction between 0 and 1")
        self.path, self.clips, self.split, self.test, self.key = path, clips or Clips(), split, test, key
        self.size = FrameSize(size, channels)

    def load(self) -> Contents:
        reels, short, uneven = self._read()
        parts: dict[str, list[Reel]] = {}
        for reel in reels:
            parts.setdefault(reel.part, []).append(reel)
        require("train" in parts, f"{self.path} holds no film to train on: all are of {' and '.join(sorted(parts))}")
        made = {part: self._part(own) for part, own in parts.items()}
        in_time = self.split == "time" or (self.split == "auto" and len(parts["train"]) == 1)
        groups = made["train"][1]
        return Contents.of_parts(
            "video",
            {name: part for name, (part, _) in made.items()},
            self.test,
            groups=groups if not in_time or len(parts["train"]) > 1 else None,
            neighbours=self.clips.neighbours if in_time else None,
            **({"train_labels": [0], "class_names": ["normal", "anomalous"]} if self._masked(reels) else {}),
            reading=[self._say(reels, {name: len(part) for name, (part, _) in made.items()}, in_time, short, uneven)],
        )

    def _read(self) -> tuple[list[Reel], int, int]:
        """The films, how many were shorter than a clip, and how many show frames for different times."""
        films, masks = split_off_masks(find_films(existing(self.path, "source.path")), self.path)
        tops = [_part_of(film) for film in films]
        reels, short, first = [], 0, None
        uneven = 0
        for film, top in zip(films, tops, strict=True):
            pace: Pace = []
            read = list(read_films(film, self.size, self.key, pace))
            uneven += is_uneven(pace)
            shapes = [(name, frames.shape) for name, frames in read]
            mask = masks.get(mask_key(film)) if top == "test" else None
            every = read_masks(mask, self.size, shapes) if masks else itertools.repeat(None)
            for (name, frames), marks in zip(read, every, strict=False):
                first = first or (name, frames.shape[1:])
                require(
                    frames.shape[1:] == first[1],
                    f"{first[0]} has frames of {first[1][1]} x {first[1][2]} pixels and {name} of {frames.shape[2]} x "
                    f"{frames.shape[3]}: set source.size, to which all are brought",
                )
                part = "train" if None in tops or top is None else top
                if len(frames) < self.clips.span:
                    short += 1
                else:
                    reels.append(Reel(name, part, frames, marks))
        require(
            bool(reels),
            f"the films of {self.path} are all shorter than a clip, which spans {self.clips.span} frames: set "
            "source.clips.frames or source.clips.step lower",
        )
        return reels, short, uneven

    def _part(self, reels: Sequence[Reel]) -> tuple[Part, Tensor]:
        """The clips of films, and the number of the film of each."""
        rows, names, groups, marks = [], [], [], []
        for number, reel in enumerate(reels):
            for start in self.clips.starts(len(reel.frames)):
                if reel.marks is not None:
                    marks.append(self.clips.cut(reel.marks, start))
                rows.append(torch.from_numpy(np.ascontiguousarray(self.clips.cut(reel.frames, start))))
                names.append(clip_name(reel.name, start, self.clips))
                groups.append(number)
        label = torch.tensor([int(one.any()) for one in marks]) if marks else None
        anomalous = packed(marks) if any(one.any() for one in marks) else None
        return Part(torch.stack(rows), label, names=names, anomalous=anomalous), torch.tensor(groups)

    @staticmethod
    def _masked(reels: Sequence[Reel]) -> bool:
        return any(reel.marks is not None for reel in reels)

    def _say(self, reels: Sequence[Reel], counts: dict[str, int], in_time: bool, short: int, uneven: int) -> str:
        frames = sum(len(reel.frames) for reel in reels)
        _, channels, height, width = reels[0].frames.shape
        films = "1 film" if len(reels) == 1 else f"{len(reels):,} films"
        cut = f"clips of {self.clips.frames} frames"
        cut += f", one of {self.clips.step}" if self.clips.step > 1 else ""
        said = (
            f"video: {films}, {frames:,} frames of {height} x {width} pixels {'in colour' if channels == 3 else 'grey'}"
        )
        said += f"; {cut}, every {self.clips.away} ({', '.join(f'{n:,} of {name}' for name, n in counts.items())})"
        marked = sum(reel.marks is not None and bool(reel.marks.any()) for reel in reels)
        said += f"; masks mark something in {marked} of them" if self._masked(reels) else ""
        said += f"; in {uneven} of them frames are shown for different times, and count alike" if uneven else ""
        said += f"; {short} films are shorter than a clip and left out" if short else ""
        return f"{said}; held out: {'the last clips of each film' if in_time else 'whole films'}"


def _part_of(film: Film) -> str | None:
    """The split that a film's folder is named after, if it is."""
    folder = film.name.split("/")[0] if "/" in film.name or film.frames else ""
    return PARTS.get(folder.lower())


def frames_of_clip(name: str) -> tuple[str, int, int] | None:
    """The film of a clip of this name, and its first and last frame; None where the name is that of no clip."""
    found = re.fullmatch(r"(.*):(\d+)-(\d+)", name, re.DOTALL)
    return None if found is None else (found[1], int(found[2]), int(found[3]))


def clip_name(film: str, start: int, clips: Clips) -> str:
    """The name of a clip: its film, and its first and last frame."""
    return f"{film}:{start}-{start + clips.span - 1}"
