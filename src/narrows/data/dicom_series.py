"""DICOM series: folders of files, one for each slice, as a volume and the NIfTI header that says where it lies."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from narrows.data.scan_libraries import import_nibabel, import_pydicom
from narrows.errors import UserError, require

MAGIC = 128, b"DICM"
"""Where a file says that it is DICOM, and how."""
MOST_OFF = 0.1
"""Most by which a slice may lie beside the line of the others, as a share of their distance."""
UNEVEN = 0.02
"""Most by which the distance of two slices may differ from the usual one, as a share of it."""


def find_series(files: Sequence[str]) -> list[str]:
    """The DICOM series among the files of a folder: the folder itself, or, of several, the folder with `#` and the
    number of each in the order of their identifiers."""
    slices = [file for file in files if _is_dicom(file)]
    if not slices:
        return []
    folder = os.path.dirname(slices[0])
    found = sorted({_identifier(file) for file in slices})
    return [folder] if len(found) == 1 else [f"{folder}#{number}" for number in range(len(found))]


def read_series(path: str) -> tuple[NDArray[Any], Any]:
    """The slices of a series in the order in which they lie, `[columns, rows, slices]` in the modality's units (of CT
    Hounsfield's), and its NIfTI header.

    Raises:
        UserError: pydicom is not installed; a slice that cannot be read; slices of different sizes or directions, that
            lie unevenly, so that one may be missing, or that do not say where they lie.
    """
    folder, _, number = (path, "", "0") if os.path.isdir(path) else path.rpartition("#")
    require(os.path.isdir(folder) and number.isdigit(), f"there is no DICOM series {path}")
    files = [entry.path for entry in sorted(os.scandir(folder), key=lambda entry: entry.name) if entry.is_file()]
    slices = [file for file in files if _is_dicom(file)]
    wanted = sorted({_identifier(file) for file in slices})[int(number)]
    read = [_read(file) for file in slices if _identifier(file) == wanted]
    first = _geometry(read[0], path)
    across = np.cross(first[0], first[1])
    for other in read:
        same = np.allclose(_geometry(other, path)[:2], first[:2], atol=1e-4)
        require(
            same and (other.Rows, other.Columns) == (read[0].Rows, read[0].Columns),
            f"{path} holds slices of different sizes or directions: give each series a folder of its own",
        )
    read.sort(key=lambda one: float(across @ _position(one, path)))
    places = np.array([float(across @ _position(one, path)) for one in read])
    steps = np.diff(places)
    usual = float(np.median(steps)) if len(steps) else float(getattr(read[0], "SliceThickness", 1) or 1)
    require(
        usual > 0 and bool((np.abs(steps - usual) <= UNEVEN * usual).all()),
        f"{path} holds slices that lie unevenly ({steps.min() if len(steps) else 0:g} to "
        f"{steps.max() if len(steps) else 0:g} mm apart), so that some are missing or doubled: complete the series",
    )
    values = np.stack([_pixels(one, path) for one in read], axis=-1).transpose(1, 0, 2)
    return values, _header(read, values.shape, _step(read, across * usual, path), path)


def _step(read: list[Any], straight: NDArray[np.floating], path: str) -> NDArray[np.floating]:
    """The way from a slice to the next: of a tilted gantry it is not at right angles to them."""
    if len(read) == 1:
        return straight
    places = np.array([_position(one, path) for one in read])
    step: NDArray[np.floating] = (places[-1] - places[0]) / (len(places) - 1)
    off = np.abs(places - places[0] - np.arange(len(places))[:, None] * step).max()
    require(
        off <= MOST_OFF * float(np.linalg.norm(straight)),
        f"{path} holds slices that do not lie in one line ({off:g} mm beside it): give each series a folder of its own",
    )
    return step


def _header(read: list[Any], shape: tuple[int, ...], step: NDArray[np.floating], path: str) -> Any:
    along_row, along_column, spacing = _geometry(read[0], path)
    affine = np.eye(4)
    affine[:3, 0] = along_row * spacing[1]
    affine[:3, 1] = along_column * spacing[0]
    affine[:3, 2] = step
    affine[:3, 3] = _position(read[0], path)
    affine[:2] *= -1  # DICOM counts to the left and to the back, NIfTI to the right and to the front
    image = import_nibabel().Nifti1Image(np.zeros((1, 1, 1), np.float32), affine)
    header = image.header
    header.set_data_shape(shape)
    header.set_xyzt_units("mm")
    return header


def _geometry(one: Any, path: str) -> tuple[NDArray[np.floating], NDArray[np.floating], NDArray[np.floating]]:
    """The directions along a row and along a column, and the millimetres between rows and between columns."""
    try:
        along = np.array(one.ImageOrientationPatient, dtype=float)
        spacing = np.array(one.PixelSpacing, dtype=float)
    except AttributeError as error:
        raise UserError(f"{path} holds a slice that does not say how it lies ({error}): it is no scan") from error
    return along[:3], along[3:], spacing


def _position(one: Any, path: str) -> NDArray[np.floating]:
    require(hasattr(one, "ImagePositionPatient"), f"{path} holds a slice that does not say where it lies")
    return np.array(one.ImagePositionPatient, dtype=float)


def _pixels(one: Any, path: str) -> NDArray[Any]:
    try:
        stored = one.pixel_array
    except Exception as error:  # pydicom's decoders raise what a broken or an unknown form leads them into
        raise UserError(f"{path} holds a slice that cannot be decoded ({' '.join(str(error).split())})") from error
    require(stored.ndim == 2, f"{path} holds a file of {list(stored.shape)} pixels, where one grey slice is due")
    slope, shift = float(getattr(one, "RescaleSlope", 1)), float(getattr(one, "RescaleIntercept", 0))
    return stored if (slope, shift) == (1, 0) else stored * slope + shift


def _read(file: str) -> Any:
    try:
        return import_pydicom().dcmread(file)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{file} is no DICOM file that can be read ({' '.join(str(error).split())})") from error


def _identifier(file: str) -> str:
    """What a file says of its series."""
    try:
        header = import_pydicom().dcmread(file, stop_before_pixels=True, specific_tags=["SeriesInstanceUID"])
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{file} is no DICOM file that can be read ({' '.join(str(error).split())})") from error
    return str(getattr(header, "SeriesInstanceUID", ""))


def _is_dicom(file: str) -> bool:
    place, mark = MAGIC
    try:
        with open(file, "rb") as opened:
            return opened.read(place + len(mark))[place:] == mark
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror})") from error
