"""Bottlenecks with codebooks of vectors."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from narrows.bottlenecks._quantizer import CodebookBottleneck, rotated, straight_through
from narrows.errors import require
from narrows.types import CodebookLatent, Shape, at_least_single


class VectorQuantizer(CodebookBottleneck):
    """`dim` linear activations at every position, replaced by the nearest of `codes` vectors.

    With `groups` above 1 it is a product quantiser: each of that many equal slices has a codebook of its own,
    which makes `codes ** groups` values ("Product Quantization for Nearest Neighbor Search", Jegou et al.,
    2011). The gradient goes straight through, or with `rotate` through a rotation onto the code (Fifty et al., 2024,
    https://arxiv.org/abs/2410.06424). How the codebook learns is said at `Codebook`. `h [B, C, *positions]` to z
    `[B, dim, *positions]` and codes `[B, groups, *positions]`.

    "Neural Discrete Representation Learning" (van den Oord et al., 2017, https://arxiv.org/abs/1711.00937), section 3.

    Args:
        dim: of a code, all groups together.
        codes: of each codebook.
        groups: codebooks; must divide `dim`.
        ema: gamma of the moving averages; None: by gradient, which needs `loss=vq_gradient`.
        kmeans: iterations of Lloyd's algorithm on the first training batch; 0: codes start small and uniform.
        revive_after: training batches without use after which a code is moved; None: never.
        rotate: the rotation trick.

    Raises:
        UserError: a value out of its range, or `dim` is no multiple of `groups`.

    Example:
        >>> bottleneck = VectorQuantizer((5,), dim=4, codes=6, groups=2)
        >>> latent = bottleneck(torch.rand(3, 5))
        >>> latent.z.shape, latent.codes.shape, latent.sizes
        (torch.Size([3, 4]), torch.Size([3, 2]), (6, 6))
        >>> torch.equal(bottleneck.decode_codes(latent.codes), latent.z)
        True
    """

    def __init__(
        self,
        in_shape: Shape,
        *,
        dim: int = 64,
        codes: int = 512,
        groups: int = 1,
        ema: float | None = 0.99,
        kmeans: int = 10,
        revive_after: int | None = 100,
        rotate: bool = False,
    ) -> None:
        require(dim >= 1, f"bottleneck vq: dim must be at least 1, not {dim}")
        require(
            groups >= 1 and dim % groups == 0,
            f"bottleneck vq: groups must be at least 1 and divide dim={dim}, not {groups}",
        )
        learning = {"ema": ema, "kmeans": kmeans, "revive_after": revive_after}
        super().__init__(in_shape, "vq", dim=dim, codes=codes, count=groups, width=dim // groups, **learning)
        self.past = rotated if rotate else straight_through

    def forward(self, h: Tensor) -> CodebookLatent:
        given = at_least_single(self.projection(h)).chunk(len(self.books), dim=1)
        chosen = [book(part) for book, part in zip(self.codebooks, given, strict=True)]
        parts = [(part, vectors) for part, (_, vectors) in zip(given, chosen, strict=True)]
        z = torch.cat([self.past(vectors, part) for part, vectors in parts], dim=1)
        codes = torch.stack([codes for codes, _ in chosen], dim=1)
        return self.returns(z=z, point=z, codes=codes, sizes=self.sizes, parts=parts)

    def start(self, latent: CodebookLatent) -> None:
        for book, (given, _) in zip(self.codebooks, latent.parts, strict=True):
            book.start(given.detach())

    def decode_codes(self, codes: Tensor) -> Tensor:
        """`[B, groups, *positions]` to the z that has these codes, `[B, dim, *positions]`."""
        each = zip(self.codebooks, codes.unbind(1), strict=True)
        return torch.cat([book.lookup(code) for book, code in each], dim=1)


class ResidualVQ(CodebookBottleneck):
    """`levels` codebooks, each for what those before it have left: `r_1 = W h + b`, `r_{l+1} = r_l - e(r_l)`,
    `z = sum_l e(r_l)`.

    What a level is given carries no gradient of the levels before it. The codes are greedy, so to quantise z
    again may find others. `h [B, C, *positions]` to z `[B, dim, *positions]` and codes `[B, levels, *positions]`.

    With `dropout`, the decoder learns to read the sum of the first levels alone too, so that one model has as many
    rates as levels: `decode_codes(codes[:, :k])` is the z of k of them. All levels go on learning from what those
    before them leave.

    "SoundStream" (Zeghidour et al., 2021, https://arxiv.org/abs/2107.03312), algorithm 1, and for the dropout section
    III-C, where its probability is 1; "Autoregressive Image
    Generation using Residual Quantization" (Lee et al., 2022, https://arxiv.org/abs/2203.01941), section 3.1.

    Args:
        dim: of a code.
        codes: of each level.
        levels: codebooks.
        ema: gamma of the moving averages; None: by gradient, which needs `loss=vq_gradient`.
        kmeans: iterations of Lloyd's algorithm on the first training batch; 0: codes start small and uniform.
        revive_after: training batches without use after which a code is moved; None: never.
        rotate: the rotation trick, from the first residual to z.
        dropout: probability in training that z of an example is of its first levels alone, 1 to all of them, each as
            likely.
        identity: whether `W` and `b` start as the identity, of the first `dim` values: for an encoder that already
            starts as something, such as `encoder=lapped`.

    Raises:
        UserError: a value out of its range.

    Example:
        >>> latent = ResidualVQ((5,), dim=4, codes=6, levels=3)(torch.rand(3, 5))
        >>> latent.z.shape, latent.codes.shape
        (torch.Size([3, 4]), torch.Size([3, 3]))
    """

    def __init__(
        self,
        in_shape: Shape,
        *,
        dim: int = 64,
        codes: int = 256,
        levels: int = 4,
        ema: float | None = 0.99,
        kmeans: int = 10,
        revive_after: int | None = 100,
        rotate: bool = False,
        dropout: float = 0.0,
        identity: bool = False,
    ) -> None:
        require(0 <= dropout <= 1, f"bottleneck residual_vq: dropout must be in [0, 1], not {dropout}")
        require(dim >= 1, f"bottleneck residual_vq: dim must be at least 1, not {dim}")
        require(levels >= 1, f"bottleneck residual_vq: levels must be at least 1, not {levels}")
        learning = {"ema": ema, "kmeans": kmeans, "revive_after": revive_after}
        super().__init__(in_shape, "residual_vq", dim=dim, codes=codes, count=levels, width=dim, **learning)
        if identity:
            nn.init.eye_(self.projection.weight)
            nn.init.zeros_(self.projection.bias)
        self.past = rotated if rotate else straight_through
        self.dropout = dropout

    def forward(self, h: Tensor) -> CodebookLatent:
        rest = first = at_least_single(self.projection(h))
        parts, codes = [], []
        for book in self.codebooks:
            code, vectors = book(rest)
            parts.append((rest, vectors))
            codes.append(code)
            rest = rest - vectors.detach()
        every = torch.stack([vectors for _, vectors in parts])
        z = self.past((self._kept(every) if self.training and self.dropout > 0 else every).sum(0), first)
        return self.returns(z=z, point=z, codes=torch.stack(codes, dim=1), sizes=self.sizes, parts=parts)

    def _kept(self, every: Tensor) -> Tensor:
        """`[levels, B, dim, *positions]` with the last levels of some examples at 0."""
        levels, rows = every.shape[:2]
        dropped = torch.rand(rows, device=every.device) < self.dropout
        count = torch.randint(1, levels + 1, (rows,), device=every.device).masked_fill(~dropped, levels)
        kept = torch.arange(levels, device=every.device)[:, None] < count
        return every * kept.reshape(levels, rows, *[1] * (every.ndim - 2))

    def start(self, latent: CodebookLatent) -> None:
        rest = latent.parts[0][0].detach()
        for book in self.codebooks:
            rest = rest - book.start(rest)

    def decode_codes(self, codes: Tensor) -> Tensor:
        """`[B, k, *positions]` to the z that has these codes, `[B, dim, *positions]`: of all levels, or the first k."""
        each = zip(self.codebooks[: codes.shape[1]], codes.unbind(1), strict=True)
        return torch.stack([book.lookup(code) for book, code in each]).sum(0)
