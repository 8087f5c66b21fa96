"""Your own numpy arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from narrows.data.contents import Contents, Part, Standardise
from narrows.data.dataset_files import ArrayFile, existing, holds_keys, locate, read_arrays
from narrows.data.float_precision import narrowed, refuse_blurred
from narrows.data.memory_mapped import Mapped
from narrows.data.stores import Store, cuts
from narrows.errors import UserError, nearest, require

ArrayKind = Literal["auto", "vector", "series", "image"]
NumpyArray = np.ndarray[Any, Any]
HELD_BYTES = 2 * 2**30
"""Size of an array in its file above which `mapped=auto` maps it."""
AXES = {"vector": (2,), "series": (2, 3), "image": (3, 4)}


@dataclass
class HeldOut:
    """Where the test split of `Arrays` comes from.

    Args:
        fraction: of the rows, if neither `path` nor `x_key` is set; null for no test split.
        path: another file; null for the training file.
        x_key: key of the test examples; null for that of the training examples.
        label_key: key of the test labels; null for that of the training labels, unless `x_key` is another array of the
            training file.
    """

    fraction: float | None = 0.1
    path: str | None = None
    x_key: str | None = None
    label_key: str | None = None


class Arrays:
    """Rows of a .npz or .npy file, read without pickle.

    By `kind`: vectors `[N, D]`; series `[N, T]` or `[N, C, T]`, served `[C, T]`; images `[N, H, W]` or
    `[N, C, H, W]`, served `[C, H, W]`. `auto`: two axes are vectors, four are images, and three are images
    where they are bytes or truth values and series otherwise.

    Images of bytes are divided by 255 (truth values become 0 and 1). All other numbers are standardised if
    `standardise` says so, in double precision, and then rounded to float32.

    Mapped examples stay in their file, and memory holds only a batch of them; values, splits and fingerprint are the
    same as in memory. The file must be a .npy or an uncompressed .npz and must not change during the run; labels are
    read into memory.

    Args:
        label_key: key of the labels, whole numbers: classes `[N]` or factors of variation `[N, K]`; null for none.
        channels_last: images are `[N, H, W, C]`, series `[N, T, C]`.
        standardise: `none`, `standard` or `minmax`, per feature or channel, fitted on the training rows.
        train_labels: only rows with these labels are trained and validated on; the test split keeps all.
        test: the test split; null takes a tenth of the rows.
        mapped: `auto` maps an array of more than `HELD_BYTES` if it can be mapped and is not standardised.

    Raises:
        UserError: (`load`) a file, key, type or shape that does not fit the arguments.
    """

    def __init__(
        self,
        path: str,
        x_key: str = "x",
        label_key: str | None = None,
        kind: ArrayKind = "auto",
        channels_last: bool = False,
        standardise: Standardise = "none",
        train_labels: Sequence[int] | None = None,
        test: HeldOut | None = None,
        mapped: bool | Literal["auto"] = "auto",
    ) -> None:
        choices = ("auto", *AXES)
        require(kind in choices, f"unknown kind={kind!r}: {nearest(str(kind), choices)}")
        require(isinstance(mapped, bool) or mapped == "auto", f"unknown mapped={mapped!r}: it is auto, true or false")
        require(
            mapped is not True or standardise == "none",
            f"mapped=true leaves the examples in their file, and standardise={standardise} would hold all of them in "
            "memory: set mapped=false, or standardise the file itself",
        )
        self.path = path
        self.x_key = x_key
        self.label_key = label_key
        self.kind = kind
        self.channels_last = channels_last
        self.standardise = standardise
        self.train_labels = train_labels
        self.test = test or HeldOut()
        self.mapped = mapped

    def load(self) -> Contents:
        path = existing(self.path, "source.path")
        kind, train = self._part(path, self.x_key, self.label_key)
        test = self._test(path, kind)
        return Contents(
            kind,
            train,
            test=test,
            test_fraction=self.test.fraction if test is None else None,
            train_labels=self.train_labels,
            standardise=self.standardise,
        )

    def _test(self, path: Path, kind: str) -> Part | None:
        held = self.test
        if held.path is None and held.x_key is None:
            return None
        elsewhere = held.path is not None
        label_key = held.label_key or (self.label_key if elsewhere else None)
        file = path if held.path is None else existing(held.path, "source.test.path")
        found, part = self._part(file, held.x_key or self.x_key, label_key)
        require(found == kind, f"{file} holds {found} data, but {path} {kind} data: the test split must be alike")
        return part

    def _part(self, path: Path, x_key: str, label_key: str | None) -> tuple[Any, Part]:
        where = f"array '{x_key}' of {path}"
        place = self._place(path, x_key)
        if place is None:
            arrays = read_arrays(path, [x_key] if label_key is None else [x_key, label_key])
            kind = resolve(self.kind, arrays[x_key], where)
            x: Store | Tensor = to_tensor(lay_out(arrays[x_key], kind, self.channels_last, where), kind, where)
        else:
            require(
                label_key is None or holds_keys(path),
                f"{path} holds one array and no keys: no '{label_key}'",
            )
            arrays = {} if label_key is None else read_arrays(path, [label_key])
            kind, x = self._mapped(place, where)
        label = None if label_key is None else to_labels(arrays[label_key], f"array '{label_key}' of {path}")
        return kind, Part(x, label)

    def _place(self, path: Path, key: str) -> ArrayFile | None:
        """The place of examples that are to be mapped; None if they are to be read into memory."""
        asked = self.mapped is True
        if not asked and (not self.mapped or self.standardise != "none" or path.stat().st_size <= HELD_BYTES):
            return None
        found = locate(path, key)
        if isinstance(found, str):
            require(not asked, f"source.mapped=true, but {found}")
            return None
        return found if asked or found.bytes > HELD_BYTES else None

    def _mapped(self, place: ArrayFile, where: str) -> tuple[str, Mapped]:
        x = place.opened()
        kind = resolve(self.kind, x, where)
        laid = lay_out(x, kind, self.channels_last, where)  # refuses what single rows do not show
        if laid.dtype.itemsize > 4:
            wide = (to_tensor(laid[cut], kind, where) for cut in cuts(laid.shape, laid.dtype.itemsize))
            refuse_blurred(wide, None, "take the offset off first, or standardise the file itself")
        return kind, Mapped([place], partial(arranged, kind=kind, channels_last=self.channels_last, where=where))


def arranged(x: NumpyArray, kind: str, channels_last: bool, where: str) -> Tensor:
    """Rows of a file as a tensor with channels first, as float32 where they are no bytes, not yet scaled."""
    return narrowed(to_tensor(lay_out(x, kind, channels_last, where), kind, where))


def resolve(kind: ArrayKind, x: NumpyArray, where: str) -> str:
    """The kind of data, inferred if it is `auto`, and checked against the number of axes."""
    small = x.dtype in (np.uint8, np.bool_)
    found = {2: "vector", 3: "image" if small else "series", 4: "image"}.get(x.ndim) if kind == "auto" else kind
    if found is None or x.ndim not in AXES[found]:
        wanted = {"vector": "[N, D]", "series": "[N, T] or [N, C, T]", "image": "[N, H, W] or [N, C, H, W]"}
        shape = wanted[found] if found else ", ".join(wanted.values())
        raise UserError(f"{where} has shape {list(x.shape)}, but {kind} data must be {shape}")
    return found


def lay_out(x: NumpyArray, kind: str, channels_last: bool | None, where: str) -> NumpyArray:
    """`x` with channels first, and with a channel axis added where it has none."""
    if kind == "vector":
        require(not channels_last, f"channels_last=true, but {where} holds vectors, which have no channels")
        return x
    if x.ndim == min(AXES[kind]):
        return x[:, None]
    if channels_last:
        return np.moveaxis(x, -1, 1)
    mistaken = kind == "image" and x.shape[-1] in (1, 3, 4) and x.shape[1] > 4
    require(
        not mistaken,
        f"{where} has shape {list(x.shape)}, which reads as {x.shape[1]} channels of width {x.shape[-1]}: set "
        "channels_last=true",
    )
    return x


def to_tensor(x: NumpyArray, kind: str, where: str) -> Tensor:
    """`x` as uint8 for images of bytes or truth values, else as floats: in double precision if float32 could not hold
    every value of its type."""
    require(
        x.dtype.kind in "biuf",
        f"{where} is of type {x.dtype}: numbers or truth values are needed",
    )
    if kind == "image" and x.dtype == np.uint8:
        return torch.from_numpy(np.ascontiguousarray(x))
    if kind == "image" and x.dtype == np.bool_:
        return torch.from_numpy(x.astype(np.uint8) * np.uint8(255))
    exact = np.can_cast(x.dtype, np.float32)
    return torch.from_numpy(np.ascontiguousarray(x.astype(np.float32 if exact else np.float64)))


def to_labels(label: NumpyArray, where: str) -> Tensor:
    """int64 classes `[N]`, or factors `[N, K]`."""
    require(
        label.ndim in (1, 2) and 0 not in label.shape[1:],
        f"{where} has shape {list(label.shape)}, but labels must be one whole number for each example, or one for "
        "each of its factors",
    )
    whole = label.dtype.kind in "biu" or (label.dtype.kind == "f" and bool(np.all(label == np.round(label))))
    require(whole, f"{where} holds {label.dtype} values that are not whole numbers, which labels must be")
    labels = torch.from_numpy(label.astype(np.int64))
    return labels.flatten() if label.shape[1:] == (1,) else labels  # MedMNIST writes classes as a column
