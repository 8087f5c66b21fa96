"""What several processes that train one model must agree on."""

from __future__ import annotations

from torch import Tensor, distributed


def is_distributed() -> bool:
    """Whether several processes train one model."""
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def sum_over_processes(values: Tensor) -> Tensor:
    """The sum over all processes, without a gradient; the values themselves where there is one process.

    Every process must ask: in training, where all take the same number of steps, and never in evaluation.
    """
    values = values.detach()
    if is_distributed():
        values = values.contiguous().clone()
        distributed.all_reduce(values)
    return values


def of_first_process(values: Tensor) -> Tensor:
    """The first process' values, on all of them."""
    if is_distributed():
        values = values.contiguous().clone()
        distributed.broadcast(values, src=0)
    return values
