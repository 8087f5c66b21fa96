"""Writing a run into one file, `NAME.narrows`, for others: no pickles, no event files, nothing of this machine.

Unzipped it is a run directory that every command reads; `narrows.loading.unpacked_run` opens the file itself.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from narrows.loading import fitted_density
from narrows.loading.model_card import model_card
from narrows.loading.open_run import OpenRun
from narrows.loading.unpacked_run import ENTRIES
from narrows.runs import checkpoint_files, weight_files
from narrows.runs.file_names import CHECKPOINTS, CODING, CONFIG, FIGURES, MANIFEST, REPRODUCTION
from narrows.runs.run_directory import read_metrics

CARD = "README.md"
PRIVATE = ("attempts", "environment", "directory", "git", "hardware")
"""What a manifest says of this machine and its user."""
STORED = (weight_files.SUFFIX, ".png")
"""What compression does not make smaller."""


def pack(run: OpenRun, name: str, file: BinaryIO, pictures: bool = True) -> None:
    """Write the run into `file`.

    The same run gives the same bytes.

    Args:
        run: a trained one; its model is built, so that what is written can be loaded.
        name: of the file, without its ending.
        pictures: whether `figures/` come along.

    Raises:
        UserError: no model can be loaded.
    """
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for entry, content in _entries(run, name, pictures):
            assert ENTRIES.fullmatch(entry)
            # A fixed time, so that the same run gives the same bytes.
            told = zipfile.ZipInfo(entry, (1980, 1, 1, 0, 0, 0))
            told.compress_type = zipfile.ZIP_STORED if entry.endswith(STORED) else zipfile.ZIP_DEFLATED
            archive.writestr(told, content)


def _entries(run: OpenRun, name: str, pictures: bool) -> Iterator[tuple[str, bytes]]:
    figures = read_metrics(run.path)
    notes = run.config.get("notes")
    yield CARD, model_card(name, run.manifest, figures, run.model.spec, None if notes is None else str(notes)).encode()
    yield CONFIG, (run.path / CONFIG).read_bytes()
    manifest = {key: value for key, value in run.manifest.items() if key not in PRIVATE}
    yield MANIFEST, (json.dumps(manifest, indent=2, sort_keys=True) + "\n").encode()
    for path in sorted(run.path.glob("*.json")):
        if path.name not in (MANIFEST, REPRODUCTION) and ENTRIES.fullmatch(path.name):
            yield path.name, path.read_bytes()
    yield _weights(run.weights, {"state_dict"})
    density = fitted_density.fitted_path(run.path)
    if density.is_file():
        yield _weights(density, {"state_dict", "config", "fitted_to"}, "density")
    folders = {CODING: "*.json", **({FIGURES: "*.png"} if pictures else {})}
    for folder, pattern in folders.items():
        for path in sorted((run.path / folder).glob(pattern)):
            if ENTRIES.fullmatch(f"{folder}/{path.name}"):
                yield f"{folder}/{path.name}", path.read_bytes()


def _weights(path: Path, kept: set[str], name: str | None = None) -> tuple[str, bytes]:
    state: dict[str, Any] = {key: value for key, value in checkpoint_files.read(path).items() if key in kept}
    content = weight_files.save(state, checkpoint_files.checksum(path))
    return f"{CHECKPOINTS}/{name or path.stem}{weight_files.SUFFIX}", content
