"""`narrows train from=RUN|FILE|DIRECTORY`: what a config holds, as overrides that stand before the user's own.

    from=SOURCE [allow=PACKAGE,...] [keep_loggers=true] [GROUP=CHOICE ...] [KEY=VALUE ...]

A record becomes the choices that it made and the values in which it differs from their composition, so that the result
is an ordinary command line: sweeps, `--cfg job` and a relaunched process need nothing of their own. A choice that is
asked for now replaces its whole group, with what the source had set there; values that are asked for win over all.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from narrows.config.compose_in_process import Composition, bases_of, composed
from narrows.config.composition import choice_files, config_dir
from narrows.config.inferred_choices import own_choices
from narrows.config.leftovers import GROUPS, RECIPES, PlainChoices, choices_of, clear, search_path
from narrows.config.origin import MARK, Origin
from narrows.config.overriding_values import MISSING, differing_overrides, same
from narrows.config.plain_yaml import flatten, is_within
from narrows.config.quoting import quoted, unquoted
from narrows.errors import require
from narrows.loading.adapt_config import adapt, find_weights, require_no_download
from narrows.loading.config_source import FORBIDDEN, NOT_TAKEN, ConfigSource, read_source
from narrows.loading.permitted_classes import require_trusted, shown

OPTIONS = ("from", "sha256", "allow", "keep_loggers")
OWN_LOGGERS = ("tensorboard", "csv")
"""Choices of loggers that write in the run directory alone."""


@dataclass
class Expansion:
    """A command line whose `from=` has become overrides."""

    overrides: list[str]
    notes: list[str] = field(default_factory=list)
    """One sentence for every group in which something of the source was left out."""


def starts_from(arguments: Iterable[str]) -> bool:
    """Whether a command line names a source that has not become overrides yet."""
    return any(text.startswith("from=") and not text.startswith(MARK) for text in arguments)


def expand(arguments: Sequence[str], folders: Sequence[str] = ()) -> Expansion:
    """The overrides of one run, those that its source stands for before the user's own.

    Args:
        arguments: the overrides of a command line.
        folders: further config folders (`--config-dir`).

    Raises:
        UserError: there is no such source, it is no config, or it has changed since a sweep of it began.
        HydraException, OmegaConfBaseException: a choice does not exist.
    """
    if not starts_from(arguments):
        return Expansion(list(arguments))
    options, asked = _options(arguments)
    search = search_path(asked, folders)
    source = read_source(options["from"], search)
    require(
        options.get("sha256", source.sha256) == source.sha256,
        f"{source.path} has changed since the sweep began, whose jobs would differ in more than they say",
    )
    keep = options.get("keep_loggers", "false")
    require(keep in ("true", "false"), f"keep_loggers must be true or false, not '{shown(keep)}'")
    allow = [name for name in options.get("allow", "").split(",") if name]
    origin = Origin(str(source.path), source.sha256, allow, keep == "true")
    found = Expansion([])
    base = _Base(source, search, asked, found.notes).overrides(origin.keep_loggers)
    found.overrides = [*base, origin.override(), *asked]
    return found


def _options(arguments: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    pairs = [text.partition("=") for text in arguments]
    given = {key: unquoted(value) for key, _, value in pairs if key in OPTIONS}
    require(sum(key == "from" for key, _, _ in pairs) == 1, "a run starts from one source: give from= once")
    require(bool(given["from"]), "from= names no run, file or directory")
    return given, [text for text, (key, _, _) in zip(arguments, pairs, strict=True) if key not in OPTIONS]


def require_permitted(overrides: Sequence[str], folders: Sequence[str], allow: Sequence[str]) -> None:
    """Compose a run and refuse what a config that came from a file may not name, before anything is imported.

    Raises:
        UserError: a component that is not permitted, or initial weights that would be downloaded.
    """
    found = clear(overrides, folders)
    values = composed("train", (*search_path(overrides, folders), *found.overrides, *overrides)).values
    config = OmegaConf.create({key: value for key, value in values.items() if key not in ("sweep", "from")})
    resolved = OmegaConf.create(OmegaConf.to_container(config, resolve=True))
    assert isinstance(resolved, DictConfig)
    require_trusted(resolved, allow)
    require_no_download(resolved, overrides)


class _Base:
    """What a source stands for, beside what is asked for."""

    def __init__(self, source: ConfigSource, search: tuple[str, ...], asked: Sequence[str], notes: list[str]) -> None:
        self.source, self.search, self.asked, self.notes = source, search, asked, notes
        self.chosen = {key: text for key, text in choices_of(asked).items() if key.split("/")[0] != "sweep"}
        self.told = [text.partition("=")[0].lstrip("+~") for text in asked]

    def overrides(self, keep_loggers: bool) -> list[str]:
        choices = dict(self.source.choices)
        before = self._composed(choices.values())
        if self.source.recorded:
            values = differing_overrides(_resolved(before, self.source.values), self.source.values)
            values = {key: texts for key, texts in values.items() if key.split(".")[0] not in (*FORBIDDEN, *NOT_TAKEN)}
        else:
            values = {key: [f"++{key}={quoted(value)}"] for key, value in self.source.values.items()}
        gone: set[str] = set()
        if self.chosen:
            choices, gone = self._replaced(choices, before)
            after = self._composed([*choices.values(), *self.chosen.values()])
            values = self._kept(values, before, after, gone)
        values = {key: texts for key, texts in values.items() if not self._is_undone(key)}
        needed = self._needed(gone, choices, values, keep_loggers)
        return [*choices.values(), *(text for texts in values.values() for text in texts), *needed]

    def _composed(self, overrides: Iterable[str]) -> Composition:
        line = (*self.search, *overrides)
        return composed("train", (*self.search, *clear(line).overrides, *line[len(self.search) :]))

    def _replaced(self, choices: dict[str, str], before: Composition) -> tuple[dict[str, str], set[str]]:
        """The source's choices that stay beside those asked for, and the groups that are replaced."""
        kept = {key: text for key, text in choices.items() if key not in self.chosen}
        for recipe in RECIPES:
            if recipe in self.chosen:
                sets = _groups_of(recipe, self.chosen[recipe].partition("=")[2])
                kept = {key: text for key, text in kept.items() if key not in sets}
        plain = [text for key, text in kept.items() if "@" not in key]
        asked = [text for key, text in self.chosen.items() if "@" not in key]
        after = composed("train", (*self.search, *plain, *asked)).choices
        lists = {key for key, text in self.chosen.items() if "=[" in text}
        gone = {group for group in GROUPS if before.choices.get(group) != after.get(group)} | lists
        kept = {key: text for key, text in kept.items() if not _lies_in(key.partition("@")[2], gone)}
        return kept, gone

    def _kept(
        self, values: dict[str, list[str]], before: Composition, after: Composition, gone: set[str]
    ) -> dict[str, list[str]]:
        """The source's values without those of replaced groups, and without those that the new choices set."""
        old, new = flatten(before.values), flatten(after.values)
        changed = {key for key in old.keys() | new.keys() if not same(old.get(key, MISSING), new.get(key, MISSING))}
        kin = {group: self._kin(group, before, after) for group in gone}
        held = self.source.values
        kept: dict[str, list[str]] = {}
        left: dict[str, list[str]] = {}
        for key, texts in values.items():
            group = key.split(".")[0]
            anew = any(is_within(other, key) or is_within(key, other) for other in changed)
            if not anew and (group not in gone or key in kin[group]):
                kept[key] = texts
            elif key.rpartition(".")[2][0] != "_" and key in held and not same(new.get(key, MISSING), held[key]):
                left.setdefault(group, []).append(f"{key}={held[key]}")
        for group, texts in left.items():
            now = next(
                (self.chosen[key] for key in (group, *RECIPES) if key in self.chosen), " ".join(self.chosen.values())
            )
            self.notes.append(f"left out: {', '.join(texts)} of {self.source.path}; {now} takes its place")
        return kept

    def _kin(self, group: str, before: Composition, after: Composition) -> set[str]:
        """The keys that a group's old and new choice inherit from a common one (`trainer=cpu` and `trainer=gpu`)."""
        choices = [composition.choices.get(group) for composition in (before, after)]
        known = choice_files(group)
        if not all(isinstance(choice, str) and choice in known for choice in choices):
            return set()
        return PlainChoices(self.search, group, {}).inherited(*choices)

    def _is_undone(self, key: str) -> bool:
        """Whether the source lacks a key that the user sets, or has one that the user removes."""
        removed = [text[1:].partition("=")[0] for text in self.asked if text.startswith("~")]
        if any(is_within(key, place) for place in removed):
            return True
        absent = key not in self.source.values and not any(is_within(other, key) for other in self.source.values)
        return absent and any(is_within(told, key) for told in self.told)

    def _needed(
        self, gone: set[str], choices: dict[str, str], values: dict[str, list[str]], keep_loggers: bool
    ) -> list[str]:
        """The overrides that this machine needs: where data lie, no downloads, no loggers that write elsewhere."""
        if not self.source.recorded:
            if not keep_loggers and self._writes_elsewhere(choices, values):
                choices.pop("logger", None)
                for key in [key for key in values if is_within(key, "logger")]:
                    del values[key]
                self._leave_out("what its logger writes elsewhere")
            return []
        kept = {key: value for key, value in self.source.values.items() if key.split(".")[0] not in gone}
        config = OmegaConf.create({})
        for key, value in kept.items():
            OmegaConf.update(config, key, value, force_add=True)
        place = str(self.source.manifest.get("directory") or self.source.path.parent)
        needed, left_out = adapt(config, place, self.asked, "outputs", keep_loggers)
        needed |= find_weights(config, place, self.asked)
        if "logger" in needed:
            for name in left_out:
                self._leave_out(f"logger '{shown(name)}', which writes elsewhere")
        removed = [f"~logger.{name}" for name in left_out] if "logger" in needed else []
        others = [f"{key}={value}" for key, value in needed.items() if key not in ("output_dir", "logger")]
        return [*others, *removed]

    def _leave_out(self, what: str) -> None:
        self.notes.append(f"left out: {what}; keep_loggers=true keeps it")

    def _writes_elsewhere(self, choices: Mapping[str, str], values: Mapping[str, Any]) -> bool:
        chosen = choices.get("logger", "logger=csv").partition("=")[2]
        return chosen not in OWN_LOGGERS or any(is_within(key, "logger") for key in values)


