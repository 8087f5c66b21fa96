"""The classic denoisers of signal processing, each at its best strength on held-out rows."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.restoration import denoise_nl_means, denoise_tv_chambolle, denoise_wavelet

log = logging.getLogger(__name__)

Array = NDArray[np.floating]
Filter = Callable[[Array, float], Array]
"""One channel `[H, W]` or `[T]` in units of the data's range, and a strength."""


def median(channel: Array, width: float) -> Array:
    """The median of a window `width` values wide."""
    return ndimage.median_filter(channel, size=int(width))


def gaussian(channel: Array, sigma: float) -> Array:
    """Convolution with a Gaussian of `sigma` values."""
    return ndimage.gaussian_filter(channel, sigma)


def total_variation(channel: Array, weight: float) -> Array:
    """ "An Algorithm for Total Variation Minimization and Applications" (Chambolle, 2004)."""
    return denoise_tv_chambolle(channel, weight=weight)


def wavelet(channel: Array, sigma: float) -> Array:
    """Soft thresholds of Daubechies-1 coefficients by BayesShrink for noise of deviation `sigma` ("Adaptive Wavelet
    Thresholding for Image Denoising and Compression", Chang, Yu and Vetterli, 2000)."""
    return denoise_wavelet(channel, sigma=sigma, method="BayesShrink", mode="soft", rescale_sigma=False)


def non_local_means(channel: Array, sigma: float) -> Array:
    """5x5 patches within 6 pixels, filtering parameter 0.8 `sigma` ("A Non-Local Algorithm for Image Denoising",
    Buades, Coll and Morel, 2005)."""
    return denoise_nl_means(channel, patch_size=5, patch_distance=6, h=0.8 * sigma, sigma=sigma, fast_mode=True)


def _fixed(*values: float) -> Callable[[float], Sequence[float]]:
    return lambda noise: values


def _of_noise(*factors: float) -> Callable[[float], Sequence[float]]:
    return lambda noise: [factor * noise for factor in factors]


FILTERS: dict[str, tuple[Filter, Callable[[float], Sequence[float]]]] = {
    "median": (median, _fixed(3, 5)),
    "gaussian_filter": (gaussian, _fixed(0.5, 0.75, 1.0, 1.5)),
    "tv": (total_variation, _of_noise(0.25, 0.5, 1.0, 1.5)),
    "wavelet": (wavelet, _of_noise(0.5, 1.0, 1.5)),
    "nlm": (non_local_means, _of_noise(0.5, 0.75, 1.0)),
}
"""By name, a filter and the strengths to choose from, given the root mean square of the noise."""
SMALLEST_NOISE = 1e-3
"""Smallest strength of a filter, as a share of the range; it must be above 0."""


def filters_for(shape: Sequence[int]) -> list[str]:
    """The filters that suit examples of this shape: none suits vectors, non-local means images alone."""
    return [name for name in FILTERS if len(shape) == 3 or (len(shape) == 2 and name != "nlm")]


def apply(name: str, rows: Array, strength: float, bounds: tuple[float, float]) -> Array:
    """`[N, C, *size]`, filtered channel by channel and clipped to `bounds`."""
    low, high = bounds
    unit = (np.asarray(rows, dtype=np.float64) - low) / (high - low)
    found = np.empty_like(unit)
    for place in np.ndindex(*unit.shape[:2]):
        found[place] = FILTERS[name][0](unit[place], strength)
    return np.clip(found, 0, 1) * (high - low) + low


def best_strength(name: str, noisy: Array, clean: Array, bounds: tuple[float, float]) -> float:
    """The strength with the smallest squared error on these rows, which are not the judged ones."""
    noise = float(np.sqrt(np.mean((noisy - clean) ** 2))) / (bounds[1] - bounds[0])
    strengths = FILTERS[name][1](max(noise, SMALLEST_NOISE))
    errors = [float(np.mean((apply(name, noisy, strength, bounds) - clean) ** 2)) for strength in strengths]
    chosen = strengths[int(np.argmin(errors))]
    log.info("denoising: %s at strength %.3g, of %s", name, chosen, ", ".join(f"{value:.3g}" for value in strengths))
    return chosen
