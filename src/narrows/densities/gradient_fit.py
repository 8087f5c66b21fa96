"""The training of densities that learn by gradient."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from narrows.densities.base import mean_log_prob
from narrows.errors import NonFiniteError, require

CLIP = 10.0
"""Largest joint gradient norm: a flow's first steps may be steep."""


@dataclass(frozen=True)
class Budget:
    """At most `epochs` of Adam over values in memory, which end `patience` epochs after the best on held-out values.

    Raises:
        UserError: a value out of its range.

    Example:
        >>> part, x = torch.nn.Linear(1, 1), torch.ones(8, 1)
        >>> budget = Budget("flow", epochs=100, batch_size=4, lr=0.1, patience=100)
        >>> budget.spend(part, lambda x: -(part(x) - 3).abs().squeeze(1), train=x, held=x)
        >>> bool((part(x) - 3).abs().mean() < 0.1)
        True
    """

    name: str
    epochs: int
    batch_size: int
    lr: float
    patience: int

    def __post_init__(self) -> None:
        for option in ("epochs", "batch_size", "patience"):
            value = getattr(self, option)
            require(value >= 1, f"density {self.name}: {option} must be at least 1, not {value}")
        require(self.lr > 0, f"density {self.name}: lr must be above 0, not {self.lr}")

    @torch.enable_grad()
    def spend(self, part: nn.Module, objective: Callable[[Tensor], Tensor], train: Tensor, held: Tensor) -> None:
        """Maximise the mean of `objective [B]` over `train`; `part` is left as it was at its best on `held`.

        No parameter but those of `part` gets a gradient.

        Raises:
            NonFiniteError: the objective left the finite numbers.
        """
        parameters = list(part.parameters())
        device = parameters[0].device
        optimizer = torch.optim.Adam(parameters, lr=self.lr)
        best, kept, since = -math.inf, copy.deepcopy(part.state_dict()), 0
        for epoch in range(self.epochs):
            part.train()
            # Drawn on the CPU: the same order on every device.
            for rows in torch.randperm(len(train)).split(self.batch_size):
                loss = -objective(train[rows].to(device)).mean()
                for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
                    parameter.grad = gradient
                nn.utils.clip_grad_norm_(parameters, CLIP)
                optimizer.step()
            part.eval()
            with torch.no_grad():
                now = mean_log_prob(objective, held, device)
            if not math.isfinite(now):
                raise NonFiniteError(
                    f"density {self.name}: log-density {now} in epoch {epoch + 1}; try a lower density.lr"
                )
            since += 1
            if now > best:
                best, kept, since = now, copy.deepcopy(part.state_dict()), 0
            if since == self.patience:
                break
        part.load_state_dict(kept)
        for parameter in parameters:
            parameter.grad = None
