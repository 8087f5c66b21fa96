"""Folders like those of MVTec: a woven texture, scratches and blobs on some of its pictures, and exact masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

GOOD, TEST = 40, 6
"""Pictures to train on, and of each kind to test on."""


def weave(random: np.random.Generator, side: int) -> NDArray[np.float64]:
    """A texture `[H, W]` around 0.5: two waves whose phases are drawn, and grain."""
    y, x = np.mgrid[:side, :side]
    first, second = random.uniform(0, 2 * np.pi, 2)
    waves = np.sin(2 * np.pi * x / 8 + first) + np.sin(2 * np.pi * y / 8 + second)
    return np.clip(0.5 + 0.12 * waves + 0.02 * random.standard_normal((side, side)), 0, 1)


def blob(random: np.random.Generator, side: int) -> NDArray[np.bool_]:
    y, x = np.mgrid[:side, :side]
    centre = random.uniform(0.25 * side, 0.75 * side, 2)
    return (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < (side / 8) ** 2


def scratch(random: np.random.Generator, side: int) -> NDArray[np.bool_]:
    """A line three pixels wide across most of the picture."""
    y, x = np.mgrid[:side, :side]
    angle, middle = random.uniform(0.3, 1.2), side / 2
    across = (y - middle) * np.cos(angle) - (x - middle) * np.sin(angle)
    along = (y - middle) * np.sin(angle) + (x - middle) * np.cos(angle)
    return (np.abs(across) < 1.5) & (np.abs(along) < 0.4 * side)


def save(pixels: NDArray[np.float64] | NDArray[np.bool_], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.rint(255 * pixels.astype(float)).astype(np.uint8)).save(path)


def write_defects(root: Path, side: int = 32, good: int = GOOD, test: int = TEST, seed: int = 0) -> Path:
    """`good` pictures to train on and `test` each of good, blob and scratch to test on. A blob has the mean grey of all
    pictures, so that it lies nearer to that than the texture does; a scratch is a little darker."""
    random = np.random.default_rng(seed)
    for number in range(good):
        save(weave(random, side), root / "train" / "good" / f"{number:03}.png")
    for number in range(test):
        save(weave(random, side), root / "test" / "good" / f"{number:03}.png")
        for name, shape, level in (("blob", blob, 0.5), ("scratch", scratch, 0.35)):
            where = shape(random, side)
            save(np.where(where, level, weave(random, side)), root / "test" / name / f"{number:03}.png")
            save(where, root / "ground_truth" / name / f"{number:03}_mask.png")
    return root
