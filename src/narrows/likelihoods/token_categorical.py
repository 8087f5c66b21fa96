"""The categorical distribution over tokens."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.nn.functional import cross_entropy


class TokenCategorical(Distribution):
    """One of V tokens at every step: `logits [B, V, T]`, events `[B, T]`, which are names and have no mean.

    Example:
        >>> p_x = TokenCategorical(torch.zeros(1, 4, 3))
        >>> p_x.log_prob(torch.tensor([[0, 3, 1]])).exp()
        tensor([[0.2500, 0.2500, 0.2500]])
    """

    has_enumerate_support = False

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits
        super().__init__(logits.select(1, 0).shape, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        # Decoders write [B, T, V], of which `logits` is a view: along the last axis the softmax reads memory in order.
        rows = self.logits.transpose(1, 2).flatten(0, 1)
        return -cross_entropy(rows, value.flatten(), reduction="none").reshape(value.shape)

    @property
    def likeliest(self) -> Tensor:
        """The token of the highest probability at every step, int64 `[B, T]`."""
        return self.logits.argmax(1)

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        categorical = torch.distributions.Categorical(logits=self.logits.transpose(1, 2), validate_args=False)
        drawn: Tensor = categorical.sample(torch.Size(sample_shape))
        return drawn
