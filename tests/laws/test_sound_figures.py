"""Terms and figures of sound: ratios of signal to noise, distances of spectra, and intelligibility."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from torch.distributions import Normal

from narrows.losses import SignalToNoise, SpectralDistance
from narrows.tasks.measures.sound_figures import si_sdr, snr, stoi
from narrows.types import Batch, Latent, Output


def output(truth: torch.Tensor, mean: torch.Tensor) -> Output:
    return Output(Batch(truth), Batch(truth), Latent(truth, truth), p_x=Normal(mean, 1.0))


def orthogonal(ratio: float, steps: int = 600) -> tuple[np.ndarray, np.ndarray]:
    """A sound and a noise that is orthogonal to it, at so many decibels below it."""
    random = np.random.default_rng(0)
    x, noise = random.standard_normal((2, 1, steps))
    noise -= x * (x * noise).sum() / np.square(x).sum()
    return x, noise * np.linalg.norm(x) / np.linalg.norm(noise) * 10 ** (-ratio / 20)


@pytest.mark.parametrize("ratio", [-7.0, 0.0, 13.0])
def test_an_orthogonal_noise_is_measured_at_its_ratio(ratio: float) -> None:
    x, noise = orthogonal(ratio)
    assert si_sdr(x + noise, x) == pytest.approx(ratio, abs=1e-6)
    assert si_sdr(3 * (x + noise), x) == pytest.approx(ratio, abs=1e-6)
    assert snr(x + noise, x) == pytest.approx(ratio, abs=1e-6)
    for invariant in (False, True):
        pair = (torch.from_numpy(values)[None].float() for values in (x, x + noise))
        nats = SignalToNoise(scale_invariant=invariant)(output(*pair), None)  # type: ignore[arg-type]
        assert -20 / (x.size * math.log(10)) * nats.item() == pytest.approx(ratio, abs=1e-3)


def test_a_scaled_copy_has_no_distortion_but_noise() -> None:
    x, _ = orthogonal(0)
    assert si_sdr(-0.2 * x, x) == 100
    assert si_sdr(x, x) == snr(x, x) == 100
    assert snr(0.9 * x, x) == pytest.approx(20)
    assert si_sdr(0 * x, x) == -100
    assert math.isnan(si_sdr(x, 0 * x))
    assert math.isnan(snr(x, 0 * x))


def test_silence_has_a_finite_ratio_and_gradient() -> None:
    mean = torch.zeros(2, 1, 8, requires_grad=True)
    for invariant in (False, True):
        for truth in (torch.zeros(2, 1, 8), torch.ones(2, 1, 8)):
            nats = SignalToNoise(scale_invariant=invariant)(output(truth, mean), None).sum()  # type: ignore[arg-type]
            (gradient,) = torch.autograd.grad(nats, mean)
            assert nats.isfinite()
            assert gradient.isfinite().all()


def test_spectra_are_compared_without_their_phase() -> None:
    x = torch.randn(2, 1, 256)
    term = SpectralDistance(widths=[16, 64])
    found = [term(output(x, guess), None) for guess in (x, -x, x / 2, torch.randn(2, 1, 256))]  # type: ignore[arg-type]
    assert not found[0].any()
    torch.testing.assert_close(found[1], torch.zeros(2))
    # Half as loud: half of the norm is lost, and log 2 everywhere.
    torch.testing.assert_close(found[2], torch.full((2,), 256 * (0.5 + math.log(2))), rtol=1e-3, atol=0)
    assert (found[3] > 50).all()


def test_spectra_of_equal_and_silent_sounds_have_finite_gradients() -> None:
    mean = torch.zeros(1, 1, 64, requires_grad=True)
    (gradient,) = torch.autograd.grad(SpectralDistance(widths=[16])(output(mean.detach(), mean), None).sum(), mean)
    assert gradient.isfinite().all()


def speech_like(rate: int, seconds: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(1)
    steps = round(rate * seconds)
    envelope = np.abs(np.sin(2 * np.pi * 3 * np.arange(steps) / rate))
    clean = random.standard_normal(steps) * envelope
    clean[steps // 3 : steps // 2] *= 1e-4  # a pause, which does not count
    return clean, random.standard_normal(steps)


@pytest.mark.parametrize("rate", [8000, 10_000, 16_000])
def test_stoi_is_that_of_its_authors(rate: int) -> None:
    pystoi = pytest.importorskip("pystoi")
    clean, noise = speech_like(rate)
    for loud in (0.1, 0.6, 2.0):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            wanted = pystoi.stoi(clean, clean + loud * noise, rate)
        assert stoi(clean + loud * noise, clean, rate) == pytest.approx(wanted, abs=3e-3 if rate != 10_000 else 1e-6)


def test_stoi_of_the_clean_sound_is_one_and_of_too_short_a_one_not_told() -> None:
    clean, noise = speech_like(10_000)
    assert stoi(clean, clean, 10_000) == pytest.approx(1.0)
    assert stoi(5 * clean, clean, 10_000) == pytest.approx(1.0)
    assert abs(stoi(noise, clean, 10_000)) < 0.3
    assert math.isnan(stoi(clean[:2000], clean[:2000], 10_000))
    assert math.isnan(stoi(clean[:10], clean[:10], 10_000))
