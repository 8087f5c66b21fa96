"""Courses of the learning rate that torch does not have, and the step that every scheduler takes at an epoch's end."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from narrows.errors import require

FOLLOWED = "val/loss"
"""The figure by which `ReduceLROnPlateau` judges."""


class WarmUpCosine(LRScheduler):
    """The learning rate rises from a share of itself to the whole, then falls along half a cosine.

    In epoch e of E, with W epochs of warm-up, the optimiser's own rate is multiplied by `start + (1 - start) r(e / W)`
    up to W, where r is the identity or `(1 - cos(pi x)) / 2`, and then by
    `end + (1 - end) (1 + cos(pi (e - W) / (E - W))) / 2`. Every parameter group keeps its own rate as the highest.

    "SGDR" (Loshchilov and Hutter, 2017, https://arxiv.org/abs/1608.03983), without restarts; with a cosine rise and a
    small start the one cycle of "Super-Convergence" (Smith and Topin, 2018, https://arxiv.org/abs/1708.07120).

    Args:
        epochs: of the run.
        warm_up: epochs of the rise, or below 1 the share of the epochs.
        start: share of the rate in the first epoch; without any warm-up it is not used.
        end: share of the rate once all epochs are done.
        rise: `linear` or `cosine`.

    Raises:
        UserError: an option out of range.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        epochs: int,
        warm_up: int | float = 0.1,
        start: float = 0.01,
        end: float = 0.0,
        rise: Literal["linear", "cosine"] = "linear",
    ) -> None:
        require(epochs >= 1, f"scheduler.epochs must be at least 1, not {epochs}")
        self.epochs = epochs
        self.warm_up = warm_up * epochs if isinstance(warm_up, float) and warm_up < 1 else warm_up
        require(0 <= self.warm_up <= epochs, f"scheduler.warm_up must be 0 to the {epochs} epochs, not {warm_up}")
        for option, share in {"start": start, "end": end}.items():
            require(0 <= share <= 1, f"scheduler.{option} is a share of the learning rate, 0 to 1, not {share}")
        require(rise in ("linear", "cosine"), f"scheduler.rise must be linear or cosine, not '{rise}'")
        self.start, self.end, self.rise = start, end, rise
        super().__init__(optimizer)

    def get_lr(self) -> list[float | Any]:
        """The rate of every parameter group in the epoch that comes next."""
        return [rate * self._share(self.last_epoch) for rate in self.base_lrs]

    def _share(self, epoch: int) -> float:
        if epoch < self.warm_up:
            done = epoch / self.warm_up
            risen = done if self.rise == "linear" else (1 - math.cos(math.pi * done)) / 2
            return self.start + (1 - self.start) * risen
        fallen = min((epoch - self.warm_up) / max(self.epochs - self.warm_up, 1e-9), 1.0)
        return self.end + (1 - self.end) * (1 + math.cos(math.pi * fallen)) / 2


def end_epoch(scheduler: Any, judged: Mapping[str, float]) -> None:
    """Let a scheduler take the step of an epoch's end.

    Args:
        judged: the figures of the epoch's last validation; empty if there was none. Only a scheduler that follows them
            waits for the next one.

    Raises:
        UserError: validation has no figure that the scheduler follows.
    """
    if not isinstance(scheduler, ReduceLROnPlateau):
        scheduler.step()
    elif judged:
        require(FOLLOWED in judged, f"scheduler=plateau follows {FOLLOWED}, which this run's validation does not have")
        scheduler.step(judged[FOLLOWED])


def require_followed(scheduler: Any, validates: bool) -> None:
    """Refuse a scheduler that would wait for a validation for ever.

    Raises:
        UserError: nothing is validated.
    """
    follows = isinstance(scheduler, ReduceLROnPlateau)
    require(validates or not follows, f"scheduler=plateau follows {FOLLOWED}, and this run validates nothing")
