"""Your own numpy arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from narrows.data.array_keys import AUTO, Keys, find_split, find_test, find_training
from narrows.data.array_kinds import AXES, FEW, ArrayKind, NumpyArray, resolve
from narrows.data.array_reading import Read, describe
from narrows.data.contents import Contents, Part, Standardise
from narrows.data.dataset_files import ArrayFile, array_names, existing, holds_keys, locate, read_arrays
from narrows.data.float_precision import narrowed, refuse_blurred
from narrows.data.memory_mapped import Mapped
from narrows.data.stores import Store, cuts
from narrows.errors import UserError, nearest, require
from narrows.types import PIXELS

NO_KEY = "x"
"""What the array of a .npy is called, which has no keys."""
HELD_BYTES = 2 * 2**30
"""Size of an array in its file above which `mapped=auto` maps it."""


@dataclass
class HeldOut:
    """Where the test split of `Arrays` comes from.

    Args:
        fraction: of the rows, if neither `path` nor `x_key` is set; null for no test split.
        path: another file; null for the training file.
        x_key: key of the test examples; null for that of the training examples, or, where that was found, for the one
            whose name says that it is for testing, if there is one.
        label_key: key of the test labels; null for those that belong to `x_key`: that of the training labels, unless
            `x_key` is another array of the training file.
    """

    fraction: float | None = 0.1
    path: str | None = None
    x_key: str | None = None
    label_key: str | None = None


class Arrays:
    """Rows of a .npz or .npy file, read without pickle.

    By `kind`: vectors `[N, D]`; series `[N, T]` or `[N, C, T]`, served `[C, T]`; images `[N, H, W]` or
    `[N, C, H, W]`, served `[C, H, W]`. `auto`: two axes are vectors, four are images, and three are images
    where they are bytes or truth values and series otherwise, unless they may just as well be images.

    Images of bytes are divided by 255 (truth values become 0 and 1). All other numbers are standardised if
    `standardise` says so, in double precision, and then rounded to float32.

    Mapped examples stay in their file, and memory holds only a batch of them; values, splits and fingerprint are the
    same as in memory. The file must be a .npy or an uncompressed .npz and must not change during the run; labels are
    read into memory.

    Args:
        x_key: key of the examples; `auto` finds the usual names in any case (`x_train`, with `x_val` and `x_test` as
            the other splits, or `x`, data, images, features), or the single array under any name.
        label_key: key of the labels, whole numbers: classes `[N]` or factors of variation `[N, K]`; null for none;
            `auto` finds them beside examples that were found, if they are such numbers.
        channels_last: images are `[N, H, W, C]`, series `[N, T, C]`; null is false, but refuses what looks like them.
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
        x_key: str = AUTO,
        label_key: str | None = AUTO,
        kind: ArrayKind = "auto",
        channels_last: bool | None = None,
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
        names = array_names(path)
        keys = {"train": self._keys(names, path)}
        files = {"train": path}
        if (validation := self._found(names, "validation", path)) is not None:
            keys["validation"], files["validation"] = validation, path
        if (test := self._test_keys(names, path)) is not None:
            files["test"], keys["test"] = test
        read = {part: self._part(files[part], chosen) for part, chosen in keys.items()}
        kind = read["train"].kind
        for part, one in read.items():
            require(
                one.kind == kind,
                f"{files[part]} holds {one.kind} data, but {path} {kind} data: the {part} split must be alike",
            )
        return Contents.of_parts(
            kind,
            {name: one.part for name, one in read.items()},
            self.test.fraction,
            train_labels=self.train_labels,
            standardise=self.standardise,
            reading=describe(read, names),
        )

    def _keys(self, names: list[str], path: Path) -> Keys:
        """The arrays to train on."""
        if self.x_key != AUTO:
            return Keys(self.x_key, None if self.label_key == AUTO else self.label_key)
        return self._labelled(find_training(names, path) if names else Keys(NO_KEY))

    def _found(self, names: list[str], split: str, path: Path) -> Keys | None:
        """The arrays of another split of the training file, if those to train on were found by their names."""
        if self.x_key != AUTO or find_split(names, "train", path) is None:
            return None
        keys = find_split(names, split, path)
        return keys if keys is None or self.label_key is not None else replace(keys, label=None)

    def _labelled(self, keys: Keys) -> Keys:
        return keys if self.label_key == AUTO else replace(keys, label=self.label_key)

    def _test_keys(self, names: list[str], path: Path) -> tuple[Path, Keys] | None:
        """The file and the arrays to test on; None if a fraction of the training rows is."""
        held = self.test
        file = path if held.path is None else existing(held.path, "source.test.path")
        if held.x_key is not None:
            own = self.label_key if held.path is not None and self.label_key != AUTO else None
            return file, Keys(held.x_key, held.label_key or own)
        if held.path is None:
            keys = self._found(names, "test", path)
        elif self.x_key != AUTO:
            keys = self._keys([], file)
        else:
            others = array_names(file)
            keys = self._labelled(find_test(others, file) if others else Keys(NO_KEY))
        if keys is None:
            return None
        return file, keys if held.label_key is None else replace(keys, label=held.label_key)

    def _part(self, path: Path, keys: Keys) -> Read:
        where = f"array '{keys.x}' of {path}"
        place = self._place(path, keys.x)
        if place is None:
            array = read_arrays(path, [keys.x])[keys.x]
            kind: Any = resolve(self.kind, array, self.channels_last, where)
            x: Store | Tensor = to_tensor(lay_out(array, kind, self.channels_last, where), kind, where)
            dtype = array.dtype
        else:
            kind, x = self._mapped(place, where)
            dtype = place.dtype
        label, why = self._labels(path, keys.label)
        return Read(kind, Part(x, label), keys if label is not None else Keys(keys.x), str(dtype), why)

    def _labels(self, path: Path, key: str | None) -> tuple[Tensor | None, str | None]:
        """The labels, or, of those that were found and not asked for, why they are none."""
        if key is None:
            return None, None
        require(holds_keys(path), f"{path} holds one array and no keys: no '{key}'")
        array = read_arrays(path, [key])[key]
        try:
            return to_labels(array, f"array '{key}' of {path}"), None
        except UserError:
            if self.label_key != AUTO:
                raise
            return None, f"'{key}' holds no labels in whole numbers"

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
        kind = resolve(self.kind, x, self.channels_last, where)
        laid = lay_out(x, kind, self.channels_last, where)  # refuses what single rows do not show
        if laid.dtype.itemsize > 4:
            wide = (to_tensor(laid[cut], kind, where) for cut in cuts(laid.shape, laid.dtype.itemsize))
            refuse_blurred(wide, None, "take the offset off first, or standardise the file itself")
        return kind, Mapped([place], partial(arranged, kind=kind, channels_last=self.channels_last, where=where))


