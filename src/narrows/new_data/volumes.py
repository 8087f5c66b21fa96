"""New scans: a file or a folder of them, on the run's grid, and rebuilt on their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from narrows.data import Grid, Scan, Slices
from narrows.data.image_tree import Tree
from narrows.data.scan_files import NIFTI, ending_of, find_scans, read_scan, stem_of_scan
from narrows.data.scan_slices import slice_name
from narrows.errors import UserError, require
from narrows.files import appearing, replacing
from narrows.new_data.examples import Chunk, Known, NewData, Write
from narrows.new_data.pictures import drawn
from narrows.new_data.places_apart import PlacesApart
from narrows.new_data.problem_file import Problems, listing_problems

GZIPPED = ".nii.gz"
Keep = Callable[["ScanOrigin", np.ndarray], None]


@dataclass
class ScanOrigin:
    """The scan that an example is of, or a slice of which it is."""

    path: str
    name: str
    """Below the folder."""
    scan: Scan
    examples: int
    """How many examples it makes."""
    rebuilt: list[np.ndarray] = field(default_factory=list)
    """Those that the model has made so far."""


@dataclass
class ScanPiece:
    """An example, and where it comes from."""

    name: str
    values: Tensor | None
    """`[1, D, H, W]` or `[1, h, w]`; None where the file could not be read."""
    origin: ScanOrigin | None
    problem: str | None = None


class NewVolumes(NewData):
    """The scans at a path, whole or all slices of each, as the run's source reads them. Reconstructions are on each
    scan's own grid, with its affine, and in its own units: NIfTI for NIfTI and DICOM, an array for an array."""

    form = "scans"

    def __init__(self, source: Any, known: Known, given: Any) -> None:
        super().__init__(source, known, given)
        self.grid: Grid = source.grid
        self.slices: Slices = source.slices
        self.tree: Tree = find_scans(self.path)

    def chunks(self) -> Iterator[Chunk]:
        held: list[ScanPiece] = []
        for number, file in enumerate(self.tree.files, 1):
            for piece in self._pieces(file):
                held.append(piece)
                if len(held) == self.known.rows:
                    yield self._chunk(held, number / len(self.tree.files))
                    held = []
        if held:
            yield self._chunk(held, 1.0)

    def _pieces(self, file: str) -> Iterator[ScanPiece]:
        name = "/".join(self.tree.inside(file))
        try:
            scan = read_scan(file)
            values = self.grid.fit(scan, file)
            every = values[None] if self.slices.plane is None else self.slices.of(values)
            found, wanted = (1, *every.shape[1:]), self.known.spec.shape
            require(
                found == tuple(wanted),
                f"{file} makes examples of shape {list(found)} on the run's grid, and the run's are {list(wanted)}",
            )
        except UserError as error:
            yield ScanPiece(name, None, None, str(error))
            return
        origin = ScanOrigin(file, name, scan, len(every))
        for place, one in enumerate(every):
            x = torch.from_numpy(np.ascontiguousarray(one))[None]
            x = x if self.known.drawn is None else drawn(x, self.known.drawn)
            yield ScanPiece(slice_name(name, self.slices.plane, place), x, origin)

    def _chunk(self, pieces: list[ScanPiece], done: float) -> Chunk:
        names, problems = [one.name for one in pieces], [one.problem for one in pieces]
        return Chunk.of(names, [one.values for one in pieces], problems, done, pieces)

    @property
    def _many(self) -> bool:
        return self.path.is_dir() and self.tree.files != [str(self.path)]

    def default_target(self) -> Path:
        if self._many:
            return self.stem("reconstructed", "")
        place = self.path.with_name(stem_of_scan(self.path))
        return place.with_name(f"{place.name}.reconstructed{_ending(str(self.path))}")

    @contextmanager
    def rebuilding(self, out: Path) -> Iterator[Write]:
        """A scan for a scan; a folder of them for a folder, in which `problems.csv` lists those that could not be
        read."""
        ending = ending_of(out)
        require(
            self._many or ending in (*NIFTI, ".npy"),
            f"a scan is written as {', '.join(NIFTI)} or .npy, which {out} is not by its name",
        )
        with ExitStack() as stack:
            problems = Problems()
            if self._many:
                folder = stack.enter_context(appearing(out))
                problems = stack.enter_context(listing_problems(folder))
                names = ["/".join(self.tree.inside(file)) for file in self.tree.files]
                apart = PlacesApart(zip(names, map(_target_name, names), strict=True))
                keep: Keep = lambda origin, values: self._save(folder, apart, origin, values)  # noqa: E731
            else:
                file = stack.enter_context(replacing(out))
                keep = lambda origin, values: _put(file, origin.scan.encode(values, ending, str(out)))  # noqa: E731

            def write(chunk: Chunk, rebuilt: Tensor | None) -> None:
                problems.add(chunk)
                pieces = [chunk.beside[row] for row in chunk.rows.tolist()]
                for piece, values in zip(pieces, [] if rebuilt is None else rebuilt.numpy(), strict=True):
                    piece.origin.rebuilt.append(values[0])
                    if len(piece.origin.rebuilt) == piece.origin.examples:
                        keep(piece.origin, self._whole(piece.origin))
                        piece.origin.rebuilt.clear()

            yield write

    def _whole(self, origin: ScanOrigin) -> np.ndarray:
        """A scan on its own grid and in its own units, `[D, H, W]`."""
        made = np.stack(origin.rebuilt)
        values = made[0] if self.slices.plane is None else self.slices.joined(made)
        return self.grid.back(values, origin.scan, origin.path)

    def _save(self, folder: Path, apart: PlacesApart, origin: ScanOrigin, values: np.ndarray) -> None:
        ending = _ending(origin.path)
        target = apart.place(folder, origin.name, _target_name(origin.name), ending)
        target.write_bytes(origin.scan.encode(values, ending, str(target)))

    def own_form(self, rebuilt: Tensor, chunk: Chunk) -> Any:
        """Examples in the units of their scans, on the run's grid, `[M, D, H, W]` or `[M, h, w]`."""
        pieces = [chunk.beside[row] for row in chunk.rows.tolist()]
        found = []
        for piece, values in zip(pieces, rebuilt.numpy(), strict=True):
            low, high = self.grid.ends(piece.origin.scan.values)
            found.append(values[0] * (high - low) + low)
        return np.stack(found)


def _put(file: Any, content: bytes) -> None:
    file.write(content)


def _target_name(name: str) -> str:
    """That of the reconstruction of a scan of this name."""
    return f"{name[: len(name) - len(ending_of(name))] or 'scan'}{_ending(name)}"


def _ending(path: str) -> str:
    """That of a reconstruction: NIfTI for NIfTI and DICOM, .npy for arrays."""
    ending = ending_of(path)
    return ending if ending in NIFTI else GZIPPED if not ending else ".npy"
