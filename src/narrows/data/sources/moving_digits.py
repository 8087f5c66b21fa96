"""Generated films: handwritten digits that move about a square and bounce off its sides."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from narrows.data.contents import Contents, Part, Source
from narrows.errors import require
from narrows.random import derive


class MovingDigits:
    """Clips `[1, T, side, side]` of bytes: `digits` digits, each with a velocity of its own, which is mirrored at the
    sides; where they cross, the brighter pixel is seen.

    Training clips show digits of the training split of `source`, test clips those of its test split.

    Args:
        source: of grey pictures with a test split, such as MNIST.
        digits: in each clip.
        frames: of a clip.
        side: of a frame, in pixels; larger than the pictures.
        speed: least and largest, in pixels a frame.
        train, test: number of clips.
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
        seed: int = 0,
    ) -> None:
        for name, value in {"digits": digits, "frames": frames, "side": side, "train": train, "test": test}.items():
            require(value >= 1, f"source.{name}={value} must be at least 1")
        ends = list(speed)
        require(len(ends) == 2 and 0 <= ends[0] <= ends[1], f"source.speed={ends} must be [least, largest], 0 or more")
        self.source, self.digits, self.frames, self.side, self.speed = source, digits, frames, side, ends
        self.train, self.test, self.seed = train, test, seed

    def load(self) -> Contents:
        shown = self.source.load()
        require(shown.test is not None, "moving digits need pictures with a test split, which these have not")
        assert shown.test is not None
        told = (
            f"moving digits {self.digits} {self.frames} {self.side} {self.speed} {self.train} {self.test} {self.seed}"
        )
        digest = hashlib.sha256(told.encode())
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
            parts[name] = Part(torch.from_numpy(np.stack([self._clip(random, part) for _ in range(count)])))
        line = (
            f"moving digits: {self.train:,} clips to train on and {self.test:,} to test on, of {self.frames} frames of "
        )
        line += f"{self.side} x {self.side} pixels with {self.digits} digits each, generated"
        return Contents.of_parts("video", parts, None, identity=digest.hexdigest(), reading=[line])

    def _clip(self, random: np.random.Generator, part: Part) -> NDArray[np.uint8]:
        """`[1, T, side, side]`."""
        rows = torch.from_numpy(random.integers(len(part), size=self.digits))
        pictures = part.x.take(rows)[:, 0].numpy()
        height, width = pictures.shape[1:]
        found = np.zeros((1, self.frames, self.side, self.side), np.uint8)
        for picture in pictures:
            angle, speed = random.uniform(0, 2 * np.pi), random.uniform(self.speed[0], self.speed[1])
            room = np.array([self.side - height, self.side - width])
            start = random.uniform(0, 1, 2) * room
            velocity = speed * np.array([np.sin(angle), np.cos(angle)])
            for step in range(self.frames):
                top, left = bounced(start + step * velocity, room)
                seen = found[0, step, top : top + height, left : left + width]
                np.maximum(seen, picture, out=seen)
        return found


def bounced(place: NDArray[np.floating], room: NDArray[np.integer]) -> tuple[int, int]:
    """A place that went straight on as it is where walls at 0 and at `room` mirror it, to whole pixels."""
    folded = np.abs((place + room) % (2 * room) - room)
    top, left = np.rint(folded).astype(int).tolist()
    return top, left
