"""What kind of data an array holds, by its axes; one that may be of two kinds is refused until somebody says which."""

from __future__ import annotations

from typing import Any, Literal, NoReturn

import numpy as np

from narrows.errors import UserError, require

ArrayKind = Literal["auto", "vector", "series", "image", "volume", "video"]
NumpyArray = np.ndarray[Any, Any]
AXES = {"vector": (2,), "series": (2, 3), "image": (3, 4), "volume": (4, 5), "video": (4, 5)}
FEW = 4
"""Most channels of pictures, and of series that are not taken for pictures however short they are."""


def resolve(kind: ArrayKind, x: NumpyArray, channels_last: bool | None, where: str) -> str:
    """The kind of data, inferred if it is `auto`, and checked against the number of axes.

    Raises:
        UserError: a number of axes that the kind does not have, or an array that may be of two kinds.
    """
    small = x.dtype in (np.uint8, np.bool_)
    found = {2: "vector", 3: "image" if small else "series", 4: "image"}.get(x.ndim) if kind == "auto" else kind
    if found is None or x.ndim not in AXES[found]:
        _refuse_axes(found, x, where)
    if kind == "auto" and found == "series" and channels_last is None:
        _refuse_doubt(x, where)
    return found


def _refuse_axes(found: str | None, x: NumpyArray, where: str) -> NoReturn:
    """Refuse a number of axes that `found` has not, or, of None, that no kind has which is told by its axes."""
    wanted = {
        "vector": "[N, D]",
        "series": "[N, T] or [N, C, T]",
        "image": "[N, H, W] or [N, C, H, W]",
        "volume": "[N, D, H, W] or [N, C, D, H, W]",
        "video": "[N, T, H, W] or [N, C, T, H, W]",
    }
    has = f"{where} has shape {list(x.shape)}"
    if found is not None:
        raise UserError(f"{has}, but {found} data must be {wanted[found]}")
    if x.ndim == 5:
        raise UserError(f"{has}, which may be volumes or video: set source.kind to volume or video")
    raise UserError(f"{has}, but auto data must be {', '.join(wanted.values())}")


def _refuse_doubt(x: NumpyArray, where: str) -> None:
    """Refuse `[N, A, B]` that may be series as well as images, or series with the channels last."""
    first, second = x.shape[1:]
    plain = first == 1 or (first < second and (first <= FEW or second > 4 * first))
    last = f", or source.channels_last=true for series of {second} channels and {first} time steps"
    require(
        plain,
        f"{where} has shape {list(x.shape)} of {x.dtype}, which may be images of {first} x {second} pixels or series "
        f"of {first} channels and {second} time steps: set source.kind to image or series"
        f"{last if second < first else ''}",
    )
