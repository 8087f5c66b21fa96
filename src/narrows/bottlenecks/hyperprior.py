"""A bottleneck whose latents are trained to be rounded, and whose scales are sent before them."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, constraints

from narrows.bottlenecks._quantizer import straight_through
from narrows.bottlenecks._whole_numbers import FRACTION, leaky, whole_number_output
from narrows.bottlenecks.base import Bottleneck
from narrows.bottlenecks.entropy import EntropyBottleneck, uniform_noise
from narrows.errors import require
from narrows.layers.blocks import CONVOLUTIONS, TRANSPOSED
from narrows.layers.bounds import between
from narrows.layers.stages import AxisLinear
from narrows.types import HyperpriorLatent, LearntPriorLatent, Shape, VariationalLatent, at_least_single, row_sums

PART = "bottleneck scale_hyperprior"
LEAST_SCALE, LARGEST_SCALE, SCALES = 0.11, 256.0, 64
"""The published table of scales, equally far apart in their logarithms."""
SPACING = math.log(LARGEST_SCALE / LEAST_SCALE) / (SCALES - 1)
_BITS = 16
"""Behind the point, of the factor by which a logarithm becomes a place in the table."""


def table_scales() -> list[float]:
    """The scales for which there are coding tables, ascending, in steps."""
    return [LEAST_SCALE * math.exp(place * SPACING) for place in range(SCALES)]


class SmoothedNormal(Distribution):
    """The density of `m + u` for every value: m normal with mean 0 and a scale of its own, u uniform in [-1/2, 1/2];
    `log p(z) = log(Phi((z + 1/2) / s) - Phi((z - 1/2) / s))`. At a whole number it is the probability that m rounds to
    it. Elementwise over `scale`'s shape.

    "Variational Image Compression with a Scale Hyperprior" (Balle et al., 2018, https://arxiv.org/abs/1802.01436),
    equation 6.

    Example:
        >>> law = SmoothedNormal(torch.full((1,), 3.0))
        >>> law.log_prob(torch.arange(-50.0, 51.0)[:, None]).exp().sum().round(decimals=4)
        tensor(1.)
    """

    support = constraints.real

    def __init__(self, scale: Tensor) -> None:
        self.scale = scale
        super().__init__(scale.shape, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        # In the lower tail, where a difference of both ends does not cancel.
        away = value.abs()
        upper, lower = _log_tail((away - 0.5) / self.scale), _log_tail((away + 0.5) / self.scale)
        return upper + (-torch.expm1(lower - upper)).log()

    @torch.no_grad()
    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        drawn = torch.randn((*sample_shape, *self.scale.shape), dtype=self.scale.dtype, device=self.scale.device)
        return self.scale * drawn + torch.rand_like(drawn) - 0.5


def _log_tail(t: Tensor) -> Tensor:
    """`log Phi(-t)`, beyond 10 by its asymptotic series, because torch's gradient is 0 far out."""
    far = t.clamp_min(10.0)
    square = far.square().reciprocal()
    series = torch.log1p(-square * (1 - square * (3 - 15 * square)))
    beyond = -far.square() / 2 - far.log() - math.log(2 * math.pi) / 2 + series
    return torch.where(t < 10, torch.special.log_ndtr(-t.clamp_max(10.0)), beyond)


class GivenSide(Distribution):
    """The prior of whole examples z, given one draw of the side information s: `p(z|s) p(s) / q(s|x)`, whose mean over
    s is p(z), `log_prob [..., B]`.

    Args:
        law: p(z|s), elementwise, `[B, *shape]`.
        side: the draw, with its posterior and its prior.

    Example:
        >>> side = EntropyBottleneck((4,), dim=1)(torch.rand(3, 4))
        >>> GivenSide(SmoothedNormal(torch.ones(3, 2, 4)), side).log_prob(torch.zeros(5, 3, 2, 4)).shape
        torch.Size([5, 3])
    """

    support = constraints.real_vector

    def __init__(self, law: SmoothedNormal, side: VariationalLatent) -> None:
        self.law, self.side = law, side
        super().__init__(law.batch_shape[:1], law.batch_shape[1:], validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        return self.law.log_prob(value).flatten(-len(self.event_shape)).sum(-1) - row_sums(self.side.divergence())

    @torch.no_grad()
    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """Of p(z|s)."""
        return self.law.sample(sample_shape)


class ScaleHyperprior(Bottleneck):
    """`z = y + u` with `y = gain (W h + b)` and u uniform in [-1/2, 1/2] for every value, under zero-mean normal
    densities whose scales are told by side information s, which is sent too:

        y ── |y| ── h_a ── + u ──▶ s ── rounded ── h_s ──▶ scales of z
                                   └─ under a learnt factorised density (`EntropyBottleneck`)

    A factorised density knows one spread of each latent, the same at all positions; here every position has its own,
    as edges and flat parts of a picture do. The paper's y-tilde is `z` and its z-tilde is s. The KL is the rate of both
    in nats, and needs `loss=hyperprior`, or `elbo`. Rate against distortion is `loss.kl.weight`, or
    `likelihood.sigma`.

    h_s reads s rounded, as it stands in a file, where the paper's reads s itself: differences of less than a step tell
    scales under noise, and are lost in a file. In training one example in two is rounded before the noise, because the
    noise alone rounds to what many values together still tell, and no noise alone learns badly.

    Over a map or a sequence h_a is a convolution of 3, then one of 5 and stride 2 for each of `halvings`, with leaky
    ReLUs, and a linear map to `side` values at every position; h_s is its mirror image, without that map. (The paper's
    ReLUs do not leak; here nearly all of the first layer's died.) Over a vector both have one hidden layer. Scales lie
    between 0.11 and 256 steps. Compression rounds y to multiples of `step` and s to whole numbers, and takes the
    nearest of 64 scales, which `table_places` finds in whole numbers alone, so that every machine takes the same.

    "Variational Image Compression with a Scale Hyperprior" (Balle et al., 2018, https://arxiv.org/abs/1802.01436),
    section 3 and figure 4; the table of scales is that of the authors' published code. "Channel-wise Autoregressive
    Entropy Models for Learned Image Compression" (Minnen and Singh, 2020, https://arxiv.org/abs/2007.08982) has noise
    in the rate and rounds before what reads the value, too.

    Args:
        dim: of y.
        hidden: channels of h_a and h_s.
        side: of s, at each of its positions.
        halvings: of the positions, on the way to s.
        components: logistics of each density of s.
        spread: standard deviation at which the densities start, in steps.
        gain: constant factor of y and s, see `EntropyBottleneck`.

    Raises:
        UserError: a value out of its range.

    Example:
        >>> latent = ScaleHyperprior((5, 8, 8), dim=2, hidden=4, side=3)(torch.rand(1, 5, 8, 8))
        >>> latent.z.shape, latent.side.z.shape, latent.divergence().shape
        (torch.Size([1, 2, 8, 8]), torch.Size([1, 3, 2, 2]), torch.Size([1, 140]))
    """

    returns = HyperpriorLatent
    step = 1.0

    def __init__(
        self,
        in_shape: Shape,
        *,
        dim: int = 16,
        hidden: int = 32,
        side: int = 8,
        halvings: int = 2,
        components: int = 3,
        spread: float = 2.0,
        gain: float = 10.0,
    ) -> None:
        for name, value in {"dim": dim, "hidden": hidden, "side": side, "components": components}.items():
            require(value >= 1, f"{PART}: {name} must be at least 1, not {value}")
        require(halvings >= 0, f"{PART}: halvings must be at least 0, not {halvings}")
        least, most = LEAST_SCALE, LARGEST_SCALE
        require(least <= spread <= most, f"{PART}: spread must be between {least} and {most:g}, not {spread}")
        require(gain > 0, f"{PART}: gain must be above 0, not {gain}")
        super().__init__(in_shape, dim)
        positions = self.out_shape[1:]
        require(len(positions) <= 2, f"{PART} reads vectors, sequences and images, not shape {list(in_shape)}")
        self.gain, self.halvings = gain, halvings
        self.projection = AxisLinear(in_shape[0], dim)
        self.analysis = _analysis(len(positions), dim, hidden, halvings)
        self.side = EntropyBottleneck(
            (hidden, *self.side_positions(positions)), dim=side, components=components, spread=spread, gain=gain
        )
        self.synthesis = _synthesis(len(positions), side, hidden, dim, halvings)
        last = self.synthesis[-1]
        nn.init.constant_(last.bias, math.log(spread))  # type: ignore[arg-type]

    def forward(self, h: Tensor) -> HyperpriorLatent:
        y = self.gain * at_least_single(self.projection(h))
        side: LearntPriorLatent = self.side.forward(self.analysis(y.abs()))
        posterior, z = uniform_noise(y)
        law = SmoothedNormal(self.scales(self._read(side), y.shape[2:]))
        return HyperpriorLatent(z=z, point=y, posterior=posterior, prior=GivenSide(law, side), law=law, side=side)

    def _read(self, side: LearntPriorLatent) -> Tensor:
        """Whole numbers, as h_s has them in a file, with the gradient of what was rounded: the draws, and in training
        the values before the noise for one example in two."""
        values = side.z
        if self.training:
            plain = torch.rand(len(values), *[1] * (values.ndim - 1), device=values.device) < 0.5
            values = torch.where(plain, side.point, values)
        return straight_through(values.round(), values)

    def side_positions(self, positions: Shape) -> Shape:
        """Of the side information of latents at these positions."""
        for _ in range(self.halvings):
            positions = tuple(-(-size // 2) for size in positions)
        return tuple(positions)

    def scales(self, side: Tensor, positions: Shape) -> Tensor:
        """The scales of latents at these positions, in steps: `[B, side, *fewer] -> [B, dim, *positions]`."""
        logarithm = at_least_single(_cropped(self.synthesis(side), positions))
        return between(logarithm, math.log(LEAST_SCALE), math.log(LARGEST_SCALE)).exp()

    def table_places(self, side: Tensor, positions: Shape) -> Tensor:
        """The places of the scales in `table_scales`, from whole numbers alone, on the CPU.

        Args:
            side: int64 `[B, side, *fewer]`, rounded.
            positions: of the latents.

        Returns:
            int64 `[B, dim, *positions]`, the nearest by their logarithms.
        """
        logarithm = _cropped(whole_number_output(self.synthesis, side), positions)
        factor = round(2**_BITS / SPACING)
        start = round((0.5 - math.log(LEAST_SCALE) / SPACING) * 2 ** (_BITS + FRACTION))
        places: Tensor = (logarithm * factor + start) >> (_BITS + FRACTION)
        return places.clamp(0, SCALES - 1)

    def sample_prior(self, n: int) -> Tensor:
        """`n` draws from the learnt densities, `[n, *out_shape]`."""
        return SmoothedNormal(self.scales(self.side.sample_prior(n).round(), self.out_shape[1:])).sample()


def _analysis(dims: int, dim: int, hidden: int, halvings: int) -> nn.Sequential:
    """h_a without its last linear map, `[B, dim, *positions] -> [B, hidden, *fewer]`."""
    if dims == 0:
        return nn.Sequential(nn.Linear(dim, hidden), leaky())
    layers: list[nn.Module] = [CONVOLUTIONS[dims](dim, hidden, 3, padding=1), leaky()]
    for _ in range(halvings):
        layers += [CONVOLUTIONS[dims](hidden, hidden, 5, stride=2, padding=2), leaky()]
    return nn.Sequential(*layers)


def _synthesis(dims: int, side: int, hidden: int, dim: int, halvings: int) -> nn.Sequential:
    """h_s, `[B, side, *fewer] -> [B, dim, *positions]` or a few positions more: the logarithms of scales."""
    if dims == 0:
        return nn.Sequential(nn.Linear(side, hidden), leaky(), nn.Linear(hidden, dim))
    layers: list[nn.Module] = []
    for inputs in [side, *[hidden] * (halvings - 1)][:halvings]:
        up = TRANSPOSED[dims](inputs, hidden, 5, stride=2, padding=2, output_padding=1)
        layers += [up, leaky()]
    last = CONVOLUTIONS[dims](hidden if halvings else side, dim, 3, padding=1)
    return nn.Sequential(*layers, last)


def _cropped(values: Tensor, positions: Shape) -> Tensor:
    """`[B, C, *positions]`, of values at a few positions more."""
    for axis, size in enumerate(positions, start=2):
        values = values.narrow(axis, 0, size)
    return values
