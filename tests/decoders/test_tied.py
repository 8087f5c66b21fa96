"""Tied weights: shared in fact, through every way a model is copied, and refused where they cannot be."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from narrows.decoders.mlp import MLPDecoder
from narrows.encoders.conv import ConvEncoder
from narrows.encoders.mlp import MLPEncoder
from narrows.errors import UserError
from narrows.layers.stages import AxisLinear

SHAPE = (1, 4, 5)


class Bottleneck(nn.Module):
    """A projection to `rows` values; a Gaussian one has twice as many rows as the latent."""

    def __init__(self, inputs: int, rows: int, dim: int) -> None:
        super().__init__()
        self.projection = AxisLinear(inputs, rows)
        self.out_shape = (dim,)


class Chain(nn.Module):
    def __init__(self, widths: list[int], tied: bool = True, **options: Any) -> None:
        super().__init__()
        self.encoder = MLPEncoder(SHAPE, widths=widths, activation="tanh", **options)
        self.bottleneck = Bottleneck(self.encoder.out_shape[0], 3, 3)
        self.decoder = MLPDecoder((3,), SHAPE, widths=widths[::-1], activation="tanh", tied=tied, **options)
        if tied:
            self.decoder.tie(self.encoder, self.bottleneck)

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.bottleneck.projection(self.encoder(x)))

    def pairs(self) -> list[tuple[nn.Parameter, nn.Parameter]]:
        """(encoder's or bottleneck's weight, decoder's weight) that belong together."""
        of_encoder = [block[0].weight for block in self.encoder.blocks] + [self.bottleneck.projection.weight]
        return list(zip(of_encoder, [block[0].weight for block in self.decoder.blocks][::-1], strict=True))

    def is_tied(self) -> bool:
        return all(one is other for one, other in self.pairs())


DEPTHS = pytest.mark.parametrize("widths", [[], [8], [9, 6]], ids=["linear", "one", "two"])


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@DEPTHS
@pytest.mark.parametrize("norm", [None, "batch", "layer"])
def test_shared_weights_count_once(widths: list[int], norm: str | None) -> None:
    tied, untied = Chain(widths, norm=norm), Chain(widths, tied=False, norm=norm)
    assert tied.is_tied()
    assert count(untied) - count(tied) == sum(weight.numel() for weight, _ in tied.pairs())
    assert tied(torch.randn(4, *SHAPE)).shape == (4, *SHAPE)


def untied_twin(tied: Chain, widths: list[int]) -> Chain:
    """The same function with separate weights."""
    twin = Chain(widths, tied=False)
    state = tied.state_dict()
    for index in range(len(tied.decoder.blocks)):
        key = f"decoder.blocks.{index}.0.weight"
        state[key] = state[key].t()
    twin.load_state_dict(state)
    return twin


@DEPTHS
def test_the_gradient_is_the_sum_of_both_uses(widths: list[int]) -> None:
    tied = Chain(widths)
    twin = untied_twin(tied, widths)
    x = torch.randn(4, *SHAPE)
    torch.testing.assert_close(tied(x), twin(x))
    for model in (tied, twin):
        (model(x) - x).square().sum().backward()
    for (shared, _), (there, back) in zip(tied.pairs(), twin.pairs(), strict=True):
        torch.testing.assert_close(shared.grad, there.grad + back.grad.t())


def step(model: nn.Module, x: Tensor) -> Tensor:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loss = (model(x) - x).square().mean()
    loss.backward()
    optimizer.step()
    return loss.detach()


def test_ties_survive_a_step_a_file_a_copy_and_a_cast() -> None:
    model, x = Chain([9, 6]), torch.randn(4, *SHAPE)
    step(model, x)
    assert model.is_tied()
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    loaded = Chain([9, 6])
    loaded.load_state_dict(torch.load(file, weights_only=True))
    assert loaded.is_tied()
    torch.testing.assert_close(loaded(x), model(x), rtol=0, atol=0)
    copied = copy.deepcopy(model)
    assert copied.is_tied()
    assert copied.pairs()[0][0] is not model.pairs()[0][0]
    assert copied.double().is_tied()
    assert list(copied.decoder.state_dict()) == list(Chain([9, 6], tied=False).decoder.state_dict())


def test_compiled_and_distributed_steps_equal_the_plain_one() -> None:
    plain, x = Chain([9, 6]), torch.randn(4, *SHAPE)
    compiled, spread = copy.deepcopy(plain), copy.deepcopy(plain)
    step(plain, x)
    step(torch.compile(compiled, backend="aot_eager"), x)
    store = distributed.HashStore()
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        step(DistributedDataParallel(spread), x)
    finally:
        distributed.destroy_process_group()
    for other in (compiled, spread):
        assert other.is_tied()
        torch.testing.assert_close(dict(other.named_parameters()), dict(plain.named_parameters()))


def test_what_cannot_be_tied_is_refused() -> None:
    encoder, bottleneck = MLPEncoder(SHAPE, widths=[8]), Bottleneck(8, 3, 3)

    def tie(widths: list[int], out: tuple[int, ...], source: Any, between: nn.Module) -> None:
        MLPDecoder((3,), out, widths=widths, tied=True).tie(source, between)

    conv = ConvEncoder((1, 8, 8), channels=[2])
    with pytest.raises(UserError, match="not of ConvEncoder; use encoder=mlp"):
        tie([8], SHAPE, conv, Bottleneck(conv.out_shape[0], 3, 3))
    with pytest.raises(UserError, match="the two weights per layer of a gated encoder"):
        tie([8], SHAPE, MLPEncoder(SHAPE, widths=[8], activation="gated"), bottleneck)
    with pytest.raises(UserError, match=r"use decoder.widths=\[8\]"):
        tie([7], SHAPE, encoder, bottleneck)
    with pytest.raises(UserError, match=r"weights \[3, 8\], but Bottleneck has one of \[6, 8\]"):
        tie([8], SHAPE, encoder, Bottleneck(8, 6, 3))
    with pytest.raises(UserError, match="but Identity has none"):
        tie([8], SHAPE, encoder, nn.Identity())
    with pytest.raises(UserError, match=r"likelihood needs \[2, 4, 5\]"):
        tie([8], (2, 4, 5), encoder, bottleneck)
