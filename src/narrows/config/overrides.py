"""What is wrong with a command line's overrides, where Hydra and OmegaConf say it less clearly."""

from __future__ import annotations

import re
from collections.abc import Iterable

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from narrows.config.composition import HYDRA_KEYS, choice_files, config_dir, first_line, group_names
from narrows.errors import UserError, nearest, require

MOVED = {("model", "missing_indicator"): "input=missing_indicator"}
"""Choices of earlier versions, by group and name, and what stands in their place."""


def explain(error: HydraException | OmegaConfBaseException) -> str:
    """One sentence for an error of Hydra's or OmegaConf's composition, with the nearest valid name."""
    if isinstance(error, MissingConfigException) and error.options is not None:
        group, _, choice = str(error.missing_cfg_file).rpartition("/")
        if (group, choice) in MOVED:
            return f"{group}={choice} is {MOVED[group, choice]} now"
        return f"there is no {group or 'config'} '{choice}': {nearest(choice, error.options)}"
    if isinstance(error, OverrideParseException):
        what = str(error).removeprefix(f"Error parsing override '{error.override}'\n").partition("\n")[0]
        quoted = "in quotes where the value holds more than words and numbers: 'KEY=\"a=b\"'"
        return f"'{error.override}' cannot be read, {what}: write KEY=VALUE, {quoted}"
    for cause in (error, error.__cause__, error.__context__):
        if isinstance(cause, OmegaConfBaseException) and isinstance(cause.parent_node, DictConfig):
            names = [str(key) for key in cause.parent_node if key not in {*HYDRA_KEYS, "hydra"}]
            where = f" in '{parent}'" if (parent := str(cause.full_key).rpartition(".")[0]) else ""
            if "not in struct" in str(cause) and names:
                return f"there is no config key '{cause.key}'{where}: {nearest(str(cause.key), names)}"
    if match := re.search(r"Could not override '([^']+)'\.\s*No match in the defaults list", str(error)):
        return f"there is no config group '{match[1]}': {nearest(match[1].split('@')[0], group_names())}"
    if isinstance(error, OmegaConfBaseException) and error.full_key:
        return f"{error.full_key}: {error.msg or error}".partition("\n")[0]
    return first_line(error)


def check_overrides(arguments: Iterable[str]) -> None:
    """Refuse what Hydra would end in a traceback: no key, or a group whose choice is no name.

    Raises:
        UserError: names the override and what would be right.
    """
    parser = OverridesParser.create()
    for argument in arguments:
        if argument.startswith("-"):
            continue
        try:
            override = parser.parse_override(argument)
        except HydraException:
            continue  # Hydra says what is wrong with it, when it comes to it.
        group = override.key_or_group
        require(bool(group), f"'{argument}' names no key: write KEY=VALUE")
        whole = override.is_delete() and override.value() is None
        if whole or override.is_sweep_override() or not (config_dir() / group).is_dir():
            continue
        value = override.value()
        names = value if isinstance(value, list) else [value]
        if not all(isinstance(name, str) for name in names):
            given = argument.partition("=")[2]
            raise UserError(f"there is no {group} '{given}': {nearest(given, choice_files(group))}")
