"""Clear messages for wrong overrides, in place of those of Hydra and OmegaConf."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from narrows.config.composition import HYDRA_KEYS, choice_files, config_dir, group_names, known_keys
from narrows.config.old_words import current_choice, refuse_old_words
from narrows.config.other_words import REPLACED, WORDS, hint
from narrows.config.plain_yaml import flatten
from narrows.errors import UserError, first_line, nearest, require, sentence

LISTED = "by narrows train --help"


def explain(error: HydraException | OmegaConfBaseException) -> str:
    """One sentence for an error that Hydra or OmegaConf raised while composing, with the nearest valid name."""
    if isinstance(error, MissingConfigException) and error.options is not None:
        group, _, choice = str(error.missing_cfg_file).rpartition("/")
        today = current_choice(group, choice)
        cure = nearest(choice, error.options, LISTED) if today == choice else f"today it is '{today}'"
        return f"there is no {group or 'config'} '{choice}': {cure}"
    if isinstance(error, OverrideParseException):
        # Hydra 1.4 says first where in the command line it stands.
        told = [line for line in str(error).splitlines() if not line.startswith("Error")]
        what = (told or [first_line(error)])[0]
        quoted = "in quotes where the value holds more than words and numbers: 'KEY=\"a=b\"'"
        return f"'{error.override}' cannot be read, {what}: write KEY=VALUE, {quoted}"
    for cause in (error, error.__cause__, error.__context__):
        if isinstance(cause, OmegaConfBaseException) and isinstance(cause.parent_node, DictConfig):
            names = [str(key) for key in cause.parent_node if key not in {*HYDRA_KEYS, "hydra"}]
            where = f" in '{parent}'" if (parent := str(cause.full_key).rpartition(".")[0]) else ""
            if "not in struct" in str(cause) and names:
                known = [*names, *([] if where else known_keys(cause.parent_node))]
                return f"there is no config key '{cause.key}'{where}: {hint(str(cause.key), known, parent)}"
    if match := re.search(r"Could not override '([^']+)'\.\s*No match in the defaults list", str(error)):
        return f"there is no config group '{match[1]}': {hint(match[1].split('@')[0], group_names())}"
    if isinstance(error, OmegaConfBaseException) and error.full_key:
        return f"{error.full_key}: {error.msg or error}".partition("\n")[0]
    return first_line(error)


for kind in (HydraException, MissingConfigException, OmegaConfBaseException):  # the second is an OSError too
    sentence.register(kind, explain)


def check_overrides(arguments: Iterable[str], recorded: bool = False) -> None:
    """Refuse overrides on which Hydra would fail with a traceback (no key, or a choice that is no name), and old words.

    Args:
        arguments: of the command line.
        recorded: they are of a recorded config, of which a whole group may be given by its values.

    Raises:
        UserError: names the override and what would be right.
    """
    parser = OverridesParser.create()
    for argument in arguments:
        if argument.startswith("-"):
            continue
        refuse_old_words(argument)
        try:
            override = parser.parse_override(argument)
        except HydraException:
            continue  # Hydra itself reports what is wrong with it.
        group = override.key_or_group
        require(bool(group), f"'{argument}' names no key: write KEY=VALUE")
        whole = override.is_delete() and override.value() is None
        if whole or override.is_sweep_override() or not (config_dir() / group).is_dir():
            continue
        value = override.value()
        if recorded and isinstance(value, dict):
            continue
        names = value if isinstance(value, list) else [value]
        if not all(isinstance(name, str) for name in names):
            given = argument.partition("=")[2]
            raise UserError(f"there is no {group} '{given}': {nearest(given, choice_files(group), LISTED)}")


def _refuse_choice(config: DictConfig, key: str, value: Any) -> None:
    """Refuse a choice from a config group (`trainer=gpu`), of which a recorded config has only the values.

    Raises:
        UserError: says the values that this choice would change.
    """
    files = choice_files(key) if re.fullmatch(r"[a-z_]+", key) and isinstance(value, str) else {}
    if not files or not isinstance(config.get(key), Mapping):
        return
    require(value in files, f"there is no {key} '{value}': {nearest(str(value), files, LISTED)}")
    own: Any = OmegaConf.to_container(OmegaConf.load(files[value]))
    own.pop("defaults", None)
    known = known_keys(config)
    wanted = [f"{key}.{name}={plain}" for name, plain in flatten(own).items() if f"{key}.{name}" in known]
    how = f"write {' '.join(wanted)}" if wanted else "write the values themselves, KEY=VALUE"
    raise UserError(f"{key}={value} is a choice for a new run; a recorded config holds the values it stands for: {how}")


def override(config: DictConfig, text: str) -> None:
    """Set one value of a recorded config, in Hydra's grammar.

    Raises:
        UserError: no `KEY=VALUE`, or no such key.
    """
    refuse_old_words(text)
    require("=" in text and text[0] not in "~@", f"'{text}' is no override of a recorded config: KEY=VALUE")
    (parsed,) = OverridesParser.create().parse_overrides([text])
    require(not parsed.is_sweep_override(), f"'{text}': a recorded config is of one run, which takes one value")
    key, value = parsed.key_or_group, parsed.value()
    parent, _, name = key.rpartition(".")
    _refuse_choice(config, key, value)
    node: Any = OmegaConf.select(config, parent) if parent else config
    if not isinstance(node, Mapping) or (name not in node and not parsed.is_add()):
        foreign = name in WORDS or (parent == "trainer" and name in REPLACED)
        told = nearest(key, known_keys(config), "in config.yaml")
        raise UserError(f"the config has no '{key}': {hint(name, (), parent) if foreign else told}")
    OmegaConf.update(config, key, value, merge=False, force_add=True)
