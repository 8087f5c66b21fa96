"""The law of a map of Gaussian noise."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Distribution, Normal, constraints

Map = Callable[[Tensor], tuple[Tensor, Tensor]]
"""A value to its image and the logarithm of the absolute determinant of the Jacobian there."""


class Pushforward(Distribution):
    """The law of `T(u)`, u ~ `base`, for an invertible T: `log q(T(u)) = log base(u) - log |det T'(u)|`.

    The density of a value that it drew itself is known from the draw and needs no inverse: the last two draws
    are remembered. That of any other value takes `inverse`.

    Args:
        base: elementwise, `[*batch, *event]`.
        forward: T, `[..., *batch, *event]` to its image and `[..., *batch']`.
        inverse: T's inverse, alike.
        axes: of `base`, counted from the end, over which its log-density is summed to `[..., *batch']`.
    """

    has_rsample = True
    support = constraints.real_vector

    def __init__(self, base: Normal, forward: Map, inverse: Map, axes: tuple[int, ...]) -> None:
        self.base, self.forward, self.inverse, self.axes = base, forward, inverse, axes
        self._own: deque[tuple[Tensor, Tensor, bool]] = deque(maxlen=2)
        shape = base.batch_shape
        batch = torch.Size(size for i, size in enumerate(shape) if i - len(shape) not in axes)
        super().__init__(batch, torch.Size(shape[axis] for axis in axes), validate_args=False)

    def rsample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        noise = self.base.rsample(torch.Size(sample_shape))
        value, log_det = self.forward(noise)
        self._own.append((value, self._base_log_prob(noise) - log_det, torch.is_grad_enabled()))
        return value

    def log_prob(self, value: Tensor) -> Tensor:
        for own, log_prob, differentiable in self._own:
            if own is value and (differentiable or not torch.is_grad_enabled()):
                return log_prob
        noise, log_det = self.inverse(value)
        return self._base_log_prob(noise) + log_det

    def _base_log_prob(self, noise: Tensor) -> Tensor:
        log_prob: Tensor = self.base.log_prob(noise)
        return log_prob.sum(self.axes)
