"""Gradient checkpointing of networks of pictures changes no number, moves statistics once, and keeps less."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from backbone_instances import DECODERS, ENCODERS
from torch import Tensor, nn

from narrows.decoders.resnet import ResNetDecoder
from narrows.encoders.resnet import ResNetEncoder
from narrows.layers.blocks import BatchNorm
from narrows.layers.recomputing import Staged

KINDS = ("conv", "resnet", "unet", "vit")
FOUND = [(table, name) for table in (ENCODERS, DECODERS) for name in table if name.partition("_")[0] in KINDS]


def both(builder: Any, *shapes: Any) -> list[nn.Module]:
    """The network that recomputes, and the one that does not."""
    made = []
    for checkpointing in (True, False):
        torch.manual_seed(1)
        made.append(builder(*shapes, checkpointing=checkpointing).double().train())
    assert list(made[0].state_dict()) == list(made[1].state_dict()), "a run may turn it on and off"
    return made


@pytest.mark.parametrize("kind", KINDS)
def test_checkpointing_changes_no_number(kind: str) -> None:
    norms, dropped = 0, 0
    for table, name in FOUND:
        if name.partition("_")[0] != kind:
            continue
        builder, *shapes = table[name]
        shapes = [shape for shape in shapes if not isinstance(shape, dict)]
        x = torch.randn(4, *shapes[0]).double()
        results: list[list[Tensor]] = []
        for network in both(builder, *shapes):
            torch.manual_seed(5)
            read = x.clone().requires_grad_()
            out = network(read)
            out.square().sum().backward()
            grads = [p.grad for p in network.parameters() if p.grad is not None]
            results.append([out.detach(), read.grad, *grads, *network.buffers()])  # type: ignore[list-item]
            norms += any(isinstance(part, BatchNorm) for part in network.modules())
            dropped += any(isinstance(part, nn.Dropout) and part.p > 0 for part in network.modules())
        torch.testing.assert_close(*results, msg=name)
    assert norms or kind in ("unet", "vit"), "running statistics were looked at"
    assert dropped or kind != "vit"


def test_running_statistics_move_once() -> None:
    moved = []
    for network in both(partial(ResNetEncoder, channels=[4], blocks=1, norm="batch"), (1, 8, 8)):
        for _ in range(2):
            network(torch.ones(3, 1, 8, 8).double().cumsum(3)).sum().backward()
        moved.append([buffer for name, buffer in network.named_buffers()])
        assert all(int(buffer) == 2 for name, buffer in network.named_buffers() if name.endswith("tracked"))
        assert isinstance(network.get_buffer("layers.1.residual.0.running_mean"), Tensor)
    torch.testing.assert_close(*moved)


def test_second_derivatives_go_through() -> None:
    norms = []
    for network in both(partial(ResNetEncoder, channels=[4], blocks=1), (1, 8, 8)):
        x = torch.linspace(0, 1, 128).reshape(2, 1, 8, 8).double().requires_grad_()
        (slope,) = torch.autograd.grad(network(x).square().sum(), x, create_graph=True)
        slope.square().sum().backward()
        norms.append([p.grad for p in network.parameters() if p.grad is not None])
    torch.testing.assert_close(*norms)


def test_checkpointing_keeps_fewer_activations() -> None:
    for builder, *shapes in (
        (partial(ResNetEncoder, channels=[8, 8], blocks=3), (1, 16, 16)),
        (partial(ResNetDecoder, channels=[8, 8], blocks=3), (4,), (1, 16, 16)),
    ):
        kept = []
        for network in both(builder, *shapes):
            sizes: list[int] = []
            with torch.autograd.graph.saved_tensors_hooks(lambda t, s=sizes: (s.append(t.numel()), t)[1], lambda t: t):
                network(torch.randn(4, *shapes[0]).double())
            kept.append(sum(sizes))
        assert kept[0] < 0.5 * kept[1]


def test_what_is_not_trained_is_not_recomputed() -> None:
    calls = []
    layer = nn.Linear(3, 3)
    layer.register_forward_hook(lambda *_: calls.append(1))
    staged = Staged([[layer, nn.Tanh()], [nn.Tanh()]], checkpointing=True)
    with torch.no_grad():
        staged(torch.zeros(2, 3))
    assert len(calls) == 1
    staged(torch.zeros(2, 3)).sum().backward()
    assert len(calls) == 3
