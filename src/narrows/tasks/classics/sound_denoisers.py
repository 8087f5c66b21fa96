"""The classic denoisers of sound. Each reads one channel `[T]`; all but the blind one are told the noise's own power at
every frequency."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from skimage.restoration import denoise_wavelet

from narrows.layers.spectra import ShortTimeFourier

Array = NDArray[Any]
WINDOW_SECONDS = 0.032
LEAST_GAIN = 10 ** (-25 / 20)
"""Of the a-priori ratio in Ephraim and Malah's rule, and of gates that are shut."""
BLIND_SMOOTHING = 0.95
REMAINS = 0.01
"""Share of the noise's power that spectral subtraction leaves, against musical tones."""


@dataclass
class Noisy:
    """A noisy channel and what is told of its noise."""

    x: Array
    """`[T]`."""
    spectrum: Array
    """complex `[F, K]`."""
    noise_power: Array
    """Mean power of the noise, `[F]`."""
    noise_spread: Array
    """Standard deviation of its level in dB, `[F]`."""
    noise_sigma: float
    """Root mean square of the noise's samples."""


def spectral_subtraction(noisy: Noisy, factor: float) -> Array:
    """Gains that leave the power less `factor` times the noise's, and at least a hundredth of that: "Enhancement of
    speech corrupted by acoustic noise" (Berouti et al., 1979, https://doi.org/10.1109/ICASSP.1979.1170788)."""
    power = np.square(np.abs(noisy.spectrum)) + 1e-20
    noise = noisy.noise_power[:, None]
    return np.sqrt(np.maximum(power - factor * noise, REMAINS * noise) / power).clip(0, 1)


def wiener(noisy: Noisy, smoothing: float) -> Array:
    """Wiener gains of an a-priori ratio of signal to noise that is estimated frame by frame, `decision-directed`:
    "Speech Enhancement Using a Minimum Mean-Square Error Short-Time Spectral Amplitude Estimator" (Ephraim and Malah,
    1984, https://doi.org/10.1109/TASSP.1984.1164453), equation 51, with the gain of Scalart and Filho (1996,
    https://doi.org/10.1109/ICASSP.1996.543199)."""
    ratio = np.square(np.abs(noisy.spectrum)) / np.maximum(noisy.noise_power, 1e-20)[:, None]
    gains = np.empty_like(ratio)
    before = np.maximum(ratio[:, 0] - 1, 0)
    for frame in range(ratio.shape[1]):
        prior = smoothing * before + (1 - smoothing) * np.maximum(ratio[:, frame] - 1, 0)
        prior = np.maximum(prior, LEAST_GAIN**2)
        gains[:, frame] = prior / (1 + prior)
        before = np.square(gains[:, frame]) * ratio[:, frame]
    return gains


def blind_wiener(noisy: Noisy, share: float) -> Array:
    """`wiener`, told nothing: the noise's power at a frequency is that of the quietest `share` of the frames, as if it
    were exponentially distributed there ("Quantile based noise estimation for spectral subtraction and Wiener
    filtering", Stahl, Fischer and Bippus, 2000, https://doi.org/10.1109/ICASSP.2000.862122)."""
    power = np.quantile(np.square(np.abs(noisy.spectrum)), share, axis=1) / -np.log1p(-share)
    return wiener(replace(noisy, noise_power=power), BLIND_SMOOTHING)


def spectral_gate(noisy: Noisy, deviations: float) -> Array:
    """Gates that open where the level is so many standard deviations above the noise's mean level, smoothed over 3
    frequencies and 3 frames: the noise reduction of Audacity and of `noisereduce` ("Finding, visualizing, and
    quantifying latent structure across diverse animal vocal repertoires", Sainburg et al., 2020,
    https://doi.org/10.1371/journal.pcbi.1008228)."""
    level = 10 * np.log10(np.square(np.abs(noisy.spectrum)) + 1e-20)
    threshold = 10 * np.log10(noisy.noise_power + 1e-20) + deviations * noisy.noise_spread
    open_gates = (level > threshold[:, None]).astype(np.float64)
    smooth = ndimage.uniform_filter(open_gates, 3, mode="nearest")
    return LEAST_GAIN + (1 - LEAST_GAIN) * smooth


def wavelet(noisy: Noisy, factor: float) -> Array:
    """Soft thresholds of Daubechies-8 coefficients by BayesShrink ("Adaptive Wavelet Thresholding for Image Denoising
    and Compression", Chang, Yu and Vetterli, 2000, https://doi.org/10.1109/83.862633), `[T]`."""
    sigma = max(factor * noisy.noise_sigma, 1e-9)
    return denoise_wavelet(noisy.x, sigma=sigma, wavelet="db8", method="BayesShrink", mode="soft", rescale_sigma=False)


GAINS: dict[str, tuple[Callable[[Noisy, float], Array], Sequence[float]]] = {
    "spectral_subtraction": (spectral_subtraction, (1.0, 2.0, 4.0)),
    "wiener": (wiener, (0.9, 0.95, 0.98)),
    "wiener_blind": (blind_wiener, (0.1, 0.2, 0.35, 0.5)),
    "spectral_gate": (spectral_gate, (0.0, 0.5, 1.0, 1.5)),
}
"""By name, what gives gains of the spectrum, and the strengths to choose from."""
DIRECT = {"wavelet": (wavelet, (0.5, 1.0, 1.5))}
"""By name, what gives the sound itself."""
METHODS: dict[str, Sequence[float]] = {name: strengths for name, (_, strengths) in (GAINS | DIRECT).items()}


def transform_of(rate: int) -> ShortTimeFourier:
    """Windows of the power of two nearest to 32 ms, four to a window."""
    width = max(16, 2 ** round(np.log2(WINDOW_SECONDS * rate)))
    return ShortTimeFourier(width, width // 4)


def told(x: Array, noise: Array, transform: ShortTimeFourier) -> Noisy:
    """A noisy channel `[T]` and its own noise `[T]`, of which the mean spectrum is told."""
    spectra = [transform(torch.from_numpy(one.astype(np.float32))[None, None])[0, 0].numpy() for one in (x, noise)]
    power = np.square(np.abs(spectra[1])).astype(np.float64)
    spread = (10 * np.log10(power + 1e-12)).std(1)
    return Noisy(x, spectra[0], power.mean(1), spread, float(np.sqrt(np.mean(np.square(noise)))))


def denoise(name: str, noisy: Noisy, strength: float, transform: ShortTimeFourier) -> Array:
    """The channel as a method restores it, `[T]`."""
    if name in DIRECT:
        return DIRECT[name][0](noisy, strength)
    gained = torch.from_numpy((noisy.spectrum * GAINS[name][0](noisy, strength)).astype(np.complex64))
    found: Array = transform.inverse(gained[None, None], len(noisy.x))[0, 0].numpy()
    return found
