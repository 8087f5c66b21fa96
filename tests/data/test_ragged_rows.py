"""Rows of different lengths: the store, and the batches that the loader makes of it."""

# mypy: disable-error-code="arg-type, union-attr, index"

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from narrows.data.batch_plans import POOL, Process, Shuffled
from narrows.data.checks import fingerprint
from narrows.data.contents import Contents, Part
from narrows.data.datamodule import DataModule, Loading
from narrows.data.ragged_rows import Ragged
from narrows.data.tokenisers import Tokeniser
from narrows.errors import UserError
from narrows.types import Batch, within

LETTERS = Tokeniser("characters", ["<end>", *"abcdefg"])


def sentences(rows: int, seed: int = 0, longest: int = 30) -> list[Tensor]:
    source = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, longest, (rows,), generator=source).tolist()
    return [torch.cat([torch.randint(1, 8, (steps,), generator=source), torch.zeros(1).long()]) for steps in lengths]


def contents(rows: int = 53, seed: int = 0, **changes: Any) -> Contents:
    part = Part(Ragged.of(sentences(rows, seed)))
    return Contents("tokens", part, **{"test_fraction": 0.2, "tokeniser": LETTERS} | changes)


def module(found: Contents, **settings: Any) -> DataModule:
    return DataModule(SimpleNamespace(load=lambda: found), **{"batch_size": 4} | settings)


# ── the store ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("channels", [0, 2])
def test_a_batch_is_padded_to_its_own_longest_row(channels: int) -> None:
    each = [torch.rand(*([channels] if channels else []), steps) for steps in (3, 1, 7, 2)]
    store = Ragged.of(each)
    assert store.shape == (4, *([channels] if channels else []), 7)
    for rows in (torch.tensor([3, 0, 3]), slice(0, 2), slice(None), torch.tensor([], dtype=torch.long)):
        chosen = torch.arange(4)[rows].tolist()
        found, lengths = store.take(rows), store.lengths(rows)
        assert found.shape == (len(chosen), *each[0].shape[:-1], max([each[i].shape[-1] for i in chosen], default=0))
        for row, steps, i in zip(found, lengths.tolist(), chosen, strict=True):
            assert torch.equal(row[..., :steps], each[i])
            assert not row[..., steps:].any()
    some = store.select(torch.tensor([1, 3])).join(store.select(torch.tensor([0])))
    assert some.shape[-1] == 3
    assert all(torch.equal(some.row(i), each[j]) for i, j in enumerate((1, 3, 0)))
    assert torch.equal(torch.cat(list(store.chunks())), store.take(slice(None)))


def test_equal_rows_are_found_wherever_they_stand_and_whatever_pads_them() -> None:
    one, other = Ragged.of(sentences(20)), Ragged.of([*sentences(3, seed=5, longest=90), sentences(20)[4]])
    digests, others = one.comparable().tensor.tolist(), other.comparable().tensor.tolist()
    assert [row in digests for row in others] == [False, False, False, True]


def test_the_fingerprint_is_of_lengths_too() -> None:
    values = torch.arange(6)
    prints = {fingerprint(Contents("tokens", Part(Ragged(values, torch.tensor(ends))))) for ends in ([2, 6], [3, 6])}
    assert len(prints) == 2


@pytest.mark.parametrize(
    ("values", "ends", "said"),
    [
        (torch.arange(5), [2, 2, 5], "row 1 has no step"),
        (torch.arange(5), [2, 4], "the last row ends at 4, but there are 5 steps"),
        (torch.zeros(2, 5).double(), [5], "held as float32"),
        (torch.zeros(2, 5, 1), [1], r"are \[T\] or \[C, T\]"),
    ],
)
def test_refusals_of_the_store(values: Tensor, ends: list[int], said: str) -> None:
    with pytest.raises(UserError, match=said):
        Ragged(values, torch.tensor(ends))


# ── what the loader makes of it ─────────────────────────────────────────────────────────────────────────


def test_the_loader_tells_lengths_and_padding_is_not_missing() -> None:
    found = contents()
    data = module(found)
    every = found.train.x
    batches = [*data.train_dataloader(), *data.val_dataloader(), *data.ordered_loader("test")]
    assert sorted(row for batch in batches for row in batch.index.tolist()) == list(range(53))
    assert (data.spec.variable, data.spec.end, data.spec.shape) == (True, 0, every.shape[1:])
    assert data.spec.vocabulary == LETTERS.vocabulary
    for batch in batches:
        assert batch.observed is None
        assert batch.x.dtype == torch.int64
        assert batch.x.shape[1] == batch.length.max()
        for row, steps, index in zip(batch.x, batch.length.tolist(), batch.index.tolist(), strict=True):
            assert torch.equal(row[:steps], every.row(index))
        assert torch.equal(batch.judged, within(batch.length, batch.x))


def test_masks_of_the_longest_row_are_cut_to_the_batch() -> None:
    rows = [torch.rand(2, steps) for steps in (3, 1, 7, 2, 5, 4, 6, 2)]
    observed = torch.rand(8, 2, 7) < 0.5
    part = Part(Ragged.of(rows), observed=observed)
    for batch in module(Contents("series", part, test_fraction=0.3), batch_size=2).train_dataloader():
        assert torch.equal(batch.observed, observed[batch.index][..., : batch.x.shape[-1]])


