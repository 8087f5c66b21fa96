"""Terms that hold the aggregate posterior near the prior by samples alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from narrows.errors import require
from narrows.losses.objective import Term
from narrows.models.autoencoder import Autoencoder
from narrows.schedules import Schedule
from narrows.types import Output

Kernel = Literal["imq", "rbf"]


def kernel_matrix(a: Tensor, b: Tensor, kernel: Kernel, scales: Sequence[float]) -> Tensor:
    """The sum over `scales` s of `C / (C + |a_i - b_j|^2)` (imq) or `exp(-|a_i - b_j|^2 / C)` (rbf),
    `C = 2 D s`, `[A, D], [B, D] -> [A, B]`."""
    square = (a[:, None] - b[None]).square().sum(2)
    widths = [2.0 * a.shape[1] * scale for scale in scales]
    if kernel == "imq":
        return torch.stack([width / (width + square) for width in widths]).sum(0)
    return torch.stack([(-square / width).exp() for width in widths]).sum(0)


def squared_mmd(z: Tensor, drawn: Tensor, kernel: Kernel, scales: Sequence[float]) -> Tensor:
    """The unbiased estimate of MMD^2 between two samples of at least two rows each, a scalar."""
    within = [_mean_of_pairs(kernel_matrix(sample, sample, kernel, scales)) for sample in (z, drawn)]
    return within[0] + within[1] - 2 * kernel_matrix(z, drawn, kernel, scales).mean()


def _mean_of_pairs(matrix: Tensor) -> Tensor:
    """Mean over pairs of different rows: pairs of a row with itself would bias it upwards."""
    n = len(matrix)
    return (matrix.sum() - matrix.diagonal().sum()) / (n * (n - 1))


class MMD(Term):
    """The squared maximum mean discrepancy between the batch's z and as many draws from the prior, a scalar.

    Where the bottleneck has no prior it is N(0, I). The estimate is the unbiased U-statistic, so it may be below
    0, and its mean does not depend on the batch size. One example says nothing of the aggregate: a batch of one
    gives 0. Kernels of several `scales` are added; each has the width `C = 2 D scale` of a prior of unit variance.

    "Wasserstein Auto-Encoders" (Tolstikhin et al., 2018, https://arxiv.org/abs/1711.01558), algorithm 2 and section 4;
    "InfoVAE: Balancing Learning and Inference in Variational Autoencoders" (Zhao et al., 2019,
    https://arxiv.org/abs/1706.02262), equation 7.

    Raises:
        UserError: an unknown kernel, a scale that is not above 0 or none at all, or a negative weight.

    Example:
        >>> spec = DataSpec((4,), "vector", 10, value_range=(0.0, 1.0))
        >>> model = Autoencoder(spec, Stages(MLPEncoder, Gaussian, MLPDecoder, BernoulliLikelihood, NoCorruption))
        >>> out = model(Batch(torch.rand(2, 4)))
        >>> MMD()(out, model).shape
        torch.Size([])
    """

    def __init__(
        self,
        weight: float | Schedule = 100.0,
        kernel: Kernel = "imq",
        scales: Sequence[float] = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0),
    ) -> None:
        super().__init__(weight)
        require(kernel in ("imq", "rbf"), f"term mmd: kernel must be imq or rbf, not '{kernel}'")
        require(len(scales) > 0 and min(scales) > 0, f"term mmd: scales must be numbers above 0, not {list(scales)}")
        self.kernel: Kernel = kernel
        self.scales = tuple(scales)

    def forward(self, out: Output, model: Autoencoder) -> Tensor:
        z = out.latent.z.flatten(1)
        drawn = model.draw(len(z)).flatten(1).to(z) if model.generative else torch.randn_like(z)
        z, drawn = self.whole(z, out), self.whole(drawn, out)
        if len(z) == 1:
            return 0.0 * z.sum()
        return squared_mmd(z, drawn, self.kernel, self.scales)
