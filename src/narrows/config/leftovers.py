"""Clearing the values that a variant or an experiment set for a choice that the command line then replaced.

The values in a yaml belong to the choices made in that yaml: `loss.kl.weight: 4` of a beta-VAE means nothing to
`loss=iwae`. Another choice for a group therefore replaces everything that was set for the old one. Hydra instead merges
all values, whatever was chosen. `clear` compares Hydra's result with the choices by themselves and returns overrides
that remove the leftovers; they go before the user's own. Values that two choices inherit from a common base
(`trainer=gpu` and `trainer=auto`, `callbacks=resample` and `callbacks=start_at_mean`) stay, and so does every value of
the command line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from narrows.config.compose_in_process import Composition, alone, bases_of, composed, yaml_defaults
from narrows.config.composition import COLLECTIONS, OPTIONAL, PARTS, config_dir, is_chosen
from narrows.config.overriding_values import MISSING, outermost
from narrows.config.plain_yaml import flatten
from narrows.config.quoting import quoted
from narrows.errors import UserError

GROUPS = (*(key for key in PARTS if key != "module"), *OPTIONAL, *(key for key in COLLECTIONS if key != "tasks"))
"""The groups whose choice fills the key of their name."""
RECIPES = ("experiment", "variant")
"""The groups whose yamls set values of other groups, the later first."""
REFERENCE = re.compile(r"\$\{([A-Za-z_][\w.]*)\}")


@dataclass
class Cleared:
    """The result of `clear`."""

    overrides: list[str] = field(default_factory=list)
    """Overrides that remove the leftovers; they go before the user's own."""
    notes: list[str] = field(default_factory=list)
    """One sentence for every group from which something was removed."""


def clear(arguments: Sequence[str], folders: Sequence[str] = ()) -> Cleared:
    """The overrides that remove what replaced choices left behind, and the sentences that say so.

    Args:
        arguments: a single run's overrides.
        folders: further config folders (`--config-dir`).

    Raises:
        UserError: a value refers to an option of a choice that was replaced.
        HydraException, OmegaConfBaseException: the choices do not compose.
    """
    asked = choices_of(arguments)
    chosen = {key: text for key, text in asked.items() if key.split("@")[0] in GROUPS or "@" in key}
    recipes = {group: asked[group] for group in RECIPES if group in asked}
    if not any(_is_mentioned(group, asked, folders) for group in GROUPS if group in chosen):
        return Cleared()
    outer = search_path(arguments, folders)
    now = composed("train", (*outer, *recipes.values(), *chosen.values()))
    recipe = composed("train", (*outer, *recipes.values()))
    told = {_key(argument) for argument in arguments}
    found = Cleared()
    for group in GROUPS:
        if group in chosen and now.choices.get(group) != recipe.choices.get(group):
            _clear_group(found, group, now, recipe, PlainChoices(outer, group, chosen), told)
    _check_references(now, recipe, found, chosen, told)
    return found


@dataclass(frozen=True)
class PlainChoices:
    """A group's choices as their own yaml files give them, before any variant or experiment changes them."""

    outer: tuple[str, ...]
    group: str
    chosen: Mapping[str, str]

    def of(self, choice: Any) -> dict[str, Any]:
        """The values of a choice by dotted key, with what the command line adds to the group (`+term@loss.mmd=mmd`)."""
        added = [f"+{text.lstrip('+')}" for key, text in self.chosen.items() if self._below(key) and text[0] != "~"]
        return self.alone(choice, added)

    def inherited(self, *choices: Any) -> set[str]:
        """The keys that these choices inherit from a choice on which all of them build."""
        kin = [{name for one in _listed(choice) for name in self._lineage(one)} for choice in choices]
        return {key for name in set.intersection(*kin) for key in self.alone(name)}

    def _below(self, key: str) -> bool:
        return key.partition("@")[2].startswith(f"{self.group}.")

    def alone(self, choice: Any, added: Iterable[str] = ()) -> dict[str, Any]:
        """The values of a choice by dotted key, with these additions."""
        if not _listed(choice):
            return {}
        return alone(self.group, quoted(_listed(choice), bare=True), self.outer, added).of(self.group)

    def _lineage(self, name: str) -> Iterator[str]:
        """A choice, then the choices that its yaml builds on."""
        yield name
        for base in bases_of(self.group, name):
            yield from self._lineage(base)


