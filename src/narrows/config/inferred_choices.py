"""The choices behind a composed config of which no record says them, as when somebody's `config.yaml` comes by mail.

A choice is recognised by the components that it names, and among several by the fewest values that differ. A variant is
the one whose choices and values are all there. What two choices have in common cannot be told apart, and who overrode
what cannot be known: a likelihood that the data bring anyway counts as brought by them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from narrows.config.compose_in_process import bases_of, plain_choice, yaml_defaults
from narrows.config.composition import COLLECTIONS, OPTIONAL, PARTS, choice_files
from narrows.config.plain_yaml import flatten

COMPONENTS = (*(key for key in PARTS if key != "module"), *OPTIONAL)
NAMED = tuple(key for key in COLLECTIONS if key != "tasks")


def inferred_choices(config: Mapping[str, Any]) -> dict[str, str | None]:
    """The choice of each group that a composed config shows, and the variant; a group that none fits is left out."""
    found: dict[str, str | None] = {}
    for group in (*COMPONENTS, *NAMED):
        node = config.get(group)
        if isinstance(node, Mapping):
            fitting = [name for name in choice_files(group) if _signature(group, name) == _shown(group, node)]
            if fitting:
                found[group] = min(fitting, key=lambda name: _distance(group, name, node))
        elif group in OPTIONAL:
            found[group] = None
    found["experiment"] = None
    found["variant"] = _variant(config, found)
    return found


def _shown(group: str, node: Mapping[str, Any]) -> Any:
    """What tells choices of a group apart: their component, of data its source, or the names of several."""
    if group == "datamodule":
        source = node.get("source")
        return source.get("_target_") if isinstance(source, Mapping) else None
    return set(node) if group in NAMED else node.get("_target_")


def _signature(group: str, name: str) -> Any:
    own, bases = _yaml(group, name), bases_of(group, name)
    if group in NAMED:
        terms = {str(key).rpartition("@")[2] for entry in _entries(group, name) for key in entry}
        return {*own, *terms}.union(*(_signature(group, base) for base in bases))
    shown = _shown(group, own.get(group, {}) if group == "datamodule" else own)
    return shown or next((_signature(group, base) for base in bases), None)


def _yaml(group: str, name: str) -> dict[str, Any]:
    values: Any = OmegaConf.to_container(OmegaConf.load(choice_files(group)[name]), resolve=False)
    return {key: value for key, value in values.items() if key != "defaults"} if isinstance(values, dict) else {}


def _entries(group: str, name: str) -> Iterator[Mapping[str, Any]]:
    yield from (entry for entry in yaml_defaults(choice_files(group)[name]) if isinstance(entry, Mapping))


def _distance(group: str, name: str, node: Mapping[str, Any]) -> int:
    plain, given = flatten(plain_choice(group, name)), flatten(node)
    return len(plain.keys() ^ given.keys()) + sum(
        1 for key in plain.keys() & given.keys() if not _refers(plain[key]) and plain[key] != given[key]
    )


def _refers(value: Any) -> bool:
    return "${" in str(value) or value == "???"


def _variant(config: Mapping[str, Any], chosen: Mapping[str, str | None]) -> str | None:
    """The variant that says most of what the config shows, and nothing that it does not show."""
    given = flatten(config)
    data = choice_files("datamodule").get(str(chosen.get("datamodule")))
    brought = {} if data is None else own_choices(data)
    best: tuple[tuple[int, ...], str] | None = None
    for name in choice_files("variant"):
        choices, values = _recipe(name)
        if any(chosen.get(group) != choice for group, choice in choices.items()):
            continue
        wrong = sum(1 for key, value in values.items() if not _refers(value) and given.get(key) != value)
        telling = sum(1 for group, choice in choices.items() if brought.get(group) != choice)
        rank = (-wrong, telling + len(values), -len(choices))
        if best is None or rank > best[0]:
            best = (rank, name)
    return None if best is None else best[1]


def _recipe(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The choices and the values of a variant's yaml, with those of the variants that it builds on."""
    choices: dict[str, Any] = {}
    values: dict[str, Any] = {}
    for base in bases_of("variant", name):
        before = _recipe(base)
        choices, values = choices | before[0], values | before[1]
    return choices | own_choices(choice_files("variant")[name]), values | flatten(_yaml("variant", name))


def own_choices(path: Path) -> dict[str, Any]:
    """The groups that a recipe's yaml itself overrides, and their choices."""
    entries = [entry for entry in yaml_defaults(path) if isinstance(entry, Mapping)]
    pairs = [(str(key), value) for entry in entries for key, value in entry.items()]
    return {key.split("/")[-1]: value for key, value in pairs if key.startswith("override ") and "@" not in key}
