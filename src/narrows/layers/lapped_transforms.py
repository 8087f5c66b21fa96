"""What codecs of sound are made of here: a lapped transform that starts as the MDCT, and dilated units between frames.

Legend: B examples, C channels of sound, T samples, M samples of a hop, N = C M coefficients of a frame, K = T / M
frames.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from narrows.errors import require
from narrows.layers.blocks import odd_kernel
from narrows.layers.stages import activation as make_activation
from narrows.types import Shape

MOST_UNITS = 6


def require_frames(shape: Shape, hop: int, part: str) -> None:
    """Refuse what is no `(C, T)` of whole hops.

    Raises:
        UserError: says the shape.
    """
    require(isinstance(hop, int) and hop >= 2 and hop % 2 == 0, f"{part} needs an even hop of at least 2, not {hop}")
    require(len(shape) == 2, f"{part} works on sound and series (C, T), not on shape {list(shape)}")
    require(
        shape[1] % hop == 0,
        f"{part} works on multiples of hop={hop} samples, not on {shape[1]}: choose a window or a hop that fits",
    )


def mdct(hop: int) -> Tensor:
    """The modified discrete cosine transform under a sine window, `[M, 2 M]`: its rows are orthonormal, and frames that
    overlap by a half add up to what was transformed.

    "Subband/transform coding using filter bank designs based on time domain aliasing cancellation" (Princen et al.,
    1987, https://doi.org/10.1109/ICASSP.1987.1169405).
    """
    n = torch.arange(2 * hop, dtype=torch.float64)
    k = torch.arange(hop, dtype=torch.float64)[:, None]
    window = torch.sin(math.pi * (n + 0.5) / (2 * hop))
    return (math.sqrt(2 / hop) * window * torch.cos(math.pi / hop * (n + 0.5 + hop / 2) * (k + 0.5))).float()


def _of_channels(channels: int, hop: int) -> Tensor:
    """The transform of every channel by itself, `[C M, C, 2 M]`."""
    found = torch.zeros(channels, hop, channels, 2 * hop)
    for channel in range(channels):
        found[channel, :, channel] = mdct(hop)
    return found.flatten(0, 1)


class LappedAnalysis(nn.Conv1d):
    """`[B, C, T] -> [B, N, K]`: frames of 2 M samples, M apart, and half a hop around both ends."""

    def __init__(self, channels: int, hop: int) -> None:
        super().__init__(channels, channels * hop, 2 * hop, stride=hop, padding=hop // 2, bias=False)
        self.weight.data.copy_(_of_channels(channels, hop))


class LappedSynthesis(nn.ConvTranspose1d):
    """`[B, N, K] -> [B, C, T]`: the transpose of `LappedAnalysis`, which inverts it but for half a hop at both ends."""

    def __init__(self, channels: int, hop: int) -> None:
        super().__init__(channels * hop, channels, 2 * hop, stride=hop, padding=hop // 2, bias=False)
        self.weight.data.copy_(_of_channels(channels, hop))


class DilatedUnit(nn.Module):
    """x + f(x), where f is activation, dilated convolution, activation, linear map of every frame."""

    def __init__(self, channels: int, kernel: int, dilation: int, activation: str) -> None:
        super().__init__()
        self.change = nn.Sequential(
            make_activation(activation),
            nn.Conv1d(channels, channels, kernel, dilation=dilation, padding=kernel // 2 * dilation),
            make_activation(activation),
            nn.Conv1d(channels, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        change: Tensor = self.change(x)
        return x + change


class BetweenFrames(nn.Module):
    """x + f(x), `[B, N, K] -> [B, N, K]`, where f is a network of dilated units that starts as 0.

    "SEANet: A Multi-modal Speech Enhancement Network" (Tagliasacchi et al., 2020, https://arxiv.org/abs/2009.02095) for
    the units, as in "SoundStream" (Zeghidour et al., 2021, https://arxiv.org/abs/2107.03312), section III-A.

    Args:
        size: N.
        width: channels inside the network.
        units: of dilations 1, 3, 9 and so on.
        kernel_size: of each, odd.
        activation: a name in `narrows.layers.stages.ACTIVATIONS`.
        part: in messages.

    Raises:
        UserError: an argument out of its range.
    """

    def __init__(self, size: int, width: int, units: int, kernel_size: int, activation: str, part: str) -> None:
        super().__init__()
        require(isinstance(width, int) and width >= 1, f"{part} needs width of at least 1, not {width}")
        right = isinstance(units, int) and 0 <= units <= MOST_UNITS
        require(right, f"{part} needs units from 0 to {MOST_UNITS}, not {units}")
        kernel = odd_kernel(kernel_size, part)
        last = nn.Conv1d(width, size, 1)
        nn.init.zeros_(last.weight)
        assert last.bias is not None
        nn.init.zeros_(last.bias)
        self.change = nn.Sequential(
            nn.Conv1d(size, width, kernel, padding=kernel // 2),
            *(DilatedUnit(width, kernel, 3**number, activation) for number in range(units)),
            make_activation(activation),
            last,
        )

    def forward(self, x: Tensor) -> Tensor:
        change: Tensor = self.change(x)
        return x + change