def plan(epoch: int = 0, processed: int = 0, **changes: Any) -> Shuffled:
    lengths = Ragged.of(sentences(403)).lengths(slice(None))
    told = {"lengths": lengths, "processed": lambda: 51 * epoch + processed}
    return Shuffled(403, 8, 3, **told | changes)


def padding(of: Shuffled, lengths: Tensor) -> float:
    held = sum(len(step.rows) * int(lengths[step.rows].max()) for step in of.steps())
    return 1 - int(lengths.sum()) / held


def test_batches_of_near_equal_length_serve_every_row_once_and_pad_little() -> None:
    mixed, sorted_ = plan(lengths=None), plan()
    for epoch in (0, 1):
        steps = plan(epoch).steps()
        assert torch.cat([step.rows for step in steps]).sort().values.tolist() == list(range(403))
        assert [len(step.rows) for step in steps] == [8] * 50 + [3]
    assert not torch.equal(plan().order(0), plan().order(1))
    assert torch.equal(plan().order(1), plan().order(1))
    assert padding(sorted_, plan().lengths) < 0.15 < 0.35 < padding(mixed, plan().lengths)
    # The batches of a pool are those of the shuffled epoch, so that no row is always beside the same ones.
    first = POOL * 8
    assert sorted(sorted_.order(0)[:first].tolist()) == sorted(mixed.order(0)[:first].tolist())
    longest = [int(sorted_.lengths[step.rows].max()) for step in sorted_.steps()[:POOL]]
    assert longest not in (sorted(longest), sorted(longest, reverse=True)), "the batches of a pool are not in order"


def test_batches_by_length_go_on_where_they_stopped_and_are_shared_by_processes() -> None:
    whole, rest = plan(epoch=1).steps(), plan(epoch=1, processed=13).steps()
    assert all(torch.equal(a.rows, b.rows) for a, b in zip(whole[13:], rest, strict=True))
    ranks = [plan(process=Process(rank, 3)).steps() for rank in range(3)]
    for step, parts in zip(plan().steps(), zip(*ranks, strict=True), strict=True):
        assert sorted(torch.cat([part.rows for part in parts]).tolist()) == sorted(step.rows.tolist())


@pytest.mark.parametrize("by_length", [True, False, "auto"])
def test_whether_batches_go_by_length_is_a_choice_that_a_checkpoint_remembers(by_length: Any) -> None:
    data = module(contents(400), loading=Loading(by_length=by_length))
    lengths = [batch.length for batch in data.train_dataloader()]
    spread = sum(int(length.max() - length.min()) for length in lengths) / len(lengths)
    assert (spread < 6) == (by_length is not False)
    other = module(contents(400), loading=Loading(by_length=by_length is False))
    other.setup()
    with pytest.raises(UserError, match="trained with data of by_length"):
        other.require_state(data.state_dict())


def test_evaluation_is_bounded_by_logits() -> None:
    data = module(contents(400))
    data.setup()
    assert data.loading.rows_at_once(data.spec) == 1000
    data.spec.vocabulary = ["a"] * 10_000
    assert data.loading.rows_at_once(data.spec) == 2**26 // (10_000 * data.spec.shape[0])


@pytest.mark.parametrize(
    ("changes", "settings", "said"),
    [
        ({"standardise": "minmax"}, {}, "standardise=minmax takes examples of one length, and these differ"),
        ({}, {"binarise": "static"}, "binarise=static takes examples of one length"),
        ({"tokeniser": Tokeniser("characters", ["<end>", "a"])}, {}, "token ids from 0 to 7, but the vocabulary has 2"),
        ({"tokeniser": Tokeniser("characters", list("abcdefgh"))}, {}, "need an end mark"),
    ],
)
def test_refusals_of_the_datamodule(changes: dict[str, Any], settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        module(contents(**changes), **settings).setup()


def test_by_length_is_refused_where_all_have_one() -> None:
    with pytest.raises(UserError, match="by_length='yes' is none of true, false, auto"):
        Loading(by_length="yes")
    with pytest.raises(UserError, match="these examples all have one length: set auto"):
        module(Contents("vector", Part(torch.rand(20, 3)), test_fraction=0.2), loading=Loading(by_length=True)).setup()


def test_a_target_has_the_lengths_of_its_example() -> None:
    x, target = Ragged.of([torch.rand(1, 3), torch.rand(1, 4)]), Ragged.of([torch.rand(1, 4), torch.rand(1, 3)])
    with pytest.raises(UserError, match="length is not that of their target"):
        module(Contents("series", Part(x, target=target), validation=Part(x))).setup()


def test_parts_of_different_longest_rows_pool_and_batches_are_padded_together() -> None:
    one, other = Part(Ragged.of(sentences(9))), Part(Ragged.of(sentences(9, 1, longest=60)))
    data = module(Contents("tokens", one, validation=other, tokeniser=LETTERS), validation=0.5)
    data.setup()
    assert data.spec.shape == (max(one.x.shape[1], other.x.shape[1]),)
    whole = Batch.cat(data.ordered_loader("train"))
    assert whole.length.max() == whole.x.shape[1]
