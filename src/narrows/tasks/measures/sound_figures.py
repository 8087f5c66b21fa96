"""Figures of sound beside its truth: SI-SDR, SNR and STOI. Sounds are `[C, T]`, or `[T]`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from narrows.data.sound_files import resampled

Sound = NDArray[Any]

MOST_DECIBELS = 100.0
"""What is nearer to the truth, or farther away, is not told apart."""
RATE = 10_000
FRAME, HOP, POINTS = 256, 128, 512
BANDS, LOWEST = 15, 150.0
SEGMENT = 30
"""Frames that STOI compares together: 384 ms."""
LOUDEST_SILENCE = 40.0
CLIPPING = 10 ** (15 / 20)


def snr(guess: Sound, truth: Sound) -> float:
    """`10 log10(|s|^2 / |s - s'|^2)`, in dB, from -100 to 100; NaN where the truth is silent."""
    signal, guess = np.ravel(truth).astype(np.float64), np.ravel(guess).astype(np.float64)
    return _decibels(float(signal @ signal), float(np.square(signal - guess).sum()))


def si_sdr(guess: Sound, truth: Sound) -> float:
    """The scale-invariant ratio of signal to distortion, `10 log10(|a s|^2 / |a s - s'|^2)` with the a that brings the
    truth s nearest to the guess s', in dB, from -100 to 100; NaN where the truth is silent. Means are left in.

    "SDR - half-baked or well done?" (Le Roux et al., 2019, https://arxiv.org/abs/1811.02508), equations 2 to 5.
    """
    signal, guess = np.ravel(truth).astype(np.float64), np.ravel(guess).astype(np.float64)
    power = float(signal @ signal)
    if power == 0:
        return math.nan
    target = (float(guess @ signal) / power) * signal
    kept, lost = float(target @ target), float(np.square(target - guess).sum())
    return -MOST_DECIBELS if kept == 0 else _decibels(kept, lost)


def _decibels(signal: float, noise: float) -> float:
    if signal == 0:
        return math.nan
    ratio = math.inf if noise == 0 else 10 * math.log10(signal / noise)
    return min(max(ratio, -MOST_DECIBELS), MOST_DECIBELS)


def stoi(guess: Sound, truth: Sound, rate: int) -> float:
    """Short-time objective intelligibility, of the mean of all channels: the mean correlation of clean and clipped
    degraded envelopes in 15 third-octave bands over 384 ms, near 1 where speech is understood. NaN where fewer than
    384 ms are louder than 40 dB below the loudest frame.

    "An Algorithm for Intelligibility Prediction of Time-Frequency Weighted Noisy Speech" (Taal et al., 2011,
    https://doi.org/10.1109/TASL.2011.2114881), section II.
    """
    clean, degraded = (resampled(np.atleast_2d(x).mean(0), rate, RATE).astype(np.float64) for x in (truth, guess))
    clean, degraded = _without_silence(clean, degraded)
    bands = [_bands(x) for x in (clean, degraded)]
    if bands[0].shape[1] < SEGMENT:
        return math.nan
    x, y = (np.lib.stride_tricks.sliding_window_view(envelope, SEGMENT, axis=1) for envelope in bands)
    tiny = np.finfo(np.float64).eps
    norms = [np.linalg.norm(values, axis=-1, keepdims=True) for values in (x, y)]
    y = np.minimum(y * norms[0] / (norms[1] + tiny), x * (1 + CLIPPING))
    x, y = (values - values.mean(-1, keepdims=True) for values in (x, y))
    x, y = (values / (np.linalg.norm(values, axis=-1, keepdims=True) + tiny) for values in (x, y))
    return float((x * y).sum(-1).mean())


def _window() -> Sound:
    return np.hanning(FRAME + 2)[1:-1]


def _frames(x: Sound) -> Sound:
    """`[K, FRAME]`, windowed."""
    count = max(0, math.ceil((len(x) - FRAME) / HOP))
    places = HOP * np.arange(count)[:, None] + np.arange(FRAME)
    return x[places] * _window()


def _without_silence(clean: Sound, degraded: Sound) -> tuple[Sound, Sound]:
    """Both without the frames in which the clean one is silent; the frames that stay are added up again."""
    frames = [_frames(x) for x in (clean, degraded)]
    if not len(frames[0]):
        return clean[:0], degraded[:0]
    energy = 20 * np.log10(np.linalg.norm(frames[0], axis=1) + np.finfo(np.float64).eps)
    kept = energy > energy.max() - LOUDEST_SILENCE
    found = []
    for one in frames:
        total = np.zeros((int(kept.sum()) - 1) * HOP + FRAME)
        for place, frame in enumerate(one[kept]):
            total[place * HOP : place * HOP + FRAME] += frame
        found.append(total)
    return found[0], found[1]


def _bands(x: Sound) -> Sound:
    """Envelopes `[BANDS, K]` of third-octave bands."""
    frames = _frames(x)
    power = np.square(np.abs(np.fft.rfft(frames, POINTS, axis=1)))
    return np.sqrt(_third_octaves() @ power.T)


def _third_octaves() -> Sound:
    """0 and 1, `[BANDS, POINTS / 2 + 1]`: the frequencies of each band."""
    frequencies = np.linspace(0, RATE, POINTS + 1)[: POINTS // 2 + 1]
    found = np.zeros((BANDS, len(frequencies)))
    for band in range(BANDS):
        edges = [LOWEST * 2 ** ((2 * band + side) / 6) for side in (-1, 1)]
        low, high = (int(np.argmin(np.square(frequencies - edge))) for edge in edges)
        found[band, low:high] = 1
    return found