def _resolved(composition: Composition, recorded: Mapping[str, Any]) -> dict[str, Any]:
    """The flat values of a composition, in which a reference has the value that it comes to once what it refers to is
    as recorded: so that it stays a reference."""
    flat, config = flatten(composition.values), OmegaConf.create(composition.values)
    references = {key for key, value in flat.items() if "${" in str(value)}
    for key in (flat.keys() & recorded.keys()) - references:
        OmegaConf.update(config, key, recorded[key], merge=False)
    for key in references:
        with contextlib.suppress(OmegaConfBaseException):
            found = OmegaConf.select(config, key)
            flat[key] = OmegaConf.to_container(found, resolve=True) if OmegaConf.is_config(found) else found
    return flat


def _groups_of(recipe: str, choice: str) -> set[str]:
    """The groups from which a variant or an experiment chooses, with what it builds on."""
    path = config_dir() / recipe / f"{choice}.yaml"
    if not path.is_file():
        return set()
    chosen = own_choices(path)
    found = set(chosen) | {group for base in bases_of(recipe, choice) for group in _groups_of(recipe, base)}
    return found | (_groups_of("variant", str(chosen["variant"])) if "variant" in chosen else set())


def _lies_in(place: str, groups: Iterable[str]) -> bool:
    return any(is_within(place, group) for group in groups)
