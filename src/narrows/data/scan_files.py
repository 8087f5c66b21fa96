"""Files of scans: NIfTI and arrays, and folders of DICOM slices, in one orientation.

A scan is `[D, H, W]`: D goes from the feet to the head, H from the front to the back, W from the left to the right, so
that an axial slice is `[H, W]` with the front at the top. Arrays have no orientation and are taken as they are.
"""

from __future__ import annotations

import gzip
import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from narrows.data.dataset_files import array_names, read_arrays
from narrows.data.dicom_series import find_series, read_series
from narrows.data.folders import folders_below
from narrows.data.image_tree import Tree
from narrows.data.scan_libraries import import_nibabel
from narrows.errors import UserError, require
from narrows.files import require_no_pipe

Values = NDArray[Any]
NIFTI, ARRAYS = (".nii", ".nii.gz"), (".npy", ".npz")
ENDINGS = (*NIFTI, *ARRAYS)


@dataclass(frozen=True)
class Scan:
    """What a file holds."""

    values: Values
    """`[D, H, W]`, in the units of the file."""
    spacing: tuple[float, float, float] | None
    """Millimetres of a voxel along D, H and W; None where the file does not say."""
    orientation: NDArray[np.floating] | None = None
    """How nibabel turns the file's axes to right, anterior, superior; None of arrays, which are not turned."""
    header: Any = None
    """The file's own NIfTI header, or that which a DICOM series makes."""

    def lies_as(self, other: Scan) -> bool:
        """Whether both say that their voxels lie alike, to a tenth of a voxel at every corner."""
        if self.header is None or other.header is None:
            return self.header is other.header
        corners = np.array([*np.ndindex(2, 2, 2)]) * (np.array(other.values.shape[::-1]) - 1)
        own, others = (_corners(one, corners) for one in (self, other))
        assert other.spacing is not None
        return bool(np.abs(own - others).max() <= min(other.spacing) / 10)

    def encode(self, values: Values, ending: str, where: str) -> bytes:
        """Other values `[D, H, W]` on this scan's grid as the bytes of a file, float32: with its affine and
        orientation as .nii or .nii.gz, as an array without either as .npy.

        Raises:
            UserError: another ending, or NIfTI of an array, which has no place in space.
        """
        values = np.ascontiguousarray(values, dtype=np.float32)
        if ending == ".npy":
            file = io.BytesIO()
            np.save(file, values)
            return file.getvalue()
        require(
            ending in NIFTI,
            f"a scan is written as {', '.join(NIFTI)} or .npy, which {where} is not by its name",
        )
        require(
            self.orientation is not None,
            f"{where} would need to say where its voxels lie, and the scan is an array, which does not: let it end in "
            ".npy",
        )
        nibabel = import_nibabel()
        orientations = nibabel.orientations
        back = orientations.ornt_transform(orientations.axcodes2ornt("RAS"), self.orientation)
        data = orientations.apply_orientation(from_own_axes(values), back)
        header = self.header.copy()
        header.set_data_dtype(np.float32)
        header.set_slope_inter(1, 0)
        content: bytes = nibabel.Nifti1Image(data, header.get_best_affine(), header).to_bytes()
        return gzip.compress(content, mtime=0) if ending.endswith(".gz") else content


def _corners(scan: Scan, corners: NDArray[Any]) -> NDArray[np.floating]:
    """Millimetres at which voxels of a scan, turned to right, anterior, superior, lie, `[N, 3]`."""
    nibabel = import_nibabel()
    # `to_own_axes` reverses the second axis alone, so that the file's own shape is found by the orientation.
    upright = scan.values.shape[::-1]
    own = tuple(upright[int(target)] for target in scan.orientation[:, 0])  # type: ignore[index]
    turned = scan.header.get_best_affine() @ nibabel.orientations.inv_ornt_aff(scan.orientation, own)
    places: NDArray[np.floating] = nibabel.affines.apply_affine(turned, corners) * _millimetres(scan.header)
    return places


def ending_of(path: Path | str) -> str:
    """The ending of a scan's name in small letters, both parts of `.nii.gz`; empty where it is none of `ENDINGS`."""
    name = Path(path).name.lower()
    return next((ending for ending in sorted(ENDINGS, key=len, reverse=True) if name.endswith(ending)), "")


def stem_of_scan(path: Path | str) -> str:
    """The name without that ending."""
    name = Path(path).name
    return name[: len(name) - len(ending_of(path))]


def find_scans(root: Path) -> Tree:
    """The scans at a path in the order of their names: a file, or the files and DICOM series in a folder and below. A
    series stands by its folder.

    Raises:
        UserError: there are none.
    """
    require_no_pipe(root)
    if not root.is_dir():
        return Tree(str(root.parent), [str(root)])
    tree = Tree(str(root))
    for folder in folders_below(root):
        tree.hidden += folder.hidden
        files = [entry.path for entry in folder.files]
        scans = [file for file in files if ending_of(file)]
        tree.files += scans
        rest = [file for file in files if not ending_of(file)]
        series = find_series(rest)
        tree.files += series
        for file in () if series else rest:
            tree.others[Path(file).suffix.lower() or "without an ending"] += 1
    require(
        bool(tree.files),
        f"{root} holds no scans: files ending in {', '.join(ENDINGS)} and folders of DICOM slices are looked for",
    )
    tree.files.sort()
    return tree


