"""How long the frames of a film are shown, in milliseconds."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

Pace = list[float]
"""Milliseconds of each frame; empty where the film does not say."""
SHORTEST, LONGEST = 20, 655_350
"""Milliseconds of a frame: a shorter one is shown more slowly than an animation says, a longer one no file can hold."""


def pace_of_coded(frame: Any) -> Pace:
    """That of a frame that av has decoded, in a list of one; an empty one where the film does not say."""
    length, base = getattr(frame, "duration", None), frame.time_base
    return [float(1000 * length * Fraction(base))] if length and base else []


def of_every(pace: Pace, step: int, frames: int) -> Pace:
    """The pace of a film of which every `step`-th frame is taken, `frames` of them: each stands for those after it."""
    taken = [sum(pace[start : start + step]) for start in range(0, len(pace), step)]
    return taken if len(taken) == frames and all(taken) else []


def of_animation(pace: Pace) -> list[int]:
    """Times that an animation can hold, which are whole hundredths of a second."""
    return [min(max(SHORTEST, 10 * round(one / 10)), LONGEST) for one in pace]


def is_uneven(pace: Sequence[float]) -> bool:
    """Whether some frame is shown twice as long as another."""
    return bool(pace) and max(pace) >= 2 * max(min(pace), 1)
