"""Derivatives of encoder and decoder, one latent at a time, for many examples at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

Function = Callable[[Tensor], Tensor]


def columns(function: Function, at: Tensor) -> Iterator[Tensor]:
    """`d function(at) / d at_k` for every entry k of an example in turn, each `[B, *out]`.

    Reverse over reverse, which recurrent layers, batch norm and fused attention allow where forward mode is refused:
    the pull-back of a cotangent is linear in it, and its derivative is the push-forward.

    Args:
        function: `[B, *any] -> [B, *out]`, every example for itself.
        at: `[B, *any]`.
    """
    with torch.enable_grad():
        at = at.detach().requires_grad_()
        out = function(at)
        if not out.requires_grad:
            yield from (torch.zeros_like(out) for _ in range(at[0].numel()))
            return
        cotangent = torch.zeros_like(out, requires_grad=True)
        (pulled,) = torch.autograd.grad(out, at, cotangent, create_graph=True)
        for entry in pulled.flatten(1).unbind(1):
            (column,) = torch.autograd.grad(entry.sum(), cotangent, retain_graph=True)
            yield column.detach()


def rows(function: Function, at: Tensor) -> Iterator[Tensor]:
    """`d function(at)_k / d at` for every entry k of the result in turn, each of `at`'s shape; see `columns`."""
    with torch.enable_grad():
        at = at.detach().requires_grad_()
        out = function(at).flatten(1)
        for entry in out.unbind(1):
            (row,) = torch.autograd.grad(entry.sum(), at, retain_graph=True)
            yield row.detach()
