"""The words of earlier versions and today's words for them.

An old word on a command line is refused by a sentence that gives today's word; in the record of a run it is read as
today's (`narrows.runs.old_names`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from narrows.errors import require

CHOICES = {
    "corruption": {"clean": "none", "feature_dropout": "swap_noise"},
    "bottleneck": {"uniform_noise": "entropy", "gated": "gated_sae"},
    "loss": {"gated": "gated_sae"},
    "task": {"features": "probe"},
    "term": {"dead_nll": "auxk", "nested_nll": "matryoshka"},
}
"""By config group, the renamed choices."""
KEYS = {
    "loss.dead": "loss.auxk",
    "loss.dead_nll": "loss.auxk",
    "loss.nested": "loss.matryoshka",
    "loss.nested_nll": "loss.matryoshka",
    "tasks.features": "tasks.probe",
    "prior": "density",
    "from_config": "from",
}
"""Renamed config keys and groups; the keys below them are renamed too."""
MOVED = {"model=missing_indicator": "input=missing_indicator"}
"""Choices that moved to another group."""
OPTIONS = {"--prior": "--density"}
"""Renamed options of commands."""
FIGURES = {
    r"(train|val|test|weight)/dead": r"\1/auxk",
    r"(train|val|test|weight)/nested": r"\1/matryoshka",
    r"test/features/(.+)": r"test/probe/\1",
    r"prior/(.+)": r"density/\1",
    r"test/nats(_stderr)?": r"test/nll_at_point\1",
}
"""Renamed figures: a pattern for the whole name, and its replacement."""


def current_choice(group: str, choice: str) -> str:
    """Today's name of a config group's choice."""
    return CHOICES.get(group, {}).get(choice, choice)


def current_key(key: str) -> str:
    """Today's name of a dotted key, of a config group, or of both: `term@loss.dead`."""
    group, at, place = key.rpartition("@")
    if at:
        return f"{current_key(group)}@{current_key(place)}"
    for old, new in KEYS.items():
        if key == old or key.startswith(f"{old}."):
            return new + key.removeprefix(old)
    return key


def current_figure(name: str) -> str:
    """Today's name of a figure."""
    for old, new in FIGURES.items():
        if re.fullmatch(old, name):
            return re.sub(old, new, name)
    return name


def current_override(text: str) -> str:
    """Today's form of a `KEY=VALUE` of an earlier version, in Hydra's grammar; any other text unchanged."""
    if text in MOVED:
        return MOVED[text]
    key, equals, value = text.partition("=")
    bare = key.lstrip("+~")
    mark, group = key[: len(key) - len(bare)], bare.partition("@")[0]
    if group in CHOICES:
        value = re.sub(r"[\w-]+", lambda word: current_choice(group, word[0]), value)
    elif bare.startswith("sweep.") or bare.endswith(".monitor"):
        # Only these keys name figures: under any other key such a text may be a path.
        value = re.sub(r"[\w/]+", lambda word: current_figure(word[0]), value)
    return f"{mark}{current_key(bare)}{equals}{value}"


def refuse_old_words(argument: str) -> None:
    """Refuse a word of an earlier version.

    Raises:
        UserError: gives today's word.
    """
    option, equals, value = argument.partition("=")
    today = f"{OPTIONS.get(option, option)}{equals}{value}" if argument.startswith("--") else current_override(argument)
    _refuse(argument, today)


def refuse_old_names(names: Iterable[str]) -> None:
    """Refuse names of figures and config keys of earlier versions.

    Raises:
        UserError: gives today's name of the first old one.
    """
    for name in names:
        _refuse(name, current_figure(current_key(name)))


def _refuse(old: str, today: str) -> None:
    require(today == old, f"'{old}' is what an earlier version called it: today it is '{today}'")
