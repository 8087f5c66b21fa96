"""Opening Hugging Face data sets as memory-mapped Arrow files: saved ones, Parquet, and those of the hub.

Of the hub, Parquet files alone are downloaded, so that no code of a stranger's runs. `narrows.data.arrow_copies` copies
Parquet to Arrow.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from narrows.data.arrow_copies import arrow_copy
from narrows.data.dataset_files import fetch
from narrows.data.image_tree import PARTS
from narrows.errors import UserError, first_line, nearest, require
from narrows.files import require_no_pipe, write_atomically

EXTRA = "pip install 'narrows[hf-datasets]'"
WORD = r"[\w-][\w.-]*"
NAME = re.compile(rf"(?P<name>{WORD}/{WORD})(@(?P<revision>[\w./-]+))?")
"""A data set of the hub: `OWNER/NAME`, `OWNER/NAME@REVISION`."""
NUMBERED = re.compile(r"(.+)-\d{5}-of-\d{5}(-\w+)?")
"""Names that the library gives to files of a part."""
SAVED, SAVED_PARTS = "state.json", "dataset_dict.json"
"""What `save_to_disk` writes for one part, and around several."""


@dataclass(frozen=True)
class HubFiles:
    """Which rows of a data set are read, and where files are kept.

    Args:
        split: the part to train on, where there are several.
        subset: a folder within the data set, such as that of a language; null: the only one.
        data_dir: below it, `huggingface/arrow` holds copies of Parquet files and `huggingface/hub` what was downloaded.
        download: whether a data set of the hub that is not there is downloaded.
    """

    split: str = "train"
    subset: str | None = None
    data_dir: str = "data"
    download: bool = True

    @property
    def folder(self) -> Path:
        """What the library's files lie in."""
        return Path(self.data_dir).expanduser() / "huggingface"


def find_parts(path: str, files: HubFiles) -> dict[str, Callable[[], Any]]:
    """What opens each part of what lies at `path`, by the names that it has for them, as a memory-mapped
    `datasets.Dataset`.

    Raises:
        UserError: nothing that can be read, the extra is not installed, or a download that is off or fails.
    """
    import_datasets()
    place = Path(path).expanduser()
    if not place.exists():
        named = NAME.fullmatch(path)
        if named is None:
            raise UserError(
                f"{place.absolute()} does not exist, and is no name of the hub, OWNER/NAME: set source.path to where "
                "the data lie"
            )
        place = _downloaded(named["name"], named["revision"], files)
    require_no_pipe(place)
    place = _within(place, files.subset)
    if place.is_dir() and ((place / SAVED).is_file() or (place / SAVED_PARTS).is_file()):
        return _saved(place)
    return _parquet(place, files)


def import_datasets() -> Any:
    """The library, which then draws no progress bars.

    Raises:
        UserError: it is not installed.
    """
    try:
        import datasets
    except ModuleNotFoundError as error:
        raise UserError(f"Hugging Face data sets need the library datasets, which is not installed: {EXTRA}") from error
    datasets.disable_progress_bars()
    return datasets


def _within(place: Path, subset: str | None) -> Path:
    if subset is None:
        return place
    folders = [entry.name for entry in place.iterdir() if entry.is_dir()] if place.is_dir() else []
    require(subset in folders, f"{place} has no folder '{subset}': {nearest(subset, folders)}; set source.files.subset")
    return place / subset


def _saved(place: Path) -> dict[str, Callable[[], Any]]:
    datasets = import_datasets()
    with _explained(place, "save it again with save_to_disk"):
        found = datasets.load_from_disk(str(place), keep_in_memory=False)
        parts = found if isinstance(found, dict) else {str(found.split or "train"): found}
        return {name: partial(_same, dataset) for name, dataset in parts.items()}


def _same(dataset: Any) -> Any:
    return dataset


def _parquet(place: Path, files: HubFiles) -> dict[str, Callable[[], Any]]:
    parts = parquet_parts(place)
    return {part: partial(_copied, paths, files.folder / "arrow") for part, paths in parts.items()}


def _copied(paths: Sequence[Path], cache: Path) -> Any:
    """Parquet files as one data set, by their copy."""
    copy = arrow_copy(paths, cache)
    with _explained(copy, "take it away, so that it is made anew"):
        return import_datasets().Dataset.from_file(str(copy))


