"""The files that are compressed and restored: a picture, a folder of pictures, sounds, films, scans, or examples in a
.npy or .npz.

The layout in a compressed file describes them; see `narrows.coding.file_layout`.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from narrows.coding import film_layout, scan_layout, sound_layout
from narrows.coding.eight_bits import eight_bits, image_of
from narrows.coding.file_layout import DTYPES, PNG, check_key, check_layout, check_pictures, shapes
from narrows.coding.film_examples import check_film_target, read_clips, write_films
from narrows.coding.model_codec import Codec, unit_range
from narrows.coding.scan_examples import check_scan_target, read_volumes, write_scans
from narrows.coding.several_sizes import alike
from narrows.coding.sound_examples import check_sound_target, read_sounds, write_sounds
from narrows.coding.targets import require_apart, require_free_folder
from narrows.data import Lesions, Video, Volumes
from narrows.data.batch_loader import unit
from narrows.data.dataset_files import array_names, existing, read_arrays
from narrows.data.folders import files_below
from narrows.data.image_files import open_image
from narrows.data.image_tree import SUFFIXES, find_images
from narrows.errors import require
from narrows.files import replacing
from narrows.types import DataSpec

ARRAYS = {".npy": "npy", ".npz": "npz"}


@dataclass
class Examples:
    """The layout, and the examples `[n, *shape]` as the model reads them, grouped by equal shapes in a row."""

    layout: dict[str, Any]
    groups: list[Tensor]

    @property
    def count(self) -> int:
        return sum(map(len, self.groups))


def read(path: Path, codec: Codec, source: Any = None) -> Examples:
    """Read the examples at `path` for a model.

    Args:
        source: of the run's data, by which its films and scans are read; None: they are read from arrays alone.

    Raises:
        UserError: nothing at `path`, a file that cannot be read, or examples that do not fit the model's data.
    """
    path, spec = existing(path, "IN"), codec.model.spec
    if isinstance(source, Video) and not _holds_examples(path, spec):
        examples = Examples(*read_clips(path, source, spec, any_size=codec.any_size))
    elif isinstance(source, Volumes | Lesions) and not (_holds_examples(path, spec) or _holds_pictures(path, spec)):
        examples = Examples(*read_volumes(path, source, spec, any_size=codec.any_size))
    elif path.suffix.lower() in ARRAYS and not path.is_dir():
        examples = _read_arrays(path, spec)
    elif spec.kind == "audio":
        examples = Examples(*read_sounds(path, spec, whole=codec.any_size))
    else:
        examples = _read_pictures(path, spec)
    if codec.codebooks is not None:
        examples.layout["codebooks"] = codec.codebooks
    return examples


def _holds_examples(path: Path, spec: DataSpec) -> bool:
    """Whether a file is an array of examples as the model reads them, and no film or scan."""
    if path.suffix.lower() not in ARRAYS or path.is_dir():
        return False
    names = array_names(path)
    key = names[0] if len(names) == 1 else "x"
    if names and key not in names:
        return False
    shape = tuple(read_arrays(path, [key])[key].shape[1:])
    return shape == tuple(spec.shape) or (spec.shape[0] == 1 and shape == tuple(spec.shape[1:]))


def _holds_pictures(path: Path, spec: DataSpec) -> bool:
    """Whether there are pictures, which a run on slices of scans reads too."""
    files = files_below(path) if path.is_dir() else [path]
    return spec.kind == "image" and any(file.suffix.lower() in SUFFIXES for file in files)


def _read_pictures(path: Path, spec: DataSpec) -> Examples:
    if path.is_dir():
        return _read_folder(path, spec)
    require(
        path.suffix.lower() in SUFFIXES,
        f"{path} is neither a picture ({', '.join(sorted(SUFFIXES))}), a folder of pictures, nor a .npy or .npz file",
    )
    picture = _picture(path, spec)
    return Examples({"kind": "image", "shape": list(picture.shape)}, [unit(picture[None])])


def _picture(path: Path, spec: DataSpec) -> Tensor:
    """A picture `[C, H, W]` uint8 with the model's channels."""
    right = unit_range(spec) and spec.kind == "image"
    require(right, f"{path} is a picture, but this run's data are no grey or colour pictures: give an .npz")
    pixels = np.array(open_image(str(path)).convert("RGB" if spec.shape[0] == 3 else "L"))
    return torch.from_numpy(pixels.reshape(*pixels.shape[:2], spec.shape[0]).transpose(2, 0, 1).copy())


def _read_folder(path: Path, spec: DataSpec) -> Examples:
    files = [Path(file) for file in find_images(path).files]
    names = [str(PurePosixPath(file.relative_to(path).with_suffix(PNG))) for file in files]
    require_apart(names, path, "picture")
    pictures = [_picture(file, spec) for file in files]
    layout = {"kind": "folder", "names": names, "shapes": [list(picture.shape) for picture in pictures]}
    return Examples(layout, [unit(torch.stack(same)) for same in alike(pictures)])


