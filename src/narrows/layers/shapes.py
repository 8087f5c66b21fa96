"""Shapes checked where one stage hands its values to the next: under the tests, and nowhere else."""

from __future__ import annotations

import os

from torch import Tensor, nn

from narrows.types import Shape

CHECKED = os.environ.get("NARROWS_CHECK_SHAPES") == "1"
"""Set by the tests before narrows is imported, so that the processes that they start check too."""


def checked(stage: nn.Module, values: Tensor, shape: Shape, *, variable: bool = False) -> Tensor:
    """The same `values [B, *shape]`, which the stage gives; where they are `variable`, the last axis has any size.

    Raises:
        AssertionError: `CHECKED`, and they have another shape.
    """
    if CHECKED:
        found, said = tuple(values.shape[1:]), tuple(shape)
        agree = len(found) == len(said) and (found[:-1] == said[:-1] if variable else found == said)
        assert agree, f"{type(stage).__name__} gives examples of shape {list(found)}, but says {list(said)}"
    return values
