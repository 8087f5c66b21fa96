"""What holds for every encoder and every decoder in `backbone_instances`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from backbone_instances import DECODERS, ENCODERS
from torch import Tensor, nn

from narrows.types import DataSpec

CASES = [("encoder", name) for name in ENCODERS] + [("decoder", name) for name in DECODERS]


def over(cases: list[tuple[str, str]]) -> pytest.MarkDecorator:
    """One test for each of these backbones."""
    return pytest.mark.parametrize(("side", "name"), cases, ids=[f"{s}-{n}" for s, n in cases])


every = over(CASES)
# Without widths, the MLP encoder only flattens; a frozen network has nothing to learn.
STILL = [("encoder", name) for name in ("mlp_flat", "torchvision_frozen", "features")]
# Among the millions of ReLUs of a whole ResNet some bend within any finite difference.
SMOOTH = over([case for case in CASES if case not in [*STILL, ("encoder", "torchvision")]])
every_with_parameters = over([case for case in CASES if case not in STILL])


def build(side: str, name: str, batch: int = 4) -> tuple[Any, list[Tensor]]:
    """The backbone in float64, and what its forward reads."""
    torch.manual_seed(1)
    if side == "encoder":
        builder, in_shape = ENCODERS[name]
        module, extra = builder(in_shape), {}
    else:
        builder, in_shape, out_shape, extra = DECODERS[name]
        module = builder(in_shape, out_shape, **extra)
    inputs = [torch.randn(batch, *in_shape, dtype=torch.float64)]
    return module.double(), [*inputs, *(examples(spec, batch) for spec in extra.values())]


def examples(spec: DataSpec, n: int) -> Tensor:
    """Rows of such data: numbers, or tokens."""
    if spec.kind == "tokens":
        return torch.randint(len(spec.vocabulary or []), (n, *spec.shape))
    return torch.randn(n, *spec.shape, dtype=torch.float64)


def weighted_sum(out: Tensor) -> Tensor:
    """A scalar that depends on every output differently."""
    weights = torch.linspace(-1, 2, out.numel(), dtype=out.dtype).sin().view_as(out)
    return (weights * out).sum()


@every
def test_shape_in_code_is_shape_out(side: str, name: str) -> None:
    module, inputs = build(side, name)
    assert tuple(module(*inputs).shape) == (4, *module.out_shape)
    assert tuple(inputs[0].shape[1:]) == module.in_shape


@every_with_parameters
def test_every_parameter_gets_a_gradient(side: str, name: str) -> None:
    module, inputs = build(side, name, batch=16)
    weighted_sum(module(*inputs)).backward()
    for key, parameter in module.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        # Rounding noise of a cancelled bias is 1e-16.
        assert parameter.grad.abs().max() > 1e-9, key


@every_with_parameters
def test_a_batch_of_one_trains(side: str, name: str) -> None:
    module, inputs = build(side, name, batch=1)
    out = module.train()(*inputs)
    weighted_sum(out).backward()
    assert out.isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())


@every
def test_evaluation_is_deterministic_and_by_row(side: str, name: str) -> None:
    module, inputs = build(side, name)
    module.eval()
    out = module(*inputs)
    torch.testing.assert_close(module(*inputs), out, rtol=0, atol=0)
    torch.testing.assert_close(module(*[value[1:2] for value in inputs]), out[1:2])


@every
def test_the_same_seed_gives_the_same_training_pass(side: str, name: str) -> None:
    module, inputs = build(side, name)
    outs = []
    for _ in range(2):
        torch.manual_seed(7)
        outs.append(module(*inputs))
    torch.testing.assert_close(outs[0], outs[1], rtol=0, atol=0)


@SMOOTH
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_reverse_over_reverse_is_the_derivative(side: str, name: str, training: bool) -> None:
    module, inputs = build(side, name, batch=3)
    module.train(training)
    parameters = list(module.parameters())

    def contraction() -> Tensor:
        torch.manual_seed(3)
        x = inputs[0].clone().requires_grad_()
        (row,) = torch.autograd.grad(weighted_sum(module(x, *inputs[1:])), x, create_graph=True)
        return row.square().sum()

    gradients = torch.autograd.grad(contraction(), parameters, allow_unused=True)
    directions = [torch.randn_like(p) for p in parameters]
    slope = sum((g * d).sum() for g, d in zip(gradients, directions, strict=True) if g is not None)
    assert abs(float(slope)) > 1e-9
    ahead, behind = (_moved(parameters, directions, e, contraction) for e in (1e-6, -1e-6))
    torch.testing.assert_close(torch.as_tensor(slope), (ahead - behind) / 2e-6, rtol=2e-4, atol=1e-6)


def _moved(
    parameters: list[nn.Parameter], directions: list[Tensor], size: float, value: Callable[[], Tensor]
) -> Tensor:
    with torch.no_grad():
        for parameter, direction in zip(parameters, directions, strict=True):
            parameter += size * direction
    result = value().detach()
    with torch.no_grad():
        for parameter, direction in zip(parameters, directions, strict=True):
            parameter -= size * direction
    return result


# One of each kind of layer, because tracing takes a second each.
TRACED = [
    *[("encoder", name) for name in ("mlp_batch", "conv_pool", "resnet", "lstm_deep", "vit", "unet_attention")],
    *[("decoder", name) for name in ("mlp", "conv_batch", "conv_map", "lstm", "lstm_ar", "vit", "unet")],
]
# These take three to ten seconds each.
TRACED_SLOWLY = [
    ("encoder", "tcn_causal"),
    *[("decoder", name) for name in ("lstm_ar_words", "tcn_ar", "transformer_ar")],
]


# At an LSTM, which it does not trace, dynamo reads `.grad` of the values on the stack, and hides the
# warning in a way that does not help where warnings are errors.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@over(TRACED)
@pytest.mark.parametrize("batch", [4, pytest.param(1, marks=pytest.mark.slow)])
def test_compiled_equals_eager(side: str, name: str, batch: int) -> None:
    require_compiled_equals_eager(side, name, batch)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@over(TRACED_SLOWLY)
def test_compiled_sequences_equal_eager(side: str, name: str) -> None:
    require_compiled_equals_eager(side, name, 4)


def require_compiled_equals_eager(side: str, name: str, batch: int) -> None:
    module, inputs = build(side, name, batch)
    if "deep" in name:
        module.eval()  # Its dropout draws in another order.
    # Without a compiler of C++: tracing, guards and the traced backward are what can go wrong here.
    outs, gradients = [], []
    for call in (module, torch.compile(module, backend="aot_eager")):
        module.zero_grad()
        outs.append(call(*inputs))
        weighted_sum(outs[-1]).backward()
        gradients.append([p.grad.clone() for p in module.parameters()])
    torch.testing.assert_close(outs[1], outs[0])
    torch.testing.assert_close(gradients[1], gradients[0])


@every
def test_the_state_survives_a_file(side: str, name: str, tmp_path: Path) -> None:
    module, inputs = build(side, name)
    torch.save(module.state_dict(), tmp_path / "state.pt")
    other, _ = build(side, name)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    torch.testing.assert_close(other.eval()(*inputs), module.eval()(*inputs), rtol=0, atol=0)


UNLISTED = (
    *("lapped", "lstm", "gru", "vit", "transformer", "torchvision", "topics", "embedded", "features", "frames"),
    "parts",
)
LISTS = [case for case in CASES if not case[1].startswith(UNLISTED)]


@over(LISTS)
def test_arguments_are_copied(side: str, name: str) -> None:
    builder, *shapes = ENCODERS[name] if side == "encoder" else DECODERS[name][:3]
    option = "widths" if "widths" in builder.keywords else "channels"
    before = list(builder.keywords[option])
    module = builder(*shapes, **(DECODERS[name][3] if side == "decoder" else {}))
    assert builder.keywords[option] == before
    assert getattr(module, option, None) is not builder.keywords[option]
