"""Corruptions: what is done to the input before the encoder sees it.

Each is built from the `DataSpec` and maps `x [B, *shape]` to `(x_in, hidden)`: the corrupted input and a
bool mask of the values it hid (None where it hides nothing). Draws come from torch's default generator,
which the module seeds by counters.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from narrows.errors import UserError, require
from narrows.types import DataSpec

Corrupted = tuple[Tensor, Tensor | None]


class Corruption(nn.Module):
    """`x -> (x_in, hidden)`."""

    hides: ClassVar[bool] = False
    identity: ClassVar[bool] = False

    def __init__(self, spec: DataSpec) -> None:
        super().__init__()
        self.value_range = spec.value_range

    def forward(self, x: Tensor) -> Corrupted:
        raise NotImplementedError


class Clean(Corruption):
    """No corruption."""

    identity = True

    def forward(self, x: Tensor) -> Corrupted:
        return x, None


class GaussianNoise(Corruption):
    """Additive white noise, `x + sigma * eps`, clipped to the data's range if `clip`.

    "Extracting and Composing Robust Features with Denoising Autoencoders" (Vincent et al., 2008; 2010, 3.3).

    Raises:
        UserError: `sigma` is not above 0.
    """

    def __init__(self, spec: DataSpec, *, sigma: float = 0.5, clip: bool = True) -> None:
        super().__init__(spec)
        require(sigma > 0, f"corruption gaussian: sigma must be above 0, not {sigma}")
        self.sigma, self.clip = sigma, clip

    def forward(self, x: Tensor) -> Corrupted:
        noisy = x + self.sigma * torch.randn_like(x)
        if self.clip and self.value_range is not None:
            noisy = noisy.clamp(*self.value_range)
        return noisy, None


class Masking(Corruption):
    """Each value is set to `value` with probability `p`, independently; those values are hidden.

    Vincent et al. (2010), section 3.3, "masking noise".

    Raises:
        UserError: `p` outside (0, 1).
    """

    hides = True

    def __init__(self, spec: DataSpec, *, p: float = 0.25, value: float = 0.0) -> None:
        super().__init__(spec)
        require(0 < p < 1, f"corruption masking: p must be in (0, 1), not {p}")
        self.p, self.value = p, value

    def forward(self, x: Tensor) -> Corrupted:
        hidden = torch.rand_like(x) < self.p
        return x.masked_fill(hidden, self.value), hidden


class SaltAndPepper(Corruption):
    """Each value becomes the smallest or the largest of the data's range with probability `p / 2` each.

    Vincent et al. (2010), section 3.3.

    Raises:
        UserError: `p` outside (0, 1), or data without a range.
    """

    def __init__(self, spec: DataSpec, *, p: float = 0.25) -> None:
        super().__init__(spec)
        require(0 < p < 1, f"corruption salt_and_pepper: p must be in (0, 1), not {p}")
        if spec.value_range is None:
            raise UserError(
                "corruption salt_and_pepper needs data with a smallest and a largest value, but these have none; "
                "use corruption=gaussian or corruption=masking"
            )
        self.p = p
        self.low, self.high = spec.value_range

    def forward(self, x: Tensor) -> Corrupted:
        u = torch.rand_like(x)
        noisy = torch.where(u < self.p / 2, self.low, x)
        return torch.where(u > 1 - self.p / 2, self.high, noisy), None
