"""The one training loop of the tasks: a network that is to tell labels, for a fixed number of steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from narrows.random import Counter, generator

BATCH = 128


def descend(
    logits: Callable[..., Tensor],
    parameters: Iterable[nn.Parameter],
    examples: Sequence[Tensor],
    *counters: Counter,
    steps: int,
    rate: float,
    seed: int = 0,
) -> None:
    """Adam on the cross-entropy of batches of 128 that are drawn with replacement, as `(seed, *counters, step)` say.

    Args:
        logits: of what comes before the labels in `examples`, `[B, classes]`, on the parameters' device.
        parameters: those that are trained.
        examples: what `logits` reads, `[N, *shape]` each, and last the labels `[N]`, on the CPU.
    """
    trained = list(parameters)
    device = trained[0].device
    optimizer = torch.optim.Adam(trained, lr=rate)
    with torch.enable_grad():
        for step in range(steps):
            rows = torch.randint(len(examples[0]), (BATCH,), generator=generator(seed, *counters, step))
            *given, label = (part[rows].to(device) for part in examples)
            loss = F.cross_entropy(logits(*given), label)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
