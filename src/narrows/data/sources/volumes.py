"""Scans: NIfTI files, arrays and DICOM series, as whole volumes or slice by slice."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from narrows.data.contents import Contents
from narrows.data.dataset_files import existing
from narrows.data.defect_masks import FOLDER, MARK
from narrows.data.image_tree import PARTS, Tree, class_names, find_parts, number_classes
from narrows.data.scan_files import Scan, find_scans, read_scan, stem_of_scan
from narrows.data.scan_grid import Grid
from narrows.data.scan_slices import Slices, Volume, to_part
from narrows.errors import UserError, require


class Volumes:
    """The scans below `path`, `[1, D, H, W]` float32 in the order of their names, or their slices, `[1, H, W]`.

    A path is a file or a folder of NIfTI files (`.nii`, `.nii.gz`), arrays (`.npy`, `.npz`, each one scan) or DICOM
    series (a folder of slices each). As in a folder of images, subfolders are classes, and folders `train`, `val` and
    `test` around them are splits. Where `ground_truth` stands beside these, its `<class>/<name>_mask` files mark what
    is anomalous in the scans of `test/<class>`, voxel by voxel, and lie as these do; classes that `train` has too need
    none.

    A scan is turned so that its axes go to the head, to the back and to the right (`narrows.data.scan_files`), and
    brought to `grid`. All slices of a scan stay in one split; of a single scan the last ones are held out.

    Args:
        grid: spacing, size and range of values to which all are brought.
        slices: whether whole volumes are examples, or which slices.
        test: fraction of the scans held out, where no folder is the test split; null: no test split.
        train_labels: numbers of the only classes to train and validate on; null: all, or with masks those of `train`.

    Raises:
        UserError: (`load`) files that are missing, broken, or of different sizes where `grid.size` does not say which,
            or masks that do not fit.
    """

    def __init__(
        self,
        path: str,
        grid: Grid | None = None,
        slices: Slices | None = None,
        test: float | None = 0.1,
        train_labels: Sequence[int] | None = None,
    ) -> None:
        require(test is None or 0 < test < 1, f"source.test={test} is no fraction between 0 and 1")
        self.path, self.test, self.train_labels = path, test, train_labels
        self.grid, self.slices = grid or Grid(), slices or Slices()

    def load(self) -> Contents:
        root, masks = _split_off_masks(find_scans(existing(self.path, "source.path")))
        trees = find_parts(root)
        numbers = _number(trees, masked=masks is not None)
        digest = hashlib.sha256(f"{self.grid} {self.slices}".encode())
        marked = {} if masks is None else {_name(masks, file, MARK): file for file in masks.files}
        normal = None if masks is None else class_names(trees["train"])
        volumes = {
            part: self._volumes(tree, numbers, marked, normal if part == "test" else None, digest)
            for part, tree in trees.items()
        }
        stray = next(iter(marked.values()), None)
        require(stray is None, f"{stray} is the mask of no scan: bring the scan, or take the mask away")
        self._require_alike([volume for several in volumes.values() for volume in several])
        made = {part: to_part(several, self.slices) for part, several in volumes.items()}
        names = sorted(numbers, key=numbers.__getitem__)
        trained = self.train_labels
        if masks is not None and trained is None:
            trained = [numbers[name] for name in class_names(trees["train"])]
        # Of a single scan the last slices are held out, but for one between, which is much like them.
        alone = self.slices.plane is not None and len(volumes["train"]) == 1
        return Contents.of_parts(
            "volume" if self.slices.plane is None else "image",
            {part: one for part, (one, _) in made.items()},
            self.test,
            groups=None if alone else made["train"][1],
            neighbours=1 if alone else None,
            train_labels=trained if numbers else None,
            class_names=names or None,
            identity=digest.hexdigest(),
            reading=[describe(volumes, {part: len(one) for part, (one, _) in made.items()}, self.slices)],
        )

    def _volumes(
        self,
        tree: Tree,
        numbers: Mapping[str, int],
        marked: dict[str, str],
        normal: Sequence[str] | None,
        digest: hashlib._Hash,
    ) -> list[Volume]:
        """The scans of a part; what masks they have is taken out of `marked`, where there is a `normal` class."""
        found = []
        for file in tree.files:
            scan = read_scan(file)
            digest.update(f"|{scan.spacing} {scan.values.dtype} {scan.values.shape}".encode())
            digest.update(np.ascontiguousarray(scan.values).tobytes())
            kind = tree.inside(file)[0] if numbers else ""
            flags = None
            if normal is not None:
                flags = self._mask(marked.pop(_name(tree, file), None), scan, file, plain=kind in normal)
            label = numbers[kind] if numbers else None
            found.append(Volume("/".join(tree.inside(file)), self.grid.fit(scan, file), label, flags))
        return found

    def _mask(self, path: str | None, scan: Scan, file: str, *, plain: bool) -> NDArray[np.bool_] | None:
        """The mask of a test scan, on the grid; None of a normal one without."""
        if path is None:
            require(
                plain,
                f"{file} is of a class that training lacks, but has no mask: {FOLDER}/<class>/<name>{MARK} is missing",
            )
            return None
        mask = read_scan(path)
        require(
            mask.values.shape == scan.values.shape,
            f"{path} has {_sides(mask.values.shape)} voxels, but {file}, whose mask it is, {_sides(scan.values.shape)}",
        )
        require(
            mask.lies_as(scan),
            f"{path} does not say that its voxels lie as those of {file}, whose mask it is: save it with the scan's "
            "affine, or both as arrays",
        )
        require(
            len(np.unique(mask.values)) <= 2 and not mask.values.min(),
            f"{path} is no mask: it must be 0 where nothing is anomalous and of one other value where something is",
        )
        require(
            not (plain and mask.values.any()),
            f"{path} marks something, but {file} is of a class that training has: move the scan, or take the mask away",
        )
        return self.grid.fit_mask(mask, path)

    def _require_alike(self, volumes: Sequence[Volume]) -> None:
        first = volumes[0]
        for other in volumes:
            require(
                other.values.shape == first.values.shape,
                f"{first.name} has {_sides(first.values.shape)} voxels (depth x height x width) and {other.name} "
                f"{_sides(other.values.shape)}: set source.grid.size=[depth,height,width], to which all are cut and "
                "filled up, and source.grid.spacing where voxels differ in millimetres",
            )


def describe(volumes: Mapping[str, Sequence[Volume]], examples: Mapping[str, int], slices: Slices) -> str:
    """The line of scans."""
    every = [volume for several in volumes.values() for volume in several]
    said = f"scans: {len(every):,} of {_sides(every[0].values.shape)} voxels (depth x height x width)"
    if slices.plane is not None:
        said += f", {sum(examples.values()):,} {slices.plane} slices"
    if len(volumes) > 1:
        said += f" ({', '.join(f'{count:,} of {part}' for part, count in examples.items())})"
    masked = [volume for volume in every if volume.mask is not None]
    if masked:
        lost = sum(not volume.mask.any() for volume in masked if volume.mask is not None)
        said += f"; {len(masked)} masks" + (f", of which {lost} mark no voxel on this grid" if lost else "")
    return said


def _sides(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _split_off_masks(root: Tree) -> tuple[Tree, Tree | None]:
    """The tree of the scans and that of their masks, where a folder `ground_truth` stands beside train and test."""
    tops = {root.inside(file)[0] for file in root.files if len(root.inside(file)) > 1}
    found = [name for name in tops if name.lower() == FOLDER]
    if not found:
        return root, None
    parts = {PARTS.get(name.lower()) for name in tops}
    require(
        {"train", "test"} <= parts,
        f"{root.root} holds a folder {found[0]} of masks, but beside it there are not both train and test, whose scans "
        "they are of: bring the missing folder, or take the masks away",
    )
    files = [file for file in root.files if root.inside(file)[0] != found[0]]
    return Tree(root.root, files, root.hidden, root.empty, root.others), root.below(found[0])


def _number(trees: Mapping[str, Tree], *, masked: bool) -> dict[str, int]:
    """The number of each class by its name; with masks those of training come first, and 0 is normal."""
    names = class_names(trees["train"])
    others = sorted({name for tree in trees.values() for name in class_names(tree)} - set(names))
    if not masked:
        if others and names:
            raise UserError(f"{', '.join(others)} are classes that training lacks: bring scans of them, or masks")
        return number_classes(names)
    require(bool(names), f"{trees['train'].root} needs a folder for each class, such as good, beside masks")
    return {name: number for number, name in enumerate([*names, *others])}


def _name(tree: Tree, file: str, mark: str = "") -> str:
    *folders, _ = tree.inside(file)
    return "/".join([*folders, stem_of_scan(file).removesuffix(mark)])
