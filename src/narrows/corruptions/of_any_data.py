"""Corruptions that change the values of any data: noise, and values hidden."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from narrows.corruptions.base import Corrupted, Corruption
from narrows.errors import UserError, require
from narrows.layers.patches import patch_grid
from narrows.types import DataSpec


class GaussianNoise(Corruption):
    """Additive white noise, `x + sigma * eps`, clipped to the data's range if `clip`.

    "Extracting and Composing Robust Features with Denoising Autoencoders" (Vincent et al., 2008; 2010, 3.3).

    Raises:
        UserError: `sigma` is not above 0.
    """

    takes_variable = True

    def __init__(self, spec: DataSpec, *, sigma: float = 0.5, clip: bool = True) -> None:
        super().__init__(spec)
        require(sigma > 0, f"corruption gaussian: sigma must be above 0, not {sigma}")
        self.sigma, self.clip = sigma, clip

    def corrupt(self, x: Tensor) -> Corrupted:
        noisy = x + self.sigma * torch.randn_like(x)
        if self.clip and self.value_range is not None:
            noisy = noisy.clamp(*self.value_range)
        return noisy, None


class Speckle(Corruption):
    """Multiplicative white noise, `x (1 + sigma * eps)`, clipped to the data's range if `clip`.

    "Some fundamental properties of speckle" (Goodman, 1976) for the noise; here its Gaussian approximation.

    Raises:
        UserError: `sigma` is not above 0.
    """

    takes_variable = True

    def __init__(self, spec: DataSpec, *, sigma: float = 0.5, clip: bool = True) -> None:
        super().__init__(spec)
        require(sigma > 0, f"corruption speckle: sigma must be above 0, not {sigma}")
        self.sigma, self.clip = sigma, clip

    def corrupt(self, x: Tensor) -> Corrupted:
        noisy = x + self.sigma * torch.randn_like(x) * x
        if self.clip and self.value_range is not None:
            noisy = noisy.clamp(*self.value_range)
        return noisy, None


class Masking(Corruption):
    """Sets each value to `value` with probability `p`, independently, and hides it.

    Vincent et al. (2010), section 3.3, "masking noise".

    Raises:
        UserError: `p` outside (0, 1).
    """

    hides = True
    takes_variable = True

    def __init__(self, spec: DataSpec, *, p: float = 0.25, value: float = 0.0) -> None:
        super().__init__(spec)
        require(0 < p < 1, f"corruption masking: p must be in (0, 1), not {p}")
        self.p, self.value = p, value

    def corrupt(self, x: Tensor) -> Corrupted:
        hidden = torch.rand_like(x) < self.p
        return x.masked_fill(hidden, self.value), hidden


class SaltAndPepper(Corruption):
    """Replaces each value by the smallest or the largest of the data's range, with probability `p / 2` each.

    Vincent et al. (2010), section 3.3.

    Raises:
        UserError: `p` outside (0, 1), or data without a range.
    """

    takes_variable = True

    def __init__(self, spec: DataSpec, *, p: float = 0.25) -> None:
        super().__init__(spec)
        require(0 < p < 1, f"corruption salt_and_pepper: p must be in (0, 1), not {p}")
        if spec.bounds is None:
            raise UserError(
                "corruption salt_and_pepper needs data with a smallest and a largest value, but these have none; "
                "use corruption=gaussian or corruption=masking"
            )
        self.p = p
        self.low, self.high = spec.bounds

    def corrupt(self, x: Tensor) -> Corrupted:
        u = torch.rand_like(x)
        noisy = torch.where(u < self.p / 2, self.low, x)
        return torch.where(u > 1 - self.p / 2, self.high, noisy), None


class Block(Corruption):
    """Sets a block of each example, the same in all channels, to `value`, and hides it.

    A block is a rectangle of an image or an interval of a series, with sides of `size` times the data's (rounded, at
    least 1). It lies wholly inside, at a random place that differs between examples, or in the centre; at the `end` it
    is the last share of the first axis alone, whole: the last steps of a series, the last frames of video, so that what
    is learnt is to predict them.

    "Improved Regularization of Convolutional Neural Networks with Cutout" (DeVries and Taylor, 2017,
    https://arxiv.org/abs/1708.04552); in the centre, the inpainting of "Context Encoders" (Pathak et al., 2016,
    https://arxiv.org/abs/1604.07379).

    Raises:
        UserError: `size` outside (0, 1), an unknown place, or data that are no images or series.
    """

    hides = True

    def __init__(
        self,
        spec: DataSpec,
        *,
        size: float = 0.5,
        place: Literal["random", "centre", "end"] = "random",
        value: float = 0.0,
    ) -> None:
        super().__init__(spec)
        require(0 < size < 1, f"corruption block: size must be in (0, 1), not {size}")
        places = ("random", "centre", "end")
        require(place in places, f"corruption block: place must be {', '.join(places[:-1])} or end, not '{place}'")
        require(
            len(spec.shape) > 1,
            f"corruption block needs images or series, not data of shape {list(spec.shape)}; use corruption=masking",
        )
        self.size, self.place, self.value = size, place, value

    def corrupt(self, x: Tensor) -> Corrupted:
        hidden = torch.ones(len(x), 1, *x.shape[2:], dtype=torch.bool, device=x.device)
        for axis in range(2, 3 if self.place == "end" else x.ndim):
            hidden = hidden & self._inside(len(x), x.shape[axis], x.device).reshape(
                len(x), *[1] * (axis - 1), -1, *[1] * (x.ndim - axis - 1)
            )
        hidden = hidden.expand_as(x)
        return x.masked_fill(hidden, self.value), hidden

    def _inside(self, examples: int, side: int, device: torch.device) -> Tensor:
        """bool `[examples, side]`: one interval each."""
        length = min(max(1, round(self.size * side)), side)
        places = side - length + 1
        if self.place != "random":
            first = places - 1 if self.place == "end" else (side - length) // 2
            start = torch.full((examples, 1), first, device=device)
        else:
            start = torch.randint(places, (examples, 1), device=device)
        position = torch.arange(side, device=device)
        return (position >= start) & (position < start + length)


class SwapNoise(Corruption):
    """Replaces each value, with probability `p`, by the same feature of another row, and hides it.

    Features keep their own distributions, so that it suits tables of mixed columns. The other row is drawn evenly from
    the other rows of the batch; in a batch of one row nothing is replaced.

    "VIME: Extending the Success of Self- and Semi-supervised Learning to Tabular Domain" (Yoon et al., 2020),
    equation 3.

    Raises:
        UserError: `p` outside (0, 1).
    """

    hides = True

    def __init__(self, spec: DataSpec, *, p: float = 0.15) -> None:
        super().__init__(spec)
        require(0 < p < 1, f"corruption swap_noise: p must be in (0, 1), not {p}")
        self.p = p

    def corrupt(self, x: Tensor) -> Corrupted:
        rows = len(x)
        hidden = (torch.rand_like(x) < self.p) & (rows > 1)
        distance = torch.randint(1, max(rows, 2), x.shape, device=x.device)
        own = torch.arange(rows, device=x.device).reshape(-1, *[1] * (x.ndim - 1))
        return torch.where(hidden, x.gather(0, (own + distance) % rows), x), hidden


class Patches(Corruption):
    """Sets exactly `round(ratio * N)` of each example's N square patches, drawn at random, to `value` in all channels,
    and hides them.

    "Masked Autoencoders Are Scalable Vision Learners" (He et al., 2022), section 3, https://arxiv.org/abs/2111.06377.

    Raises:
        UserError: patches that do not cover the data evenly, or a ratio that hides none or all of them.
    """

    hides = True

    def __init__(self, spec: DataSpec, *, size: int = 4, ratio: float = 0.75, value: float = 0.0) -> None:
        super().__init__(spec)
        self.grid = patch_grid(spec.shape, size, "corruption patches")
        number = math.prod(self.grid)
        self.size, self.count, self.value = size, round(ratio * number), value
        require(
            0 < self.count < number,
            f"corruption patches: ratio {ratio} hides {self.count} of {number} patches; at least one must be hidden "
            "and one seen",
        )

    def corrupt(self, x: Tensor) -> Corrupted:
        number = math.prod(self.grid)
        chosen = torch.rand(len(x), number, device=x.device).argsort(1)[:, : self.count]
        hidden = torch.zeros(len(x), number, dtype=torch.bool, device=x.device).scatter(1, chosen, True)
        hidden = hidden.reshape(len(x), 1, *self.grid)
        for axis in range(2, x.ndim):
            hidden = hidden.repeat_interleave(self.size, axis)
        hidden = hidden.expand_as(x)
        return x.masked_fill(hidden, self.value), hidden


class WordDropout(Corruption):
    """Hides each token with probability `p`; where it stood is `<unk>`, or where there is none the first token.

    `input=embedding` gives hidden tokens a vector of their own. An autoregressive decoder reads the truth: what weakens
    it is its own `input_dropout`.

    "Generating Sentences from a Continuous Space" (Bowman et al., 2016), https://arxiv.org/abs/1511.06349, section 3.1,
    and "Deep Unordered Composition Rivals Syntactic Methods for Text Classification" (Iyyer et al., 2015,
    https://aclanthology.org/P15-1162), section 2.4.

    Raises:
        UserError: `p` outside (0, 1), or data that are no tokens.
    """

    hides = True
    kinds = ("tokens",)
    takes_variable = True

    def __init__(self, spec: DataSpec, *, p: float = 0.3) -> None:
        super().__init__(spec)
        require(0 < p < 1, f"corruption word_dropout: p must be in (0, 1), not {p}")
        words = spec.vocabulary or []
        self.p = p
        self.filling = words.index("<unk>") if "<unk>" in words else 0

    def corrupt(self, x: Tensor) -> Corrupted:
        hidden = torch.rand(x.shape, device=x.device) < self.p
        return x.masked_fill(hidden, self.filling), hidden
