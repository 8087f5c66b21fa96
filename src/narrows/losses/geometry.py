"""Terms on the shape of the maps: derivatives of the encoder."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from narrows.errors import require
from narrows.losses.objective import Term
from narrows.model import Autoencoder
from narrows.schedules import Schedule
from narrows.types import Output


class Contraction(Term):
    """`||d point / d x_in||_F^2`, the squared Frobenius norm of the encoder's Jacobian, `[B]`.

    `stochastic` is Hutchinson's estimate with `samples` sign vectors, `E_v ||v^T J||^2` (unbiased, one
    backward pass each); `exact` takes one backward pass per latent. Both are reverse over reverse, because
    batch norm, the LSTM kernel and fused attention refuse forward mode, and both work inside `no_grad`.

    "Contractive Auto-Encoders: Explicit Invariance During Feature Extraction" (Rifai et al., 2011), equation 1.

    Raises:
        UserError: an unknown method, `samples` below 1, or a negative weight.
    """

    def __init__(
        self,
        weight: float | Schedule = 0.1,
        method: Literal["stochastic", "exact"] = "stochastic",
        samples: int = 1,
    ) -> None:
        super().__init__(weight)
        require(
            method in ("stochastic", "exact"),
            f"term contraction: method must be stochastic or exact, not '{method}'",
        )
        require(samples >= 1, f"term contraction: samples must be at least 1, not {samples}")
        self.method, self.samples = method, samples

    def forward(self, out: Output, model: Autoencoder) -> Tensor:
        training = torch.is_grad_enabled()
        # cuDNN's LSTM has no second derivative, and in evaluation none at all.
        with torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):
            x = out.x_in.detach().requires_grad_()
            point = model.encode(x).point.flatten(1)
            squares = [_row_norm(point, x, v, training) for v in self._directions(point)]
            total = torch.stack(squares).sum(0)
        total = total / self.samples if self.method == "stochastic" else total
        return total if training else total.detach()

    def _directions(self, point: Tensor) -> list[Tensor]:
        if self.method == "exact":
            return [row.expand_as(point) for row in torch.eye(point.shape[1], device=point.device)]
        return [torch.randint_like(point, 0, 2) * 2 - 1 for _ in range(self.samples)]


def _row_norm(point: Tensor, x: Tensor, v: Tensor, create_graph: bool) -> Tensor:
    """`||v^T J||^2` per example, `[B]`."""
    (gradient,) = torch.autograd.grad(point, x, v, create_graph=create_graph, retain_graph=True)
    return gradient.flatten(1).square().sum(1)
