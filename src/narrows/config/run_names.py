"""Names of run directories, made of what was asked for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from narrows.config.origin import split_origin

LIMIT = 100
"""Most characters of a name; file systems allow 255 bytes, of which time, number and temporary files need some."""
LONGEST = 28
"""Most characters of the last part of a path in a name."""
SILENT = re.compile(
    r"(hydra|sweep|logger|output_dir|data_dir|name|tags|notes|variant|experiment)([./].*)?"
    r"|trainer\.enable_.*|callbacks\.progress.*|datamodule\.source\.download"
)
"""Keys that no name repeats: the folder above is named by variant or experiment, and the others change no figure."""


def asked_name(overrides: Iterable[str]) -> str:
    """What the overrides ask for in one word, such as `likelihood=laplace,batch_size=32`; empty where they ask for
    nothing that a name says."""
    origin, asked = split_origin(list(overrides))
    overrides = asked if origin is None else [f"from={origin.name}", *asked]
    pairs = [override.lstrip("+~").partition("=")[::2] for override in overrides]
    pairs = [(key, value) for key, value in pairs if not SILENT.fullmatch(key)]
    short = shortest([key for key, _ in pairs])
    parts = [f"{short[key]}={told(value)}" for key, value in pairs]
    return ",".join(parts)[:LIMIT].rstrip("_=-.,")


def told(value: str) -> str:
    """A value as names say it: of a path, quoted or not, the last part, which tells most, its middle left out where it
    is long, as the name of a run is that weights come from."""
    path = value.strip("'\"").rstrip("/")
    if "/" not in path:
        return plain(value, also="_")
    last = plain(path.rpartition("/")[2], also="_")
    return last if len(last) <= LONGEST else f"{last[: LONGEST - 10]}..{last[-8:]}"


def shortest(keys: Sequence[str]) -> Mapping[str, str]:
    """For each key, its shortest ending that no other key shares."""
    short = {}
    for key in keys:
        words = re.split(r"[./@]", key)
        endings = [".".join(words[-n:]) for n in range(1, len(words) + 1)]
        alone = [e for e in endings if sum(re.sub(r"[/@]", ".", f".{k}").endswith(f".{e}") for k in keys) == 1]
        short[key] = (alone or endings[-1:])[0]
    return short


def plain(value: str, also: str = "") -> str:
    """A value in letters that every file system and shell takes; `also` are further letters to keep."""
    if re.fullmatch(r"[-+]?\d*\.\d+(e[-+]?\d+)?", value):
        value = f"{float(value):.4g}"
    return re.sub(rf"[^A-Za-z0-9.+{also}-]+", "-", value).strip("-") or "empty"
