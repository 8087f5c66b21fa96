"""Where a run lies that a user names: a directory, a packed file, a model that ships with narrows, or one of the
Hugging Face hub."""

from __future__ import annotations

import logging
from pathlib import Path

import narrows
from narrows.errors import require
from narrows.loading import hub
from narrows.runs.file_names import CONFIG

SHIPPED = Path(narrows.__file__).parent / "pretrained"
"""Packed runs that are installed with narrows: `scripts/make_pretrained.py` makes them."""
log = logging.getLogger(__name__)


def shipped() -> dict[str, Path]:
    """The models that ship with narrows, by name."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.narrows"))}


def find_run(place: str | Path) -> Path:
    """The path of a run; one of the hub is downloaded. A file or directory of that name comes first.

    Raises:
        UserError: a run of the hub that cannot be had.
    """
    path, own = Path(place), shipped()
    if path.exists():
        if str(place) in own:
            log.info("%s is the one in this directory, not the model of that name that ships with narrows", place)
        return path
    reference = hub.reference(str(place))
    if reference is not None:
        return hub.fetched(reference)
    return own.get(str(place), path)


def require_run(place: str) -> None:
    """Refuse a place that holds no run; a file may be a packed one. Whether the hub has a run is not asked.

    Raises:
        UserError: names it.
    """
    path = Path(place)
    if path.is_file() or is_shipped(place) or hub.reference(place) is not None:
        return
    require(path.is_dir(), f"there is no run directory {place}")
    require((path / CONFIG).is_file(), f"{place} is not a run directory: it has no {CONFIG}")


def is_shipped(place: str) -> bool:
    """Whether a place is a model that ships with narrows: a file or directory of that name comes first."""
    return place in shipped() and not Path(place).exists()


def known_names() -> str:
    """The end of a sentence about a run that is not there."""
    return f"models that ship with narrows are {', '.join(shipped())}"