def parquet_parts(place: Path) -> dict[str, list[Path]]:
    """The Parquet files of each part: told by the beginning of their names, as the hub has them
    (`train-00000-of-00002.parquet`), or by their folder; all are `train` where neither says anything.

    Raises:
        UserError: there is none, files of several data sets, or files of which some belong to a part and some to none.
    """
    if not place.is_dir():
        return {"train": [place]}
    # Paths below what is hidden, such as a cache, are none of the data.
    inside = (path.relative_to(place) for path in place.rglob("*.parquet"))
    found = sorted(path for path in inside if not any(name.startswith(".") for name in path.parts))
    require(
        bool(found),
        f"{place} holds no data set: neither what save_to_disk writes ({SAVED} or {SAVED_PARTS}) nor files that end in "
        ".parquet",
    )
    parts: dict[str, list[Path]] = defaultdict(list)
    folders: dict[Path, Path] = {}
    for path in found:
        by_name, by_folder = _named(path), PARTS.get(path.parent.name.lower())
        parts[by_name or by_folder or ""].append(place / path)
        folders[path.parent.parent if by_folder and not by_name else path.parent] = path
    require(
        len(folders) == 1,
        f"{place} holds Parquet files of several data sets, in the folders {', '.join(sorted(map(str, folders)))}: set "
        "source.files.subset, or source.path, to one",
    )
    loose = parts.pop("", [])
    require(
        not (loose and parts),
        f"{place} holds files of the parts {', '.join(sorted(parts))} and {loose[0].name if loose else ''}, which "
        "belongs to none: rename it, or set source.path to the files to read",
    )
    return dict(parts) or {"train": loose}


def _named(path: Path) -> str | None:
    """The part that a file's name tells."""
    numbered = NUMBERED.fullmatch(path.stem)
    if numbered is not None:
        return PARTS.get(numbered[1].lower(), numbered[1])
    return PARTS.get(re.split(r"[-_.]", path.stem)[0].lower())


def _downloaded(name: str, revision: str | None, files: HubFiles) -> Path:
    """The folder with the Parquet files of a data set of the hub.

    Raises:
        UserError: it is not there and may not be, or cannot be, downloaded.
    """
    cache = files.folder / "hub"
    # What was downloaded in part lies where the whole would, so that a file says when all of it is there.
    whole = cache / f"{name}@{revision or 'newest'}".replace("/", "--")
    if not whole.is_file():

        def get() -> None:
            folder = _snapshot(name, revision, cache)
            require(
                any(folder.rglob("*.parquet")),
                f"{name} has no Parquet files on the hub: of sets in other formats the hub's own copy is "
                f"{name}@refs/convert/parquet",
            )
            write_atomically(whole, f"{folder.relative_to(cache.absolute()).as_posix()}\n")

        fetch(f"the data set {name}", cache, [cache], files.download, get, "source.files.download")
    return cache / whole.read_text().strip()


def _snapshot(name: str, revision: str | None, cache: Path) -> Path:
    # A dependency of the library itself.
    from huggingface_hub import snapshot_download

    try:
        # The address is read here, because huggingface_hub reads it as it is imported.
        folder = snapshot_download(
            name,
            repo_type="dataset",
            revision=revision,
            allow_patterns="*.parquet",
            endpoint=os.environ.get("HF_ENDPOINT"),
            cache_dir=str(cache.absolute()),
        )
    except ValueError as error:  # a name that the hub does not allow
        raise RuntimeError(str(error)) from error
    return Path(folder)


@contextmanager
def _explained(place: Path, way_out: str) -> Iterator[None]:
    """Say in one sentence why the library cannot read something.

    Raises:
        UserError: what it says.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # a broken file leads Arrow and the library into errors of many kinds
        cause = error.__cause__ or error
        raise UserError(f"{place} cannot be read as a data set ({first_line(cause)}): {way_out}") from error


def open_parts(path: str, files: HubFiles) -> tuple[dict[str, Any], list[str]]:
    """The parts that narrows knows, by its names for them, and the names of those that are left aside.

    Raises:
        UserError: what `find_parts` refuses, or no part to train on.
    """
    found = find_parts(path, files)
    alone = len(found) == 1 and files.split == "train"
    train = next(iter(found)) if alone else files.split
    require(
        train in found,
        f"{path} has no part '{files.split}': {nearest(files.split, found)}; set source.files.split to the one to "
        "train on",
    )
    chosen = {"train": train}
    for name in found:
        part = PARTS.get(name.lower())
        if name != train and part in ("validation", "test"):
            chosen.setdefault(part, name)
    aside = [name for name in found if name not in chosen.values()]
    return {part: found[name]() for part, name in chosen.items()}, aside
