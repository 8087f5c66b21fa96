"""Generated films: handwritten digits that move about a square and bounce off its sides."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from narrows.data.contents import Contents, Part, Source
from narrows.data.film_masks import packed
from narrows.errors import require
from narrows.random import derive

LEAST_ODD, MOST_PARTS = 2, 2
"""Fewest frames in which a digit is odd, and of how many equal parts of a clip one is the most."""
RUSH = 4
"""How many times as fast an odd digit moves."""


class MovingDigits:
    """Clips `[1, T, side, side]` of bytes: `digits` digits, each with a velocity of its own, which is mirrored at the
    sides; where they cross, the brighter pixel is seen.

    Training clips show digits of the training split of `source`, test clips those of its test split. In `anomalous` of
    the test clips one digit is odd for a run of frames, at least two and at most half of the clip: a hollow square
    takes its place, or it moves four times as fast. Its pixels are marked there (`Part.anomalous`), and the label of
    such a clip is 1, that of all others 0.

    Args:
        source: of grey pictures with a test split, such as MNIST.
        digits: in each clip.
        frames: of a clip.
        side: of a frame, in pixels; larger than the pictures.
        speed: least and largest, in pixels a frame.
        train, test: number of clips.
        anomalous: share of the test clips; 0: there are none, and clips have no labels.
        seed: of all that is generated; it is separate from the run's.

    Raises:
        UserError: a number out of its range; (`load`) pictures in colour, without a test split, or too large.

    "Unsupervised Learning of Video Representations using LSTMs" (Srivastava et al., 2015),
    https://arxiv.org/abs/1502.04681, section 3.1: two digits, 20 frames of 64 x 64.
    """

    def __init__(
        self,
        source: Source,
        digits: int = 2,
        frames: int = 10,
        side: int = 64,
        speed: Sequence[float] = (2.0, 5.0),
        train: int = 5000,
        test: int = 500,
        anomalous: float = 0.0,
        seed: int = 0,
    ) -> None:
        for name, value in {"digits": digits, "frames": frames, "side": side, "train": train, "test": test}.items():
            require(value >= 1, f"source.{name}={value} must be at least 1")
        ends = list(speed)
        require(len(ends) == 2 and 0 <= ends[0] <= ends[1], f"source.speed={ends} must be [least, largest], 0 or more")
        require(0 <= anomalous < 1, f"source.anomalous={anomalous} must be at least 0 and below 1")
        require(
            not anomalous or frames >= MOST_PARTS * LEAST_ODD,
            f"source.anomalous needs clips of at least {MOST_PARTS * LEAST_ODD} frames, and source.frames={frames}",
        )
        self.anomalous = anomalous
        self.source, self.digits, self.frames, self.side, self.speed = source, digits, frames, side, ends
        self.train, self.test, self.seed = train, test, seed

    def load(self) -> Contents:
        shown = self.source.load()
        require(shown.test is not None, "moving digits need pictures with a test split, which these have not")
        assert shown.test is not None
        told = (
            f"moving digits {self.digits} {self.frames} {self.side} {self.speed} {self.train} {self.test} {self.seed}"
        )
        digest = hashlib.sha256((told + (f" {self.anomalous}" if self.anomalous else "")).encode())
        parts = {}
        for name, part, count in (("train", shown.train, self.train), ("test", shown.test, self.test)):
            _, channels, height, width = part.x.shape
            require(
                channels == 1 and part.x.dtype == torch.uint8,
                "moving digits are grey pictures of bytes, such as datamodule.source.source=MNIST",
            )
            require(
                max(height, width) < self.side,
                f"source.side={self.side} leaves pictures of {height} x {width} pixels no room to move",
            )
            for values in part.x.bytes():
                digest.update(values)
            random = np.random.default_rng(derive(self.seed, "moving digits", name) % 2**63)
            parts[name] = self._part(name, part, count, random)
        line = (
            f"moving digits: {self.train:,} clips to train on and {self.test:,} to test on, of {self.frames} frames of "
        )
        line += f"{self.side} x {self.side} pixels with {self.digits} digits each, generated"
        labelled: dict[str, Any] = (
            {"train_labels": [0], "class_names": ["normal", "anomalous"]} if self.anomalous else {}
        )
        line += f", {round(self.anomalous * self.test):,} of the test clips with an odd digit" if self.anomalous else ""
        return Contents.of_parts("video", parts, None, identity=digest.hexdigest(), reading=[line], **labelled)

    def _part(self, name: str, part: Part, count: int, random: np.random.Generator) -> Part:
        odd = np.random.default_rng(derive(self.seed, "odd digits", name) % 2**63)
        number = round(self.anomalous * count) if name == "test" else 0
        chosen = set(odd.permutation(count)[:number].tolist())
        made = [self._clip(random, part, odd if row in chosen else None) for row in range(count)]
        clips = torch.from_numpy(np.stack([clip for clip, _ in made]))
        if not self.anomalous:
            return Part(clips)
        label = torch.tensor([int(marks.any()) for _, marks in made])
        return Part(clips, label, anomalous=packed([marks for _, marks in made]) if number else None)

    def _clip(
        self, random: np.random.Generator, part: Part, odd: np.random.Generator | None = None
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """A clip `[1, T, side, side]`, and where it is odd; `odd` says how."""
        rows = torch.from_numpy(random.integers(len(part), size=self.digits))
        pictures = part.x.take(rows)[:, 0].numpy()
        height, width = pictures.shape[1:]
        found = np.zeros((1, self.frames, self.side, self.side), np.uint8)
        marks = np.zeros(found.shape, bool)
        turn = Turn.drawn(odd, self.digits, self.frames) if odd is not None else None
        for number, picture in enumerate(pictures):
            angle, speed = random.uniform(0, 2 * np.pi), random.uniform(self.speed[0], self.speed[1])
            room = np.array([self.side - height, self.side - width])
            start = random.uniform(0, 1, 2) * room
            velocity = speed * np.array([np.sin(angle), np.cos(angle)])
            for step in range(self.frames):
                own = turn is not None and number == turn.digit
                moved = turn.moved(step) if turn is not None and own else step
                top, left = bounced(start + moved * velocity, room)
                where = (0, step, slice(top, top + height), slice(left, left + width))
                if own and turn is not None and turn.odd(step):
                    shown = square(height, width) if turn.shape else picture
                    marks[where] |= shown > 0
                else:
                    shown = picture
                found[where] = np.maximum(found[where], shown)
        return found, marks


@dataclass(frozen=True)
class Turn:
    """What is odd in a clip, and when: one digit, from its `first` frame until before its `last`."""

    digit: int
    first: int
    last: int
    shape: bool
    """Whether a square takes its place; else it is fast."""

    @classmethod
    def drawn(cls, random: np.random.Generator, digits: int, frames: int) -> Turn:
        length = int(random.integers(LEAST_ODD, frames // MOST_PARTS + 1))
        first = int(random.integers(0, frames - length + 1))
        return cls(int(random.integers(digits)), first, first + length, bool(random.integers(2)))

    def odd(self, step: int) -> bool:
        return self.first <= step < self.last

    def moved(self, step: int) -> int:
        """How many usual steps the digit has gone at a frame: to each odd one it comes in a rush."""
        fast = 0 if self.shape else min(max(step - self.first + 1, 0), self.last - self.first)
        return step + (RUSH - 1) * fast


def square(height: int, width: int) -> NDArray[np.uint8]:
    """A hollow square of about a digit's size and brightness."""
    found = np.zeros((height, width), np.uint8)
    edge, line = height // 5, max(1, height // 10)
    found[edge : height - edge, edge : width - edge] = 255
    found[edge + line : height - edge - line, edge + line : width - edge - line] = 0
    return found


def bounced(place: NDArray[np.floating], room: NDArray[np.integer]) -> tuple[int, int]:
    """A place that went straight on as it is where walls at 0 and at `room` mirror it, to whole pixels."""
    folded = np.abs((place + room) % (2 * room) - room)
    top, left = np.rint(folded).astype(int).tolist()
    return top, left
