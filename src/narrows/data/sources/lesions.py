"""Generated scans: one template, bent and lit anew for each of many heads, healthy or with made-up lesions.

What is generated is no patient: it says whether a method works, not how well it would on a ward.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from narrows.data.contents import Contents
from narrows.data.dataset_files import existing
from narrows.data.scan_files import Scan, read_scan
from narrows.data.scan_grid import Grid
from narrows.data.scan_slices import Slices, Volume, to_part
from narrows.data.sources.volumes import describe
from narrows.errors import UserError, require
from narrows.random import derive

TEMPLATE = Path("datasets") / "data" / "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"
"""The T1 template of 152 heads in nilearn's wheel, without its skull, 1 mm: "Unbiased average age-appropriate atlases
for pediatric studies" (Fonov et al., 2011, https://doi.org/10.1016/j.neuroimage.2010.07.033)."""
STEP = 2.0**-12
"""To whose multiples values are rounded, because the last digits of interpolation differ between processors."""
EDGE = 0.5
"""Share of a lesion's change from which a voxel belongs to its mask."""
GROWTH = "version 1"


@dataclass(frozen=True)
class Heads:
    """How many heads there are, and how much they differ.

    Args:
        train: healthy ones to train and validate on.
        healthy, lesioned: in the test split.
        bend: standard deviation, in millimetres, of the displacement of a place, smooth over some 25 mm.
        lesions: most of one head; there is at least one.
        contrast: least and largest change of a lesion, as a share of white; half of the lesions are darker.
        radius: least and largest, in millimetres.

    Raises:
        UserError: a number out of its range.
    """

    train: int = 160
    healthy: int = 20
    lesioned: int = 20
    bend: float = 2.0
    lesions: int = 3
    contrast: Sequence[float] = (0.25, 0.5)
    radius: Sequence[float] = (6.0, 16.0)

    def __post_init__(self) -> None:
        for name in ("train", "healthy", "lesioned", "lesions"):
            require(getattr(self, name) >= 1, f"source.heads.{name}={getattr(self, name)} must be at least 1")
        require(self.bend >= 0, f"source.heads.bend={self.bend} must be at least 0 millimetres")
        for name, most in (("contrast", 1.0), ("radius", 100.0)):
            ends = list(getattr(self, name))
            right = len(ends) == 2 and 0 < ends[0] <= ends[1] <= most
            require(right, f"source.heads.{name}={ends} must be [least, largest], above 0 and at most {most:g}")


class Lesions:
    """Healthy scans to train on, healthy and lesioned ones to test on, generated from one template.

    A head is the template on `grid`, bent by a smooth field, turned and scaled by a few degrees and per cent, with a
    gamma, a smooth change of brightness as of a coil, and noise of its own. A lesion is a blob of uneven outline inside
    the brain, brighter or darker than what it replaces; its mask is where it changes a voxel by at least half of its
    contrast. Heads of the test split have label 0 (healthy) or 1, and masks.

    Args:
        template: a scan without its skull; null: the ICBM 152 template in nilearn's wheel (`narrows[volumes]`).
        seed: of all that is generated; it is separate from the run's.

    Raises:
        UserError: (`load`) no template, or one without a place in space.
    """

    def __init__(
        self,
        template: str | None = None,
        grid: Grid | None = None,
        slices: Slices | None = None,
        heads: Heads | None = None,
        seed: int = 0,
    ) -> None:
        self.template, self.seed = template, seed
        self.grid, self.slices, self.heads = grid or Grid(spacing=4.0), slices or Slices(), heads or Heads()

    def load(self) -> Contents:
        path = str(_bundled() if self.template is None else existing(self.template, "source.template"))
        scan = read_scan(path)
        require(scan.spacing is not None, f"{path} does not say how large its voxels are, which the heads are made by")
        head = _Head(scan, self.grid, path, self.heads)
        many = {"train": (self.heads.train, 0), "test": (self.heads.healthy, self.heads.lesioned)}
        volumes = {
            part: [self._drawn(head, part, number, number >= plain) for number in range(plain + odd)]
            for part, (plain, odd) in many.items()
        }
        made = {part: to_part(several, self.slices) for part, several in volumes.items()}
        told = f"{GROWTH} {self.grid} {self.slices} {self.heads} {self.seed}".encode()
        generated = describe(volumes, {part: len(one) for part, (one, _) in made.items()}, self.slices)
        return Contents.of_parts(
            "volume" if self.slices.plane is None else "image",
            {part: one for part, (one, _) in made.items()},
            None,
            groups=made["train"][1],
            class_names=["healthy", "lesion"],
            train_labels=[0],
            identity=hashlib.sha256(told + np.ascontiguousarray(scan.values).tobytes()).hexdigest(),
            reading=[f"{generated}; all generated from {Path(path).name}, the lesions too"],
        )

    def _drawn(self, head: _Head, part: str, number: int, lesioned: bool) -> Volume:
        return head.draw(derive(self.seed, "heads", part, number), f"{part} {number}", lesioned)


