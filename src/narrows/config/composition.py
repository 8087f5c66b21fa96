"""Finding and checking configs: bad keys and values are refused before anything is built."""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import logging
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from hydra.utils import get_object
from omegaconf import DictConfig, ListConfig, OmegaConf

from narrows.config.auto_values import decided
from narrows.config.hydra_versions import register_resolver
from narrows.config.option_types import LARGEST, check_types
from narrows.config.other_words import REPLACED, hint
from narrows.config.plain_yaml import flatten
from narrows.config.run_names import asked_name, plain
from narrows.errors import UserError, first_line, nearest, require
from narrows.launching import agreed

PACKAGE = Path(__file__).resolve().parents[1]
HYDRA_KEYS = {"_target_", "_partial_", "_recursive_", "_convert_", "_args_"}
PARTS = (
    *("model", "corruption", "input", "encoder", "bottleneck", "decoder", "likelihood"),
    *("datamodule", "module", "optimizer", "scheduler", "trainer"),
)
"""The keys that hold one component each."""
OPTIONAL = ("density",)
"""Those that may be absent, as in configs recorded before they existed."""
COLLECTIONS = ("loss", "callbacks", "logger", "tasks")
"""The keys that hold components by name."""
SETTINGS = ("seed", "data_dir", "output_dir", "checkpoint")
NOTES = ("name", "tags", "notes")
"""Words of the user about a run, which change nothing; configs recorded before they existed lack them."""
WEIGHTS = ("init_from", "init_parts", "freeze")
"""Where the first weights come from, and which parts keep theirs; may be absent, as in configs recorded before."""


def config_dir() -> Path:
    """`narrows/configs` in an installed wheel, the top-level `configs/` in a checkout.

    Raises:
        UserError: neither is there (a broken installation).
    """
    for folder in (PACKAGE / "configs", PACKAGE.parents[1] / "configs"):
        if (folder / "train.yaml").is_file():
            return folder
    raise UserError(f"the configs of narrows are missing beside {PACKAGE}; reinstall the package")


def is_chosen(choice: Any) -> bool:
    """Whether a config group has a choice; its absence may be written as null or None."""
    return choice not in (None, "None", "null")


def title(choices: Mapping[str, Any]) -> str:
    """The name of a run: its experiment if it has one, else its variant."""
    names = (choices.get(group) for group in ("experiment", "variant"))
    return next((str(name) for name in names if is_chosen(name)), "run")


@functools.cache
def run_dir(
    root: str,
    experiment: str | None,
    variant: str | None,
    overrides: tuple[str, ...] = (),
    name: str | None = None,
) -> str:
    """`<root>/<experiment or variant>/<name, or what was asked>_<time>_<short id>`, the same however often one process
    asks, and in all that were started side by side to train one model."""
    stamp = agreed(lambda: f"{datetime.now().strftime('%Y-%m-%d_%H-%M-%S')}_{uuid.uuid4().hex[:8]}")
    words = plain(str(name), also="_") if name is not None else asked_name(overrides)
    folder = Path(root) / title({"experiment": experiment, "variant": variant})
    return str(folder / (f"{words}_{stamp}" if words else stamp))


def register_resolvers() -> None:
    def resolve(
        root: str, experiment: str | None, variant: str | None, overrides: Sequence[str] = (), name: str | None = None
    ) -> str:
        return run_dir(root, experiment, variant, tuple(overrides or ()), name)

    register_resolver("narrows.run_dir", resolve)


def targets(node: Any, path: str = "") -> Iterator[tuple[str, DictConfig]]:
    """Every node with a `_target_`, with its dotted path in the config, outermost first."""
    if isinstance(node, DictConfig):
        if "_target_" in node:
            yield path, node
        for key in node:
            if not OmegaConf.is_missing(node, key):
                yield from targets(node._get_node(key), f"{path}.{key!s}" if path else str(key))
    elif isinstance(node, ListConfig):
        for i in range(len(node)):
            yield from targets(node._get_node(i), f"{path}[{i}]")


def checked(config: DictConfig) -> DictConfig:
    """The config with every reference resolved and without the keys of sweeps and of `from=`, after all checks; what it
    leaves to the data is still `auto`.

    Raises:
        UserError: a key or an option that does not exist, or a value of the wrong type.
    """
    resolved = laid_out(config)
    check_keys(resolved)
    return resolved


def laid_out(config: DictConfig) -> DictConfig:
    """As `checked`, after the checks that need no class, and so none of the seconds that importing torch takes.

    Raises:
        UserError: a key that nothing reads, a component that is missing, or a setting out of range.
    """
    values = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    assert isinstance(values, dict)
    for key in ("sweep", "from"):
        values.pop(key, None)
    resolved = OmegaConf.create(values)
    OmegaConf.set_struct(resolved, True)
    check_layout(decided(resolved), config)
    return resolved


