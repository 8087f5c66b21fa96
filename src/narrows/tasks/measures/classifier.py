"""The training loop of classifiers, shared by the tasks; it runs a fixed number of steps."""

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
    """Minimise the cross-entropy by Adam on batches of 128 drawn with replacement, seeded by `(seed, *counters, step)`.

    Args:
        logits: gives the logits `[B, classes]` from the inputs in `examples`, on the parameters' device.
        parameters: the parameters to train.
        examples: the inputs of `logits`, `[N, *shape]` each, and last the labels `[N]`, on the CPU.
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
