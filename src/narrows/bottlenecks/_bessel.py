"""Modified Bessel functions of the first kind, as logarithms and ratios, where the functions themselves overflow.

`nu >= 0` is a number, `k >= 0` a tensor; all is computed in float64.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.polynomial import Polynomial
from torch import Tensor

ASYMPTOTIC = 12.0
"""The order from which Debye's expansion up to `u_TERMS` is exact to float64."""
TERMS = 12


def bessel(nu: float, k: Tensor) -> tuple[Tensor, Tensor]:
    """`log(I_nu(k) / k^nu)`, finite at k = 0, and its derivative `I_{nu + 1}(k) / I_nu(k)`, in [0, 1).

    Both have derivatives of every order in k.
    """
    return _Bessel.apply(k.double(), nu)


class _Bessel(torch.autograd.Function):
    if TYPE_CHECKING:

        @classmethod
        def apply(cls, k: Tensor, nu: float) -> tuple[Tensor, Tensor]: ...

    @staticmethod
    def forward(ctx: Any, k: Tensor, nu: float) -> tuple[Tensor, Tensor]:
        log, share = _log_and_share(nu, k)
        ctx.save_for_backward(k, share)
        ctx.nu = nu
        return log, k * share

    @staticmethod
    def backward(ctx: Any, to_log: Tensor, to_ratio: Tensor) -> tuple[Tensor, None]:
        k, share = ctx.saved_tensors
        ratio = k * share
        if torch.is_grad_enabled():
            ratio = bessel(ctx.nu, k)[1]
            share = ratio / k.clamp_min(torch.finfo(k.dtype).tiny)
        slope = 1 - ratio.square() - (2 * ctx.nu + 1) * share
        return to_log * ratio + to_ratio * slope, None


def _log_and_share(nu: float, k: Tensor) -> tuple[Tensor, Tensor]:
    """`log(I_nu(k) / k^nu)` and `I_{nu + 1}(k) / (k I_nu(k))`.

    Debye's expansion at an order that is large enough, and from there down by
    `k I_{m + 1} / I_m = 2 (m + 1) + k I_{m + 2} / I_{m + 1}`, which shrinks errors.
    """
    steps = max(0, math.ceil(ASYMPTOTIC - nu))
    top = nu + steps
    square = k.square()
    log, share = _debye(top, square)
    product = torch.ones_like(k)
    for order in range(steps):
        share = 1 / (2 * (top - order) + square * share)
        product = product * share
    return log - product.log(), share


def _debye(nu: float, square: Tensor) -> tuple[Tensor, Tensor]:
    """For large nu, uniformly in k: Abramowitz and Stegun, 9.7.7; `square` is k^2."""
    here, above = (square + nu**2).sqrt(), (square + (nu + 1) ** 2).sqrt()
    series, series_above = _series(nu, here), _series(nu + 1, above)
    log = here - nu * (nu + here).log() - 0.5 * (2 * math.pi * here).log() + series.log()
    # The difference of two such logarithms, without cancellation.
    rise = (2 * nu + 1) / (here + above)
    log_share = rise - nu * ((1 + rise) / (nu + here)).log1p() - (nu + 1 + above).log() - 0.5 * (above / here).log()
    return log, log_share.exp() * series_above / series


def _series(nu: float, root: Tensor) -> Tensor:
    """`sum_n u_n(nu / root) / nu^n`."""
    coefficients = _in_powers(nu).to(root)
    powers = (nu / root)[..., None] ** torch.arange(len(coefficients), device=root.device)
    return powers @ coefficients


@lru_cache
def _in_powers(nu: float) -> Tensor:
    """The series as one polynomial of p."""
    total = Polynomial([0.0])
    for order in range(TERMS, -1, -1):
        total = total / nu + _DEBYE[order]
    return torch.from_numpy(np.asarray(total.coef))


def _debye_polynomials() -> list[Polynomial]:
    """`u_0 = 1`, `u_{n+1}(p) = p^2 (1 - p^2) / 2 u_n' + 1/8 int_0^p (1 - 5 t^2) u_n dt`: 9.3.10 there."""
    found = [Polynomial([1.0])]
    for _ in range(TERMS):
        u = found[-1]
        moved = Polynomial([0, 0, 0.5, 0, -0.5]) * u.deriv()
        found.append(moved + (Polynomial([1, 0, -5]) * u).integ() / 8)
    return found


_DEBYE = _debye_polynomials()
