"""Short-time spectra of sound and of other series."""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from narrows.errors import nearest, require
from narrows.inputs.base import Input
from narrows.layers.spectra import ShortTimeFourier
from narrows.types import Batch, DataSpec, at_least_single

Layout = Literal["channels", "map"]
Scale = Literal["log", "power", "magnitude"]
FLOOR = 1e-3
"""Power at which the logarithm begins: -30 dB of the example's own mean."""
SILENCE = 1e-5
"""The root mean square below which an example is not made louder."""


class Spectrum(Input):
    """Short-time Fourier spectra of x without their phase, `[B, C, T]` to `[B, C * F, K]` or to a map `[B, C, F, K]`.

    There are F = `width / 2 + 1` frequencies and K = T // `hop` + 1 frames; see `narrows.layers.ShortTimeFourier`.
    Unseen values are 0.

    Args:
        width: samples of a window, even.
        hop: samples from window to window, at most half of one.
        scale: of a value: `log` (the natural logarithm of its power, which is at least 1e-3), `power` or `magnitude`.
        layout: whether frequencies are `channels` of a series of frames, or the first side of a `map`.
        level: whether x is brought to a mean square of 1 first, so that all of it may be quiet or loud.

    Raises:
        UserError: data that are no `[C, T]`, or an argument out of its range.
    """

    def __init__(
        self,
        spec: DataSpec,
        *,
        width: int = 256,
        hop: int = 64,
        scale: Scale = "log",
        layout: Layout = "channels",
        level: bool = True,
    ) -> None:
        super().__init__(spec)
        require(
            spec.kind != "tokens" and len(spec.shape) == 2,
            f"input spectrum reads sound or series, (C, T), not {spec.kind} of shape {list(spec.shape)}; use "
            "input=identity",
        )
        for option, value, known in (("scale", scale, get_args(Scale)), ("layout", layout, get_args(Layout))):
            require(value in known, f"unknown input.{option}={value!r}: {nearest(str(value), known)}")
        self.fourier = ShortTimeFourier(width, hop, "input spectrum")
        self.scale, self.layout, self.level = scale, layout, level
        channels, steps = spec.shape
        sides = (self.fourier.frequencies, self.fourier.frames(steps))
        self.out_shape = (channels, *sides) if layout == "map" else (channels * sides[0], sides[1])

    def forward(self, batch: Batch) -> Tensor:
        x = at_least_single(batch.x)
        x = x if batch.unseen is None else x.masked_fill(batch.unseen, 0.0)
        if self.level:
            x = x / x.square().flatten(1).mean(1).sqrt().clamp_min(SILENCE).reshape(-1, 1, 1)
        power = torch.view_as_real(self.fourier(x)).square().sum(-1)
        return self._laid(self._scaled(power))

    def _scaled(self, power: Tensor) -> Tensor:
        if self.scale == "log":
            return (power + FLOOR).log()
        return power if self.scale == "power" else power.sqrt()

    def _laid(self, values: Tensor) -> Tensor:
        """`[B, C, F, K]` as `out_shape` says."""
        return values if self.layout == "map" else values.flatten(1, 2)

    def as_spectra(self, values: Tensor) -> Tensor:
        """Values of `out_shape`, `[B, ...]`, as `[B, C, F, K]`."""
        return values if self.layout == "map" else values.unflatten(1, (-1, self.fourier.frequencies))

    def mask(self, unseen: Tensor) -> Tensor:
        # A frame carries nothing where none of its samples is seen.
        half, hop = self.fourier.width // 2, self.fourier.hop
        seen = F.max_pool1d(F.pad((~unseen).float(), (half, half)), self.fourier.width, hop)
        blank = (seen == 0)[:, :, None].expand(-1, -1, self.fourier.frequencies, -1)
        return self._laid(blank)
