"""Sums and broadcasts over the processes that train one model together."""

from __future__ import annotations

from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _NormBase


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
