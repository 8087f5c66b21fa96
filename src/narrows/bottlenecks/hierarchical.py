"""Codes on several scales."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import ClassVar

import torch
from torch import Tensor, nn

from narrows.bottlenecks._quantizer import CodebookBottleneck, rotated, straight_through
from narrows.errors import require
from narrows.layers.blocks import ResidualBlock, convolution, doubling, halvings
from narrows.layers.stages import AxisLinear
from narrows.types import CodebookLatent, Shape, at_least_single

PART = "bottleneck hierarchical_vq"


class HierarchicalVQ(CodebookBottleneck):
    """Two maps of codes: a top one of half the size, and a bottom one that is conditioned on it.

    h ── down ──────────▶ quantise top ─────┬── condition ──┐
    h ── projection ────────────────────────│──────────────(+)──▶ quantise bottom ──▶ bottom codes' vectors ─┐
                                            └── raise ──▶ top codes' vectors at h's size ────────────────────┴─▶ z

    The top codes hold what is global, the bottom ones the detail that is left. `down` is a strided convolution and a
    residual block, `condition` a residual block and a transposed convolution, whose sum with `projection` is the
    paper's 1x1 convolution of both; `raise` is a transposed convolution. The quantisers are those of `vq`; how their
    codebooks learn is said at `Codebook`. `h [B, C, *size]` to z `[B, 2 dim, *size]` and codes `[B, N]`, the top map
    flattened before the bottom one (`latent.books` has each as a map).

    "Generating Diverse High-Fidelity Images with VQ-VAE-2" (Razavi et al., 2019, https://arxiv.org/abs/1906.00446),
    section 3.1 and algorithm 1.

    Args:
        dim: of a code, on either level.
        codes: of each codebook.
        ema: gamma of the moving averages; None: by gradient, which needs `loss=vq_gradient`.
        kmeans: iterations of Lloyd's algorithm on the first training batch; 0: codes start small and uniform.
        revive_after: training batches without use after which a code is moved; None: never.
        rotate: the rotation trick (Fifty et al., 2024, https://arxiv.org/abs/2410.06424) instead of straight through.

    Raises:
        UserError: a value out of its range, a vector, or a map too small to be halved.

    Example:
        >>> latent = HierarchicalVQ((4, 4, 4), dim=2, codes=6)(torch.rand(1, 4, 4, 4))
        >>> latent.z.shape
        torch.Size([1, 4, 4, 4])
        >>> {name: codes.shape for name, (_, codes) in latent.books.items()}
        {'top': torch.Size([1, 2, 2]), 'bottom': torch.Size([1, 4, 4])}
    """

    trial_shape: ClassVar[Shape] = (4, 4, 4)

    def __init__(
        self,
        in_shape: Shape,
        *,
        dim: int = 64,
        codes: int = 512,
        ema: float | None = 0.99,
        kmeans: int = 10,
        revive_after: int | None = 100,
        rotate: bool = False,
    ) -> None:
        require(dim >= 1, f"{PART}: dim must be at least 1, not {dim}")
        require(
            len(in_shape) > 1,
            f"{PART} halves a map, but the encoder gives a vector of {in_shape[0]}; use an encoder that keeps its map "
            "(encoder=conv encoder.flatten=false decoder=conv)",
        )
        size, half = halvings(in_shape, 1, PART)
        learning = {"ema": ema, "kmeans": kmeans, "revive_after": revive_after}
        super().__init__(in_shape, "hierarchical_vq", dim=dim, codes=codes, count=2, width=dim, **learning)
        self.out_shape = (2 * dim, *size)
        self.maps: dict[str, Shape] = {"top": half, "bottom": size}
        self.sizes = (codes,) * (prod(half) + prod(size))
        dims = len(size)
        self.down = nn.Sequential(
            convolution(dims, in_shape[0], dim, stride=2),
            ResidualBlock(dims, dim, None, "relu", PART),
            AxisLinear(dim, dim),
        )
        self.condition = nn.Sequential(
            ResidualBlock(dims, dim, None, "relu", PART), doubling("transposed", dim, dim, size, PART, bias=False)
        )
        self.up = doubling("transposed", dim, dim, size, PART)
        self.past: Callable[[Tensor, Tensor], Tensor] = rotated if rotate else straight_through

    def forward(self, h: Tensor) -> CodebookLatent:
        high = at_least_single(self.down(h))
        high_codes, high_vectors = self.codebooks[0](high)
        top = self.past(high_vectors, high)
        low = at_least_single(self.projection(h) + self.condition(top))
        low_codes, low_vectors = self.codebooks[1](low)
        z = self._join(top, self.past(low_vectors, low))
        codes = torch.cat([high_codes.flatten(1), low_codes.flatten(1)], dim=1)
        parts = [(high, high_vectors), (low, low_vectors)]
        return self.returns(z=z, point=z, codes=codes, sizes=self.sizes, parts=parts, maps=self.maps)

    @property
    def code_positions(self) -> Shape:
        return ()

    def _join(self, top: Tensor, bottom: Tensor) -> Tensor:
        return torch.cat([at_least_single(self.up(top)), bottom], dim=1)

    @torch.no_grad()
    def start(self, latent: CodebookLatent) -> None:
        (high, before), (low, _) = latent.parts
        after = self.codebooks[0].start(high)
        self.codebooks[1].start(low + self.condition(after) - self.condition(before))

    def decode_codes(self, codes: Tensor) -> Tensor:
        """`[B, N]` to the z that has these codes, `[B, 2 dim, *size]`."""
        pieces = codes.split([prod(shape) for shape in self.maps.values()], dim=1)
        maps = [piece.unflatten(1, shape) for piece, shape in zip(pieces, self.maps.values(), strict=True)]
        return self._join(*(book.lookup(codes) for book, codes in zip(self.codebooks, maps, strict=True)))