def check_layout(config: DictConfig, asked: DictConfig | None = None) -> None:
    """Refuse keys that nothing reads, and missing components.

    Args:
        config: with every reference resolved.
        asked: the config before its references were resolved; a key that it refers to is accepted. A recorded config
            no longer says which keys those were, so None accepts all.

    Raises:
        UserError: names the key and the nearest valid one.
    """
    needed = (*PARTS, *COLLECTIONS, *SETTINGS)
    known = (*needed, *OPTIONAL, *NOTES, *WEIGHTS)
    for key in [str(key) for key in config if key not in known] if asked is not None else ():
        if f"${{{key}" not in OmegaConf.to_yaml(asked):
            raise UserError(f"there is no config key '{key}': {hint(key, known)}")
    for key in needed:
        require(key in config, f"the config has no '{key}', which every run needs")
    for key in (*PARTS, *(key for key in OPTIONAL if config.get(key) is not None)):
        _require_component(config[key], key)
    for key in config.trainer:
        require(key not in REPLACED, f"trainer.{key!s} is given by narrows itself: {REPLACED.get(str(key))}")
    for key in COLLECTIONS:
        group = config[key]
        require(isinstance(group, DictConfig), f"{key} must hold components by name, not {group}")
        for name in map(str, group):
            _require_component(group[name], f"{key}.{name}", [str(other) for other in group if other != name])
            # Loggers wait for the directory that they write to.
            whole = key == "logger" or group[name].get("_partial_") is not True
            require(whole, f"{key}.{name}._partial_ must be false: there is nothing that it waits for")
    require(
        "checkpoint" in config.callbacks,
        "callbacks has no 'checkpoint', from which a run is tested and loaded; callbacks=none keeps nothing else",
    )
    _check_settings(config)
    _check_notes(config)
    _check_weights(config)


def _check_settings(config: DictConfig) -> None:
    seed, chosen, choices = config.seed, str(config.checkpoint), ("best", "last")
    whole = isinstance(seed, int) and not isinstance(seed, bool) and abs(seed) < LARGEST
    require(whole, f"seed must be a whole number below 2^63, not {seed!r}")
    for key in ("data_dir", "output_dir"):
        require(isinstance(config[key], str), f"{key} must be the name of a folder, not {config[key]!r}")
    require(chosen in choices, f"no checkpoint '{chosen}': {nearest(chosen, choices)}")


def _check_notes(config: DictConfig) -> None:
    for key in ("name", "notes"):
        words = config.get(key)
        require(words is None or isinstance(words, str), f"{key} must be a text, not {words!r}")
    tags = config.get("tags") or []
    listed = isinstance(tags, ListConfig) and all(isinstance(tag, str) for tag in tags)
    require(not tags or listed, f"tags must be a list of texts, such as tags=[baseline,small], not {tags}")


def _check_weights(config: DictConfig) -> None:
    place = config.get("init_from")
    require(place is None or isinstance(place, str), f"init_from must be the directory of a run, not {place!r}")
    for key in ("init_parts", "freeze"):
        names = config.get(key)
        listed = isinstance(names, ListConfig) and all(isinstance(name, str) for name in names)
        require(
            names is None or isinstance(names, str) or listed,
            f"{key} must be a list of parts of a model, such as {key}=[encoder,bottleneck], not {names}",
        )


def _require_component(node: Any, path: str, others: Sequence[str] = ()) -> None:
    if not isinstance(node, DictConfig) or "_target_" not in node:
        hint = nearest(path.rpartition(".")[2], others)
        raise UserError(f"{path} is no component: it has no _target_{'; ' if hint else ''}{hint}")


def check_keys(config: DictConfig) -> None:
    """Refuse targets that do not exist and arguments that they do not take, before anything is built.

    Raises:
        UserError: names the key and the nearest valid one, or the type that a value must have.
    """
    for path, node in targets(decided(config)):
        target = _locate(node._target_, path)
        known = _arguments(target)
        for key in node:
            if known is not None and key not in known and key not in HYDRA_KEYS:
                raise UserError(f"{path} has no option '{key!s}': {hint(str(key), known, path)}")
        _check_hydra_keys(node, path)
        check_types(target, node, path)


def _check_hydra_keys(node: DictConfig, path: str) -> None:
    """Refuse values of Hydra's own keys that Hydra ignores, or on which it fails later."""
    convert, choices = node.get("_convert_", "none"), ("none", "partial", "object", "all")
    if convert not in choices:  # a hint takes a while to find, and this is asked of every component
        raise UserError(f"{path}._convert_: there is no '{convert}': {nearest(str(convert), choices)}")
    for key in ("_partial_", "_recursive_"):
        value = node.get(key, True)
        require(isinstance(value, bool), f"{path}.{key} must be true or false, not {value}")


def find_object(name: str) -> Any:
    """The object of that name, by Hydra's own import, which also logs an error, over many lines, before it raises it.

    Raises:
        Exception: whatever importing it raises.
    """
    logger = logging.getLogger("hydra.utils")
    disabled, logger.disabled = logger.disabled, True
    try:
        return get_object(name)
    finally:
        logger.disabled = disabled


def _locate(name: Any, path: str) -> Any:
    require(isinstance(name, str) and bool(name), f"{path}._target_ must be the name of a class, not {name!r}")
    try:
        return find_object(name)
    except Exception as error:
        module, _, wanted = name.rpartition(".")
        if names := _public_names(module):
            raise UserError(f"{path}._target_: {module} has no '{wanted}': {nearest(wanted, names)}") from error
        raise UserError(f"{path}._target_: cannot import '{name}' ({first_line(error)})") from error


def _public_names(module: str) -> list[str]:
    with contextlib.suppress(ImportError, ValueError):
        return [name for name in dir(importlib.import_module(module)) if name[0] != "_"]
    return []


def _arguments(target: Any) -> set[str] | None:
    """The names of the keyword arguments of `target`; None if it accepts any."""
    try:
        # Decorators such as Lightning's env-default wrapper are looked through.
        parameters = inspect.signature(target).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    return {p.name for p in parameters}


def choice_files(group: str) -> dict[str, Path]:
    """The yaml file of every choice of a config group, by name, sorted."""
    return {path.stem: path for path in sorted((config_dir() / group).glob("*.yaml"))}


def group_names() -> list[str]:
    """The config groups that narrows has."""
    return [entry.name for entry in config_dir().iterdir() if entry.is_dir()]


def known_keys(config: DictConfig) -> list[str]:
    """Every key of a config, dotted."""
    return list(flatten(OmegaConf.to_container(config)))  # type: ignore[arg-type]
