"""Sound: its transform, its noises, its spectra, and masks of them."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch
from instances import LIKELIHOODS, SERIES, SOUND, SOUND_CORRUPTIONS, SOUND_INPUTS, TABLE

from narrows import inputs
from narrows.bottlenecks.deterministic import Deterministic
from narrows.bottlenecks.gaussian import Gaussian
from narrows.corruptions import NoCorruption, SoundNoise
from narrows.corruptions.of_sound import NOISES, scaled_to
from narrows.decoders.conv import ConvDecoder
from narrows.decoders.lstm import AutoregressiveLSTMDecoder
from narrows.decoders.mlp import MLPDecoder
from narrows.encoders.conv import ConvEncoder
from narrows.encoders.mlp import MLPEncoder
from narrows.errors import UserError
from narrows.layers import ShortTimeFourier
from narrows.losses import ImportanceWeighted, SignalToNoise
from narrows.models import MaskingAutoencoder, Stages
from narrows.tasks import Generation, Interpretation, Likelihood
from narrows.training.callbacks.pictures import density_samples
from narrows.types import Batch, DataSpec, Given

# ── the transform ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("width", "hop"), [(16, 8), (16, 4), (16, 3), (64, 16)])
@pytest.mark.parametrize("steps", [1, 7, 64, 101])
def test_the_inverse_gives_the_signal_back(width: int, hop: int, steps: int) -> None:
    x, fourier = torch.randn(3, 2, steps), ShortTimeFourier(width, hop)
    spectrum = fourier(x)
    assert spectrum.shape == (3, 2, fourier.frequencies, fourier.frames(steps))
    torch.testing.assert_close(fourier.inverse(spectrum, steps), x, atol=1e-5, rtol=1e-4)


def test_white_noise_has_power_one_at_every_frequency() -> None:
    power = ShortTimeFourier(32, 8)(torch.randn(1, 1, 100_000)).abs().square().mean(-1)[0, 0]
    torch.testing.assert_close(power[1:-1], torch.ones(15), atol=0.1, rtol=0)


def test_a_tone_lies_at_its_own_frequency() -> None:
    power = ShortTimeFourier(64, 16)(torch.sin(2 * math.pi * 10 / 64 * torch.arange(640))[None, None]).abs()
    assert power[0, 0, :, 5:-5].argmax(0).unique().tolist() == [10]


@pytest.mark.parametrize(("width", "hop"), [(15, 4), (2, 1), (16, 9), (16, 0)])
def test_a_transform_that_cannot_be_inverted_is_refused(width: int, hop: int) -> None:
    with pytest.raises(UserError, match=r"width must be even|hop must be from 1 to half"):
        ShortTimeFourier(width, hop)


# ── noises ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", NOISES)
@pytest.mark.parametrize("level", [-5.0, 5.0])
def test_noise_is_at_its_ratio_and_leaves_the_zeros_behind_the_end(kind: str, level: float) -> None:
    x = torch.randn(6, 2, 400)
    x[:, :, 300:] = 0
    noisy, hidden = SoundNoise(DataSpec((2, 400), "audio", 9, rate=800), noises=[kind], snr=level)(Batch(x))
    noise = noisy - x
    ratio = 10 * (x.square().sum((1, 2)) / noise.square().sum((1, 2))).log10()
    torch.testing.assert_close(ratio, torch.full((6,), level), atol=1e-2, rtol=0)
    assert hidden is None
    assert not noise[:, :, 300:].any()


def test_silence_stays_silent_and_one_example_alone_gets_noise() -> None:
    spec = DataSpec((1, 200), "audio", 9, rate=800)
    for kind in NOISES:
        noise = SoundNoise(spec, noises=[kind], snr=0.0)
        assert not noise(Batch(torch.zeros(2, 1, 200)))[0].any()
        alone = torch.randn(1, 1, 200)
        assert not torch.equal(noise(Batch(alone))[0], alone)


def test_ratios_fill_their_range_and_kinds_are_all_drawn() -> None:
    x = torch.randn(400, 1, 64)
    noise = SoundNoise(DataSpec((1, 64), "audio", 9, rate=800), noises=["white", "impulses"], snr=[0, 20])
    found = noise(Batch(x))[0] - x
    ratio = 10 * (x.square().sum((1, 2)) / found.square().sum((1, 2))).log10()
    assert ratio.min() < 1
    assert ratio.max() > 19
    sparse = (found == 0).float().mean((1, 2)) > 0.5
    assert 0.4 < sparse.float().mean() < 0.6


def test_pink_noise_falls_by_three_decibels_an_octave_and_hum_is_of_the_mains() -> None:
    x = torch.zeros(200, 1, 2048)
    power = torch.fft.rfft(NOISES["pink"](x, 2048)).abs().square().mean((0, 1))
    octaves = [10 * float(power[low : 2 * low].mean().log10()) for low in (16, 32, 64, 128, 256)]
    np.testing.assert_allclose(np.diff(octaves), -3.01, atol=0.5)
    peaks = torch.fft.rfft(NOISES["hum"](torch.zeros(40, 1, 2048), 2048)[:, 0]).abs().argmax(1)
    assert set(peaks.tolist()) == {50, 60}


def test_babble_is_of_others() -> None:
    x = torch.zeros(3, 1, 500)
    for row, frequency in enumerate((20, 50, 90)):
        x[row, 0] = torch.sin(2 * math.pi * frequency / 500 * torch.arange(500))
    power = torch.fft.rfft(NOISES["babble"](x, 500)[:, 0]).abs().square()
    for row, frequency in enumerate((20, 50, 90)):
        others = [other for other in (20, 50, 90) if other != frequency]
        assert power[row, frequency] < 1e-3 * power[row, others].max()


@pytest.mark.parametrize("name", SOUND_CORRUPTIONS)
def test_equal_counters_give_equal_noise(name: str) -> None:
    corruption, x = SOUND_CORRUPTIONS[name](SOUND), torch.randn(4, *SOUND.shape)
    before, draws = x.clone(), []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        draws.append(corruption(Batch(x))[0])
    assert torch.equal(x, before)
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"noises": []}, "needs at least one of white"),
        ({"noises": ["whit"]}, "there is no noise 'whit': did you mean 'white'"),
        ({"snr": [10, 0]}, r"snr=\[10, 0\] must be one ratio"),
        ({"snr": [1, 2, 3]}, "must be one ratio"),
        ({"snr": 1000.0}, "must be one ratio"),
    ],
)
def test_noise_refuses(options: dict[str, object], sentence: str) -> None:
    with pytest.raises(UserError, match=f"corruption sound: .*{sentence}"):
        SoundNoise(SOUND, **options)
    with pytest.raises(UserError, match="takes data of kind audio, not series"):
        SoundNoise(SERIES)


def test_scaled_noise_of_no_energy_stays_nothing() -> None:
    assert not scaled_to(torch.zeros(1, 1, 5), torch.ones(1, 1, 5), torch.zeros(1)).any()


# ── spectra as input ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", SOUND_INPUTS)
@pytest.mark.parametrize("spec", [SOUND, SERIES], ids=["sound", "series"])
def test_spectra_have_their_shape_and_masks_say_what_they_do_not_know(name: str, spec: DataSpec) -> None:
    built, x = SOUND_INPUTS[name](spec), torch.randn(5, *spec.shape)
    unseen = torch.rand(x.shape) < 0.3
    unseen[0] = True
    found = [built(Batch(x.masked_fill(unseen, fill), hidden=unseen)) for fill in (0.0, 9.0)]
    mask = built.mask(unseen)
    assert found[0].shape == mask.shape == (5, *built.out_shape)
    assert torch.equal(found[0], found[1])
    assert mask[0].all()
    assert not built.mask(torch.zeros_like(unseen)).any()
    assert built.as_spectra(found[0]).shape[:2] == (5, spec.shape[0])


def test_loudness_is_left_out_where_it_is_asked() -> None:
    x = torch.randn(2, *SOUND.shape)
    for level, same in ((True, True), (False, False)):
        built = inputs.Spectrum(SOUND, width=16, hop=8, level=level)
        assert torch.allclose(built(Batch(x)), built(Batch(7 * x)), atol=1e-4) == same


def test_spectra_refuse_what_has_no_time() -> None:
    with pytest.raises(UserError, match=r"reads sound or series, \(C, T\), not vector"):
        inputs.Spectrum(TABLE)
    with pytest.raises(UserError, match=r"unknown input\.scale='loud'"):
        inputs.Spectrum(SOUND, scale="loud")  # type: ignore[arg-type]


# ── masks ───────────────────────────────────────────────────────────────────────────────────────────────


def masking(layout: str = "channels", bounded: bool = True, **stages: object) -> MaskingAutoencoder:
    halves = {"encoder": partial(MLPEncoder, widths=[8]), "decoder": partial(MLPDecoder, widths=[8])}
    built = {
        **halves,
        "bottleneck": partial(Deterministic, dim=4),
        "likelihood": LIKELIHOODS["gaussian_fixed"],
        "corruption": NoCorruption,
        "input": partial(inputs.Spectrum, width=16, hop=4, layout=layout),
    }
    return MaskingAutoencoder(SOUND, Stages(**(built | stages)), bounded=bounded)


@pytest.mark.parametrize("layout", ["channels", "map"])
def test_a_mask_of_one_gives_the_sound_back_and_one_of_zero_nothing(layout: str) -> None:
    network, x = masking(layout), torch.randn(3, *SOUND.shape)
    ones = torch.ones(3, 1, *network.input.as_spectra(torch.zeros(3, *network.input.out_shape)).shape[2:])
    torch.testing.assert_close(network.masked(x, ones), x, atol=1e-5, rtol=1e-4)
    assert not network.masked(x, 0 * ones).any()
    torch.testing.assert_close(network.masked(x, 0.5 * ones), x / 2, atol=1e-5, rtol=1e-4)


def test_masks_lie_where_they_are_asked_to() -> None:
    z = 100 * torch.randn(20, 4)
    bounded, free = masking().mask(z), masking(bounded=False).mask(z)
    assert bounded.min() >= 0
    assert bounded.max() <= 1
    assert free.min() < 0
    assert free.max() > 1


def test_the_answer_is_of_what_the_encoder_was_given_not_of_the_truth() -> None:
    network = masking(corruption=partial(SoundNoise, snr=-20.0)).eval()
    x = torch.randn(4, *SOUND.shape)
    torch.manual_seed(0)
    out = network(Batch(x))
    torch.testing.assert_close(out.p_x.mean, network.masked(out.seen.x, network.mask(out.latent.z)))
    torch.testing.assert_close(network.reconstruct(out.seen.x), out.p_x.mean)
    assert torch.equal(out.batch.x, x)


def test_terms_that_decode_again_hear_the_noise_too() -> None:
    network = masking(corruption=partial(SoundNoise, snr=-20.0), bottleneck=partial(Gaussian, dim=4)).eval()
    heard = []
    masked = network.masked
    network.masked = lambda x, mask: heard.append(x) or masked(x, mask)  # type: ignore[method-assign]
    out = network(Batch(torch.randn(2, *SOUND.shape)))
    ImportanceWeighted(samples=3)(out, network)
    assert torch.equal(heard[1], out.seen.x.repeat(3, 1, 1))


def test_pictures_of_a_variational_mask_leave_samples_out() -> None:
    network = masking(bottleneck=partial(Gaussian, dim=4)).eval()
    assert network.generative
    assert network.draw(3).shape == (3, 4)
    assert density_samples(network, 0) == {}
    assert Generation().fits(SOUND, network) is not None
    assert Interpretation().fits(SOUND, network) is not None
    assert Likelihood().fits(SOUND, network) is not None


@pytest.mark.parametrize("layout", ["channels", "map"])
def test_convolutions_write_masks_and_every_weight_learns(layout: str) -> None:
    halves = {
        "encoder": partial(ConvEncoder, channels=[4], flatten=False),
        "decoder": partial(ConvDecoder, channels=[4]),
    }
    network = masking(layout, **halves)
    SignalToNoise()(network(Batch(torch.randn(3, *SOUND.shape))), network).mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def test_masking_refuses_what_it_cannot_do() -> None:
    network = masking()
    with pytest.raises(UserError, match="a latent alone does not hold"):
        network.decode(torch.zeros(2, 4))
    with pytest.raises(UserError, match="a latent alone does not hold"):
        network.decode(torch.zeros(2, 4), Given())
    with pytest.raises(UserError, match="answers with a part of its input, and cannot be sampled"):
        network.sample(2)
    with pytest.raises(UserError, match="masks what input=spectrum reads, and input is Identity"):
        masking(input=inputs.Identity)
    with pytest.raises(UserError, match="gives p\\(x\\|z\\) its mean alone"):
        masking(likelihood=LIKELIHOODS["gaussian_value"])
    with pytest.raises(UserError, match="which is fed the steps before"):
        masking(decoder=partial(AutoregressiveLSTMDecoder, hidden=4))
