"""Examples of several sizes in one file: in groups of those in a row that are alike."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, TypeVar

Part = TypeVar("Part", bound=Any)

OTHERS = "; only one of convolutions alone (encoder.flatten=false) takes others"
"""Behind a refusal of another size than the run's."""


def alike(parts: Sequence[Part], axis: int = 0) -> list[list[Part]]:
    """Arrays in groups of those in a row whose sides are equal, from `axis` on."""
    return [list(same) for _, same in itertools.groupby(parts, key=lambda part: part.shape[axis:])]
