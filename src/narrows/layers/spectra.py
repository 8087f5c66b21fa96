"""The short-time Fourier transform and its inverse.

Legend: B examples, C channels, T samples, N samples of a window, F = N / 2 + 1 frequencies, K frames.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from narrows.errors import require
from narrows.types import at_least_single


class ShortTimeFourier(nn.Module):
    """Spectra of overlapping windows, `[B, C, T] -> complex [B, C, F, K]` with K = T // hop + 1, and back.

    Windows are Hann's, one every `hop` samples, the first one centred at the first sample; outside of the signal stand
    zeros. They are scaled so that white noise of variance 1 has power 1 at every frequency in between. The inverse adds
    the windows up again and divides by the sum of their squares: it is exact for whatever spectra a signal has.

    "Signal Estimation from Modified Short-Time Fourier Transform" (Griffin and Lim, 1984,
    https://doi.org/10.1109/TASSP.1984.1164317), equation 6, for the inverse.

    Args:
        width: N, even.
        hop: samples from window to window, at most half of one.
        part: in messages.

    Raises:
        UserError: a width or hop that gives nothing that could be inverted.

    Example:
        >>> x = torch.randn(2, 1, 50)
        >>> fourier = ShortTimeFourier(16, 4)
        >>> fourier(x).shape, torch.allclose(fourier.inverse(fourier(x), 50), x, atol=1e-5)
        (torch.Size([2, 1, 9, 13]), True)
    """

    hann: Tensor

    def __init__(self, width: int = 256, hop: int = 64, part: str = "short-time Fourier transform") -> None:
        super().__init__()
        require(width >= 4 and width % 2 == 0, f"{part}: width must be even and at least 4, not {width}")
        require(1 <= hop <= width // 2, f"{part}: hop must be from 1 to half of width={width}, not {hop}")
        self.width, self.hop = width, hop
        window = torch.hann_window(width, dtype=torch.float64)
        self.register_buffer("hann", (window / window.square().sum().sqrt()).float(), persistent=False)

    @property
    def frequencies(self) -> int:
        return self.width // 2 + 1

    def frames(self, steps: int) -> int:
        """The number of windows of a signal of so many samples."""
        return steps // self.hop + 1

    def forward(self, x: Tensor) -> Tensor:
        found = torch.stft(
            at_least_single(x).flatten(0, -2),
            self.width,
            self.hop,
            window=self.hann.to(at_least_single(x).dtype),
            center=True,
            pad_mode="constant",
            return_complex=True,
        )
        spectra: Tensor = found.unflatten(0, x.shape[:-1])
        return spectra

    def inverse(self, spectrum: Tensor, steps: int) -> Tensor:
        """The signal of so many samples, `[B, C, T]`, whose spectra are nearest to these."""
        window = self.hann.to(spectrum.real.dtype)
        found = torch.istft(spectrum.flatten(0, -3), self.width, self.hop, window=window, center=True, length=steps)
        signal: Tensor = found.unflatten(0, spectrum.shape[:-2])
        return signal
