"""What `from=` names: a run, the composed config of one, or a yaml of one's own, as choices and values."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from narrows.config.compose_in_process import composed
from narrows.config.composition import config_dir, is_chosen
from narrows.config.inferred_choices import inferred_choices
from narrows.config.plain_yaml import LARGEST, flatten, nodes, parse_yaml, read_text
from narrows.errors import UserError, require
from narrows.loading.permitted_classes import read_config, shown
from narrows.runs.file_names import CONFIG, MANIFEST, SWEEP
from narrows.runs.plain_entries import require_plain_entries
from narrows.runs.run_directory import read_manifest

WHOLE = ("model", "encoder", "bottleneck", "decoder", "likelihood", "datamodule", "loss", "trainer")
"""Keys that a composed config has and a yaml of one's own hardly has all of."""
NOT_TAKEN = ("output_dir", "name", "tags", "notes")
"""Keys of a record that are the recorded run's own."""
FORBIDDEN = ("hydra", "sweep", "from")
"""Keys that say how this command runs, which no file decides."""
REFERENCE = re.compile(r"\$\{[A-Za-z_][\w.]*\}")
CHOICE = re.compile(r"\w[\w-]*(/\w[\w-]*)*")


@dataclass(frozen=True)
class ConfigSource:
    """What `from=` names."""

    path: Path
    """The file, absolute."""
    sha256: str
    choices: dict[str, str]
    """The overrides that make its choices, by group (`task@tasks.anomaly`)."""
    values: dict[str, Any]
    """Values by dotted key: all of a record, or those that a yaml of one's own sets."""
    recorded: bool
    """Whether it is a composed config, beside which nothing else holds."""
    manifest: dict[str, Any] = field(default_factory=dict)
    """The record's, if it lies beside the config."""


