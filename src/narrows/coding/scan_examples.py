"""Scans that are compressed and restored: a file, a DICOM series, or those of a folder.

A scan is brought to the run's grid, whole or as all of its slices, and comes back on its own, in its own units, lying
where it lay. See `narrows.coding.scan_layout`.
"""

from __future__ import annotations

import base64
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from narrows.coding.scan_layout import ENDINGS
from narrows.coding.several_sizes import OTHERS, alike
from narrows.coding.targets import require_apart, require_target
from narrows.data import Lesions, Scan, Volumes
from narrows.data.scan_files import empty_scan, ending_of, find_scans, read_scan
from narrows.errors import require
from narrows.files import replacing
from narrows.types import DataSpec

GZIPPED = ".nii.gz"


def read_volumes(
    path: Path, source: Volumes | Lesions, spec: DataSpec, *, any_size: bool = False
) -> tuple[dict[str, Any], list[Tensor]]:
    """The layout of the scans at `path`, and their examples `[n, 1, D, H, W]` or `[n, 1, h, w]`, in groups of scans in
    a row that are alike on the run's grid.

    Args:
        source: of the run: the grid to which scans are brought, and which slices are examples.
        any_size: whether the model reads examples of any size; slices must have the model's.

    Raises:
        UserError: a file that is missing, broken or no scan, or that makes examples of another size than the model's.
    """
    tree = find_scans(path)
    layout: dict[str, Any] = {"kind": "scan", "shape": list(spec.shape), "sides": [], "ends": [], "headers": []}
    names, parts = [], []
    for file in tree.files:
        scan = read_scan(file)
        values = source.grid.fit(scan, file)
        every = values[None] if source.slices.plane is None else source.slices.of(values)
        found = (1, *every.shape[1:])
        require(
            found == tuple(spec.shape) or (any_size and source.slices.plane is None),
            f"{file} makes examples of shape {list(found)} on the run's grid, and the run's are {list(spec.shape)}"
            + (OTHERS if source.slices.plane is None else ""),
        )
        parts.append(np.ascontiguousarray(every))
        layout["sides"].append(list(scan.values.shape))
        layout["ends"].append(list(map(float, source.grid.ends(scan.values))))
        layout["headers"].append(_header(scan))
        inside = "/".join(tree.inside(file))
        plain = inside[: len(inside) - len(ending_of(inside))] or "scan"
        names.append(f"{plain}{'.npy' if scan.header is None else GZIPPED}")
    fitted = [list(part.shape[1:]) for part in parts]
    if source.slices.plane is None and any(sides != list(spec.shape[1:]) for sides in fitted):
        layout["fitted"] = fitted
    if path.is_dir() and tree.files != [str(path)]:
        require_apart(names, path, "scan")
        layout |= {"kind": "scans", "names": names}
    return layout, [torch.from_numpy(np.concatenate(same))[:, None] for same in alike(parts, axis=1)]


def _header(scan: Scan) -> str | None:
    return None if scan.header is None else base64.b64encode(scan.header.binaryblock).decode()


def check_scan_target(path: Path, layout: Mapping[str, Any]) -> None:
    """Refuse a target to which the scans cannot be written.

    Raises:
        UserError: a wrong ending, NIfTI for what has no place in space, or a folder that is not empty.
    """
    several = layout["kind"] == "scans"
    endings = ENDINGS if several or layout["headers"][0] is not None else (".npy",)
    require_target(path, ending_of(path), "scan", endings, several=several)


def write_scans(path: Path, layout: Mapping[str, Any], groups: Sequence[Tensor], source: Volumes | Lesions) -> None:
    """Write the scans on their own grids, float32 in their own units; each file whole or not at all.

    Raises:
        UserError: headers that are none, or examples that are not those of these scans on the run's grid.
    """
    names = layout["names"] if layout["kind"] == "scans" else [path.name]
    for name, content in zip(names, _contents(names, layout, groups, source), strict=True):
        target = path / name if layout["kind"] == "scans" else path
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as file:
            file.write(content)


def _contents(
    names: Sequence[str], layout: Mapping[str, Any], groups: Sequence[Tensor], source: Volumes | Lesions
) -> Iterator[bytes]:
    """The bytes of every file."""
    grid, slices = source.grid, source.slices
    places = [
        empty_scan(tuple(sides), None if header is None else base64.b64decode(header), name)
        for name, sides, header in zip(names, layout["sides"], layout["headers"], strict=True)
    ]
    fitted = [np.broadcast_to(False, grid.fitted_sides(place, name)) for place, name in zip(places, names, strict=True)]
    cut = [values[None] if slices.plane is None else slices.of(values) for values in fitted]
    right = sum(map(len, cut)) == sum(map(len, groups))
    own = layout.get("fitted") or [layout["shape"][1:]] * len(cut)
    right = right and all(list(one.shape[1:]) == list(sides) for one, sides in zip(cut, own, strict=True))
    require(right, "the file's header describes other scans than its examples are of, on this run's grid")
    examples = itertools.chain.from_iterable(groups)
    for name, place, one, ends in zip(names, places, cut, layout["ends"], strict=True):
        made: NDArray[Any] = np.stack([each[0].float().numpy() for each in itertools.islice(examples, len(one))])
        values = made[0] if slices.plane is None else slices.joined(made)
        yield place.encode(grid.back(values, place, name, (ends[0], ends[1])), ending_of(name), name)


def voxels(layout: Mapping[str, Any]) -> int:
    """Those of all scans together, on their own grids."""
    return sum(int(np.prod(sides)) for sides in layout["sides"])
