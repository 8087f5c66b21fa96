"""The hierarchical bottleneck: levels of Gaussian latents, each above the one before."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Normal, constraints

from narrows.bottlenecks._positions import AtPositions
from narrows.bottlenecks.base import Bottleneck
from narrows.layers.blocks import counts
from narrows.types import GaussianLatent, HierarchicalLatent, Shape, at_least_single

PART = "bottleneck ladder"


class TopDown(Distribution):
    """`q(z_L) prod_i q(z_i | z_{i+1})` over `z = [z_1, ..., z_L]` beside one another on the last axis.

    Args:
        top: the law of z_L, elementwise, `[*batch, d_L]`.
        below: from L - 1 down to 1, `z_{i+1}` to the law of z_i.
        sizes: d_1, ..., d_L.

    Example:
        >>> top = Normal(torch.zeros(1, 2), 1.0)
        >>> law = TopDown(top, [lambda z: Normal(z[..., :1], 1.0)], sizes=[1, 2])
        >>> law.sample().shape, law.log_prob(torch.zeros(1, 3)).shape
        (torch.Size([1, 3]), torch.Size([1]))
    """

    has_rsample = True
    support = constraints.real_vector

    def __init__(self, top: Normal, below: Sequence[Callable[[Tensor], Normal]], sizes: Sequence[int]) -> None:
        self.top, self.below, self.sizes = top, below, list(sizes)
        super().__init__(top.batch_shape[:-1], torch.Size((sum(sizes),)), validate_args=False)

    def rsample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        first = self.top.rsample(torch.Size(sample_shape))
        return self.down(first, lambda level: level.rsample())

    def down(self, top: Tensor, choose: Callable[[Normal], Tensor]) -> Tensor:
        """z from its top level, every other one chosen given the level above."""
        found = [top]
        for conditional in self.below:
            found.append(choose(conditional(found[-1])))
        return torch.cat(found[::-1], -1)

    def levels(self, value: Tensor) -> list[tuple[Tensor, Normal]]:
        """Every level of `value` with its law given the one above, in z's order."""
        pieces = value.split(self.sizes, -1)
        laws = [self.top, *(law(z) for law, z in zip(self.below, pieces[:0:-1], strict=True))]
        return list(zip(pieces, laws[::-1], strict=True))

    def log_prob(self, value: Tensor) -> Tensor:
        return torch.stack([law.log_prob(z).sum(-1) for z, law in self.levels(value)]).sum(0)


