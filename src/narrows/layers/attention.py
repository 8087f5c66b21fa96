"""Attention: blocks of a transformer over tokens `[B, N, D]`, and over the positions of a map."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from narrows.errors import require
from narrows.layers.blocks import choose, counts, map_norm, probability
from narrows.layers.recomputing import recomputed
from narrows.types import Shape

EXPANSION = 4
"""Hidden over outer width of a block's two linear layers."""


@dataclass
class Cache:
    """The keys and values of the tokens so far, `[B, heads, N, D / heads]`."""

    keys: Tensor | None = None
    values: Tensor | None = None

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """All keys and values, the new ones last."""
        self.keys = keys if self.keys is None else torch.cat([self.keys, keys], 2)
        self.values = values if self.values is None else torch.cat([self.values, values], 2)
        return self.keys, self.values


class SelfAttention(nn.Module):
    """softmax(Q K^T / sqrt(d)) V over `heads` parts of the width, `[B, N, D] -> [B, N, D]`. If `causal`, token i
    reads those up to i; with a cache it is given the next token alone and reads those before it there.

    Written out, because fused attention has no second derivative, which contraction needs; but where `fused` is asked
    for, which no encoder or decoder does, and it is causal and on the CPU, where its gradient is deterministic and it
    is five times as fast.

    "Attention Is All You Need" (Vaswani et al., 2017), section 3.2, https://arxiv.org/abs/1706.03762.
    """

    def __init__(self, width: int, heads: int, causal: bool = False, fused: bool = False) -> None:
        super().__init__()
        self.heads, self.causal, self.fused = heads, causal, fused
        self.inputs, self.output = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor, padding: Tensor | None = None, cache: Cache | None = None) -> Tensor:
        """`[B, N, D] -> [B, N, D]`; no token attends to those where `padding` (bool, `[B, N]`) is True."""
        q, k, v = self.inputs(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if cache is not None:
            k, v = cache.append(k, v)
        if self.fused and self.causal and cache is None and padding is None and x.device.type == "cpu":
            return self._joined(F.scaled_dot_product_attention(q, k, v, is_causal=True))
        scores = q @ k.transpose(2, 3) / math.sqrt(q.shape[-1])
        # The smallest number and not -inf: a row of padding alone must stay finite.
        least = torch.finfo(scores.dtype).min
        if padding is not None:
            scores = scores.masked_fill(padding[:, None, None], least)
        if self.causal and cache is None:
            later = torch.ones(scores.shape[2:], dtype=torch.bool, device=x.device).triu(1)
            scores = scores.masked_fill(later, least)
        return self._joined(scores.softmax(-1) @ v)

    def _joined(self, parts: Tensor) -> Tensor:
        """`[B, heads, N, D / heads] -> [B, N, D]`."""
        joined: Tensor = self.output(parts.transpose(1, 2).flatten(2))
        return joined


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)) with a hidden layer of four widths and GELU.

    "On Layer Normalization in the Transformer Architecture" (Xiong et al., 2020, https://arxiv.org/abs/2002.04745) for
    the norms' place.
    """

    def __init__(self, width: int, heads: int, dropout: float = 0.0, causal: bool = False, fused: bool = False) -> None:
        super().__init__()
        self.norm_attention, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = SelfAttention(width, heads, causal, fused)
        self.mlp = nn.Sequential(nn.Linear(width, EXPANSION * width), nn.GELU(), nn.Linear(EXPANSION * width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, padding: Tensor | None = None, cache: Cache | None = None) -> Tensor:
        x = x + self.dropout(self.attention(self.norm_attention(x), padding, cache))
        change: Tensor = self.dropout(self.mlp(self.norm_mlp(x)))
        return x + change


class Transformer(nn.Module):
    """`depth` blocks and a last norm, `[B, N, width] -> [B, N, width]`; linear weights start as Glorot's.

    Args:
        width: of a token.
        depth: blocks.
        heads: of each attention.
        dropout: probability of a value of a block's two branches to be dropped in training.
        part: in messages.
        causal: whether token i reads only those up to i.
        checkpointing: whether backward computes each block again, so that memory holds the activations of one.

    Raises:
        UserError: an argument out of its range, or a width that the heads do not share evenly.
    """

    def __init__(
        self,
        width: int,
        depth: int,
        heads: int,
        dropout: float,
        part: str,
        *,
        causal: bool = False,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        for option, value in {"width": width, "depth": depth, "heads": heads}.items():
            counts([value], option, part)
        probability(dropout, "dropout", part)
        require(width % heads == 0, f"{part} has a width of {width}, which {heads} heads do not share evenly")
        self.checkpointing = checkpointing
        self.blocks = nn.ModuleList(Block(width, heads, dropout, causal) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.apply(glorot)

    def caches(self) -> list[Cache]:
        """The caches of a sequence that begins, for `forward` to be given token by token."""
        return [Cache() for _ in self.blocks]

    def forward(self, x: Tensor, padding: Tensor | None = None, caches: Sequence[Cache] | None = None) -> Tensor:
        for i, block in enumerate(self.blocks):
            if caches is not None:
                x = block(x, padding, caches[i])
            else:
                x = recomputed(block, x, padding) if self.checkpointing else block(x, padding)
        normed: Tensor = self.norm(x)
        return normed


class MapAttention(nn.Module):
    """x + attention(norm(x)) over the positions of a map, with one head; `[B, C, *size]` stays.

    "Denoising Diffusion Probabilistic Models" (Ho et al., 2020, https://arxiv.org/abs/2006.11239), appendix B.
    """

    def __init__(self, channels: int, norm: str | None, part: str) -> None:
        super().__init__()
        self.norm = nn.Sequential(*map_norm(norm, channels, part))
        self.attention = SelfAttention(channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        tokens: Tensor = self.attention(self.norm(x).flatten(2).transpose(1, 2))
        return x + tokens.transpose(1, 2).view_as(x)


class Positions(nn.Module):
    """Adds to each token a code of its position, `[B, N, width] -> [B, N, width]`.

    `sincos`: fixed; each axis of the grid has its share of the width, half sines and half cosines of the
    place over 10000^(i / count). `learnt`: a vector per token.

    "Masked Autoencoders Are Scalable Vision Learners" (He et al., 2022, https://arxiv.org/abs/2111.06377),
    appendix A.1, for `sincos`.

    Raises:
        UserError: an unknown kind, or a width that sines and cosines do not share evenly.
    """

    def __init__(self, kind: str, grid: Shape, width: int, part: str) -> None:
        super().__init__()
        choose(kind, ("sincos", "learnt"), "positions", part)
        if kind == "learnt":
            self.values = nn.Parameter(0.02 * torch.randn(math.prod(grid), width))
            return
        share = 2 * len(grid)
        require(
            width % share == 0,
            f"{part} has a width of {width}; positions sincos over {len(grid)} axes needs a multiple of {share}",
        )
        # Not persistent: it follows from the arguments.
        self.register_buffer("values", sines_and_cosines(grid, width), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens + self.values


class Steps(nn.Module):
    """Adds to each token of a sequence of any length the sines and cosines of its step, `[B, N, width]`.

    Raises:
        UserError: a width that sines and cosines do not share evenly.
    """

    values: Tensor

    def __init__(self, usual: int, width: int, part: str) -> None:
        super().__init__()
        require(width % 2 == 0, f"{part} has a width of {width}; sines and cosines of the step need an even one")
        self.register_buffer("values", sines_and_cosines((usual,), width), persistent=False)

    def forward(self, tokens: Tensor, start: int = 0) -> Tensor:
        """`start` is the step of the first token."""
        end = start + tokens.shape[1]
        values = self.values
        if end > len(values):
            values = sines_and_cosines((end,), values.shape[1]).to(values)
        return tokens + values[start:end]


def sines_and_cosines(grid: Shape, width: int) -> Tensor:
    """`[N, width]`, in reading order."""
    count = width // (2 * len(grid))
    frequencies = 10000.0 ** -(torch.arange(count, dtype=torch.float64) / count)
    places = torch.cartesian_prod(*(torch.arange(length, dtype=torch.float64) for length in grid))
    angles = places.reshape(math.prod(grid), len(grid), 1) * frequencies
    return torch.cat([angles.sin(), angles.cos()], 2).flatten(1).float()


def glorot(layer: nn.Module) -> None:
    """Linear weights drawn as Glorot's, with biases of 0, as of every published ViT."""
    if isinstance(layer, nn.Linear):
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.bias)
