"""How far the spectra of two sounds are apart as ears hear them, at several widths of windows."""

from __future__ import annotations

import numpy as np

from narrows.tasks.measures.mel_features import mel_filters
from narrows.tasks.measures.sound_figures import Sound

WINDOWS = {0.008: 10, 0.016: 20, 0.032: 40, 0.064: 80}
"""Mel bands by the seconds of a window."""
DEEPEST = 1e-6
"""Power over that of the truth's loudest band below which nothing is told apart: 60 dB."""


def mel_distance(guess: Sound, truth: Sound, rate: int) -> float:
    """The mean absolute difference of levels in mel bands, in dB, over frames, bands and channels of `[C, T]`, and then
    over windows of 8 to 64 ms, each of which moves by a quarter; NaN where the truth is silent.

    It does not ask for the phase. "High-Fidelity Audio Compression with Improved RVQGAN" (Kumar et al., 2023,
    https://arxiv.org/abs/2306.06546), section 4.3, which has more widths and logarithms of magnitudes.
    """
    return float(np.mean([_distance(guess, truth, rate, *at) for at in WINDOWS.items()]))


def _distance(guess: Sound, truth: Sound, rate: int, seconds: float, bands: int) -> float:
    width = max(16, 2 ** round(np.log2(seconds * rate)))
    filters = mel_filters(rate, width, min(bands, width // 4))
    power = [filters @ _power(np.atleast_2d(x), width) for x in (guess, truth)]
    floor = DEEPEST * float(power[1].max())
    if floor == 0:
        return np.nan
    levels = [10 * np.log10(np.maximum(part, floor)) for part in power]
    return float(np.abs(levels[0] - levels[1]).mean())


def _power(x: Sound, width: int) -> Sound:
    """`[C, T]` to `[C, F, K]`, half a window of silence around it."""
    padded = np.pad(x.astype(np.float64), ((0, 0), (width // 2, width // 2)))
    frames = np.lib.stride_tricks.sliding_window_view(padded, width, axis=1)[:, :: width // 4]
    return np.square(np.abs(np.fft.rfft(frames * np.hanning(width), axis=2))).swapaxes(1, 2)
