"""What speech was described by before networks: levels in mel bands, and their cepstra.

Legend: B examples, C channels, T samples, M bands, F frequencies, K frames.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from torch import Tensor

from narrows.data.mel_scale import mel_filters
from narrows.layers.spectra import ShortTimeFourier

Matrix = NDArray[Any]

COEFFICIENTS = 13
SECONDS = 0.032
FLOOR = 1e-8
"""Power of a band at which its logarithm begins."""


def log_mel(x: Tensor, rate: int) -> Matrix:
    """Natural logarithms of the power in mel bands, `[B, C, T] -> [B, C, M, K]`, in windows of some 32 ms."""
    width = max(16, 2 ** round(np.log2(SECONDS * rate)))
    power = ShortTimeFourier(width, width // 4)(x.float().cpu()).abs().square().numpy()
    return np.log(np.einsum("mf,bcfk->bcmk", mel_filters(rate, width), power) + FLOOR)


def log_mel_means(x: Tensor, rate: int) -> Matrix:
    """Means and deviations of `log_mel` over the frames that are not silent, `[B, 2 C M]`."""
    levels = log_mel(x, rate)
    return _pooled(levels, levels)


def mfcc_means(x: Tensor, rate: int) -> Matrix:
    """Means and deviations of the first 13 cepstra of `log_mel` over the frames that are not silent, `[B, 2 C 13]`.

    "Comparison of parametric representations for monosyllabic word recognition in continuously spoken sentences" (Davis
    and Mermelstein, 1980, https://doi.org/10.1109/TASSP.1980.1163420).
    """
    levels = log_mel(x, rate)
    return _pooled(scipy.fft.dct(levels, axis=2, norm="ortho")[:, :, :COEFFICIENTS], levels)


def _pooled(values: Matrix, levels: Matrix) -> Matrix:
    """Means and deviations of `[B, C, N, K]` over frames that sound in any band of any channel; over all where none
    does."""
    sounds = (levels > np.log(2 * FLOOR)).any((1, 2))
    sounds |= ~sounds.any(1, keepdims=True)
    weight = (sounds / sounds.sum(1, keepdims=True))[:, None, None]
    mean = (values * weight).sum(3)
    deviation = np.sqrt((np.square(values - mean[..., None]) * weight).sum(3))
    return np.concatenate([mean, deviation], 2).reshape(len(values), -1)