def arranged(x: NumpyArray, kind: str, channels_last: bool | None, where: str) -> Tensor:
    """Rows of a file as a tensor with channels first, as float32 where they are no bytes, not yet scaled."""
    return narrowed(to_tensor(lay_out(x, kind, channels_last, where), kind, where))


def lay_out(x: NumpyArray, kind: str, channels_last: bool | None, where: str) -> NumpyArray:
    """`x` with channels first, and with a channel axis added where it has none.

    Args:
        channels_last: None if nobody has said; what looks like channels last is then refused.
    """
    require(0 not in x.shape[1:], f"{where} has shape {list(x.shape)}: its examples hold no values")
    if kind == "vector":
        require(not channels_last, f"channels_last=true, but {where} holds vectors, which have no channels")
        return x
    if x.ndim == min(AXES[kind]):
        return x[:, None]
    if channels_last:
        return np.moveaxis(x, -1, 1)
    channels, last = x.shape[1], x.shape[-1]
    mistaken = channels > last if kind == "series" else channels > FEW >= last
    size = f"{last} time steps" if kind == "series" else f"width {last}"
    require(
        not mistaken or channels_last is False,
        f"{where} has shape {list(x.shape)}, which reads as {channels} channels of {size}: set channels_last=true, or "
        "false if it is so",
    )
    return x


def to_tensor(x: NumpyArray, kind: str, where: str) -> Tensor:
    """`x` as uint8 for pixels of bytes or truth values, else as floats: in double precision if float32 could not hold
    every value of its type."""
    require(
        x.dtype.kind in "biuf",
        f"{where} is of type {x.dtype}: numbers or truth values are needed",
    )
    if kind in PIXELS and x.dtype == np.uint8:
        return torch.from_numpy(np.ascontiguousarray(x))
    if kind in PIXELS and x.dtype == np.bool_:
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
    number = label.dtype.kind in "biuf"
    # Infinity equals its own rounding, and neither it nor the largest uint64 is an int64.
    whole = number and bool(np.all((label == np.round(label)) & (np.abs(label.astype(np.float64)) < 2**62)))
    require(whole, f"{where} holds {label.dtype} values that are not whole numbers, which labels must be")
    labels = torch.from_numpy(label.astype(np.int64))
    return labels.flatten() if label.shape[1:] == (1,) else labels  # MedMNIST writes classes as a column
