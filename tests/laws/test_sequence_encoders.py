"""What holds for every encoder of sequences: padding is nothing to it, and checkpointing changes no number."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from backbone_instances import DECODERS, ENCODERS
from torch import Tensor

from narrows.encoders import TCNEncoder, TransformerEncoder
from narrows.errors import UserError

NAMES = ("lstm", "gru", "tcn", "transformer")
READERS = [name for name in ENCODERS if name.partition("_")[0] in NAMES]
every = pytest.mark.parametrize("name", READERS)


def build(name: str, **options: Any) -> Any:
    torch.manual_seed(1)
    builder, in_shape = ENCODERS[name]
    return builder(in_shape, **options).double().eval()


def summaries(encoder: Any, x: Tensor, length: Tensor | None) -> tuple[Tensor, list[Tensor]]:
    """What it gives, and the gradients of its parameters."""
    encoder.zero_grad()
    out = encoder(x, length=length)
    (out * torch.linspace(-1, 2, out.numel()).double().view_as(out)).sum().backward()
    return out.detach(), [parameter.grad.clone() for parameter in encoder.parameters()]


def test_these_are_the_encoders_that_read_lengths() -> None:
    classes = {name: getattr(builder.func, "reads_length", False) for name, (builder, _) in ENCODERS.items()}
    assert [name for name, reads in classes.items() if reads] == READERS


@every
def test_padding_changes_no_summary_and_no_gradient(name: str) -> None:
    encoder = build(name)
    length = torch.tensor([5, 2, 4])
    x = torch.randn(3, encoder.in_shape[0], 5).double()
    inside = torch.arange(8) < length[:, None, None]
    longer = torch.nn.functional.pad(x, (0, 3)).where(inside, torch.tensor(7.0).double())
    expected, gradients = summaries(encoder, x, length)
    found, others = summaries(encoder, longer, length)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(others, gradients)
    assert encoder(longer.where(inside, torch.nan), length=length).isfinite().all() or name.startswith(("lstm", "gru"))


@every
def test_an_example_is_summarised_as_it_is_alone(name: str) -> None:
    encoder = build(name)
    x, length = torch.randn(3, encoder.in_shape[0], 5).double(), torch.tensor([5, 2, 4])
    together = encoder(x, length=length)
    for i, steps in enumerate(length.tolist()):
        alone = encoder(x[i : i + 1, :, :steps])
        torch.testing.assert_close(together[i : i + 1], alone)
        torch.testing.assert_close(encoder(x[i : i + 1, :, :steps], length=length[i : i + 1]), alone)


@every
def test_it_reads_series_longer_than_the_data_s_unless_each_step_has_its_place(name: str) -> None:
    encoder = build(name)
    channels, steps = encoder.in_shape
    longer = torch.randn(2, channels, 2 * steps).double()
    if name.endswith("steps"):
        with pytest.raises(UserError, match=f"reads at most {steps} steps, not {2 * steps}"):
            encoder(longer)
    else:
        assert encoder(longer).shape == (2, *encoder.out_shape)


@pytest.mark.parametrize("build_encoder", [partial(TCNEncoder, channels=[6, 4]), partial(TransformerEncoder, width=8)])
def test_steps_keep_their_places(build_encoder: Any) -> None:
    torch.manual_seed(0)
    encoder = build_encoder((3, 6), pool="steps").double().eval()
    x, length = torch.randn(2, 3, 6).double(), torch.tensor([6, 4])
    found = encoder(x, length=length).unflatten(1, (6, -1))
    assert found[1, :4].abs().amax(1).amin() > 0
    assert found[1, 4:].abs().amax() == 0
    torch.testing.assert_close(encoder(x[1:, :, :4], length=length[1:]), found[1:].flatten(1))


def both(name: str, table: dict[str, Any]) -> tuple[Any, Any, list[Tensor]]:
    """A network with checkpointing and without, and what it reads."""
    found = []
    for checkpointing in (True, False):
        torch.manual_seed(1)
        builder, *shapes = table[name]
        extra = shapes.pop() if isinstance(shapes[-1], dict) else {}
        found.append(partial(builder, **extra)(*shapes, checkpointing=checkpointing).double().train())
    inputs = [torch.randn(4, *shapes[0]).double()]
    for spec in extra.values():
        words = spec.vocabulary
        inputs.append(torch.randint(len(words), (4, *spec.shape)) if words else torch.randn(4, *spec.shape).double())
    return found[0], found[1], inputs


CHECKPOINTED = [
    *[(ENCODERS, name) for name in ("tcn", "transformer")],
    *[(DECODERS, name) for name in ("tcn", "tcn_ar", "transformer", "transformer_ar", "transformer_ar_words")],
]


@pytest.mark.parametrize(("table", "name"), CHECKPOINTED, ids=[name for _, name in CHECKPOINTED])
def test_checkpointing_changes_no_number(table: dict[str, Any], name: str) -> None:
    again, plain, inputs = both(name, table)
    found = []
    for network in (again, plain):
        torch.manual_seed(5)
        out = network(*inputs)
        out.square().sum().backward()
        found.append([out.detach(), *[parameter.grad for parameter in network.parameters()]])
    torch.testing.assert_close(found[0], found[1])


def test_checkpointing_keeps_fewer_activations() -> None:
    again, plain, inputs = both("tcn_ar", DECODERS)
    kept = []
    for network in (again, plain):
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, s=sizes: (s.append(t.numel()), t)[1], lambda t: t):
            network(*inputs)
        kept.append(sum(sizes))
    assert kept[0] < 0.7 * kept[1]
