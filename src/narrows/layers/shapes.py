"""Shapes checked where one stage hands its values to the next: under the tests, and nowhere else."""

from __future__ import annotations

import os

from torch import Tensor, nn

Sizes = tuple[int | None, ...]
"""The shape of one example; an axis that may have any size is None."""
CHECKED = os.environ.get("NARROWS_CHECK_SHAPES") == "1"
"""Set by the tests before narrows is imported, so that the processes that they start check too."""


def checked(stage: nn.Module, taken: Tensor, given: Tensor, shapes: tuple[Sizes, Sizes]) -> Tensor:
    """What the stage has `given`, which must be as it says where what it has `taken` is so too.

    Fully convolutional stages take examples of other sizes; of what they then give nothing is said.

    Args:
        stage: named in the message.
        taken: the stage's input, `[B, *shapes[0]]`.
        given: its output, `[B, *shapes[1]]`.
        shapes: of one example, before and after the stage.

    Raises:
        AssertionError: `CHECKED`, and the output has another shape.
    """
    if CHECKED and _agree(taken, shapes[0]):
        found, said = list(given.shape[1:]), list(shapes[1])
        assert _agree(given, shapes[1]), f"{type(stage).__name__} gives examples of {found}, but says {said}"
    return given


def _agree(values: Tensor, shape: Sizes) -> bool:
    found = tuple(values.shape[1:])
    return len(found) == len(shape) and all(size in (None, other) for size, other in zip(shape, found, strict=True))
