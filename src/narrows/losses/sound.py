"""Terms that judge sound by its own ratio of signal to noise, and by its spectra."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from narrows.errors import require
from narrows.layers.spectra import ShortTimeFourier
from narrows.losses.objective import Term
from narrows.models.autoencoder import Autoencoder
from narrows.schedules import Schedule
from narrows.types import Output, at_least_single, row_sums

QUIETEST = 1e-8
"""Mean square below which nothing is told apart: -80 dB."""
LEAST_POWER = 1e-7
"""Added to the power of spectra, so that their logarithm does not follow what nobody hears."""


def _pair(out: Output) -> tuple[Tensor, Tensor]:
    """The truth and the mean of p(x|z), `[B, *shape]`, 0 where nothing was measured and behind the end."""
    truth, mean, judged = at_least_single(out.batch.truth), at_least_single(out.p_x.mean), out.batch.judged
    if judged is None:
        return truth, mean
    return truth.masked_fill(~judged, 0.0), mean.masked_fill(~judged, 0.0)


class SignalToNoise(Term):
    """`D / 2 log(|x - x'|^2 / |x|^2)`, `[B]`, in nats, where x' is the mean of p(x|z) and D the number of values.

    Up to a constant it is the negative log-likelihood of an example under a Gaussian whose sigma is the likeliest one
    for that very example, so that quiet examples count as much as loud ones; in decibels, the ratio of signal to noise
    that it raises is `-20 / (D log 10)` times it. With `scale_invariant` x is first scaled to lie as near to x' as it
    can, and the ratio is SI-SDR.

    "SDR - half-baked or well done?" (Le Roux et al., 2019, https://arxiv.org/abs/1811.02508), equations 1 and 5; as a
    loss, "TasNet: time-domain audio separation network for real-time, single-channel speech separation" (Luo and
    Mesgarani, 2018, https://arxiv.org/abs/1711.00541), section 2.3.

    Args:
        weight: of the nats.
        scale_invariant: whether loudness does not matter.

    Example:
        >>> x = torch.tensor([[3.0, 4.0]])
        >>> out = Output(Batch(x), Batch(x), Latent(x, x), p_x=Normal(0.9 * x, 1.0))
        >>> SignalToNoise()(out, None)  # log 0.01
        tensor([-4.6052])
    """

    needs_mean = True

    def __init__(self, weight: float | Schedule = 1.0, scale_invariant: bool = False) -> None:
        super().__init__(weight)
        self.scale_invariant = scale_invariant

    def forward(self, out: Output, model: Autoencoder) -> Tensor:
        truth, mean = (values.flatten(1) for values in _pair(out))
        least = QUIETEST * truth.shape[1]
        if self.scale_invariant:
            truth = truth * (row_sums(truth * mean) / row_sums(truth.square()).clamp_min(least))[:, None]
        noise, signal = row_sums((truth - mean).square()), row_sums(truth.square())
        return truth.shape[1] / 2 * ((noise + least).log() - (signal + least).log())


class SpectralDistance(Term):
    """`D` times the mean over `widths` of the distance between the short-time spectra of the data and of the mean of
    p(x|z), `[B]`: `|A - A'| / |A|` (Frobenius norms, of magnitudes) plus the mean of `|log A - log A'|`.

    It has no unit; a weight of 1 lets it cost as much as an absolute error of its size at every value does under a
    Laplace likelihood of scale 1. It does not ask for the phase.

    "Parallel WaveGAN: A fast waveform generation model based on generative adversarial networks with multi-resolution
    spectrogram" (Yamamoto et al., 2020, https://arxiv.org/abs/1910.11480), equations 2 to 6.

    Args:
        weight: of the distance, for each value of the data.
        widths: samples of the windows, each of which moves by a quarter of itself.

    Raises:
        UserError: a negative weight, widths that are no multiples of 4, or data that are no `[C, T]`.

    Example:
        >>> x = torch.randn(2, 1, 64)
        >>> out = Output(Batch(x), Batch(x), Latent(x, x), p_x=Normal(x, 1.0))
        >>> SpectralDistance(widths=[16, 32])(out, None)
        tensor([0., 0.])
    """

    needs_mean = True

    def __init__(self, weight: float | Schedule = 1.0, widths: Sequence[int] = (64, 256, 1024)) -> None:
        super().__init__(weight)
        right = len(widths) > 0 and all(width >= 4 and width % 4 == 0 for width in widths)
        require(right, f"term spectral: widths={list(widths)} must be multiples of 4, at least one")
        self.transforms = nn.ModuleList(ShortTimeFourier(width, width // 4, "term spectral") for width in widths)

    def attach(self, model: Autoencoder) -> None:
        shape = list(model.spec.shape)
        require(
            len(shape) == 2 and model.spec.kind != "tokens",
            f"term spectral compares sound or series, (C, T), but the data are {model.spec.kind} of shape {shape}",
        )

    def forward(self, out: Output, model: Autoencoder) -> Tensor:
        truth, mean = _pair(out)
        found = [self._distance(*(_powers(transform, x) for x in (truth, mean))) for transform in self.transforms]
        return truth[0].numel() * torch.stack(found).mean(0)

    def _distance(self, wanted: Tensor, found: Tensor) -> Tensor:
        """Between powers `[B, C, F, K]`."""
        # An offset under the root keeps the derivative finite where spectra are equal.
        gap: Tensor = (row_sums((wanted.sqrt() - found.sqrt()).square()) + LEAST_POWER).sqrt() - LEAST_POWER**0.5
        logs = (wanted.log() - found.log()).abs().flatten(1).mean(1) / 2
        return gap / row_sums(wanted).sqrt() + logs


def _powers(transform: nn.Module, x: Tensor) -> Tensor:
    power: Tensor = torch.view_as_real(transform(x)).square().sum(-1) + LEAST_POWER
    return power
