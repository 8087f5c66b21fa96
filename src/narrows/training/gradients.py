"""Dividing and clipping gradients, of parameters that processes divide between them (`DTensor`) too."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor


def divide(parameters: Iterable[Tensor], by: float) -> None:
    """Divide all gradients in place."""
    for some in _alike(parameters):
        torch._foreach_div_([parameter.grad for parameter in some if parameter.grad is not None], by)


def clip(parameters: Iterable[Tensor], largest: float) -> None:
    """Make the joint norm of all gradients at most `largest`, as `torch.nn.utils.clip_grad_norm_` does."""
    kinds = _alike(parameters)
    if len(kinds) == 1 and not _is_divided(kinds[0][0]):
        torch.nn.utils.clip_grad_norm_(kinds[0], largest)
    elif kinds:
        norms: list[Any] = [
            torch.nn.utils.get_total_norm([p.grad for p in some if p.grad is not None]) for some in kinds
        ]
        norm = torch.stack([each.full_tensor() if _is_divided(each) else each for each in norms]).norm()
        for some in kinds:
            torch.nn.utils.clip_grads_with_norm_(some, largest, norm)


def _alike(parameters: Iterable[Tensor]) -> list[list[Tensor]]:
    """The parameters that have a gradient: whole ones, and those that are divided, which no call takes together."""
    given = [parameter for parameter in parameters if parameter.grad is not None]
    divided = [parameter for parameter in given if _is_divided(parameter)]
    whole = [parameter for parameter in given if not _is_divided(parameter)]
    return [some for some in (whole, divided) if some]


def _is_divided(values: Any) -> bool:
    # Known by what it can do: to import DTensor takes a part of a second, which other runs need not wait.
    return hasattr(values, "full_tensor")
