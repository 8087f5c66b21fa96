"""Configs composed without running anything: what a command line's choices come to, and a group's choice by itself."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from narrows.config.composition import config_dir
from narrows.config.hydra_versions import VERSION_BASE
from narrows.config.plain_yaml import flatten


@dataclass(frozen=True)
class Composition:
    """A composed config with unresolved references and without Hydra's own node, and the choices made."""

    values: dict[str, Any]
    choices: dict[str, Any]

    def of(self, group: str) -> dict[str, Any]:
        """The values of one group by dotted key."""
        node = self.values.get(group)
        return flatten(node, f"{group}.") if isinstance(node, Mapping) else {}


def plain_choice(group: str, choice: str) -> dict[str, Any]:
    """The values of a choice, nested, with what it shares with others of its group; references are unresolved."""
    return dict(alone(group, choice).values[group])


def alone(group: str, choice: str, outer: Iterable[str] = (), added: Iterable[str] = ()) -> Composition:
    # Which its yamls override.
    brought = {"likelihood": "bernoulli", "input": "identity", "encoder": "mlp", "decoder": "mlp"}
    needed = [f"+{other}={own}" for other, own in brought.items()] if group == "datamodule" else []
    return composed(None, (*outer, *needed, f"+{group}={choice}", *added))


def yaml_defaults(path: Path) -> list[Any]:
    """The defaults list of a config file."""
    values: Any = OmegaConf.to_container(OmegaConf.load(path), resolve=False) if path.is_file() else {}
    return list(values.get("defaults", [])) if isinstance(values, dict) else []


def bases_of(group: str, choice: str) -> list[str]:
    """The choices on which the yaml of a choice builds, without what all of a group have in common."""
    entries = yaml_defaults(config_dir() / group / f"{choice}.yaml")
    return [entry for entry in entries if isinstance(entry, str) and entry[0] not in "/_"]


@functools.lru_cache(maxsize=256)
def composed(name: str | None, overrides: tuple[str, ...]) -> Composition:
    """The config that Hydra composes; the global Hydra of the calling application is restored.

    Raises:
        HydraException, OmegaConfBaseException: it does not compose.
    """
    holder = GlobalHydra.instance()
    before, holder.hydra = holder.hydra, None
    try:
        with initialize_config_dir(str(config_dir()), **VERSION_BASE):
            config = compose(name, list(overrides), return_hydra_config=True)
        choices: Any = OmegaConf.to_container(config.hydra.runtime.choices)
        values: Any = OmegaConf.to_container(config, resolve=False)
    finally:
        holder.hydra = before
    del values["hydra"]
    return Composition(values, choices)
