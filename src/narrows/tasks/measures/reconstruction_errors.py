"""Reconstruction figures, one definition each, summed over batches so that a partial last batch is exact."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.nn.functional import binary_cross_entropy

from narrows.evaluation import per_example
from narrows.losses.similarity import multi_scale_ssim, scales_of, structure
from narrows.tasks.measures.standard_errors import standard_error
from narrows.types import PIXELS, DataSpec, log_prob_of

BEST_PSNR = 100.0
"""Decibels given to an (almost) exact reconstruction, whose PSNR has no bound."""
_PROBABILITY = 1e-7
WINDOW = 11
"""Pixels of SSIM's Gaussian window (sigma 1.5) a side."""


def value_counts(truth: Tensor, observed: Tensor | None) -> Tensor:
    """Observed values of each example, `[B]`."""
    return per_example(torch.ones_like(truth, dtype=torch.float32), observed)


def example_mse(guess: Tensor, truth: Tensor, observed: Tensor | None) -> Tensor:
    """Squared error over observed values / their number, `[B]`; 0 for an example without any."""
    counts = value_counts(truth, observed)
    return per_example((guess - truth).square(), observed) / counts.clamp_min(1)


def example_nats(p_x: Distribution, truth: Tensor, observed: Tensor | None) -> Tensor:
    """`-log p(x|z)` of each example's observed values, `[B]`, float64 on the CPU."""
    return -per_example(log_prob_of(p_x, truth, observed))


def example_psnr(guess: Tensor, truth: Tensor, span: float, observed: Tensor | None = None) -> Tensor:
    """`10 log10(span^2 / MSE)` of each example in dB, `[B]`, at most `BEST_PSNR`."""
    return _decibels(example_mse(guess.float(), truth.float(), observed), span)


def _decibels(mse: Tensor, span: float) -> Tensor:
    return 10 * torch.log10(span**2 / mse.clamp_min(span**2 * 10 ** (-BEST_PSNR / 10)))


def has_ssim(spec: DataSpec) -> bool:
    """Whether these are images, slices or frames with room for SSIM's window."""
    return spec.kind in PIXELS and len(spec.shape) in (3, 4) and min(spec.shape[-2:]) >= WINDOW


def example_ssim(guess: Tensor, truth: Tensor, span: float) -> Tensor:
    """SSIM of each image of `[B, C, H, W]`, `[B]` float64: a Gaussian window of 11 pixels with sigma 1.5, K1 = 0.01,
    K2 = 0.03, mean over channels and positions, borders mirrored. Of volumes and video `[B, C, D, H, W]` the mean over
    slices or frames.

    "Image Quality Assessment: From Error Visibility to Structural Similarity" (Wang et al., 2004), equation 13.
    """
    return structure(_planes(guess), _planes(truth), span, WINDOW)[0].reshape(len(truth), -1).mean(1).cpu().double()


def frame_psnr(guess: Tensor, truth: Tensor, span: float) -> Tensor:
    """`10 log10(span^2 / MSE)` of each frame of `[B, C, T, H, W]` in dB, at most `BEST_PSNR`, the mean over frames,
    `[B]` float64: what video is judged by, where one bad frame costs less than in the PSNR of all values together."""
    errors = (guess.float() - truth.float()).square().mean((1, 3, 4))
    return _decibels(errors, span).mean(1).cpu().double()


def _planes(values: Tensor) -> Tensor:
    """Images as they are; slices or frames of `[B, C, D, H, W]` as images, `[B D, C, H, W]`."""
    return (values if values.ndim == 4 else values.transpose(1, 2).flatten(0, 1)).float()


def has_ms_ssim(spec: DataSpec) -> bool:
    """Whether these are images that can be compared on more scales than one."""
    return has_ssim(spec) and scales_of(min(spec.shape[-2:]), WINDOW) > 1


def example_ms_ssim(guess: Tensor, truth: Tensor, span: float) -> Tensor:
    """MS-SSIM of each image of `[B, C, H, W]`, `[B]` float64, as the loss of that name has it: over the scales that
    fit, their exponents divided by their sum; five, from 176 pixels a side, are the published ones. Of volumes and
    video the mean over slices or frames."""
    return multi_scale_ssim(_planes(guess), _planes(truth), span, WINDOW).reshape(len(truth), -1).mean(1).cpu().double()


class ErrorSums:
    """Streams reconstructions, `[B, *shape]` each, into three figures over observed values.

    - mse: sum of squared errors / number of values.
    - psnr: mean over examples of `10 log10(span^2 / MSE_example)` in dB, each at most `BEST_PSNR`.
    - bce: `-x log p - (1 - x) log(1 - p)` in nats per value, p the reconstruction clamped to
      [1e-7, 1 - 1e-7]; only where the data lie in [0, 1] (`unit`).

    Args:
        span: the largest value of the data minus the smallest.
        unit: whether the data lie in [0, 1].
    """

    def __init__(self, span: float, unit: bool) -> None:
        self.span, self.unit = span, unit
        self.squared = self.cross_entropy = self.decibels = 0.0
        self.values = 0.0
        self.examples = 0
        self._rows: list[Tensor] = []

    def add(self, guess: Tensor, truth: Tensor, observed: Tensor | None = None) -> None:
        guess, truth = guess.float(), truth.float()
        counts = value_counts(truth, observed)
        squared = per_example((guess - truth).square(), observed)
        seen = counts > 0
        decibels = _decibels(squared / counts.clamp_min(1), self.span)
        self._rows.append(torch.stack([squared, counts, decibels]))
        self.decibels += float(decibels[seen].sum())
        self.examples += int(seen.sum())
        self.squared += float(squared.sum())
        self.values += float(counts.sum())
        if self.unit:
            probability = guess.clamp(_PROBABILITY, 1 - _PROBABILITY)
            loss = binary_cross_entropy(probability, truth.clamp(0, 1), reduction="none")
            self.cross_entropy += float(per_example(loss, observed).sum())

    @property
    def example_errors(self) -> Tensor:
        """The mean squared error of every example, `[N]`, in the order in which they came; 0 for one without values."""
        squared, counts, _ = torch.cat(self._rows, 1)
        return squared / counts.clamp_min(1)

    def deviations(self) -> dict[str, float]:
        """Standard errors over examples, `mse_stderr` and `psnr_stderr`; that of the MSE, a ratio of sums, by
        linearisation ("Sampling Techniques", Cochran, 1977, section 6.3)."""
        rows = torch.cat(self._rows, 1)
        squared, counts, decibels = rows[:, rows[1] > 0]
        residual = (squared - self.mse * counts) / counts.mean()
        return {
            "mse_stderr": standard_error(residual.numpy()),
            "psnr_stderr": standard_error(decibels.numpy()),
        }

    @property
    def mse(self) -> float:
        return self.squared / max(self.values, 1)

    def figures(self) -> dict[str, float]:
        """`mse`, `psnr` and, where it is defined, `bce`."""
        found = {"mse": self.mse, "psnr": self.decibels / max(self.examples, 1)}
        if self.unit:
            found["bce"] = self.cross_entropy / max(self.values, 1)
        return found