def _read_arrays(path: Path, spec: DataSpec) -> Examples:
    names = array_names(path)
    key = names[0] if len(names) == 1 else "x"
    values = read_arrays(path, [key])[key]
    layout: dict[str, Any] = {"kind": ARRAYS[path.suffix.lower()]}
    if names:
        check_key(key)
        layout["key"] = key
    # Grey pictures often lack a channel axis.
    channel = values.ndim == len(spec.shape) + 1
    if not channel and spec.shape[0] == 1 and values.ndim == len(spec.shape):
        values = values[:, None]
    fits = values.ndim == len(spec.shape) + 1 and values.size > 0
    require(
        fits,
        f"{path} holds an array of shape {list(values.shape)}, where [N, {', '.join(map(str, spec.shape))}] is due",
    )
    dtype = "float32" if np.issubdtype(values.dtype, np.floating) else str(values.dtype)
    require(
        dtype in DTYPES, f"{path} holds {values.dtype}; bytes, truth values and floating-point numbers can be coded"
    )
    layout |= {"shape": list(values.shape[1:]), "dtype": dtype, "channel": channel}
    return Examples(layout, [_scaled(values, dtype, spec, path)])


def _scaled(values: NDArray[Any], dtype: str, spec: DataSpec, path: Path) -> Tensor:
    x = torch.from_numpy(np.ascontiguousarray(values if dtype == "uint8" else values.astype(np.float32)))
    require(dtype != "uint8" or unit_range(spec), f"{path} holds bytes, but this run's data are no pictures of bytes")
    require(dtype == "uint8" or bool(x.isfinite().all()), f"{path} holds values that are not finite numbers")
    low, high = spec.value_range or (-np.inf, np.inf)
    inside = dtype == "uint8" or (float(x.min()) >= low and float(x.max()) <= high)
    require(inside, f"{path} holds values outside [{low:g}, {high:g}], between which this run's data lie: scale them")
    return unit(x)


def check_target(path: Path, layout: dict[str, Any], count: int) -> None:
    """Refuse a target to which the restored examples cannot be written.

    Raises:
        UserError: the wrong suffix, a folder that is not empty, or pictures that are none.
    """
    kind = layout["kind"]
    if kind in sound_layout.KINDS:
        check_sound_target(path, layout)
        return
    if kind in film_layout.KINDS:
        check_film_target(path, layout)
        return
    if kind in scan_layout.KINDS:
        check_scan_target(path, layout)
        return
    if kind in ("folder", "image"):
        check_pictures(shapes(layout, count))
    if kind == "folder":
        require_free_folder(path, "picture")
        return
    wanted = PNG if kind == "image" else f".{kind}"
    what = "a picture, which must not lose anything again," if kind == "image" else f"a {wanted} file"
    require(
        path.suffix.lower() == wanted and not path.is_dir(), f"{what} comes back: let OUT end in {wanted}, not {path}"
    )


def write(path: Path, layout: dict[str, Any], groups: Sequence[Tensor], source: Any = None) -> None:
    """Write the examples in the format from which they were read, pictures as PNG, sound as WAV or FLAC, films as GIF
    or arrays, scans as NIfTI or arrays, each file whole or not at all.

    Args:
        source: of the run's data, where the examples are scans.

    Raises:
        UserError: see `check_layout` and `check_target`.
    """
    count = sum(map(len, groups))
    check_layout(layout, count)
    check_target(path, layout, count)
    if layout["kind"] in sound_layout.KINDS:
        write_sounds(path, layout, groups)
    elif layout["kind"] in film_layout.KINDS:
        write_films(path, layout, groups)
    elif layout["kind"] in scan_layout.KINDS:
        write_scans(path, layout, groups, source)
    elif layout["kind"] == "folder":
        pictures = itertools.chain.from_iterable(groups)
        targets = [path / name for name in layout["names"]]
        for target, picture in zip(targets, pictures, strict=True):
            target.parent.mkdir(parents=True, exist_ok=True)
            _save_picture(target, picture)
    elif layout["kind"] == "image":
        _save_picture(path, groups[0][0])
    else:
        _save_array(path, layout, torch.cat(list(groups)))


def _save_picture(path: Path, picture: Tensor) -> None:
    with replacing(path) as file:
        image_of(eight_bits(picture)).save(file, format="PNG")


def _save_array(path: Path, layout: dict[str, Any], x: Tensor) -> None:
    dtype = layout["dtype"]
    if dtype == "uint8":
        values: NDArray[Any] = eight_bits(x)
    else:
        values = (x > 0.5).numpy() if dtype == "bool" else x.float().numpy()
    values = values if layout.get("channel", True) else values[:, 0]
    with replacing(path) as file:
        if layout["kind"] == "npz":
            arrays: dict[str, Any] = {str(layout.get("key", "x")): values}
            np.savez_compressed(file, **arrays)
        else:
            np.save(file, values)
