"""Chains of invertible maps of vectors, alone or given a context."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Transform, constraints
from zuko.flows import MAF, NSF
from zuko.nn import MLP, MaskedMLP
from zuko.transforms import ComposedTransform

from narrows.bottlenecks._pushforward import Map
from narrows.errors import require
from narrows.layers.blocks import choose, counts

Flow = Literal["iaf", "maf", "nsf", "planar"]
FLOWS = ("iaf", "maf", "nsf", "planar")
STEEPEST = 1e-3
"""The smallest slope of a planar map along its own direction, which float32 can still invert."""


def chain(flow: Flow, dim: int, context: int, transforms: int, hidden: Sequence[int], part: str) -> nn.Module:
    """A module `context [..., C] -> Transform` of vectors `[..., dim]`; called without argument where C is 0.

    `maf` and `iaf` are masked affine autoregressive maps, whose inverse takes `dim` passes; `nsf` rational-quadratic
    splines on [-5, 5] that move one half of the entries given the other, as fast either way; `planar` maps have a
    numerical inverse. All start near the identity.

    Raises:
        UserError: an unknown flow, `transforms` below 1, or `hidden` that no such chain has.
    """
    choose(flow, FLOWS, "flow", part)
    require(transforms >= 1, f"{part}: transforms must be at least 1, not {transforms}")
    widths = counts(hidden, "hidden", part, empty=True)
    if flow == "planar":
        alone = context == 0 and bool(widths)
        require(not alone, f"{part}: planar maps of a prior have no network, so hidden must be [], not {widths}")
        return PlanarChain(dim, context, transforms, widths)
    require(bool(widths), f"{part}: flow {flow} needs hidden as a list of at least one width, not []")
    options = {"context": context, "transforms": transforms, "hidden_features": widths, "activation": nn.ELU}
    found = NSF(dim, passes=2, **options) if flow == "nsf" else MAF(dim, **options)
    _start_near_identity(found)
    transform: nn.Module = found.transform
    return transform


@torch.no_grad()
def _start_near_identity(flow: nn.Module) -> None:
    for network in flow.modules():
        if isinstance(network, (MLP, MaskedMLP)):
            for parameter in network[-1].parameters():
                parameter.mul_(0.1)


def along(axis: int, transform: Transform) -> Map:
    """The transform of vectors that lie along `axis`."""

    def apply(x: Tensor) -> tuple[Tensor, Tensor]:
        y, log_det = transform.call_and_ladj(x.movedim(axis, -1))  # type: ignore[attr-defined]
        return y.movedim(-1, axis), log_det

    return apply


class PlanarChain(nn.Module):
    """Planar maps whose u, w and b come from a network over the context, or are parameters."""

    def __init__(self, dim: int, context: int, transforms: int, hidden: Sequence[int]) -> None:
        super().__init__()
        self.sizes = (dim, dim, 1) * transforms
        total = sum(self.sizes)
        self.network = MLP(context, total, hidden, nn.ELU) if context else None
        if context == 0:
            self.values = nn.Parameter(torch.randn(total) / math.sqrt(dim))

    def forward(self, context: Tensor | None = None) -> Transform:
        values: Tensor = self.values if self.network is None else self.network(context)
        parts = values.split(self.sizes, -1)
        maps = [Planar(u, w, b) for u, w, b in zip(parts[::3], parts[1::3], parts[2::3], strict=True)]
        composed: Transform = ComposedTransform(*maps)
        return composed


class Planar(Transform):
    """`f(x) = x + u' tanh(w.x + b)`, `[..., D], [..., D], [..., 1]`, where u' is u moved along w so that
    `w.u' = -1 + s + log(1 + exp(w.u)) > -1`: then `det f' = 1 + (1 - tanh^2) w.u'` is above s > 0.

    The inverse solves one equation in one unknown, `a + w.u' tanh(a + b) = w.y` for `a = w.x`, by bisection; its
    first derivative is exact.

    "Variational Inference with Normalizing Flows" (Rezende and Mohamed, 2015, https://arxiv.org/abs/1505.05770),
    section 4.1 and appendix A.1.
    """

    domain = constraints.real_vector
    codomain = constraints.real_vector
    bijective = True

    def __init__(self, u: Tensor, w: Tensor, b: Tensor) -> None:
        super().__init__()
        inner = (w * u).sum(-1, keepdim=True)
        self.slope = F.softplus(inner) + STEEPEST
        """`1 + w.u'`, `[..., 1]`."""
        square = w.square().sum(-1, keepdim=True).clamp_min(torch.finfo(w.dtype).tiny)
        self.u = u + (self.slope - 1 - inner) * w / square
        self.w, self.b = w, b

    def _call(self, x: Tensor) -> Tensor:
        return x + self.u * self._bend(self._project(x))

    def _inverse(self, y: Tensor) -> Tensor:
        return y - self.u * self._bend(self._solve(self._project(y)))

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        bend = self._bend(self._project(x)).square()
        # A convex sum of 1 and the slope: no cancellation near det = 0.
        return (bend + (1 - bend) * self.slope).log().squeeze(-1)

    def _project(self, x: Tensor) -> Tensor:
        return (self.w * x).sum(-1, keepdim=True)

    def _bend(self, projection: Tensor) -> Tensor:
        return (projection + self.b).tanh()

    def _solve(self, target: Tensor) -> Tensor:
        with torch.no_grad():
            reach = (self.slope - 1).abs().double()
            goal, low, high = target.double(), target.double() - reach, target.double() + reach
            for _ in range(60):
                middle = (low + high) / 2
                under = middle + (self.slope - 1) * (middle + self.b).tanh() < goal
                low, high = torch.where(under, middle, low), torch.where(under, high, middle)
            root = ((low + high) / 2).to(target)
            bend = self._bend(root).square()
            steepness = bend + (1 - bend) * self.slope
        # One step of Newton's method, which moves nothing but carries the derivative of the root.
        return root - (root + (self.slope - 1) * self._bend(root) - target) / steepness
