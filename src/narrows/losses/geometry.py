"""Terms on the derivatives of the encoder and of the decoder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from narrows.errors import require
from narrows.losses.objective import Term
from narrows.models.autoencoder import Autoencoder
from narrows.schedules import Schedule
from narrows.types import Output


class _SquaredJacobian(Term):
    """`||d f(x) / d x||_F^2`, `[B]`, exactly or estimated; nothing that x was made from gets a gradient."""

    def __init__(
        self, weight: float | Schedule = 0.1, method: Literal["stochastic", "exact"] = "stochastic", samples: int = 1
    ) -> None:
        super().__init__(weight)
        name = type(self).__name__
        require(method in ("stochastic", "exact"), f"term {name}: method must be stochastic or exact, not '{method}'")
        require(samples >= 1, f"term {name}: samples must be at least 1, not {samples}")
        self.method, self.samples = method, samples

    def _squared_jacobian(self, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        training = torch.is_grad_enabled()
        # cuDNN's LSTM has no second derivative, and in evaluation none at all.
        with torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):
            x = x.detach().requires_grad_()
            y = function(x).flatten(1)
            squares = [_row_norm(y, x, v, training) for v in self._directions(y)]
            total = torch.stack(squares).sum(0)
        total = total / self.samples if self.method == "stochastic" else total
        return total if training else total.detach()

    def _directions(self, y: Tensor) -> list[Tensor]:
        if self.method == "exact":
            return [row.expand_as(y) for row in torch.eye(y.shape[1], device=y.device)]
        return [torch.randint_like(y, 0, 2) * 2 - 1 for _ in range(self.samples)]


class Contraction(_SquaredJacobian):
    """`||d point / d x_in||_F^2`, the squared Frobenius norm of the encoder's Jacobian, `[B]`.

    `stochastic` is Hutchinson's estimate with `samples` sign vectors, `E_v ||v^T J||^2` (unbiased, one
    backward pass each); `exact` takes one backward pass per latent. Both are reverse over reverse, because
    batch norm, the LSTM kernel and fused attention refuse forward mode, and both work inside `no_grad`.

    "Contractive Auto-Encoders: Explicit Invariance During Feature Extraction" (Rifai et al., 2011), equation 1.

    Raises:
        UserError: an unknown method, `samples` below 1, a negative weight, or tokens, which have no derivative.

    Example:
        >>> spec = DataSpec((4,), "vector", 10, value_range=(0.0, 1.0))
        >>> model = Autoencoder(spec, Stages(MLPEncoder, Gaussian, MLPDecoder, BernoulliLikelihood, NoCorruption))
        >>> out = model(Batch(torch.rand(2, 4)))
        >>> Contraction(method="exact")(out, model).shape
        torch.Size([2])
    """

    def attach(self, model: Autoencoder) -> None:
        require(
            model.spec.kind != "tokens",
            "term contraction is of derivatives by the data, and tokens have none; use another loss",
        )

    def forward(self, out: Output, model: Autoencoder) -> Tensor:
        return self._squared_jacobian(lambda x: model.encode(replace(out.seen, x=x)).point, out.seen.x)


class DecoderContraction(_SquaredJacobian):
    """`||d E[x|z] / d z||_F^2` at the batch's z, the squared Frobenius norm of the decoder's Jacobian, `[B]`.

    No gradient flows through z to the encoder. The methods are those of `Contraction`; `exact` takes one
    backward pass per value of x.

    "From Variational to Deterministic Autoencoders" (Ghosh et al., 2020, https://arxiv.org/abs/1903.12436),
    section 3.1: RAE-GP.

    Raises:
        UserError: an unknown method, `samples` below 1, or a negative weight.

    Example:
        >>> spec = DataSpec((4,), "vector", 10, value_range=(0.0, 1.0))
        >>> model = Autoencoder(spec, Stages(MLPEncoder, Gaussian, MLPDecoder, BernoulliLikelihood, NoCorruption))
        >>> out = model(Batch(torch.rand(2, 4)))
        >>> DecoderContraction()(out, model).shape
        torch.Size([2])
    """

    needs_mean = True

    def forward(self, out: Output, model: Autoencoder) -> Tensor:
        return self._squared_jacobian(lambda z: model.decode(z, out.seen).mean, out.latent.z)


def _row_norm(point: Tensor, x: Tensor, v: Tensor, create_graph: bool) -> Tensor:
    """`||v^T J||^2` per example, `[B]`."""
    (gradient,) = torch.autograd.grad(point, x, v, create_graph=create_graph, retain_graph=True)
    return gradient.flatten(1).square().sum(1)
