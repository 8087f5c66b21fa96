"""Dilated convolutions over time: what a temporal convolutional network is made of.

Legend: B examples, C channels, T steps, k the kernel's size, d its dilation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from narrows.errors import require
from narrows.layers.blocks import counts, odd_kernel, probability
from narrows.layers.recomputing import recomputed
from narrows.layers.stages import AxisLinear

MOST_BLOCKS = 16
"""With a kernel of 3 they reach over 131,070 steps to each side."""


@dataclass
class Past:
    """The inputs that a causal convolution still reads, `[B, C, (k - 1) d]`; None: there were none yet."""

    values: Tensor | None = None


class DilatedConvolution(nn.Conv1d):
    """`[B, C, T] -> [B, out, T]`, of steps that lie d apart, with zeros before the first step and behind the last.
    Causal, step t reads none behind it; else as many behind as before."""

    def __init__(self, inputs: int, outputs: int, kernel: int, dilation: int, causal: bool) -> None:
        super().__init__(inputs, outputs, kernel, dilation=dilation)
        self.reach, self.causal = (kernel - 1) * dilation, causal

    def forward(self, x: Tensor, past: Past | None = None) -> Tensor:
        """With a past, `x` is what follows it, and the past is moved on."""
        if not self.causal:
            return super().forward(F.pad(x, (self.reach // 2, self.reach // 2)))
        before = None if past is None else past.values
        whole = F.pad(x, (self.reach, 0)) if before is None else torch.cat([before, x], 2)
        if past is not None:
            past.values = whole[..., whole.shape[2] - self.reach :]
        return super().forward(whole)


class StepNorm(nn.LayerNorm):
    """Layer norm over the channels of every step by itself, `[B, C, T]`: statistics over time would let a step know of
    those behind it."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.transpose(1, 2)).transpose(1, 2)


class TemporalBlock(nn.Module):
    """x + f(x), where f is norm, ReLU, dilated convolution, dropout, twice; a linear map of x where widths differ."""

    def __init__(self, inputs: int, outputs: int, kernel: int, dilation: int, causal: bool, dropout: float) -> None:
        super().__init__()
        self.norms = nn.ModuleList([StepNorm(inputs), StepNorm(outputs)])
        self.convolutions = nn.ModuleList(
            DilatedConvolution(width, outputs, kernel, dilation, causal) for width in (inputs, outputs)
        )
        self.dropout = nn.Dropout(dropout)
        self.around = AxisLinear(inputs, outputs) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, inside: Tensor | None = None, pasts: Sequence[Past | None] = (None, None)) -> Tensor:
        """`[B, C, T] -> [B, out, T]`; where `inside` (`[B, 1, T]`) is False stands padding, which is as good as zeros
        behind the end."""
        h = x
        for norm, convolution, past in zip(self.norms, self.convolutions, pasts, strict=True):
            h = F.relu(norm(h))
            h = h if inside is None else h.masked_fill(~inside, 0)
            h = self.dropout(convolution(h, past))
        around: Tensor = self.around(x)
        return around + h


class TemporalConvolutions(nn.Module):
    """A temporal convolutional network: a linear map to the first width and a block for every entry of `channels`, the
    i-th with a dilation of 2^i; then norm and ReLU. `[B, inputs, T] -> [B, channels[-1], T]`.

    A step reads `reach` steps before it, and as many behind it where it is not causal.

    "An Empirical Evaluation of Generic Convolutional and Recurrent Networks for Sequence Modeling" (Bai et al., 2018),
    https://arxiv.org/abs/1803.01271, with norms in place of normalised weights, and before the convolutions
    ("Identity Mappings in Deep Residual Networks", He et al., 2016, https://arxiv.org/abs/1603.05027).

    Args:
        inputs: channels of what is read.
        channels: width of each block.
        kernel_size: odd.
        causal: whether no step reads those behind it.
        dropout: probability of a value of a block's branch to be dropped in training, after each convolution.
        checkpointing: whether backward computes each block again, so that memory holds the activations of one.
        part: in messages.

    Raises:
        UserError: an argument out of its range.
    """

    def __init__(
        self,
        inputs: int,
        channels: Sequence[int],
        kernel_size: int,
        *,
        causal: bool,
        dropout: float,
        checkpointing: bool,
        part: str,
    ) -> None:
        super().__init__()
        widths = counts(channels, "channels", part)
        require(
            len(widths) <= MOST_BLOCKS,
            f"{part} has {len(widths)} blocks (entries of channels), whose dilations double: at most {MOST_BLOCKS}",
        )
        kernel = odd_kernel(kernel_size, part)
        probability(dropout, "dropout", part)
        self.checkpointing = checkpointing
        self.first = AxisLinear(inputs, widths[0])
        self.blocks = nn.ModuleList(
            TemporalBlock(before, width, kernel, 2**i, causal, dropout)
            for i, (before, width) in enumerate(zip([widths[0], *widths], widths, strict=False))
        )
        self.norm = StepNorm(widths[-1])
        self.width = widths[-1]
        self.reach = (kernel - 1) * 2 * (2 ** len(widths) - 1) // (1 if causal else 2)

    def pasts(self) -> list[tuple[Past, Past]]:
        """The pasts of a sequence that begins, for `forward` to be given step by step."""
        return [(Past(), Past()) for _ in self.blocks]

    def forward(
        self, x: Tensor, inside: Tensor | None = None, pasts: Sequence[Sequence[Past | None]] | None = None
    ) -> Tensor:
        h: Tensor = self.first(x)
        for i, block in enumerate(self.blocks):
            if pasts is not None:
                h = block(h, inside, pasts[i])
            else:
                h = recomputed(block, h, inside) if self.checkpointing else block(h, inside)
        return F.relu(self.norm(h))
