"""Terms that compare the structure of pictures."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from narrows.errors import require
from narrows.losses.objective import Term
from narrows.models.autoencoder import Autoencoder
from narrows.schedules import Schedule
from narrows.types import Output, at_least_single

EXPONENTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the scales, finest first (Wang et al., 2003, section 3.2)."""
SIGMA = 1.5


def gaussian_window(width: int, like: Tensor) -> Tensor:
    """`[width, width]`, sums to 1."""
    offsets = torch.arange(width, device=like.device, dtype=like.dtype) - width // 2
    line = (-offsets.square() / (2 * SIGMA**2)).exp()
    line = line / line.sum()
    return line[:, None] * line[None]


def structure(a: Tensor, b: Tensor, span: float, window: int) -> tuple[Tensor, Tensor]:
    """SSIM, with mirrored borders, and its contrast-structure factor, inside the borders: each `[B]`, means over
    positions and channels of `[B, C, H, W]` with values in a range of width `span` ("Image Quality Assessment: From
    Error Visibility to Structural Similarity", Wang et al., 2004, equation 13; K1 = 0.01, K2 = 0.03)."""
    margin = window // 2
    a, b = (F.pad(image, [margin] * 4, mode="reflect") for image in (a, b))
    # Five maps of one image's size each: the memory of one convolution's output.
    maps = torch.cat([a, b, a * a, b * b, a * b])
    kernel = gaussian_window(window, a).expand(a.shape[1], 1, window, window)
    mean_a, mean_b, square_a, square_b, product = F.conv2d(maps, kernel, groups=a.shape[1]).chunk(5)
    c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
    spread = (square_a - mean_a**2).clamp_min(0) + (square_b - mean_b**2).clamp_min(0)
    contrast = (2 * (product - mean_a * mean_b) + c2) / (spread + c2)
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    inside = contrast[..., margin : contrast.shape[-2] - margin, margin : contrast.shape[-1] - margin]
    return (luminance * contrast).flatten(1).mean(1), inside.flatten(1).mean(1)


def scales_of(side: int, window: int) -> int:
    """Number of scales on which pictures of that shorter side can be compared: the coarsest must have room for half a
    window, the others for a whole one."""
    scales = 1
    while scales < len(EXPONENTS) and side >= window and side // 2 > window // 2:
        side, scales = side // 2, scales + 1
    return scales


def multi_scale_ssim(a: Tensor, b: Tensor, span: float, window: int = 11) -> Tensor:
    """`prod_s cs_s^{beta_s} ssim_S^{beta_S}`, `[B]`, of `[B, C, H, W]` with values in a range of width `span`: 1 where
    they agree.

    Scale s is the picture averaged over blocks of 2^s x 2^s; cs is the contrast-structure factor of SSIM, and the
    coarsest scale S also has the luminance. Five scales need a shorter side of 176 with a window of 11; a smaller
    picture has as many as fit (28x28: three; 8x8: one), and their exponents are divided by their sum. A factor below
    0, where the pictures are anticorrelated, counts as 1e-6.

    "Multi-Scale Structural Similarity for Image Quality Assessment" (Wang et al., 2003), equation 7.
    """
    scales = scales_of(min(a.shape[-2:]), window)
    exponents = [beta / sum(EXPONENTS[:scales]) for beta in EXPONENTS[:scales]]
    likeness = torch.ones((), device=a.device)
    for scale, beta in enumerate(exponents, 1):
        whole, contrast = structure(a, b, span, window)
        likeness = likeness * (whole if scale == scales else contrast).clamp_min(1e-6) ** beta
        a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
    return likeness


class MultiScaleSSIM(Term):
    """`1 - MS-SSIM`, `[B]`, between the data and the mean of p(x|z), as `multi_scale_ssim` has it: 0 where they agree.

    Missing values are 0 in both. It has no unit: the weight is what a picture without any likeness costs, in nats.

    As a loss of autoencoders "Learning to Generate Images with Perceptual Similarity Metrics" (Snell et al., 2017,
    https://arxiv.org/abs/1511.06409).

    Args:
        weight: in nats.
        window: width of the Gaussian window (sigma = 1.5), odd.

    Raises:
        UserError: a negative weight, an even `window` or one below 3; data that are no images, have no smallest and
            largest value, or are smaller than half a window.

    Example:
        >>> image = torch.rand(2, 1, 8, 8)
        >>> out = Output(Batch(image), Batch(image), Latent(image, image), p_x=Normal(image, 1.0))
        >>> MultiScaleSSIM()(out, None).abs().round(decimals=4)
        tensor([0., 0.])
    """

    needs_mean = True

    def __init__(self, weight: float | Schedule = 1.0, window: int = 11) -> None:
        super().__init__(weight)
        require(window >= 3 and window % 2 == 1, f"term msssim: window must be odd and at least 3, not {window}")
        self.window = window
        self.span = 1.0

    def attach(self, model: Autoencoder) -> None:
        spec = model.spec
        shape = list(spec.shape)
        require(
            spec.kind == "image" and len(shape) == 3,
            f"term msssim compares images (C, H, W), but the data are a {spec.kind} of shape {shape}; use another loss",
        )
        assert len(shape) == 3
        require(
            spec.bounds is not None,
            "term msssim needs data with a smallest and a largest value, but these are unbounded; scale them to [0, 1]",
        )
        assert spec.bounds is not None
        side = min(shape[1:])
        require(
            side > self.window // 2,
            f"term msssim: a window of {self.window} needs images of at least {self.window // 2 + 1} pixels a side, "
            f"not {shape[1]} x {shape[2]}; use a smaller window",
        )
        self.span = spec.bounds[1] - spec.bounds[0]

    def forward(self, out: Output, model: Autoencoder) -> Tensor:
        data, mean = at_least_single(out.batch.truth), at_least_single(out.p_x.mean)
        if out.batch.observed is not None:
            data, mean = (image.masked_fill(~out.batch.observed, 0.0) for image in (data, mean))
        return 1 - multi_scale_ssim(data, mean, self.span, self.window)
