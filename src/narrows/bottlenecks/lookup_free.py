"""Quantisers without a codebook: every value is rounded on its own."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from narrows.bottlenecks._quantizer import straight_through
from narrows.bottlenecks.base import Bottleneck
from narrows.errors import require
from narrows.layers.stages import AxisLinear
from narrows.types import BitLatent, QuantizedLatent, Shape, at_least_single


def _places(sizes: Sequence[int]) -> Tensor:
    """What a digit is worth in mixed radix, the first digit least: 1, s_1, s_1 s_2, ..."""
    return torch.tensor([math.prod(sizes[:i]) for i in range(len(sizes))])


def _on_axis_1(values: Tensor, like: Tensor) -> Tensor:
    """`[d] -> [d, 1, ...]`, to be met with `like [B, d, *positions]`."""
    return values.reshape(-1, *[1] * (like.ndim - 2))


class FSQ(Bottleneck):
    """Finite scalar quantisation: value i is bounded by a tanh and rounded to one of `levels[i]` integers.

    `b_i = tanh(u_i + s_i) (L_i - 1)(1 + eps) / 2 - o_i` with `u = W h + c`, where o_i = 1/2 and s_i centre an even
    L_i; `z_i = round(b_i) / floor(L_i / 2)`, the gradient straight through the rounding. The codebook is the
    product of the levels, and no code needs a loss. `h [B, C, *positions]` to z `[B, len(levels), *positions]` in
    [-1, 1] and codes `[B, 1, *positions]`, the digits in mixed radix.

    "Finite Scalar Quantization: VQ-VAE Made Simple" (Mentzer et al., 2023, https://arxiv.org/abs/2309.15505), section 3
    and appendix A.1.

    Args:
        levels: of each value, 2 to 256; the paper's for 2^8, 2^10, 2^12 codes: 8 6 5, 8 5 5 5, 7 5 5 5 5.

    Raises:
        UserError: no level, one out of range, or more codes than int64 counts.

    Example:
        >>> FSQ((5,), levels=[3, 3]).decode_codes(torch.tensor([[0], [4], [5]])).tolist()
        [[-1.0, -1.0], [0.0, 0.0], [1.0, 0.0]]
    """

    returns = QuantizedLatent
    middle: Tensor
    radix: Tensor
    places: Tensor

    def __init__(self, in_shape: Shape, *, levels: Sequence[int] = (8, 5, 5, 5)) -> None:
        require(
            len(levels) >= 1 and all(2 <= level <= 256 for level in levels),
            f"bottleneck fsq: levels must be one or more numbers from 2 to 256, not {list(levels)}",
        )
        require(math.prod(levels) < 2**63, f"bottleneck fsq: {len(levels)} levels make more codes than can be counted")
        super().__init__(in_shape, len(levels))
        self.sizes = (math.prod(levels),)
        self.projection = AxisLinear(self.in_shape[0], len(levels))
        radix = torch.tensor(list(levels))
        for name, values in {"radix": radix, "middle": radix // 2, "places": _places(levels)}.items():
            self.register_buffer(name, values, persistent=False)

    def forward(self, h: Tensor) -> QuantizedLatent:
        bounded = self._bound(at_least_single(self.projection(h)))
        rounded = bounded.round()
        middle = _on_axis_1(self.middle, bounded)
        z = straight_through(rounded / middle, bounded / middle)
        digits = rounded.long() + middle
        codes = (digits * _on_axis_1(self.places, digits)).sum(1, keepdim=True)
        return QuantizedLatent(z=z, point=z, codes=codes, sizes=self.sizes)

    def _bound(self, u: Tensor) -> Tensor:
        radix = _on_axis_1(self.radix, u)
        # Slightly more than the outermost integers, so that saturated values round to them.
        reach = (radix - 1) * (1 + 1e-3) / 2
        offset = torch.where(radix % 2 == 0, 0.5, 0.0)
        return (u + (offset / reach).atanh()).tanh() * reach - offset

    def decode_codes(self, codes: Tensor) -> Tensor:
        """`[B, 1, *positions]` to the z that has these codes, `[B, len(levels), *positions]`."""
        middle = _on_axis_1(self.middle, codes)
        digits = codes // _on_axis_1(self.places, codes) % _on_axis_1(self.radix, codes)
        return (digits - middle).float() / middle


class LFQ(Bottleneck):
    """Lookup-free quantisation: `z = sign(W h + b)` in {-1, 1}^dim, `2 ** (dim / groups)` codes for each group.

    The sign of 0 is 1; the gradient goes straight through. `h [B, C, *positions]` to z `[B, dim, *positions]` and
    codes `[B, groups, *positions]`, the bits of a group with the first one least.

    "Language Model Beats Diffusion: Tokenizer is Key to Visual Generation" (Yu et al., 2023,
    https://arxiv.org/abs/2310.05737), section 3.1.

    Args:
        dim: bits.
        groups: codes per position; must divide `dim` into at most 16 bits each.

    Raises:
        UserError: a value out of its range, or `dim` is no multiple of `groups`.

    Example:
        >>> LFQ((5,), dim=2).decode_codes(torch.tensor([[0], [1], [2], [3]])).tolist()
        [[-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0], [1.0, 1.0]]
    """

    returns = BitLatent
    places: Tensor

    def __init__(self, in_shape: Shape, *, dim: int = 10, groups: int = 1) -> None:
        require(dim >= 1, f"bottleneck lfq: dim must be at least 1, not {dim}")
        require(
            groups >= 1 and dim % groups == 0 and dim // groups <= 16,
            f"bottleneck lfq: groups must divide dim={dim} into at most 16 bits each, not {groups}",
        )
        super().__init__(in_shape, dim)
        self.groups, self.sizes = groups, (2 ** (dim // groups),) * groups
        self.projection = AxisLinear(self.in_shape[0], dim)
        self.register_buffer("places", _places([2] * (dim // groups)), persistent=False)

    def forward(self, h: Tensor) -> BitLatent:
        u = at_least_single(self.projection(h))
        signs = torch.where(u >= 0, 1.0, -1.0)
        z = straight_through(signs, u)
        parts = list(zip(u.chunk(self.groups, dim=1), signs.chunk(self.groups, dim=1), strict=True))
        codes = [((part > 0) * _on_axis_1(self.places, part)).sum(1) for _, part in parts]
        return BitLatent(z=z, point=z, codes=torch.stack(codes, dim=1), sizes=self.sizes, parts=parts)

    def decode_codes(self, codes: Tensor) -> Tensor:
        """`[B, groups, *positions]` to the z that has these codes, `[B, dim, *positions]`."""
        places = _on_axis_1(self.places, codes)
        bits = [code.unsqueeze(1) // places % 2 for code in codes.unbind(1)]
        return torch.cat(bits, dim=1).float() * 2 - 1
