"""Small scans for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

AFFINES = {
    "ras": [[2, 0, 0, -9], [0, 2, 0, 4], [0, 0, 3, 1], [0, 0, 0, 1]],
    "lps": [[-2, 0, 0, 9], [0, -2, 0, 4], [0, 0, 3, 1], [0, 0, 0, 1]],
    "sagittal": [[0, 0, 2.5, -9], [-2, 0, 0, 4], [0, 1.5, 0, 1], [0, 0, 0, 1]],
}
"""By name, where voxels lie: right, front and head; the other way; slices from left to right."""


def blob(shape: tuple[int, int, int], seed: int = 0) -> NDArray[np.float64]:
    """A bright ball with a gradient and a corner of its own, so that every turn shows."""
    axes = np.meshgrid(*(np.linspace(-1, 1, side) for side in shape), indexing="ij")
    ball = np.clip(1.2 - sum(axis**2 for axis in axes), 0, None)
    values: NDArray[np.float64] = ball * (1 + 0.3 * axes[0] + 0.2 * axes[1] + 0.1 * axes[2])
    return 700 * values + 5 * np.random.default_rng(seed).random(shape)


def write_nifti(path: Path, values: NDArray[Any], affine: str = "ras") -> Path:
    import nibabel

    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values, np.array(AFFINES[affine], float)), path)
    return path


def write_healthy_and_lesioned(root: Path, count: int = 24, shape: tuple[int, int, int] = (12, 10, 8)) -> Path:
    """The folders of healthy training scans, healthy and lesioned test scans, and masks."""
    for number in range(count):
        values = blob(shape, number)
        write_nifti(root / "train" / "good" / f"{number:02}.nii.gz", values.astype(np.float32))
    for number in range(6):
        values = blob(shape, 100 + number)
        if number < 3:
            write_nifti(root / "test" / "good" / f"{number}.nii.gz", values.astype(np.float32))
            continue
        mask = np.zeros(shape, np.uint8)
        mask[4 + number % 2 : 7 + number % 2, 3:6, 3:5] = 1
        write_nifti(root / "test" / "lesion" / f"{number}.nii.gz", (values * (1 - 0.5 * mask)).astype(np.float32))
        write_nifti(root / "ground_truth" / "lesion" / f"{number}_mask.nii.gz", mask)
    return root


def write_dicom(
    folder: Path, values: NDArray[np.int16], slope: float = 1.0, shift: float = 0.0, tilt: float = 0.0
) -> Path:
    """A CT series: slice k of `[slices, rows, columns]` in a file of its own, 3 mm apart, in an order by name that is
    not that of the slices, each `tilt` mm further to the back."""
    import pydicom
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    folder.mkdir(parents=True)
    for place, pixels in enumerate(values):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = CTImageStorage
        meta.MediaStorageSOPInstanceUID = f"1.2.3.{place + 1}"
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        made = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
        made.SOPClassUID, made.SOPInstanceUID = CTImageStorage, f"1.2.3.{place + 1}"
        made.SeriesInstanceUID = "1.2.3"
        made.Rows, made.Columns = pixels.shape
        made.ImageOrientationPatient, made.PixelSpacing = [1, 0, 0, 0, 1, 0], [2.0, 1.5]
        made.ImagePositionPatient = [-10, -20 + tilt * place, 3 * place]
        made.RescaleSlope, made.RescaleIntercept = slope, shift
        made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 16, 16, 15, 1
        made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
        made.PixelData = np.ascontiguousarray(pixels).tobytes()
        pydicom.dcmwrite(folder / f"{(3 * place) % len(values):02}.dcm", made, enforce_file_format=True)
    return folder