def read_source(place: str, search: Sequence[str] = ()) -> ConfigSource:
    """Read a run directory, another directory with a config.yaml, or a yaml file.

    Args:
        search: Hydra's override that names further config folders, if there are any.

    Raises:
        UserError: there is none, or it is no config.
    """
    path = _file(place)
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        values = parse_yaml(read_text(path, LARGEST))
    except OSError as error:
        raise UserError(f"cannot read the config {path}: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"{path} {' '.join(str(error).split())}") from error
    require(isinstance(values, dict) and bool(values), f"{path} is no config: it holds no keys")
    if "defaults" in values or not values.keys() >= set(WHOLE):
        return ConfigSource(path, digest, _listed(path, values), _own_values(path, values), recorded=False)
    config: Any = OmegaConf.to_container(read_config(path))
    manifest = read_manifest(path.parent) if path.name == CONFIG and (path.parent / MANIFEST).exists() else {}
    flat = {key: value for key, value in flatten(config).items() if key.split(".")[0] not in NOT_TAKEN}
    for key in FORBIDDEN:
        require(key not in config, f"{path} has '{key}', which no recorded config has")
    return ConfigSource(path, digest, _recorded_choices(config, manifest, tuple(search)), flat, True, manifest)


def _file(place: str) -> Path:
    path = Path(place).expanduser()
    require(path.exists(), f"from={shown(place)}: there is no such run, directory or file")
    if path.is_dir():
        require(not (path / SWEEP).exists(), f"from={shown(place)} is a sweep: name one of the runs in it")
        require((path / CONFIG).exists(), f"from={shown(place)}: the directory has no {CONFIG}")
        require_plain_entries(path)
        path /= CONFIG
    return path.resolve()


def _recorded_choices(
    config: Mapping[str, Any], manifest: Mapping[str, Any], search: tuple[str, ...]
) -> dict[str, str]:
    """The overrides that compose a config of the same choices, without those that others bring along."""
    known = _known(manifest, search) or inferred_choices(config)
    asked = manifest.get("overrides")
    told = {text for text in asked if isinstance(text, str)} if isinstance(asked, list) else set()
    found: dict[str, str] = {}
    stages: dict[int, list[str]] = {}  # a choice may bring others, whose place lies within its own
    for key in known:
        stages.setdefault(key.partition("@")[2].count(".") + 1 if "@" in key else 0, []).append(key)
    for stage in (("experiment",), ("variant",), ("datamodule",), *(stages[depth] for depth in sorted(stages))):
        brought = composed("train", (*search, *found.values())).choices
        for group in stage:
            choice = known.get(group)
            if group in found or (group not in known and is_chosen(brought.get(group))):
                continue
            if not is_chosen(choice):
                if is_chosen(brought.get(group)):
                    found[group] = f"~{group}"
            elif choice != brought.get(group) or f"{group}={choice}" in told:
                found[group] = f"{'' if group in brought else '+'}{group}={choice}"
    return found


def _known(manifest: Mapping[str, Any], search: Iterable[str]) -> dict[str, str | None]:
    """The recorded choices that are still there to be made: a record may be a stranger's, or of another version."""
    recorded = manifest.get("choices")
    known: dict[str, str | None] = {}
    for key, choice in recorded.items() if isinstance(recorded, Mapping) else ():
        group = str(key).partition("@")[0]
        if group.split("/")[0] in FORBIDDEN:
            continue
        if not is_chosen(choice):
            known[str(key)] = None
        elif CHOICE.fullmatch(str(choice)) and any(
            (root / group / f"{choice}.yaml").is_file() for root in _roots(search)
        ):
            known[str(key)] = str(choice)
    return known


def _roots(search: Iterable[str]) -> list[Path]:
    return [config_dir(), *(Path(place) for text in search for place in re.findall(r"'file://(.*?)'", text))]


# ── a yaml of one's own ─────────────────────────────────────────────────────────────────────────────────


def _own_values(path: Path, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values that a yaml sets, which may refer to other keys but not, through a resolver, to the environment.

    Raises:
        UserError: names what it may not hold.
    """
    for key in FORBIDDEN:
        require(key not in values, f"{path} sets '{key}', which only the command line may")
    first = re.match(r"\s*#\s*@package\s+(\S+)", path.read_text(encoding="utf-8"))
    package = first[1] if first else "_global_"
    require(package == "_global_", f"{path}: '# @package {shown(package)}' must be _global_, as of an experiment")
    for key, _, value in nodes({name: value for name, value in values.items() if name != "defaults"}):
        if isinstance(value, str) and "${" in value:
            require(
                "${" not in REFERENCE.sub("", value),
                f"{path}: {shown(key)} is {shown(value)}: only references to other keys, such as ${{seed}}, are read",
            )
    return flatten({key: value for key, value in values.items() if key != "defaults"})


def _listed(path: Path, values: Mapping[str, Any]) -> dict[str, str]:
    """The overrides for the entries of a defaults list.

    Raises:
        UserError: an entry that is no choice of a group.
    """
    entries = values.get("defaults") or []
    require(isinstance(entries, list), f"{path}: defaults must be a list of choices, such as '- loss: iwae'")
    found: dict[str, str] = {}
    for entry in entries:
        if entry == "_self_":
            continue
        require(
            isinstance(entry, dict) and len(entry) == 1,
            f"{path}: '{shown(str(entry))}' in defaults is no choice of a group, such as '- loss: iwae'",
        )
        ((written, choice),) = entry.items()
        key = re.sub(r"^(override |optional )*/?", "", str(written))
        group = key.partition("@")[0]
        inside = (config_dir() / group).is_dir() and re.fullmatch(r"[a-z_]+(@[A-Za-z_][\w.]*)?", key)
        require(
            bool(inside) and group not in FORBIDDEN,
            f"{path}: defaults name '{shown(key)}', which is no config group that a file may choose from",
        )
        names = choice if isinstance(choice, list) else [choice]
        require(
            choice is None or all(isinstance(name, str) and CHOICE.fullmatch(name) for name in names),
            f"{path}: defaults: '{shown(str(choice))}' is no choice of {key}",
        )
        if is_chosen(choice):
            plus = "+" if "@" in key and not str(written).startswith("override ") else ""
            found[key] = f"{plus}{key}={'[' + ','.join(names) + ']' if isinstance(choice, list) else choice}"
        elif key != "experiment":
            found[key] = f"~{key}"
    return found
