"""`trainer.strategy=fsdp`: processes that share a batch and divide what is kept of the parameters between them.

Torch's FSDP2 (`fully_shard`, https://docs.pytorch.org/docs/stable/distributed.fsdp.fully_shard.html; Zhao et al., 2023,
https://arxiv.org/abs/2304.11277) keeps an Nth of every parameter, gradient and value of the optimiser in each of N
processes. The whole parameters of a large block of encoder or decoder exist while that block computes; all others are
gathered when a step begins, because terms of a loss read them outside of any stage's `forward`, and are divided again
once their gradients are known. Lightning's own `FSDPStrategy` refuses the CPU, and its `ModelParallelStrategy` writes
checkpoints past the plugin by which narrows writes them whole and checked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from narrows.distributed import sum_over_processes
from narrows.errors import UserError, require

LARGE = 100_000
"""Parameters from which on a block is gathered for itself alone; smaller ones cost more messages than memory."""
MIXED = "mixed torch.Tensor and DTensor"
"""What torch says where a part of a parameter meets what is whole."""


class FullyShardedStrategy(DDPStrategy):
    """Lightning's strategy of several processes, with `fully_shard` in the place of torch's DDP.

    A checkpoint is that of one process: rank 0 gathers it, and each process reads its part of one.

    Args:
        large: parameters from which on a block of encoder or decoder is gathered for itself alone; None: `LARGE`.
    """

    def __init__(self, large: int | None = None, **options: Any) -> None:
        super().__init__(**options)
        self._large = LARGE if large is None else large
        self._scalars: list[nn.Parameter] = []
        self._fused: list[Any] = []  # of each group of each optimiser, as its config has it
        self._blocks: list[Any] = []
        self._read: list[tuple[str, Tensor, int]] = []
        self._divides = True  # blocks, while they do not compute

    def setup(self, trainer: Any) -> None:
        # What is judged after training is a whole model.
        self._blocks, self._read, self._divides = [], [], True
        super().setup(trainer)

    def configure_ddp(self) -> None:
        module: Any = self.model
        for value in (*module.parameters(), *module.buffers()):
            distributed.broadcast(value.detach(), src=0)
        mesh = init_device_mesh(self.root_device.type, (self.world_size,))
        # A number has no rows to divide: all processes keep it.
        self._scalars = [parameter for parameter in module.parameters() if parameter.ndim == 0]
        kept = set(self._scalars)
        self._blocks = list(large_blocks(module.model, self._large))
        for block in self._blocks:
            fully_shard(block, mesh=mesh, ignored_params=kept)
        fully_shard(module, mesh=mesh, reshard_after_forward=False, ignored_params=kept)
        # Torch would fetch parts in the order of the last computations, and those of one process alone, in evaluation
        # and for pictures, are among them: the processes would wait for different parts.
        ordered = [part for part in module.modules() if isinstance(part, FSDPModule)]
        for before, part in pairwise([*ordered, module]):
            part.set_modules_to_backward_prefetch([before if before is not module else part])

    def setup_optimizers(self, trainer: Any) -> None:
        super().setup_optimizers(trainer)
        self._fused = [group.get("fused") for optimizer in self.optimizers for group in optimizer.param_groups]
        for optimizer in self.optimizers:
            self._take_apart(optimizer)
        # Whole, until the first step: what sets initial weights reads and writes them so.
        self._gather(blocks=True)
        self._divides = False

    def post_backward(self, closure_loss: Tensor) -> None:
        for scalar in self._scalars:
            if scalar.grad is not None:
                scalar.grad = sum_over_processes(scalar.grad) / self.world_size

    def optimizer_step(self, *args: Any, **options: Any) -> Any:
        result = super().optimizer_step(*args, **options)
        self._read = []
        self._gather()
        return result

    def teardown(self) -> None:
        module = self._lightning_module
        if not isinstance(self.model, FSDPModule) or module is None or module.trainer.interrupted:
            super().teardown()
            return
        # What the first process draws after the last step reads whole weights, and to move the module to the CPU, as
        # Lightning does here, would divide them again.
        self._gather(blocks=True)
        self._lightning_module = None
        super().teardown()
        self._lightning_module = module

    def _gather(self, blocks: bool = False) -> None:
        """Hold all parameters, those of large blocks only on demand, as a whole, as whoever reads them expects."""
        self._keep_written()
        for block in self._blocks:
            block.set_reshard_after_forward(not blocks)
        for module in (*(self._blocks if blocks else ()), self.model):
            if isinstance(module, FSDPModule):
                module.unshard()
        self._read = [(name, value, value._version) for name, value in self._whole_parameters()]

    def _whole_parameters(self) -> list[tuple[str, Tensor]]:
        kept = {id(scalar) for scalar in self._scalars}
        named = () if self.lightning_module is None else self.lightning_module.named_parameters()
        return [(name, value) for name, value in named if not isinstance(value, DTensor) and id(value) not in kept]

    def _written(self) -> dict[str, Tensor]:
        """The whole parameters that were written to since they were gathered."""
        return {name: value.detach() for name, value, version in self._read if value._version != version}

    def _keep_written(self) -> None:
        """Write what was written to whole parameters before the first step (a start at PCA), by each process alike, to
        their parts."""
        written = {name: value.clone() for name, value in self._written().items()}
        self._read = []
        if not written:
            return
        for module in (*self._blocks, self.model):
            module.reshard()
        parts = dict(self.lightning_module.named_parameters())  # type: ignore[union-attr]
        with torch.no_grad():
            for name, value in written.items():
                parts[name].copy_(_part(value, parts[name]))

    def pre_backward(self, closure_loss: Tensor) -> None:
        written = list(self._written())
        require(
            not written,
            f"{''.join(written[:1])} was written to while its loss was computed, and with trainer.strategy=fsdp the "
            "change would be lost, because each process keeps but a part of it: use trainer=ddp",
        )

    # An evaluation deals out whole chunks to the processes, so that none may wait for another's part of a block.

    def validation_step(self, *args: Any, **options: Any) -> Any:
        if self._divides:
            self._gather(blocks=True)
            self._divides = False
        return super().validation_step(*args, **options)

    def training_step(self, *args: Any, **options: Any) -> Any:
        if not self._divides or self._written():
            self._gather()
            self._divides = True
        try:
            return super().training_step(*args, **options)
        except RuntimeError as error:
            if MIXED not in str(error):
                raise
            raise UserError(
                "trainer.strategy=fsdp: something reads the weights of a large block while the block does not compute, "
                "and then each process has but a part of them: use trainer=ddp"
            ) from error

    # Checkpoints: as those of one process.

    def lightning_module_state_dict(self) -> dict[str, Any]:
        assert self.lightning_module is not None
        self._keep_written()
        values = {name: self._whole(value) for name, value in self.lightning_module.state_dict().items()}
        self._gather(blocks=not self._divides)
        return values

    def optimizer_state(self, optimizer: Any) -> dict[str, Any]:
        saved: dict[str, Any] = getattr(optimizer, "optimizer", optimizer).state_dict()
        groups = [
            group
            | ({"foreach": None} if self._scalars and "foreach" in group else {})
            | ({"fused": fused} if "fused" in group else {})
            for group, fused in zip(saved["param_groups"], self._fused, strict=True)
        ]
        state = {
            number: {name: self._whole(value) for name, value in values.items()}
            for number, values in saved["state"].items()
        }
        return {**saved, "param_groups": groups, "state": state}

    def load_optimizer_state_dict(self, checkpoint: Any) -> None:
        for optimizer, saved in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            state = {
                number: {name: _part(value, parameters[number]) for name, value in values.items()}
                for number, values in saved["state"].items()
            }
            optimizer.load_state_dict({**saved, "state": state})
            self._take_apart(optimizer)

    def _take_apart(self, optimizer: Any) -> None:
        """Have an optimiser take parameters by calls that know divided ones."""
        for group in optimizer.param_groups:
            if self._scalars and "foreach" in group:
                group["foreach"] = False  # one call takes no divided values beside whole ones
            if "fused" in group:
                group["fused"] = None  # torch has no such kernel of SGD for divided values

    def _whole(self, value: Any) -> Any:
        """The whole of a divided value, in the first process; all of them must ask for it."""
        if not isinstance(value, DTensor):
            return value
        whole = value.full_tensor()
        return whole.cpu() if self.global_rank == 0 else None


def _part(value: Any, parameter: Tensor) -> Any:
    """This process' part of a value of the optimiser that is as large as the parameter."""
    if not isinstance(parameter, DTensor) or not isinstance(value, Tensor) or value.shape != parameter.shape:
        return value
    return distribute_tensor(value.to(parameter.device), parameter.device_mesh, parameter.placements)


def large_blocks(model: nn.Module, large: int) -> Iterator[nn.Module]:
    """The blocks of a model's encoder and decoder that have so many parameters, beside those of such blocks within
    them, which no other module has; the inner ones first, as `fully_shard` wants them."""
    readers = Counter(id(parameter) for part in model.modules() for parameter in part.parameters(recurse=False))
    taken: set[int] = set()
    for stage in (model.encoder, model.decoder):
        for stack in reversed(list(stage.modules())):  # type: ignore[union-attr]
            for block in stack if isinstance(stack, (nn.ModuleList, nn.Sequential)) else ():
                own = {
                    id(parameter): parameter.numel() for parameter in block.parameters() if id(parameter) not in taken
                }
                computes = not isinstance(block, (nn.ModuleList, nn.ModuleDict))
                if computes and sum(own.values()) >= large and all(readers[each] == 1 for each in own):
                    taken |= own.keys()
                    yield block
