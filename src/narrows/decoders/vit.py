"""The vision transformer's second half."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from narrows.errors import require
from narrows.layers.attention import Positions, Transformer, glorot
from narrows.layers.patches import from_patches, patch_grid
from narrows.layers.stages import AxisLinear, Decoder
from narrows.types import Shape

PART = "decoder vit"


class ViTDecoder(Decoder):
    """A transformer from one token per patch to the patches of an image or a series.

    A grid of latents becomes tokens by a linear layer, the same at every place; a latent vector by one to all
    tokens. Plus positions, `depth` blocks, norm, linear to each patch. `[B, *in_shape] -> [B, *out_shape]`.

    If `masked`, every patch begins as one learnt token, the mask, plus its position, and reads any number of latents
    that stand beside the patches, each plus a learnt code of its own. A norm before the first block makes patches and
    latents equally large.

    Args:
        in_shape: of one latent, `(D,)`, or `(D, *grid)` or `(D, N)` with a latent per patch; `(D, K)` where `masked`.
        out_shape: `(C, H, W)` or `(C, T)`.
        patch: side of a patch.
        width: of a token.
        depth: blocks.
        heads: of each attention.
        dropout: probability of a value of a block's two branches to be dropped in training.
        positions: `sincos` (fixed) or `learnt`.
        masked: whether patches begin as masks.
        checkpointing: whether backward computes each block again, which saves memory and costs time.

    Raises:
        UserError: an argument out of its range, patches that do not cover the data evenly, or latents that are
            not one per patch.

    "Masked Autoencoders Are Scalable Vision Learners" (He et al., 2022), https://arxiv.org/abs/2111.06377; "An Image is
    Worth 32 Tokens for Reconstruction and Generation" (Yu et al., 2024), https://arxiv.org/abs/2406.07550: `masked`.
    """

    def __init__(
        self,
        in_shape: Shape,
        out_shape: Shape,
        *,
        patch: int = 4,
        width: int = 128,
        depth: int = 2,
        heads: int = 4,
        dropout: float = 0.0,
        positions: str = "sincos",
        masked: bool = False,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.in_shape, self.out_shape = tuple(in_shape), tuple(out_shape)
        self.grid = patch_grid(self.out_shape, patch, PART)
        self.transformer = Transformer(width, depth, heads, dropout, PART, checkpointing=checkpointing)
        self.positions = Positions(positions, self.grid, width, PART)
        self.masked = masked
        self.first = self._tokens(width)
        if masked:
            self.mask = nn.Parameter(width**-0.5 * torch.randn(width))
            # Or patches, whose mask and position are larger than latents, would read each other at first.
            self.norm = nn.LayerNorm(width)
            self.codes = nn.Parameter(width**-0.5 * torch.randn(math.prod(self.in_shape[1:]), width))
        self.last = nn.Linear(width, self.out_shape[0] * patch ** len(self.grid))
        self.first.apply(glorot)
        self.last.apply(glorot)
        if masked:
            # Wild pictures would teach the encoder at once to say nothing.
            nn.init.normal_(self.last.weight, std=0.02)

    def _tokens(self, width: int) -> nn.Module:
        """`[B, *in_shape] -> [B, width, N]`."""
        number, places = math.prod(self.grid), self.in_shape[1:]
        if self.masked:
            require(
                len(places) >= 1,
                f"{PART} with masked=true reads latents beside the patches, (D, K), and the bottleneck gives a vector "
                f"of {self.in_shape[0]}: set encoder.latents, or masked=false",
            )
            return nn.Sequential(nn.Flatten(2), AxisLinear(self.in_shape[0], width))
        if not places:
            return nn.Sequential(nn.Linear(self.in_shape[0], width * number), nn.Unflatten(1, (width, number)))
        require(
            places in (self.grid, (number,)),
            f"the bottleneck gives {list(self.in_shape)}, but {PART} needs a vector or a latent for each of its "
            f"{' x '.join(map(str, self.grid))} patches; give encoder and decoder the same patch",
        )
        return nn.Sequential(nn.Flatten(2), AxisLinear(self.in_shape[0], width))

    def forward(self, z: Tensor) -> Tensor:
        read = self.first(z).transpose(1, 2)
        if self.masked:
            number = math.prod(self.grid)
            patches = self.positions(self.mask.expand(len(z), number, -1))
            tokens = self.transformer(self.norm(torch.cat([patches, read + self.codes], 1)))[:, :number]
        else:
            tokens = self.transformer(self.positions(read))
        return from_patches(self.last(tokens), self.grid, self.out_shape)
