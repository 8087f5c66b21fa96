"""What holds for every autoregressive decoder in `backbone_instances`: it sees no future, and runs free as it is
taught."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from backbone_instances import DECODERS
from torch import Tensor

from narrows.decoders import AutoregressiveGRUDecoder, AutoregressiveLSTMDecoder
from narrows.decoders.autoregressive import AutoregressiveDecoder
from narrows.errors import UserError
from narrows.types import DataSpec

NAMES = [name for name in DECODERS if "_ar" in name]
every = pytest.mark.parametrize("name", NAMES)


def build(name: str, **options: Any) -> tuple[AutoregressiveDecoder, DataSpec, Tensor]:
    """In double precision and evaluation mode, its data, and three latents."""
    torch.manual_seed(1)
    builder, in_shape, out_shape, extra = DECODERS[name]
    decoder = builder(in_shape, out_shape, **extra, **options).double().eval()
    return decoder, extra["spec"], torch.randn(3, *in_shape, dtype=torch.float64)


def values(spec: DataSpec, n: int = 3) -> Tensor:
    if spec.kind == "tokens":
        return torch.randint(1, len(spec.vocabulary or []), (n, *spec.shape))
    return torch.randn(n, *spec.shape, dtype=torch.float64)


def read_out(spec: DataSpec, params: Tensor) -> Tensor:
    """The likeliest tokens, or the first parameters as numbers."""
    return params.argmax(1) if spec.kind == "tokens" else params[:, : spec.shape[0]]


@every
def test_a_step_sees_only_the_steps_before(name: str) -> None:
    decoder, spec, z = build(name)
    target = values(spec)
    before = decoder(z, target)
    for step in range(spec.shape[-1]):
        changed = target.clone()
        changed[..., step] = (changed[..., step] + 1) % 5 if spec.kind == "tokens" else 3.0
        moved = (decoder(z, changed) - before).abs().amax((0, 1)) > 1e-12
        later = torch.arange(spec.shape[-1]) < step if decoder.reverse else torch.arange(spec.shape[-1]) > step
        assert torch.equal(moved, later), step


@every
def test_running_free_is_teacher_forcing_on_its_own_values(name: str) -> None:
    decoder, spec, z = build(name)
    params = decoder.generate(z, lambda params: read_out(spec, params))
    own = decoder.run_free(z, lambda params: read_out(spec, params))
    torch.testing.assert_close(read_out(spec, params), own)
    assert params.shape[-1] == own.shape[-1] <= spec.shape[-1]
    forced = decoder(z, own)
    ended = (own == spec.end).long().cumsum(1) - (own == spec.end).long() > 0 if spec.end is not None else None
    if ended is None:
        torch.testing.assert_close(forced, params)
    else:
        torch.testing.assert_close(forced.masked_fill(ended[:, None], 0), params.masked_fill(ended[:, None], 0))


@every
def test_teacher_forcing_is_running_step_by_step_on_the_target(name: str) -> None:
    decoder, spec, z = build(name)
    target = values(spec)
    fed = iter((target.flip(-1) if decoder.reverse else target).split(1, dim=-1))
    torch.testing.assert_close(decoder.generate(z, lambda params: next(fed)), decoder(z, target))


@every
def test_fewer_steps_are_the_first_ones(name: str) -> None:
    decoder, spec, z = build(name)
    target = values(spec)
    fed = iter((target.flip(-1) if decoder.reverse else target).split(1, dim=-1))
    some = decoder.generate(z, lambda params: next(fed), steps=3)
    whole = decoder(z, target)
    torch.testing.assert_close(some, whole[..., -3:] if decoder.reverse else whole[..., :3])


@every
def test_padding_changes_no_step_within_the_length(name: str) -> None:
    decoder, spec, z = build(name)
    target, length = values(spec), torch.tensor([6, 2, 4])
    inside = torch.arange(6) < length[:, None]
    other = values(spec)
    mask = inside if spec.kind == "tokens" else inside[:, None]
    changed = decoder(z, target.where(mask, other), length)
    torch.testing.assert_close(decoder(z, target, length).where(inside[:, None], 0), changed.where(inside[:, None], 0))
    alone = decoder(z[1:2], target[1:2, ..., :2], length[1:2])
    torch.testing.assert_close(changed[1:2, :, :2], alone)


@every
def test_a_share_of_steps_is_its_own_guess_in_training(name: str) -> None:
    decoder, spec, z = build(name)
    target, guess = values(spec), values(spec)
    told = {"readout": lambda params: guess}
    truth = target.flip(-1) if decoder.reverse else target
    decoder.scheduled_sampling = 0.999999
    torch.testing.assert_close(decoder(z, target, **told), decoder(z, target))
    fed: list[Tensor] = []
    decoder._embedded = lambda past, real=decoder._embedded: (fed.append(past), real(past))[1]  # type: ignore[method-assign]
    decoder.training = True
    out = decoder(z, target, **told)
    out.sum().backward()
    assert torch.equal(fed[0], truth[..., :-1])
    assert torch.equal(fed[1], guess[..., :-1])


SENTENCES = [name for name in NAMES if DECODERS[name][3]["spec"].end is not None]


@pytest.mark.parametrize("name", SENTENCES)
def test_it_stops_once_every_row_has_ended_and_writes_nothing_behind_the_mark(name: str) -> None:
    decoder, spec, z = build(name)
    said = torch.tensor([[3, 0, 2, 2, 2, 2], [2, 1, 4, 0, 1, 1], [0, 1, 1, 1, 1, 1]])
    steps = iter(said.split(1, dim=1))

    def read(params: Tensor) -> Tensor:
        certain = params.softmax(1)[:, spec.end] == 1
        return next(steps).masked_fill(certain, 0)

    own = decoder.run_free(z, read)
    assert own.tolist() == [[3, 0, 0, 0], [2, 1, 4, 0], [0, 0, 0, 0]]
    steps = iter(said.split(1, dim=1))
    params = decoder.generate(z, read)
    assert params.argmax(1)[0, 2:].tolist() == [0, 0]
    assert params.isfinite().all()
    assert (params.log_softmax(1).exp() * params.log_softmax(1)).isfinite().all()


def test_there_are_decoders_of_every_kind_of_data() -> None:
    specs = [DECODERS[name][3]["spec"] for name in NAMES]
    assert {(spec.kind, spec.end) for spec in specs} == {("series", None), ("tokens", None), ("tokens", 0)}


def test_a_step_reads_its_own_share_of_the_latent_and_steps_before_it_do_not() -> None:
    decoder, spec, z = build("gru_ar_share")
    target = values(spec)
    before = decoder(z, target)
    for step in range(6):
        changed = z.flatten(1).clone()
        changed[:, 2 * step : 2 * step + 2] += 1
        moved = (decoder(changed, target) - before).abs().amax((0, 1)) > 1e-12
        assert torch.equal(moved, torch.arange(6) >= step), step


def test_shares_must_be_even() -> None:
    builder, _, out_shape, extra = DECODERS["gru_ar_share"]
    with pytest.raises(UserError, match="6 steps do not share 8 latents evenly"):
        builder((8,), out_shape, **extra)
    with pytest.raises(UserError, match="true, false and share are known"):
        AutoregressiveGRUDecoder((12,), out_shape, latent_every_step="sometimes", **extra)


@pytest.mark.parametrize("kind", [AutoregressiveGRUDecoder, AutoregressiveLSTMDecoder])
def test_shared_vectors_write_all_tokens_alike_before_training(kind: type[AutoregressiveDecoder]) -> None:
    torch.manual_seed(0)
    words = [f"w{i}" for i in range(500)]
    spec = DataSpec(shape=(9,), kind="tokens", size=100, vocabulary=words)
    decoder = kind((4,), (500, 9), spec=spec, hidden=200, embedding=64, shared_embedding=True)  # type: ignore[call-arg]
    logits = decoder(torch.randn(20, 4), torch.randint(500, (20, 9)))
    assert logits.std(1).max() < 0.2  # by torch's own draw of vectors over 1
    assert decoder.embedding.weight.std().item() == pytest.approx(0.1 / 3**0.5, rel=0.05)