def read_scan(path: str) -> Scan:
    """A scan of any of the kinds that `find_scans` finds.

    Raises:
        UserError: a file that is missing, broken or holds no single volume of numbers, or a library that is missing.
    """
    if os.path.isdir(path) or (not os.path.exists(path) and "#" in os.path.basename(path)):
        values, header = read_series(path)
        return _turned(values, header, path)
    require(os.path.exists(path), f"there is no file {path}")
    ending = ending_of(path)
    require(bool(ending), f"{path} is no scan by its name: {', '.join(ENDINGS)} are read, and folders of DICOM slices")
    if ending in NIFTI:
        return _read_nifti(path)
    file = Path(path)
    keys = array_names(file)
    require(
        len(keys) <= 1,
        f"{path} holds the arrays {', '.join(keys)}, where one scan is due: keep one, or, of an array of many scans, "
        "use datamodule=arrays datamodule.source.kind=volume",
    )
    (values,) = read_arrays(file, keys or ["x"]).values()
    require(
        values.ndim == 3,
        f"{path} has shape {list(values.shape)}, where one scan [D, H, W] is due; of an array of many scans use "
        "datamodule=arrays datamodule.source.kind=volume",
    )
    return Scan(_numbers(values, path), None)


def _read_nifti(path: str) -> Scan:
    nibabel = import_nibabel()
    try:
        image = nibabel.load(path)
        values = np.asanyarray(image.dataobj)
    except Exception as error:  # nibabel's readers raise whatever a broken file leads them into
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path} is no NIfTI file that can be read ({reason})") from error
    if values.ndim > 3 and set(values.shape[3:]) == {1}:
        values = values.reshape(values.shape[:3])
    require(
        values.ndim == 3,
        f"{path} has shape {list(values.shape)}, where one volume of three axes is due: save its volumes as files of "
        "their own",
    )
    header = nibabel.Nifti1Image(np.zeros((1, 1, 1), np.float32), image.affine, image.header).header
    header.set_data_shape(values.shape)
    return _turned(values, header, path)


def _turned(values: Values, header: Any, path: str) -> Scan:
    """A scan in our orientation, from its file's axes and NIfTI header."""
    spacing, orientation = _lie(header, path)
    upright = import_nibabel().orientations.apply_orientation(values, orientation)
    return Scan(_numbers(to_own_axes(upright), path), spacing, orientation, header)


def _lie(header: Any, path: str) -> tuple[tuple[float, float, float], NDArray[np.floating]]:
    """Spacing and orientation of the voxels that a NIfTI header describes."""
    nibabel = import_nibabel()
    affine = header.get_best_affine()
    orientation = nibabel.io_orientation(affine)
    require(
        bool(np.isfinite(orientation).all()) and bool(np.isfinite(affine).all()),
        f"{path} does not say how its voxels lie in space (its affine is singular): repair it, or save it as .npy",
    )
    sizes = nibabel.affines.voxel_sizes(affine) * _millimetres(header)
    along = [0.0, 0.0, 0.0]
    for axis, (target, _) in enumerate(orientation):
        along[int(target)] = float(sizes[axis])
    return (along[2], along[1], along[0]), orientation


def _millimetres(header: Any) -> float:
    """Of the header's unit of length; where it names none, that is a millimetre."""
    try:
        unit, _ = header.get_xyzt_units()
    except KeyError:  # a code that NIfTI does not know
        unit = "unknown"
    return {"meter": 1e3, "micron": 1e-3}.get(unit, 1.0)


def empty_scan(sides: tuple[int, int, int], header: bytes | None, where: str) -> Scan:
    """A scan of zeros `[D, H, W]` that lies where a NIfTI header says, as the place of what is restored.

    Args:
        header: 348 bytes; None of an array, which has no place.

    Raises:
        UserError: bytes that are no header, or that do not say how voxels lie.
    """
    values = np.broadcast_to(np.zeros((), np.float32), sides)
    if header is None:
        return Scan(values, None)
    try:
        found = import_nibabel().Nifti1Header(header)
        return Scan(values, *_lie(found, where), found)
    except UserError:
        raise
    except Exception as error:  # nibabel raises whatever a broken header leads it into
        raise UserError(f"{where} holds no header of NIfTI ({' '.join(str(error).split())})") from error


def to_own_axes(values: Values) -> Values:
    """Right, anterior, superior to our D, H, W."""
    return values.transpose(2, 1, 0)[:, ::-1]


def from_own_axes(values: Values) -> Values:
    """The inverse of `to_own_axes`."""
    return values[:, ::-1].transpose(2, 1, 0)


def _numbers(values: Values, path: str) -> Values:
    require(values.dtype.kind in "biuf", f"{path} holds values of type {values.dtype}, where numbers are needed")
    require(values.size > 0, f"{path} has shape {list(values.shape)}: it holds no voxel")
    bad = 0 if values.dtype.kind != "f" else int((~np.isfinite(values)).sum())
    require(bad == 0, f"{path} holds {bad} voxels that are NaN or infinite: fill them in first")
    return values