def _clear_group(
    found: Cleared, group: str, now: Composition, recipe: Composition, plain: PlainChoices, told: set[str]
) -> None:
    before, after = recipe.choices.get(group), now.choices.get(group) or _several(plain.chosen[group])
    old, kept = recipe.of(group), plain.of(after)
    kin = plain.inherited(before, after) if _listed(before) and _listed(after) else set()
    untouched = plain.alone(before) if kin else {}
    wanted = kept | {key: old[key] for key in kin if key in old and old[key] != untouched.get(key, MISSING)}
    changes, gone = _difference({key: value for key, value in now.of(group).items() if not _told(key, told)}, wanted)
    shown = {key: value for key, value in gone.items() if key.rpartition(".")[2][0] != "_"}
    values = ", ".join(f"{key}={quoted(value, bare=True)}" for key, value in shown.items())
    if gone and not _listed(after):
        raise UserError(f"{values} of {_source(recipe)} would be left without a {group}: choose another {group}=")
    found.overrides += (text for key, texts in changes.items() if key not in told for text in texts)
    if gone:
        found.notes.append(
            f"left out: {values}, which {_source(recipe)} set for {group}={_named(before)}; "
            f"{group}={_named(after)} takes its place"
        )
    lost = sorted({key.split(".")[1] for key in old} - {key.split(".")[1] for key in wanted})
    if group == "callbacks" and lost and "none" not in _listed(after):  # which says itself that it keeps nothing
        both = quoted([*_listed(before), *(name for name in _listed(after) if name not in _listed(before))], bare=True)
        found.notes.append(
            f"left out: {group} {', '.join(lost)} of {group}={_named(before)}; {group}={_named(after)} takes its place "
            f"({group}={both} is both)"
        )


def _difference(now: dict[str, Any], wanted: dict[str, Any]) -> tuple[dict[str, list[str]], dict[str, Any]]:
    """The overrides by key that turn `now` into `wanted`, and the values of `now` that they remove."""
    gone = {key: value for key, value in now.items() if wanted.get(key, MISSING) != value}
    changes: dict[str, list[str]] = {}
    for key in gone:
        place = outermost(key, wanted, least=2)  # of a group, not the group
        if key in wanted:
            changes[key] = [f"{key}={quoted(wanted[key], bare=True)}"]
        elif place in wanted:  # a schedule where a number belongs
            changes[place] = [f"{place}={quoted(wanted[place], bare=True)}"]
        else:
            changes[place] = [*([f"{place}=0"] if _hides(now[key]) else []), f"~{place}"]
    for key in wanted.keys() - now.keys():
        if not any(key.startswith(f"{done}.") or key == done for done in changes):
            changes[key] = [f"++{key}={quoted(wanted[key], bare=True)}"]
    return changes, gone


def _hides(value: Any) -> bool:
    """Whether a value is null or a broken reference: Hydra deletes it only after it was set to a plain value."""
    return value is None or "${" in str(value)


def _check_references(
    now: Composition, recipe: Composition, found: Cleared, chosen: Mapping[str, str], told: set[str]
) -> None:
    """Refuse values of a variant or experiment that refer to an option of a replaced choice."""
    values, before = flatten(now.values), flatten(recipe.values)
    changed = told | {_key(text) for text in found.overrides}
    broken: dict[str, list[str]] = {}
    for key, value in values.items():
        if _told(key, changed) or before.get(key, MISSING) != value or not isinstance(value, str):
            continue
        for name in REFERENCE.findall(value):
            if name.split(".")[0] in chosen and name not in values and name in before:
                broken.setdefault(name, []).append(key)
    for name, keys in broken.items():
        group = name.split(".")[0]
        others = " ".join(dict.fromkeys(f"{key.split('.')[0]}=" for key in keys))
        raise UserError(
            f"{' and '.join(keys)} of {_source(recipe)} {'is' if len(keys) == 1 else 'are'} {name}, left over from "
            f"{group}={recipe.choices[group]}; {group}={now.choices[group]} has none: choose {others} too, or set "
            f"{' and '.join(keys)}"
        )


