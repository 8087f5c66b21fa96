"""Sums and broadcasts over the processes that train one model together."""

from __future__ import annotations

from torch import Tensor, distributed


def is_distributed() -> bool:
    """Whether several processes train one model together."""
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def sum_over_processes(values: Tensor) -> Tensor:
    """The sum over all processes, without a gradient; the values themselves where there is one process.

    Every process must call this, or the others wait forever: call it in training, where all take equally many steps,
    and never in evaluation.
    """
    values = values.detach()
    if is_distributed():
        values = values.contiguous().clone()
        distributed.all_reduce(values)
    return values


def of_first_process(values: Tensor) -> Tensor:
    """The values of the first process, copied to every process."""
    if is_distributed():
        values = values.contiguous().clone()
        distributed.broadcast(values, src=0)
    return values
