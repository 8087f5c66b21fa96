"""Adapting a recorded config to another machine or directory: only what must change is changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from narrows.config.quoting import quoted
from narrows.errors import require
from narrows.loading.permitted_classes import without_foreign_loggers
from narrows.loading.run_places import find_run, is_shipped
from narrows.loading.unpacked_run import Unpacked
from narrows.runs import checkpoint_files
from narrows.runs.file_names import CHECKPOINTS


def adapt(
    config: DictConfig, directory: str, given: Sequence[str], root: str, keep_loggers: bool, needed: bool = True
) -> tuple[dict[str, str], list[str]]:
    """The values that must change here, by key in Hydra's grammar, and the names of loggers left out.

    Data are looked for at the recorded paths, relative to the current directory and to `directory`, where the run was
    started. They are downloaded only if `data_dir` is given, because the user has not chosen the recorded one.

    Args:
        given: the user's own `KEY=VALUE`, which take precedence.
        root: the folder of run directories.
        needed: whether data that are not on this machine are refused; else their paths stay.

    Raises:
        UserError: the data are not on this machine.
    """
    mine = {key: value for key, _, value in map(split, given)}
    adapted = {"output_dir": quoted(root)} if "output_dir" in config else {}
    # Tasks may read data of their own, such as outliers.
    rooms = ("datamodule", "tasks")
    for place, name, value in (leaf for room in rooms for leaf in _leaves(config.get(room), room)):
        if name == "data_dir" and "data_dir" in mine and value == config.get("data_dir"):
            adapted[place] = mine["data_dir"]
        elif name == "download" and value is True and "data_dir" not in mine:
            adapted[place] = "false"
        elif is_place(place):
            adapted |= _found(place, value, Path(directory), not needed or place in mine or name == "data_dir")
    kept, dropped = (config, []) if keep_loggers else without_foreign_loggers(config)
    if dropped:
        adapted["logger"] = quoted(OmegaConf.to_container(kept.logger))
    return {key: value for key, value in adapted.items() if key not in mine}, dropped


def find_weights(config: DictConfig, directory: str, given: Sequence[str]) -> dict[str, str]:
    """Where the run is found from here whose weights a repetition starts from, by key; empty if it has not changed.

    Raises:
        UserError: it is not on this machine.
    """
    place = config.get("init_from")
    mine = any(key == "init_from" for key, _, _ in map(split, given))
    return (
        {}
        if mine or (isinstance(place, str) and is_shipped(place))
        else _found("init_from", place, Path(directory), optional=False)
    )


def require_weights(config: DictConfig, manifest: Mapping[str, Any]) -> None:
    """Refuse to repeat a run that began with another run's weights, if that one has others now.

    Raises:
        UserError: names the checkpoint.
    """
    place, recorded = config.get("init_from"), manifest.get("init_from")
    if place is None or not isinstance(recorded, dict):
        return
    run = find_run(place)
    unpacked = Unpacked(run) if run.is_file() else None
    path = (run if unpacked is None else unpacked.path) / CHECKPOINTS / Path(str(recorded.get("checkpoint"))).name
    require(path.is_file(), f"init_from={place}: there is no {path}, which this run began with")
    require(
        checkpoint_files.checksum(path) == recorded.get("sha256"),
        f"{path.name} of {place} has changed since this run began with it, so that the run cannot be repeated: name "
        "another copy with init_from=RUN, or start a new run from its config with narrows train from=",
    )


def is_place(key: str) -> bool:
    """Whether an option, by its dotted key, says where data, or a run whose latents are data, lie."""
    name = key.rpartition(".")[2]
    return key.endswith("source.run") or name in ("path", "data_dir") or name.endswith("_path")


def made_absolute(override: str) -> str:
    """An override of where data lie with its path made absolute, so that it is true wherever the run is read."""
    key, _, _ = override.partition("=")
    if not is_place(key):
        return override
    try:
        (parsed,) = OverridesParser.create().parse_overrides([override])
        value = parsed.value()
    except HydraException:
        return override  # which is refused where overrides are applied
    return f"{key}={quoted(str(Path(value).expanduser().resolve()))}" if isinstance(value, str) and value else override


def require_no_download(config: DictConfig, given: Sequence[str] = ()) -> None:
    """Refuse networks whose pretrained weights would be downloaded, unless the user names them.

    Raises:
        UserError: says how to name them.
    """
    named = {key for key, _, _ in map(split, given)}
    for place, key, weights in _leaves(config, ""):
        place, node = place.lstrip("."), OmegaConf.select(config, place.lstrip(".").rpartition(".")[0])
        if key != "weights" or place in named or "_target_" not in (node or {}):
            continue
        downloads = getattr(get_object(node._target_), "downloads", None)
        said = f"{place}={'null' if weights is None else weights}"
        require(
            downloads is None or not downloads(node.get("name"), weights),
            f"{said} would be downloaded, which a recorded config may not ask for: say so with {said}, or name a file "
            "of them",
        )


def split(override: str) -> tuple[str, str, str]:
    """Key, equals sign and value."""
    key, equals, value = override.partition("=")
    return key.lstrip("+"), equals, value


def _found(place: str, value: Any, directory: Path, optional: bool) -> dict[str, str]:
    """The path at which data are found from here, by key; empty if it has not changed."""
    if not isinstance(value, str) or Path(value).expanduser().exists():
        return {}
    if (directory / value).exists():
        return {place: quoted(str((directory / value).resolve()))}
    require(optional, f"the run read {place}={value}, which is not on this machine: say where it is with {place}=...")
    return {}


def _leaves(node: Any, place: str) -> Iterator[tuple[str, str, Any]]:
    for key, value in node.items() if isinstance(node, DictConfig) else ():
        if isinstance(value, DictConfig):
            yield from _leaves(value, f"{place}.{key!s}")
        else:
            yield f"{place}.{key!s}", str(key), value
