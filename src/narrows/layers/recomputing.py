"""Gradient checkpointing: memory for time."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def recomputed(layer: Callable[..., Tensor], *inputs: Any, parts: Sequence[nn.Module] = ()) -> Tensor:
    """`layer(*inputs)`, whose activations are not kept: backward computes them again, with the same random numbers, and
    without another update of batch norm's running statistics.

    "Training Deep Nets with Sublinear Memory Cost" (Chen et al., 2016), https://arxiv.org/abs/1604.06174.

    Args:
        parts: the modules that `layer` calls, where it is none itself.
    """
    if not torch.is_grad_enabled():
        return layer(*inputs)
    modules = [layer] if isinstance(layer, nn.Module) else parts
    norms = [part for module in modules for part in module.modules() if isinstance(part, _BatchNorm)]
    options: dict[str, Any] = {}
    # A compiled graph updates the statistics once in any case, and takes no context.
    if norms and not torch.compiler.is_compiling():
        options["context_fn"] = lambda: _contexts(norms)
    again: Tensor = checkpoint(layer, *inputs, use_reentrant=False, **options)
    return again


def _contexts(norms: Sequence[nn.Module]) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """What stands around the first computation, and around the second."""
    return nullcontext(), _updating_copies(norms)


@contextmanager
def _updating_copies(norms: Sequence[nn.Module]) -> Iterator[None]:
    """Inside, what is updated are copies of the running statistics."""
    kept = [(norm, dict(norm.named_buffers(recurse=False))) for norm in norms]
    try:
        for norm, buffers in kept:
            for name, values in buffers.items():
                setattr(norm, name, values.clone())
        yield
    finally:
        for norm, buffers in kept:
            for name, values in buffers.items():
                setattr(norm, name, values)


class Staged(nn.Sequential):
    """Layers in turn, which have the names that they have in a `Sequential`.

    Args:
        stages: the layers of each stage.
        checkpointing: whether backward computes each stage again, so that memory holds the activations of one.
    """

    def __init__(self, stages: Iterable[Sequence[nn.Module]], *, checkpointing: bool = False) -> None:
        stages = [list(stage) for stage in stages]
        super().__init__(*itertools.chain.from_iterable(stages))
        self.checkpointing = checkpointing
        self.ends = list(itertools.accumulate(map(len, stages), initial=0))

    def forward(self, x: Tensor) -> Tensor:
        layers = list(self)
        if not self.checkpointing:
            for layer in layers:
                x = layer(x)
            return x
        for start, end in itertools.pairwise(self.ends):
            x = recomputed(nn.Sequential(*layers[start:end]), x)
        return x
