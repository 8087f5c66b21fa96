"""The layout of compressed sounds, checked before anything that it claims is believed.

It holds `rate` and `channels`, which are the model's; for every sound its own `steps` (samples), `rates` and
`subtypes`, in lists, and of a folder `names`; and `window` where sounds were cut into windows of so many samples, side
by side, instead of being coded whole.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from narrows.errors import require
from narrows.types import Shape

KINDS = ("sound", "sounds")
"""A sound by itself, and a folder of them."""
FILES = "steps"
"""The list that has an entry for each sound."""
ENDINGS = (".wav", ".flac")
SUBTYPES = ("PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")
MOST_STEPS = 2**28
"""Samples of all sounds together, at their own rates."""
RATES = (100, 1_000_000)
MOST_CHANNELS = 64


def check(layout: Mapping[str, Any]) -> None:
    """Refuse a layout that describes no sounds.

    Raises:
        UserError: names what is wrong.
    """
    steps, rates, subtypes = (layout.get(name) for name in ("steps", "rates", "subtypes"))
    listed = all(isinstance(values, list) for values in (steps, rates, subtypes))
    require(listed, "the file's header does not say how long its sounds are, and at what rates")
    assert isinstance(steps, list)
    assert isinstance(rates, list)
    assert isinstance(subtypes, list)
    right = len(steps) == len(rates) == len(subtypes) and len(steps) >= 1
    right = right and (layout["kind"] == "sounds" or len(steps) == 1)
    require(right, "the file's header does not say of each of its sounds how long it is, and at what rate")
    whole = all(_between(step, 1, MOST_STEPS) for step in steps) and sum(steps) <= MOST_STEPS
    require(whole, f"the file's header says that its sounds are longer than {MOST_STEPS:,} samples, or no samples long")
    known = all(_between(rate, *RATES) for rate in (*rates, layout.get("rate")))
    require(
        known, f"the file's header has a sound's rate that is none from {RATES[0]} to {RATES[1]:,} samples a second"
    )
    require(all(subtype in SUBTYPES for subtype in subtypes), "the file's header has a sound's form that is not known")
    require(
        _between(layout.get("channels"), 1, MOST_CHANNELS),
        f"the file's header does not say that its sounds have from 1 to {MOST_CHANNELS} channels",
    )
    window = layout.get("window")
    require(window is None or _between(window, 1, MOST_STEPS), "the file's header has windows of no length")


def _between(value: Any, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def coded_steps(layout: Mapping[str, Any]) -> list[int]:
    """The samples of every sound at the model's rate."""
    return [-(-steps * layout["rate"] // rate) for steps, rate in zip(layout["steps"], layout["rates"], strict=True)]


def windows(layout: Mapping[str, Any]) -> list[int]:
    """The examples of every sound: its windows, or one where it was coded whole."""
    window = layout.get("window")
    return [1 if window is None else -(-steps // window) for steps in coded_steps(layout)]


def shapes(layout: Mapping[str, Any], count: int) -> list[tuple[int, Shape]]:
    """The number and shape of examples in each group of equal shapes in a row.

    Raises:
        UserError: they are not as many as `count`.
    """
    counted, channels = windows(layout), layout["channels"]
    right = sum(counted) == count
    require(right, f"the file's header says that {count} examples are {sum(counted)}")
    if layout.get("window") is not None:
        return [(count, (channels, layout["window"]))]
    return [(len(list(same)), (channels, steps)) for steps, same in itertools.groupby(coded_steps(layout))]
