"""Classic codecs of sound: what they leave, what it costs, and that what comes back late is put in its place."""

from __future__ import annotations

import sys
import warnings

import numpy as np
import pytest

from narrows.data.sound_files import resampled
from narrows.errors import UserError
from narrows.tasks.classics.sound_codecs import (
    ADPCM,
    MP3,
    MuLaw,
    Opus,
    TransformCodec,
    delay,
    ima_adpcm,
    mu_law,
)
from narrows.tasks.measures.mel_distance import mel_distance
from narrows.tasks.measures.sound_figures import si_sdr

RATE = 8000


def voice(seconds: float = 1.0, seed: int = 0) -> np.ndarray:
    """Harmonics of a gliding pitch that come and go, `[1, T]`: what lies where is not to be mistaken."""
    draw = np.random.default_rng(seed)
    t = np.arange(round(seconds * RATE)) / RATE
    phase = 2 * np.pi * np.cumsum(140 + 40 * np.sin(2 * np.pi * 1.3 * t)) / RATE
    tones = sum(np.sin(k * phase + draw.uniform(0, 6)) / k for k in range(1, 12))
    found = tones * (0.55 + 0.45 * np.sin(2 * np.pi * 3.1 * t))
    return (0.4 * found / np.abs(found).max())[None].astype(np.float32)


def quality(coded: list[np.ndarray], sounds: list[np.ndarray]) -> float:
    return float(np.mean([si_sdr(guess, truth) for guess, truth in zip(coded, sounds, strict=True)]))


@pytest.mark.parametrize("rate", [8000, 48_000])
@pytest.mark.parametrize("late", [0, 1, 37, 1105])
def test_a_delay_is_measured_to_the_sample(rate: int, late: int) -> None:
    x = voice(0.5)[0]
    heard = np.pad(resampled(x[None], RATE, rate)[0], (late, 200)) * 0.7
    assert delay(heard, rate, x, RATE) == late


@pytest.mark.parametrize(("made", "kilobits", "least"), [(Opus, 64.0, 25.0), (MP3, 64.0, 25.0)])
def test_what_packets_hold_is_put_in_its_place(made: type[Opus] | type[MP3], kilobits: float, least: float) -> None:
    """A sample too early or too late would cost most of the ratio, which the last line asks."""
    pytest.importorskip("av")
    sounds = [voice(0.6), voice(0.3, 1)]
    codec = made(sounds, RATE)
    codec.check()
    coded = codec.coded((min(codec.settings, key=lambda setting: abs(setting[0] - kilobits))[0],))
    assert [sound.shape for sound in coded.sounds] == [sound.shape for sound in sounds]
    assert quality(coded.sounds, sounds) > least
    for moved in (-1, 1):
        assert quality([np.roll(sound, moved, 1) for sound in coded.sounds], sounds) < least - 8


def test_the_best_setting_that_fits_is_taken_and_the_smallest_where_none_does() -> None:
    pytest.importorskip("av")
    sounds = [voice(1.0)]
    opus, mp3 = Opus(sounds, RATE), MP3(sounds, RATE)
    budget = 2500  # 20 kbit/s
    found = opus.within(budget)
    assert budget / 2 < found.size <= budget
    assert quality(found.sounds, sounds) > quality(opus.within(900).sounds, sounds) + 1
    assert mp3.within(100).size == mp3.coded((8.0,)).size > 100


def test_without_the_package_it_is_said_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UserError, match=r"package av: pip install 'narrows\[codecs\]'"):
        Opus([voice()], RATE).check()


def test_adpcm_is_that_of_the_standard() -> None:
    """As Python's own `audioop` has it, which later Pythons have not; the first samples by hand."""
    x = voice(0.5)
    found = np.rint(ima_adpcm(x) * 32767).astype(int)[0]
    # From a guess of 0 and a step of 7: 12 is coded as 1 * 7 + 1 * 3 + 1 * 1, and half of the last place more.
    assert np.rint(ima_adpcm(np.array([[12 / 32767]])) * 32767).tolist() == [[11]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        audioop = pytest.importorskip("audioop")
    whole = np.rint(x[0].astype(np.float64) * 32767).astype("<i2").tobytes()
    wanted = audioop.adpcm2lin(audioop.lin2adpcm(whole, 2, None)[0], 2, None)[0]
    np.testing.assert_array_equal(found, np.frombuffer(wanted, "<i2"))


def test_mu_law_is_finer_where_it_is_quiet_and_keeps_what_it_has_written() -> None:
    x = np.linspace(-1, 1, 2001, dtype=np.float32)[None]
    eight = mu_law(x, 8)
    np.testing.assert_allclose(mu_law(eight, 8), eight, atol=1e-6)
    gap = np.abs(eight - x)[0]
    assert gap[990:1011].max() < 0.0005
    assert gap.max() < 0.025
    assert len(np.unique(mu_law(x, 3))) == 8
    assert si_sdr(mu_law(voice(), 8), voice()) > 35


@pytest.mark.parametrize("made", [MuLaw, ADPCM])
def test_codecs_of_samples_divide_the_rate_where_bytes_are_few(made: type[MuLaw] | type[ADPCM]) -> None:
    sounds = [voice(0.3), voice(0.2, 1)]
    codec = made(sounds, RATE)
    sizes = [codec.size(setting) for setting in codec.settings]
    assert sizes == sorted(sizes)
    assert codec.size((1.0, 8.0)) == 4000
    for budget in (600, 2500):
        found = codec.within(budget)
        assert found.size <= budget
        assert [sound.shape for sound in found.sounds] == [sound.shape for sound in sounds]
    assert quality(codec.within(2500).sounds, sounds) > quality(codec.within(600).sounds, sounds) + 3
    assert codec.within(1).size == min(sizes)


def test_halving_the_transform_codecs_step_wins_six_decibels() -> None:
    """`10 log10 4` where the step is far below what is coded, as of noise, and a bit for each sample."""
    draw = np.random.default_rng(0)
    sounds, train = ([draw.uniform(-0.5, 0.5, (1, steps)).astype(np.float32)] for steps in (24_000, 240_000))
    codec = TransformCodec(sounds, RATE, train)
    fine, finer = codec.code((0.02,)), codec.code((0.01,))
    assert quality(finer.sounds, sounds) - quality(fine.sounds, sounds) == pytest.approx(6.02, abs=0.15)
    assert 8 * (finer.size - fine.size) / 24_000 == pytest.approx(1, abs=0.05)
    # The error of rounding is spread evenly: step^2 / 12 of each sample.
    error = np.square(fine.sounds[0] - sounds[0]).mean()
    assert error == pytest.approx(0.02**2 / 12, rel=0.05)


def test_the_distance_of_mel_levels_is_in_decibels_and_does_not_ask_how_loud_both_are() -> None:
    noise = np.random.default_rng(0).standard_normal((1, 8000))
    assert mel_distance(noise, noise, RATE) == 0
    assert mel_distance(2 * noise, noise, RATE) == pytest.approx(6.02, abs=0.01)
    other = np.random.default_rng(1).standard_normal((1, 8000))
    far = mel_distance(other, noise, RATE)
    assert 1 < far < 10
    assert mel_distance(0.01 * other, 0.01 * noise, RATE) == pytest.approx(far)
    # What is 60 dB below the loudest is not told apart from what is quieter still.
    tone = voice()
    assert mel_distance(tone + 1e-7 * noise, tone, RATE) < 1e-3
    assert np.isnan(mel_distance(noise, np.zeros((1, 8000)), RATE))
