"""Noise of sound, added at a ratio of signal to noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from narrows.corruptions.base import Corrupted, Corruption
from narrows.errors import nearest, require
from narrows.types import DataSpec

TALKERS = 4
"""Other examples that are mixed to babble."""
MAINS = (50.0, 60.0)
HARMONICS = 8
CLICKS_PER_SECOND = 20.0
LOUDEST_SNR, QUIETEST_SNR = -60.0, 120.0


def white(x: Tensor, rate: int) -> Tensor:
    """Gaussian noise of equal power at all frequencies."""
    return torch.randn_like(x)


def pink(x: Tensor, rate: int) -> Tensor:
    """Gaussian noise whose power falls with frequency, as 1/f, without a mean."""
    steps = x.shape[-1]
    spectrum = torch.fft.rfft(torch.randn_like(x))
    falling = torch.arange(spectrum.shape[-1], device=x.device, dtype=x.dtype).clamp_min(1).rsqrt()
    falling[0] = 0.0
    return torch.fft.irfft(spectrum * falling, n=steps)


def babble(x: Tensor, rate: int) -> Tensor:
    """The sum of `TALKERS` other examples of the batch, each of power 1 and turned round in time to a random place. An
    example that is alone in its batch is talked over by itself, backwards."""
    rows, steps = len(x), x.shape[-1]
    one = x.flip(-1) if rows == 1 else x
    loud = one / one.square().flatten(1).mean(1).sqrt().clamp_min(1e-12).reshape(-1, *[1] * (x.ndim - 1))
    step = torch.arange(steps, device=x.device)
    found = torch.zeros_like(x)
    for _ in range(TALKERS):
        distance = torch.randint(1, max(rows, 2), (rows,), device=x.device)
        other = loud[(torch.arange(rows, device=x.device) + distance) % rows]
        shift = torch.randint(steps, (rows, 1), device=x.device)
        found += other.gather(-1, ((step + shift) % steps)[:, None].expand_as(x))
    return found


def hum(x: Tensor, rate: int) -> Tensor:
    """The mains, 50 or 60 Hz, and its harmonics below half the sampling rate, of amplitudes that fall as 1/k, each with
    a phase of its own."""
    rows = len(x)
    mains = torch.tensor(MAINS, device=x.device, dtype=x.dtype)[torch.randint(2, (rows,), device=x.device)]
    seconds = torch.arange(x.shape[-1], device=x.device, dtype=x.dtype) / rate
    found = torch.zeros(rows, x.shape[-1], device=x.device, dtype=x.dtype)
    for k in range(1, HARMONICS + 1):
        phase = 2 * math.pi * torch.rand(rows, 1, device=x.device, dtype=x.dtype)
        tone = torch.sin(2 * math.pi * k * mains[:, None] * seconds + phase) / k
        found += tone * (k * mains < rate / 2)[:, None]
    return found[:, None].expand_as(x)


def impulses(x: Tensor, rate: int) -> Tensor:
    """Clicks of one sample, some `CLICKS_PER_SECOND` and at least one, of normal heights, the same in all channels."""
    rows, steps = len(x), x.shape[-1]
    struck = torch.rand(rows, 1, steps, device=x.device) < min(1.0, CLICKS_PER_SECOND / rate)
    sure = torch.randint(steps, (rows, 1, 1), device=x.device)
    struck = struck.scatter(2, sure, True)
    return (struck * torch.randn(rows, 1, steps, device=x.device, dtype=x.dtype)).expand_as(x)


NOISES: dict[str, Callable[[Tensor, int], Tensor]] = {
    "white": white,
    "pink": pink,
    "babble": babble,
    "hum": hum,
    "impulses": impulses,
}
"""By its name, what makes a noise of any power of the shape of the clean `x [B, C, T]`, given the sampling rate."""


def until_the_end(x: Tensor) -> Tensor:
    """bool `[B, 1, T]`: True up to the last sample of `x [B, C, T]` that is not 0 in all channels. The zeros behind it
    fill a window up, and are no sound."""
    sounds = (x != 0).any(1, keepdim=True)
    return sounds.flip(-1).cummax(-1).values.flip(-1)


def scaled_to(noise: Tensor, x: Tensor, snr: Tensor) -> Tensor:
    """The noise at so many decibels below the clean `x [B, C, T]`, and 0 behind its end: `10 log10` of the energy of x
    over that of the noise is `snr [B]`. Where x is silent there is none."""
    noise = noise * until_the_end(x)
    energy, own = (values.square().flatten(1).sum(1) for values in (x, noise))
    factor = (energy / own.clamp_min(1e-30) * 10 ** (-snr / 10)).sqrt()
    return noise * factor.reshape(-1, *[1] * (x.ndim - 1)).to(noise.dtype)


class SoundNoise(Corruption):
    """Noise added to sound, for each example of a kind drawn from `noises` and at a ratio of signal to noise drawn
    evenly from `snr`, in decibels.

    `white` and `pink` are Gaussian, `babble` is other examples of the batch, `hum` the mains and its harmonics, and
    `impulses` are clicks. The ratio is that of the energies of a whole example; the zeros that fill its window up get
    no noise. The sum may leave [-1, 1].

    Noise at a range of ratios in training: "Speech Enhancement Based on Deep Denoising Autoencoder" (Lu et al., 2013,
    https://doi.org/10.21437/Interspeech.2013-130), section 3.

    Args:
        noises: at least one of `NOISES`.
        snr: one ratio, or the smallest and the largest, from -60 to 120.

    Raises:
        UserError: an unknown kind or none, ratios out of their range, or data that are no sound.
    """

    kinds = ("audio",)

    def __init__(
        self, spec: DataSpec, *, noises: Sequence[str] = ("white",), snr: float | Sequence[float] = (0.0, 20.0)
    ) -> None:
        super().__init__(spec)
        require(len(noises) > 0, f"corruption sound: noises needs at least one of {', '.join(NOISES)}")
        for kind in noises:
            require(kind in NOISES, f"corruption sound: there is no noise '{kind}': {nearest(str(kind), NOISES)}")
        ends = [float(snr)] * 2 if isinstance(snr, (int, float)) else [float(end) for end in snr]
        right = len(ends) == 2 and LOUDEST_SNR <= ends[0] <= ends[-1] <= QUIETEST_SNR
        require(right, f"corruption sound: snr={snr} must be one ratio in decibels or two in order, such as [0, 20]")
        require(spec.rate is not None, "corruption sound needs to know how many samples a second has (DataSpec.rate)")
        assert spec.rate is not None
        self.noises, self.snr, self.rate = tuple(noises), (ends[0], ends[1]), spec.rate

    def corrupt(self, x: Tensor) -> Corrupted:
        low, high = self.snr
        snr = low + (high - low) * torch.rand(len(x), device=x.device)
        chosen = torch.randint(len(self.noises), (len(x),), device=x.device)
        noise = torch.zeros_like(x)
        for number, kind in enumerate(self.noises):
            noise = torch.where((chosen == number)[:, None, None], NOISES[kind](x, self.rate), noise)
        return x + scaled_to(noise, x, snr), None
