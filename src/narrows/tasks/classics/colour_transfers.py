"""Classic answers to style: what one picture takes over of another's colours or spectrum, without a network.

Pictures are `[C, H, W]` in [0, 1], of one channel or three.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from skimage.exposure import match_histograms

Array = NDArray[np.floating]

LMS = np.array([[0.3811, 0.5783, 0.0402], [0.1967, 0.7244, 0.0782], [0.0241, 0.1288, 0.8444]])
"""From red, green and blue to the responses of the eye's cones, as Reinhard et al. have it."""
OPPONENT = np.diag([3**-0.5, 6**-0.5, 2**-0.5]) @ np.array([[1, 1, 1], [1, 1, -2], [1, -1, 0]])
"""From their logarithms to l, alpha and beta, which are hardly correlated in natural scenes."""
DARKEST = 1 / 1024
"""Least response of a cone, because black has no logarithm."""
BAND = 0.05
"""Frequencies whose amplitudes are swapped: up to this share of the shorter side, in either direction."""


def match_each_histogram(content: Array, style: Array) -> Array:
    """The content, each channel of which has the style's histogram."""
    found: Array = match_histograms(content, style, channel_axis=0)
    return found


def transfer_colour(content: Array, style: Array) -> Array:
    """The content with the style's mean and deviation of l, alpha and beta; of grey pictures those of grey.

    "Color Transfer between Images" (Reinhard et al., 2001, https://doi.org/10.1109/38.946629).
    """
    own, wanted = (_opponent(picture) for picture in (content, style))
    mean, target = own.mean(1, keepdims=True), wanted.mean(1, keepdims=True)
    deviation, width = own.std(1, keepdims=True), wanted.std(1, keepdims=True)
    moved = (own - mean) * np.divide(width, deviation, out=np.zeros_like(width), where=deviation > 1e-12) + target
    return _displayed(moved, content.shape)


def swap_amplitudes(content: Array, style: Array) -> Array:
    """The content with the style's amplitudes of low frequencies (`BAND`) and its own phases; both have one size.

    "FDA: Fourier Domain Adaptation for Semantic Segmentation" (Yang and Soatto, 2020,
    https://arxiv.org/abs/2004.05498).
    """
    own, wanted = (np.fft.fftshift(np.fft.fft2(picture), (1, 2)) for picture in (content, style))
    (top, left), reach = (side // 2 for side in content.shape[1:]), int(BAND * min(content.shape[1:]))
    low = (slice(None), slice(top - reach, top + reach + 1), slice(left - reach, left + reach + 1))
    amplitude = np.abs(own)
    amplitude[low] = np.abs(wanted)[low]
    back = np.fft.ifftshift(amplitude * np.exp(1j * np.angle(own)), (1, 2))
    return np.fft.ifft2(back).real.clip(0, 1)


COLOUR_TRANSFERS: dict[str, Callable[[Array, Array], Array]] = {
    "histogram": match_each_histogram,
    "reinhard": transfer_colour,
    "fourier": swap_amplitudes,
}
"""By name."""


def _opponent(picture: Array) -> Array:
    """`[C, H * W]`: l, alpha and beta, or grey itself."""
    values = picture.reshape(len(picture), -1).astype(np.float64)
    return values if len(picture) == 1 else OPPONENT @ np.log10((LMS @ values).clip(DARKEST))


def _displayed(values: Array, shape: tuple[int, ...]) -> Array:
    back = values if shape[0] == 1 else np.linalg.inv(LMS) @ 10 ** (np.linalg.inv(OPPONENT) @ values)
    return back.reshape(shape).clip(0, 1)