def _bundled() -> Path:
    found = importlib.util.find_spec("nilearn")
    path = None if found is None or found.origin is None else Path(found.origin).parent / TEMPLATE
    if path is None or not path.is_file():
        raise UserError(
            "the template is a file of the library nilearn, which is not installed (pip install nilearn), or not of a "
            "version that has it: set source.template to a scan without its skull"
        )
    return path


class _Head:
    """Draws heads from a template."""

    def __init__(self, scan: Scan, grid: Grid, path: str, heads: Heads) -> None:
        self.plain = grid.fit(scan, path).astype(np.float64)
        own = scan.spacing or (1.0, 1.0, 1.0)
        self.voxel = np.array([own[axis] if grid.spacing is None else grid.spacing for axis in range(3)])
        self.brain = self.plain > 0.15
        self.heads = heads

    def draw(self, seed: int, name: str, lesioned: bool) -> Volume:
        """A head of its own, by its seed."""
        random = np.random.default_rng(seed % 2**63)
        values, brain = self._bent(random)
        values = values ** random.uniform(0.85, 1.18)
        values *= 1 + 0.08 * self._smooth(random, 60.0)
        mask = np.zeros(values.shape, bool)
        for _ in range(random.integers(1, self.heads.lesions + 1) if lesioned else 0):
            values, found = self._lesion(random, values, brain)
            mask |= found
        values += 0.015 * random.standard_normal(values.shape) * (values > 0.02)
        rounded = np.round(np.clip(values, 0.0, 1.0) / STEP) * STEP
        return Volume(name, rounded.astype(np.float32), int(lesioned), mask if lesioned else None)

    def _smooth(self, random: np.random.Generator, width: float) -> NDArray[np.float64]:
        """Noise that is smooth over `width` millimetres, of deviation 1."""
        noise = ndimage.gaussian_filter(random.standard_normal(self.plain.shape), width / 2.355 / self.voxel)
        return noise / max(float(noise.std()), 1e-12)

    def _bent(self, random: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """The template and its brain, bent, turned and scaled."""
        shape = np.array(self.plain.shape)
        centre = (shape - 1) / 2
        places = np.stack(np.meshgrid(*(np.arange(side) for side in shape), indexing="ij")).astype(np.float64)
        millimetres = (places - centre[:, None, None, None]) * self.voxel[:, None, None, None]
        turn = _rotation(np.deg2rad(random.normal(0, 3, 3))) @ np.diag(1 + random.normal(0, 0.03, 3))
        moved = np.tensordot(turn, millimetres, 1) + random.normal(0, 1.5, 3)[:, None, None, None]
        moved += self.heads.bend * np.stack([self._smooth(random, 25.0) for _ in range(3)])
        to = moved / self.voxel[:, None, None, None] + centre[:, None, None, None]
        values: Any = ndimage.map_coordinates(self.plain, to, order=1)
        inside: Any = ndimage.map_coordinates(self.brain.astype(float), to, order=1)
        return values, inside > 0.5

    def _lesion(
        self, random: np.random.Generator, values: NDArray[np.float64], brain: NDArray[np.bool_]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """The head with one lesion more, and where that is."""
        deep = ndimage.distance_transform_edt(brain, sampling=self.voxel)
        inside = np.argwhere(deep > min(self.heads.radius[0], 0.8 * float(deep.max())))
        centre = inside[random.integers(len(inside))]
        radius = random.uniform(self.heads.radius[0], self.heads.radius[1])
        places = np.stack(np.meshgrid(*(np.arange(side) for side in values.shape), indexing="ij"))
        away = (places - centre[:, None, None, None]) * self.voxel[:, None, None, None]
        away = away * random.uniform(0.8, 1.25, 3)[:, None, None, None]
        distance = np.sqrt((away**2).sum(0)) * (1 + 0.15 * self._smooth(random, 10.0))
        weight = np.clip(0.5 + (radius - distance) / 4.0, 0.0, 1.0) * brain  # an edge 4 mm wide
        change = random.uniform(self.heads.contrast[0], self.heads.contrast[1]) * random.choice([-1.0, 1.0])
        return np.clip(values + change * weight, 0.0, 1.0), weight >= EDGE


def _rotation(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    found = np.eye(3)
    for axis, angle in enumerate(angles):
        one, other = (axis + 1) % 3, (axis + 2) % 3
        turn = np.eye(3)
        turn[one, one] = turn[other, other] = np.cos(angle)
        turn[one, other], turn[other, one] = -np.sin(angle), np.sin(angle)
        found = found @ turn
    return found