def _source(recipe: Composition) -> str:
    chosen = [f"{group}={recipe.choices[group]}" for group in RECIPES if is_chosen(recipe.choices.get(group))]
    return " and ".join(chosen)


def _told(key: str, told: set[str]) -> bool:
    """Whether the command line sets this key, or one above it."""
    parts = key.split(".")
    return any(".".join(parts[:size]) in told for size in range(2, len(parts) + 1))


def search_path(arguments: Iterable[str], folders: Sequence[str]) -> tuple[str, ...]:
    own = tuple(argument for argument in arguments if argument.startswith("hydra.searchpath="))
    places = ",".join(f"'file://{Path(folder).resolve()}'" for folder in folders)
    return own or ((f"hydra.searchpath=[{places}]",) if folders else ())


def _is_mentioned(group: str, asked: Mapping[str, str], folders: Sequence[str]) -> bool:
    """Whether the chosen variant or experiment mentions a group: most do not, and composing is slow."""
    usual = [] if "variant" in asked else ["vae"]
    names = [(one, name) for one in RECIPES if one in asked for name in asked[one].partition("=")[2].split(",")]
    recipes = [*names, *(("variant", name) for name in usual)]
    texts = [text for one in recipes for text in _texts(*one, folders)]
    return any(re.search(rf"(^|[/@{{]){group}\b", text, re.MULTILINE) for text in texts)


def _texts(group: str, name: str, folders: Sequence[str]) -> Iterator[str]:
    """The yaml texts of a variant or experiment and of those that it builds on or chooses."""
    roots = [*map(Path, folders), config_dir()]
    paths = [root / group / f"{name}.yaml" for root in roots]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:  # on another search path, or missing, which Hydra reports
        yield from GROUPS
        return
    yield path.read_text()
    for entry in yaml_defaults(path):
        if isinstance(entry, str) and entry != "_self_":
            yield from _texts(group, entry, folders)
        elif isinstance(entry, Mapping):
            chosen: dict[str, Any] = {str(key).rpartition("/")[2]: value for key, value in entry.items()}
            yield from (text for one in RECIPES if one in chosen for text in _texts(one, str(chosen[one]), folders))


def choices_of(arguments: Iterable[str]) -> dict[str, str]:
    """The choices that overrides make, by group with its package; the last override of a group counts."""
    found: dict[str, str] = {}
    for argument in arguments:
        override = _parsed(argument)
        if override is None or override.is_sweep_override() or not (config_dir() / override.key_or_group).is_dir():
            continue
        package = f"@{override.package}" if override.package else ""
        found[f"{override.key_or_group}{package}"] = argument
    return found


def _parsed(argument: str) -> Override | None:
    try:
        return OverridesParser.create().parse_override(argument)
    except HydraException:
        return None  # Hydra says what is wrong with it, when it comes to it.


def _key(argument: str) -> str:
    return argument.partition("=")[0].lstrip("+~")


def _listed(choice: Any) -> list[str]:
    """A group's choice as a list, because there may be several or none."""
    if not is_chosen(choice):
        return []
    return [str(one) for one in choice] if isinstance(choice, list) else [str(choice)]


def _several(argument: str) -> list[str]:
    """The choices of an override that makes several (`callbacks=[a,b]`), which Hydra does not list; else empty."""
    override = _parsed(argument)
    value = None if override is None or override.is_delete() else override.value()
    return [str(one) for one in value] if isinstance(value, list) else []


def _named(choice: Any) -> str:
    return quoted(choice, bare=True) if isinstance(choice, list) else str(choice)
