"""How alike the latents of two models are: centred kernel alignment."""

from __future__ import annotations

import math

from torch import Tensor


def linear_cka(first: Tensor, second: Tensor) -> float:
    """Linear CKA of latents `[N, p]` and `[N, q]` of the same N examples: 1 where one is a rotation and scaling of the
    other, 0 in the mean where they have nothing in common; NaN of fewer than four examples or constant latents.

    HSIC is estimated without bias, so that wide latents of few examples do not look alike (it may be slightly below 0).

    "Similarity of Neural Network Representations Revisited" (Kornblith et al., 2019),
    https://arxiv.org/abs/1905.00414; the estimator is equation 5 of "Feature Selection via Dependence Maximization"
    (Song et al., 2012), https://jmlr.org/papers/v13/song12a.html.
    """
    if len(first) < 4:
        return math.nan
    kernels = [_centred_kernel(codes) for codes in (first, second)]
    cross, own = _product(*kernels), [_product(kernel, kernel) for kernel in kernels]
    return float(cross / math.sqrt(own[0] * own[1])) if min(own) > 0 else math.nan


def _centred_kernel(codes: Tensor) -> Tensor:
    """The linear kernel `[N, N]` with a diagonal of zeros, U-centred: the inner products of two such kernels estimate
    HSIC without bias ("Partial Distance Correlation with Methods for Dissimilarities", Szekely and Rizzo, 2014)."""
    centred = codes.double() - codes.double().mean(0)
    scale = centred.square().mean().sqrt()
    kernel = (centred @ centred.T) / scale.square() if scale > 0 else centred @ centred.T
    kernel.fill_diagonal_(0)
    count = len(kernel)
    rows = kernel.sum(0, keepdim=True) / (count - 2)
    total = kernel.sum() / ((count - 1) * (count - 2))
    return (kernel - rows - rows.T + total).fill_diagonal_(0)


def _product(first: Tensor, second: Tensor) -> float:
    count = len(first)
    return float((first * second).sum()) / (count * (count - 3))
