"""Mel bands and cepstra of sound, and the probe beside which they stand."""

from __future__ import annotations

import numpy as np
import torch

from narrows.data.mel_scale import mel_filters
from narrows.tasks.measures.mel_features import log_mel, log_mel_means, mfcc_means

RATE = 8000


def tone(frequency: float, steps: int = 2000, loud: float = 1.0) -> torch.Tensor:
    return loud * torch.sin(2 * np.pi * frequency * torch.arange(steps) / RATE)[None, None]


def test_triangles_cover_every_frequency_once_and_widen_upwards() -> None:
    filters = mel_filters(RATE, 256)
    assert filters.shape == (40, 129)
    frequencies = np.linspace(0, RATE / 2, 129)
    inside = (frequencies > 1500) & (frequencies < 3800)  # between tops that are further apart than two frequencies
    np.testing.assert_allclose(filters[:, inside].sum(0), 1, atol=1e-9)
    assert (filters.sum(1) > 0).all()
    widths = (filters > 0).sum(1)
    assert widths[-1] > 2 * widths[5]


def test_a_tone_is_loudest_in_its_own_band() -> None:
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + 4000 / 700), 42) / 2595) - 1)
    for band in (15, 25, 35):
        levels = log_mel(tone(edges[band + 1]), RATE)[0, 0, :, 5:-5]
        assert set(levels.argmax(0)) == {band}


def test_loudness_moves_the_first_cepstrum_alone_and_silence_behind_the_end_nothing() -> None:
    noise = torch.randn(3, 1, 2048, generator=torch.Generator().manual_seed(0))
    quiet, loud = (mfcc_means(scale * noise, RATE) for scale in (1.0, 10.0))
    moved = loud - quiet
    np.testing.assert_allclose(moved[:, 0], np.log(100) * np.sqrt(40), rtol=1e-3)
    np.testing.assert_allclose(moved[:, 1:], 0, atol=1e-3)
    padded = torch.cat([noise, torch.zeros(3, 1, 6000)], 2)
    # One more window lies over the end; three quarters of all are silent.
    means, plain = (log_mel_means(x, RATE)[:, :40] for x in (padded, noise))
    np.testing.assert_allclose(means, plain, atol=0.6)
    assert np.abs(log_mel(padded, RATE).mean((1, 3)) - plain).min() > 5
    assert np.isfinite(log_mel_means(torch.zeros(2, 1, 500), RATE)).all()
    assert log_mel_means(noise, RATE).shape == (3, 80)
    assert mfcc_means(noise, RATE).shape == (3, 26)
