"""Sums and broadcasts over the processes that train one model together."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _NormBase

Value = TypeVar("Value")


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


def gather_objects(value: Value) -> list[Value]:
    """The values of all processes, in every process, in the order of their ranks."""
    if not is_distributed():
        return [value]
    found: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(found, value)
    return found


def of_first_process(values: Tensor) -> Tensor:
    """The values of the first process, copied to every process."""
    if is_distributed():
        values = values.contiguous().clone()
        distributed.broadcast(values, src=0)
    return values


def sum_with_gradient(values: Tensor) -> Tensor:
    """The sum over all processes, whose gradient is the sum of what all processes give it."""
    summed: Tensor = _Sum.apply(values)  # type: ignore[no-untyped-call]
    return summed


def mean_over_processes(mean: Tensor, share: float) -> Tensor:
    """The mean over the global batch, of the means over each process' rows, with this process' part of its gradient.

    The loss is multiplied by `share` (`Batch.share`) and the gradients are averaged: any function of this mean then has
    the gradient that one process would give it.
    """
    if not is_distributed():
        return mean
    whole = sum_over_processes(mean * share) / distributed.get_world_size()
    return whole + (mean - mean.detach())


def rows_of_all(values: Tensor, share: float) -> Tensor:
    """The rows of the global batch in its order, `[b, *any] -> [B, *any]`, with the gradient that every process gives
    to this one's.

    The loss is multiplied by `share` (`Batch.share`) and the gradients are averaged: any function of these rows then
    has the gradient that one process would give it, whether each process computes all of it or its own rows' part.
    """
    if not is_distributed():
        return values
    gathered: Tensor = _AllRows.apply(values, round(len(values) * distributed.get_world_size() / share))  # type: ignore[no-untyped-call]
    return gathered


def own_rows(values: Tensor) -> Tensor:
    """This process' rows of the global batch: its datamodule deals them out in turn."""
    return values[distributed.get_rank() :: distributed.get_world_size()] if is_distributed() else values


def rows_at(values: Tensor, places: Tensor, each: int) -> Tensor:
    """The rows of the global batch that stand at `places`, without a gradient; an example has `each` of them."""
    if not is_distributed():
        return values.detach()[places]
    rank, world = distributed.get_rank(), distributed.get_world_size()
    example, position = places // each, places % each
    own = (example // world * each + position).clamp(max=len(values) - 1)
    mine = (example % world == rank)[:, None]
    return sum_over_processes(torch.where(mine, values.detach()[own], 0.0))


def largest_of_all(values: Tensor, k: int) -> Tensor:
    """The `k` largest of `values` `[N]` of all processes, the largest first, without a gradient."""
    own = values.detach().topk(min(k, len(values))).values
    if not is_distributed():
        return own
    own = F.pad(own, (0, k - len(own)), value=-torch.inf)
    return _gathered(own).flatten().topk(k).values


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return sum_over_processes(values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return sum_over_processes(gradient)


class _AllRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, total: int) -> Tensor:
        missing = -(-total // distributed.get_world_size()) - len(values)
        padded = F.pad(values, [0, 0] * (values.ndim - 1) + [0, missing])
        # Row j of process r is row j * world + r of the global batch.
        return _gathered(padded).transpose(0, 1).flatten(0, 1)[:total]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return own_rows(sum_over_processes(gradient)), None


def _gathered(values: Tensor) -> Tensor:
    """`[*any]` to `[world, *any]`."""
    values = values.contiguous()
    found = [torch.empty_like(values) for _ in range(distributed.get_world_size())]
    distributed.all_gather(found, values)
    return torch.stack(found)


def share_running_statistics(network: nn.Module) -> None:
    """Give every process the running statistics of the first, those of batch norm, which a checkpoint holds.

    Each process updates its own by its own rows. Torch's wrapper would share them before every step, but under manual
    optimisation Lightning lets it do so before the first alone: evaluations would be of a model in part that is not
    saved, and a run that goes on from a checkpoint another one.
    """
    if not is_distributed():
        return
    for layer in network.modules():
        if isinstance(layer, _NormBase):
            for values in layer.buffers(recurse=False):
                values.copy_(of_first_process(values))
