"""What makes features of pictures, which are then the data."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from narrows.types import Shape


class Features(Protocol):
    """What makes features `[B, *out_shape]` of pictures `[B, C, H, W]` in [0, 1], such as `narrows.layers.FeatureMap`:
    the same of a picture whatever stands beside it, up to rounding."""

    memory_limit_mb: float
    """Features of a split that take no more are computed once."""
    standardise: bool
    """Whether each is brought to mean 0 and deviation 1 over training pictures."""

    @property
    def fingerprint(self) -> str:
        """A name of all that changes a value."""
        ...

    def out_shape(self, shape: Shape) -> Shape: ...

    def __call__(self, x: Tensor) -> Tensor: ...
