"""Recurrent backbones: the summary, the order of time, teacher forcing against free running."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from narrows.decoders.lstm import AutoregressiveLSTMDecoder, LSTMDecoder
from narrows.encoders.lstm import LSTMEncoder
from narrows.layers.clock import time_encoding
from narrows.layers.recurrence import frame_of, from_frames, to_frames
from narrows.types import DataSpec

SHAPE = (2, 7)


def autoregressive(**options: Any) -> AutoregressiveLSTMDecoder:
    return AutoregressiveLSTMDecoder((3,), (4, 7), spec=DataSpec(SHAPE, "series", 9), hidden=5, **options).double()


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


@pytest.mark.parametrize("layers", [1, 2])
def test_each_direction_has_read_the_whole_series(layers: int) -> None:
    encoder = LSTMEncoder(SHAPE, hidden=5, layers=layers, bidirectional=True)
    x = torch.randn(3, *SHAPE)
    outputs, _ = encoder.lstm(x.transpose(1, 2))
    forward, backward = outputs[:, -1, :5], outputs[:, 0, 5:]
    torch.testing.assert_close(encoder(x), torch.cat([forward, backward], 1))


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("shape", [(1, 8), (3, 33), (1, 140)])
def test_series_of_any_length(shape: tuple[int, int], bidirectional: bool) -> None:
    encoder = LSTMEncoder(shape, hidden=5, bidirectional=bidirectional)
    assert encoder(torch.randn(2, *shape)).shape == (2, *encoder.out_shape)
    assert LSTMDecoder(encoder.out_shape, shape, hidden=5)(torch.randn(2, *encoder.out_shape)).shape == (
        2,
        *shape,
    )


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("layers", [1, 2])
def test_a_step_sees_only_the_steps_before(layers: int, reverse: bool) -> None:
    decoder = autoregressive(layers=layers, reverse=reverse)
    target = draw(2, *SHAPE).requires_grad_()
    params = decoder(draw(2, 3), target)
    for step in range(SHAPE[1]):
        (gradient,) = torch.autograd.grad(params[..., step].sum(), target, retain_graph=True)
        seen = gradient.abs().amax((0, 1)) > 0
        steps = torch.arange(SHAPE[1])
        assert torch.equal(seen, steps > step if reverse else steps < step)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("layers", [1, 2])
def test_teacher_forcing_is_generation_fed_with_the_target(layers: int, reverse: bool) -> None:
    decoder = autoregressive(layers=layers, reverse=reverse)
    z, target = draw(4, 3), draw(4, *SHAPE)
    fed = iter((target.flip(2) if reverse else target).split(1, dim=2))
    generated = decoder.generate(z, lambda params: next(fed))
    torch.testing.assert_close(generated, decoder(z, target))


@pytest.mark.parametrize("reverse", [False, True])
def test_free_running_is_a_fixed_point_of_teacher_forcing(reverse: bool) -> None:
    decoder = autoregressive(reverse=reverse)
    z = draw(4, 3)
    seen = []

    def readout(params: Tensor) -> Tensor:
        seen.append(tuple(params.shape))
        return params[:, :2]

    generated = decoder.generate(z, readout)
    assert seen == [(4, 4, 1)] * SHAPE[1]
    assert generated.shape == (4, 4, 7)
    torch.testing.assert_close(decoder(z, generated[:, :2]), generated)


@pytest.mark.parametrize("reverse", [False, True])
def test_dropped_inputs_leave_only_the_latent(reverse: bool) -> None:
    decoder = autoregressive(input_dropout=0.999999, reverse=reverse)
    z, target = draw(4, 3), draw(4, *SHAPE)
    torch.testing.assert_close(decoder(z, target), decoder(z, torch.zeros_like(target)))
    decoder.eval()
    assert not torch.allclose(decoder(z, target), decoder(z, torch.zeros_like(target)))


def test_input_dropout_drops_whole_steps_at_its_rate() -> None:
    decoder = autoregressive(input_dropout=0.3)
    dropped = decoder._drop(torch.ones(2000, 7, 2)) == 0
    assert torch.equal(dropped[..., 0], dropped[..., 1])
    assert dropped.double().mean().item() == pytest.approx(0.3, abs=0.02)


def test_reversed_order_is_the_flip_of_the_forward_order() -> None:
    plain, turned = LSTMDecoder((3,), SHAPE, hidden=5), LSTMDecoder((3,), SHAPE, hidden=5, reverse=True)
    turned.load_state_dict(plain.state_dict())
    z = torch.randn(2, 3)
    torch.testing.assert_close(turned(z), plain(z).flip(2))
    forced = autoregressive(), autoregressive(reverse=True)
    forced[1].load_state_dict(forced[0].state_dict())
    z, target = draw(2, 3), draw(2, *SHAPE)
    torch.testing.assert_close(forced[1](z, target), forced[0](z, target.flip(2)).flip(2))


@pytest.mark.parametrize("steps", [2, 8, 140])
@pytest.mark.parametrize("features", [2, 8])
def test_the_clock_tells_every_step_apart(steps: int, features: int) -> None:
    clock = time_encoding(steps, features)
    assert clock.shape == (steps, features)
    assert torch.pdist(clock).min() > 1e-3
    assert time_encoding(steps, 0).shape == (steps, 0)


def test_the_clock_lets_an_lstm_fit_what_it_cannot_without() -> None:
    """Two noisy sign patterns, told apart by one latent value, in 150 steps."""
    codes = torch.tensor([[-1.0], [1.0]])
    series = torch.randn(2, 1, 24).sign()
    errors = {}
    for features in (0, 8):
        torch.manual_seed(0)
        decoder = LSTMDecoder((1,), (1, 24), hidden=16, time_features=features)
        optimizer = torch.optim.Adam(decoder.parameters(), lr=0.02)
        for _ in range(150):
            optimizer.zero_grad()
            loss = (decoder(codes) - series).square().mean()
            loss.backward()
            optimizer.step()
        errors[features] = loss.item()
    assert errors[8] < 0.5 * errors[0]


def test_frames_are_consecutive_steps_and_go_back() -> None:
    x = torch.arange(2 * 3 * 11.0).reshape(2, 3, 11)
    frames = to_frames(x, 4)
    assert frames.shape == (2, 12, 3)
    assert torch.equal(frames[:, :4, 1], x[:, 0, 4:8])
    assert torch.equal(frames[:, 8:, 2], torch.nn.functional.pad(x[:, 2, 8:], (0, 1)))
    assert torch.equal(from_frames(frames, 4, 11), x)
    assert [frame_of(steps, 16, "it") for steps in (1, 16, 17, 140)] == [1, 1, 2, 9]
    encoder = LSTMEncoder((3, 11), hidden=5, most_steps=3)
    plain = LSTMEncoder((12, 3), hidden=5)
    plain.load_state_dict(encoder.state_dict())
    torch.testing.assert_close(encoder(x), plain(frames))


def test_dropout_is_of_embedded_tokens_and_never_of_the_latent() -> None:
    tokens = DataSpec((7,), "tokens", 9, vocabulary=["<end>", "<unk>", *"abcde"], variable=True, end=0)
    decoder = AutoregressiveLSTMDecoder((3,), (7, 7), spec=tokens, hidden=5, embedding=50, dropout=0.5)
    read: list[Tensor] = []
    decoder.recurrence.register_forward_pre_hook(lambda module, args: read.append(args[0]))
    z, target = torch.randn(4, 3), torch.randint(7, (4, 7))
    decoder(z, target)
    decoder.eval()(z, target)
    dropped, whole = read
    kept = dropped[..., :50] != 0
    assert 0.3 < kept.float().mean() < 0.7
    torch.testing.assert_close(dropped[..., :50], 2 * whole[..., :50] * kept)
    assert torch.equal(dropped[..., 50:], whole[..., 50:])
