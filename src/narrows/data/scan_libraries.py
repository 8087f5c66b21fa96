"""The libraries that read scans, each with a sentence where it is missing."""

from __future__ import annotations

from typing import Any

from narrows.errors import UserError

EXTRA = "pip install 'narrows[volumes]'"


def import_nibabel() -> Any:
    """The library nibabel.

    Raises:
        UserError: it is not installed.
    """
    try:
        import nibabel
    except ModuleNotFoundError as error:
        raise UserError(f"NIfTI and DICOM need the library nibabel, which is not installed: {EXTRA}") from error
    return nibabel


def import_pydicom() -> Any:
    """The library pydicom.

    Raises:
        UserError: it is not installed.
    """
    try:
        import pydicom
    except ModuleNotFoundError as error:
        raise UserError(f"DICOM is read by the library pydicom, which is not installed: {EXTRA}") from error
    return pydicom