class Ladder(Bottleneck):
    """Levels of `dims` latents, the first beside the data: `p(z) = p(z_L) prod_i p(z_i | z_{i+1})`, p(z_L) = N(0, I).

        h ── d_2 ── ... ── d_L          d_i = net(d_{i-1}),  d_1 = h
        │    │             │
       q̂_1  q̂_2           q̂_L = q(z_L | x)
        │    │             │
       z_1 ← z_2 ←  ...  ← z_L          q(z_i | z_{i+1}, x) ~ q̂_i(z_i) p(z_i | z_{i+1})

    Below the top, posterior and prior share the way down: the posterior is the product of the bottom-up Gaussian
    q̂_i and the prior, its precision the sum of theirs. z are all levels beside one another on axis 1, and the decoder
    reads all of them (in the paper z_1 alone). The KL is a sum over levels, each in closed form given the drawn
    levels above. `point` follows the means down. With one level it is the Gaussian bottleneck. It acts at every
    position of a map alike.

    "Ladder Variational Autoencoders" (Sonderby et al., 2016, https://arxiv.org/abs/1602.02282), section 2.2.

    Args:
        in_shape: of h.
        dims: of the levels, from the data to the top.
        hidden: widths of each of the networks between two levels.

    Raises:
        UserError: `dims` or `hidden` are not whole positive numbers, or there is no level.

    Example:
        >>> latent = Ladder((5,), dims=[3, 2], hidden=[8])(torch.rand(3, 5))
        >>> latent.z.shape, [level.z.shape for level in latent.levels]
        (torch.Size([3, 5]), [torch.Size([3, 3]), torch.Size([3, 2])])
    """

    returns = HierarchicalLatent

    def __init__(self, in_shape: Shape, *, dims: Sequence[int] = (16, 8), hidden: Sequence[int] = (128,)) -> None:
        self.dims, widths = counts(dims, "dims", PART), counts(hidden, "hidden", PART, empty=True)
        super().__init__(in_shape, sum(self.dims))
        inner = widths[-1:] or [in_shape[0]]
        features = [in_shape[0], *inner * (len(self.dims) - 1)]
        self.rises = nn.ModuleList(_network(size, [*widths] or inner, None) for size in features[:-1])
        self.guesses = nn.ModuleList(nn.Linear(size, 2 * dim) for size, dim in zip(features, self.dims, strict=True))
        below = reversed(list(zip(self.dims[1:], self.dims[:-1], strict=True)))
        self.falls = nn.ModuleList(_network(above, widths, 2 * dim) for above, dim in below)

    def forward(self, h: Tensor) -> HierarchicalLatent:
        features, positions = h.movedim(1, -1), h.ndim - 2
        *lower, top = self._guesses(features)
        merged = [_merged(fall, guess) for fall, guess in zip(self.falls, reversed(lower), strict=True)]
        q = TopDown(top, merged, self.dims)
        p = self._prior(top.mean.shape[:-1])
        z, point = q.rsample(), q.down(top.mean, lambda level: level.mean)
        posterior, prior = AtPositions(q, positions), AtPositions(p, positions)
        return HierarchicalLatent(
            z=posterior.laid_out(z),
            point=posterior.laid_out(point),
            posterior=posterior,
            prior=prior,
            levels=[
                _level(part, law, under, positions)
                for (part, law), (_, under) in zip(q.levels(z), p.levels(z), strict=True)
            ],
        )

    def _guesses(self, features: Tensor) -> list[Normal]:
        """q̂_1, ..., q̂_L."""
        found = []
        for guess, rise in zip(self.guesses, [*self.rises, nn.Identity()], strict=True):
            found.append(_normal(guess(features)))
            features = rise(features)
        return found

    def _prior(self, batch: Sequence[int]) -> TopDown:
        zeros = next(self.guesses.parameters()).new_zeros((*batch, self.dims[-1]))
        top = Normal(zeros, torch.ones_like(zeros), validate_args=False)
        return TopDown(top, [_law(fall) for fall in self.falls], self.dims)

    def sample_prior(self, n: int) -> Tensor:
        """`n` draws from the prior, `[n, *out_shape]`, on this module's device."""
        positions = self.out_shape[1:]
        return AtPositions(self._prior((n, *positions)), len(positions)).sample()


def _network(size: int, widths: Sequence[int], out: int | None) -> nn.Sequential:
    """Over the last axis; without `out` it ends with an activation."""
    layers: list[nn.Module] = []
    for width in widths:
        layers += [nn.Linear(size, width), nn.ELU()]
        size = width
    return nn.Sequential(*layers, *([] if out is None else [nn.Linear(size, out)]))


def _normal(parameters: Tensor) -> Normal:
    mean, log_variance = at_least_single(parameters).chunk(2, -1)
    return Normal(mean, (0.5 * log_variance).exp(), validate_args=False)


def _law(fall: nn.Module) -> Callable[[Tensor], Normal]:
    return lambda above: _normal(fall(above))


def _merged(fall: nn.Module, guess: Normal) -> Callable[[Tensor], Normal]:
    """The normalised product of both densities."""

    def law(above: Tensor) -> Normal:
        prior = _normal(fall(above))
        here, there = guess.variance.reciprocal(), prior.variance.reciprocal()
        mean = (guess.mean * here + prior.mean * there) / (here + there)
        return Normal(mean, (here + there).rsqrt(), validate_args=False)

    return law


def _level(z: Tensor, posterior: Normal, prior: Normal, positions: int) -> GaussianLatent:
    """Channels first."""

    def laid_out(law: Normal) -> Normal:
        mean, scale = (value.movedim(-1, -1 - positions) for value in (law.mean, law.stddev))
        return Normal(mean, scale, validate_args=False)

    q = laid_out(posterior)
    return GaussianLatent(z=z.movedim(-1, -1 - positions), point=q.mean, posterior=q, prior=laid_out(prior))
