"""Classic denoisers of sound: what they are told, and what they leave."""

from __future__ import annotations

import numpy as np
import pytest

from narrows.tasks.classics.sound_denoisers import METHODS, blind_wiener, denoise, told, transform_of, wiener
from narrows.tasks.measures.sound_figures import si_sdr

RATE = 8000


def tones(steps: int = 4000) -> np.ndarray:
    """Three tones that come and go."""
    seconds = np.arange(steps) / RATE
    return sum(np.sin(2 * np.pi * f * seconds) * (np.sin(2 * np.pi * 3 * seconds) > 0) for f in (400, 900, 1700))


@pytest.fixture(scope="module")
def pair() -> tuple[np.ndarray, np.ndarray]:
    clean = tones()
    noise = np.random.default_rng(0).standard_normal(len(clean))
    return clean, noise * np.linalg.norm(clean) / np.linalg.norm(noise) * 10 ** (-5 / 20)


@pytest.mark.parametrize("name", METHODS)
def test_each_takes_noise_off_and_no_gain_gives_the_sound_back(name: str, pair: tuple[np.ndarray, np.ndarray]) -> None:
    clean, noise = pair
    transform = transform_of(RATE)
    noisy = told(clean + noise, noise, transform)
    found = [si_sdr(denoise(name, noisy, strength, transform), clean) for strength in METHODS[name]]
    assert max(found) > 5 + (1 if name == "wavelet" else 4)
    quiet = told(clean, 1e-6 * noise, transform)
    if name != "wiener_blind":  # which takes what is always there for noise
        assert si_sdr(denoise(name, quiet, METHODS[name][0], transform), clean) > 25


def test_a_blind_filter_finds_the_level_of_noise_alone() -> None:
    noise = np.random.default_rng(1).standard_normal(20_000)
    noisy = told(noise, noise, transform_of(RATE))
    gains = [wiener(noisy, 0.95), blind_wiener(noisy, 0.35)]
    assert abs(np.log(gains[0].mean() / gains[1].mean())) < 0.2
    assert gains[1].mean() < 0.2


def test_windows_last_some_32_milliseconds() -> None:
    assert [transform_of(rate).width for rate in (8000, 16_000, 44_100, 100)] == [256, 512, 1024, 16]
