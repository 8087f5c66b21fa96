"""Laws of the data room: what is served is a function of seeds and counters alone."""

# mypy: disable-error-code="arg-type, union-attr, index, misc, operator"

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from narrows.data import array_scaling
from narrows.data.checks import fingerprint
from narrows.data.contents import Contents, Part, pool
from narrows.data.datamodule import DataModule, Loading
from narrows.data.sources.image_folder import ImageFolder
from narrows.data.stores import Dense, Packed
from narrows.types import Batch


class Given:
    """A source of contents made by the test."""

    def __init__(self, rows: int = 53, seed: int = 0, **changes: Any) -> None:
        source = torch.Generator().manual_seed(seed)
        x = torch.randint(0, 256, (rows, 1, 4, 4), generator=source, dtype=torch.uint8)
        settings = {"test_fraction": 0.2} | changes
        self.contents = Contents("image", Part(x, torch.arange(rows) % 3), **settings)

    def load(self) -> Contents:
        return self.contents


def fake_trainer(rank: int = 0, world: int = 1, processed: int = 0, limit: float = 1.0) -> Any:
    progress = SimpleNamespace(total=SimpleNamespace(processed=processed))
    return SimpleNamespace(
        global_rank=rank,
        world_size=world,
        limit_train_batches=limit,
        overfit_batches=0,
        fit_loop=SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=progress)),
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
    )


def served(source: Any, trainer: Any = None, loader: str = "train_dataloader", **settings: Any) -> list[Batch]:
    datamodule = DataModule(source, **({"batch_size": 8} | settings))
    datamodule.trainer = trainer
    datamodule.setup("fit")
    return list(getattr(datamodule, loader)())


def in_order(source: Any, split: Literal["train", "validation", "test"] = "train") -> list[Batch]:
    """A split in order, as tasks read it."""
    return list(DataModule(source).ordered_loader(split))


def rows(batches: Sequence[Batch]) -> list[int]:
    return torch.cat([batch.index for batch in batches if batch.index is not None]).tolist()


def together(ranks: Sequence[Sequence[Batch]], name: str) -> list[Tensor]:
    """The global batches of which every rank holds its slice."""
    merged = []
    for parts in zip(*ranks, strict=True):
        values = [getattr(part, name) for part in parts]
        whole = torch.empty((sum(map(len, values)), *values[0].shape[1:]), dtype=values[0].dtype)
        for rank, value in enumerate(values):
            whole[rank :: len(values)] = value
        merged.append(whole)
    return merged


def split_rows(**settings: Any) -> dict[str, list[int]]:
    source = settings.pop("source", None) or Given()
    datamodule = DataModule(source, **settings)
    return {name: rows(datamodule.ordered_loader(name)) for name in ("train", "validation", "test")}


def test_splits_are_disjoint_covering_and_a_function_of_the_split_seed() -> None:
    parts = split_rows(validation=0.25)
    assert sorted(chain.from_iterable(parts.values())) == list(range(53))
    assert [len(parts[name]) for name in ("train", "validation", "test")] == [32, 10, 11]
    assert split_rows(validation=0.25) == parts
    assert split_rows(validation=0.25, split_seed=1) != parts


def test_folds_are_disjoint_covering_and_leave_the_test_split_alone() -> None:
    folds = [split_rows(folds=5, fold=fold) for fold in range(5)]
    development = set(range(53)) - set(folds[0]["test"])
    assert sorted(chain.from_iterable(fold["validation"] for fold in folds)) == sorted(development)
    for fold in folds:
        assert sorted(fold["train"] + fold["validation"]) == sorted(development)
        assert fold["test"] == split_rows()["test"]


def test_folds_pool_the_official_validation_split() -> None:
    extra = Part(torch.zeros(7, 1, 4, 4, dtype=torch.uint8), torch.zeros(7, dtype=torch.int64))
    source = Given(rows=20, validation=extra, test=extra)
    folds = [split_rows(source=source, folds=3, fold=fold)["validation"] for fold in range(3)]
    assert sorted(chain.from_iterable(folds)) == list(range(27))
    official = split_rows(source=source, validation="official")
    assert official == {"train": list(range(20)), "validation": list(range(7)), "test": list(range(7))}


def test_train_labels_choose_development_rows_only() -> None:
    batches = {name: in_order(Given(train_labels=[1]), name) for name in ("train", "validation", "test")}
    labels = {name: set(torch.cat([b.label for b in found]).tolist()) for name, found in batches.items()}
    assert labels == {"train": {1}, "validation": {1}, "test": {0, 1, 2}}


def test_overlapping_windows_are_cut_in_order_with_a_gap() -> None:
    source = Given(rows=40, test_fraction=None, neighbours=3, test=Given(rows=5).contents.train)
    parts = split_rows(source=source, validation=0.25)
    assert parts["train"] == list(range(27))
    assert parts["validation"] == list(range(30, 40))
    middle = split_rows(source=source, folds=4, fold=1)
    assert middle["validation"] == list(range(10, 20))
    assert middle["train"] == [*range(7), *range(23, 40)]


def test_every_value_reaches_its_row_scaled() -> None:
    source = Given()
    for batch in served(source):
        raw = source.contents.train.x.take(batch.index)
        assert torch.equal(batch.x, raw.float() / 255)
        assert torch.equal(batch.label, batch.index % 3)


def test_bytes_and_floats_in_memory_serve_equal_values(monkeypatch: pytest.MonkeyPatch) -> None:
    held = served(Given(), binarise="dynamic"), served(Given(), loader="val_dataloader")
    monkeypatch.setattr(array_scaling, "FLOAT_BYTES", 0)
    converted = served(Given(), binarise="dynamic"), served(Given(), loader="val_dataloader")
    for one, other in zip(chain(*held), chain(*converted), strict=True):
        assert torch.equal(one.x, other.x)


def test_the_order_does_not_depend_on_what_ran_before() -> None:
    first = rows(served(Given()))
    torch.rand(1000)
    state = torch.get_rng_state()
    assert rows(served(Given())) == first
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("binarise", ["none", "dynamic", "static"])
@pytest.mark.parametrize(("world", "size"), [(2, 8), (3, 8), (2, 7)])
def test_ranks_together_serve_the_global_batches(binarise: str, world: int, size: int) -> None:
    settings = {"batch_size": size, "binarise": binarise}
    alone = served(Given(), **settings)
    ranks = [served(Given(), fake_trainer(rank, world), **settings) for rank in range(world)]
    for name in ("x", "index", "label"):
        for whole, batch in zip(together(ranks, name), alone, strict=True):
            assert torch.equal(whole, getattr(batch, name))
    for number, batch in enumerate(alone):
        parts = [rank[number] for rank in ranks]
        assert sum(part.share for part in parts) == pytest.approx(world)
        gradient = sum(part.share * part.x.mean((0,)) for part in parts) / world
        torch.testing.assert_close(gradient, batch.x.mean(0))


def test_a_training_tail_smaller_than_the_world_is_dropped_by_all() -> None:
    # 38 training rows: four batches of 9, and a tail of 2.
    assert [len(served(Given(), fake_trainer(rank, 3), batch_size=9)) for rank in range(3)] == [4, 4, 4]
    assert len(served(Given(), fake_trainer(0, 2), batch_size=9)) == 5


@pytest.mark.parametrize("binarise", ["none", "dynamic"])
@pytest.mark.parametrize("processed", [0, 1, 4, 5, 7, 12])
def test_a_position_serves_exactly_the_rest_of_its_epoch(processed: int, binarise: str) -> None:
    batches = 5
    epoch, position = divmod(processed, batches)
    whole = served(Given(), fake_trainer(processed=epoch * batches), binarise=binarise)
    rest = served(Given(), fake_trainer(processed=processed), binarise=binarise)
    assert len(whole) == batches
    assert len(rest) == batches - position
    for one, other in zip(whole[position:], rest, strict=True):
        assert torch.equal(one.x, other.x)
        assert torch.equal(one.index, other.index)


@pytest.mark.parametrize(("limit", "served_batches"), [(2, 2), (0.5, 2), (99, 5)])
def test_a_limit_counts_epochs_in_the_batches_it_leaves(limit: float, served_batches: int) -> None:
    start, second = (fake_trainer(processed=n, limit=limit) for n in (0, served_batches))
    whole, later = served(Given(), fake_trainer()), served(Given(), fake_trainer(processed=5))
    assert rows(served(Given(), start)) == rows(whole[:served_batches])
    assert rows(served(Given(), second)) == rows(later[:served_batches])


def test_static_binarisation_is_one_draw() -> None:
    epochs = [served(Given(), fake_trainer(processed=5 * epoch), binarise="static") for epoch in range(2)]
    by_row = [dict(zip(rows(batches), torch.cat([b.x for b in batches]), strict=True)) for batches in epochs]
    assert all(torch.equal(value, by_row[1][row]) for row, value in by_row[0].items())
    assert set(torch.stack(list(by_row[0].values())).unique().tolist()) == {0.0, 1.0}
    other = served(Given(), binarise="static", loading=Loading(seed=9), loader="val_dataloader")
    assert torch.equal(served(Given(), binarise="static", loader="val_dataloader")[0].x, other[0].x)


def test_dynamic_binarisation_is_drawn_again_each_epoch_with_the_grey_values_as_means() -> None:
    draws = []
    for epoch in range(300):
        batches = served(Given(rows=12), fake_trainer(processed=2 * epoch), binarise="dynamic", batch_size=5)
        x = torch.cat([batch.x for batch in batches])
        draws.append(x[torch.tensor(rows(batches)).argsort()])
    drawn = torch.stack(draws)
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    grey = in_order(Given(rows=12), "train")[0].x
    # Standard error of a mean of 300 draws is at most 0.029; 144 values are compared.
    assert (drawn.mean(0) - grey).abs().max() < 4.5 * 0.029
    assert (drawn.mean() - grey.mean()).abs() < 4.5 * 0.029 / 12
    assert not torch.equal(drawn[0], drawn[1])


def test_dynamic_binarisation_leaves_held_out_splits_constant() -> None:
    one, other = (served(Given(), fake_trainer(processed=n), "val_dataloader", binarise="dynamic")[0].x for n in (0, 5))
    assert torch.equal(one, other)
    assert set(one.unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("how", ["standard", "minmax"])
def test_standardising_is_fitted_on_training_rows(how: Any) -> None:
    x = torch.randn(60, 3, 5, dtype=torch.float64).mul(torch.tensor([1.0, 50.0, 0.0])[:, None]).add(7).float()
    source = Given()
    source.contents = Contents("series", Part(x), test_fraction=0.5, standardise=how)
    train = torch.cat([batch.x for batch in in_order(source, "train")])
    flat = train.transpose(0, 1).flatten(1)
    if how == "standard":
        torch.testing.assert_close(flat.mean(1), torch.zeros(3), atol=1e-5, rtol=0)
        torch.testing.assert_close(flat.std(1, unbiased=False), torch.tensor([1.0, 1.0, 0.0]), atol=1e-4, rtol=0)
    else:
        torch.testing.assert_close(flat.amin(1), torch.zeros(3))
        torch.testing.assert_close(flat.amax(1), torch.tensor([1.0, 1.0, 0.0]))
    test = torch.cat([batch.x for batch in in_order(source, "test")])
    held = x[rows(in_order(source, "test"))]
    slope = (train[0, 0, 1] - train[0, 0, 0]) / (x[rows(in_order(source, "train"))[0], 0, :2].diff())
    torch.testing.assert_close(test[:, 0].diff(), held[:, 0].diff() * slope, atol=1e-5, rtol=1e-4)


def test_the_fingerprint_is_of_content_alone() -> None:
    def fingerprint(source: Given, **settings: Any) -> str:
        datamodule = DataModule(source, **settings)
        datamodule.setup()
        return datamodule.spec.fingerprint

    same = fingerprint(Given())
    assert fingerprint(Given(), split_seed=4, batch_size=3) == same
    assert fingerprint(Given(seed=1)) != same
    changed = Given()
    changed.contents.train.label[0] += 1
    assert fingerprint(changed) != same
    reshaped = Given()
    reshaped.contents.train.x = Dense(reshaped.contents.train.x.tensor.reshape(53, 1, 2, 8))
    assert fingerprint(reshaped) != same


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root: Path = tmp_path_factory.mktemp("images")
    source = np.random.default_rng(0)
    for number in range(30):
        kind = root / ("cat" if number % 2 else "dog")
        kind.mkdir(exist_ok=True)
        Image.fromarray(source.integers(0, 256, (12, 9, 3), dtype=np.uint8)).save(kind / f"{number:02}.png")
    return root


def test_workers_change_no_bit_of_a_stream(folder: Path) -> None:
    def epochs(workers: int, memory: float) -> list[Batch]:
        source = ImageFolder(str(folder), size=8, memory_limit_mb=memory)
        datamodule = DataModule(source, batch_size=7, loading=Loading(num_workers=workers))
        trainer = fake_trainer()
        datamodule.trainer = trainer
        loader = datamodule.train_dataloader()
        first = list(loader)
        trainer.fit_loop.epoch_loop.batch_progress.total.processed = len(loader) + 1
        rest = list(loader)  # persistent workers go on; a part of the next epoch
        return first + rest + list(datamodule.ordered_loader("test"))

    wanted = epochs(0, memory=1000)
    assert len(wanted) == 4 + 3 + 1
    for workers in (0, 2):
        for one, other in zip(wanted, epochs(workers, memory=0), strict=True):
            assert torch.equal(one.x, other.x)
            assert torch.equal(one.label, other.label)
            assert torch.equal(one.index, other.index)


@pytest.mark.parametrize(
    "loader",
    [DataModule.train_dataloader, DataModule.val_dataloader, partial(DataModule.ordered_loader, split="train")],
)
def test_writing_into_a_batch_leaves_the_data_alone(loader: Callable[[DataModule], Iterable[Batch]]) -> None:
    datamodule = DataModule(Given())
    first = next(iter(loader(datamodule)))
    kept = first.x.clone(), first.label.clone(), first.index.clone()
    for value in (first.x, first.label, first.index):
        value.zero_()
    again = next(iter(loader(datamodule)))
    for value, wanted in zip((again.x, again.label, again.index), kept, strict=True):
        assert torch.equal(value, wanted)


# ── black and white as bits ─────────────────────────────────────────────────────────────────────────────


def black_and_white(shape: tuple[int, ...] = (1, 5, 3), rows: int = 53) -> tuple[Contents, Contents]:
    """The same examples as bits and as bytes; fifteen values do not fill their bytes."""
    random = np.random.default_rng(0)
    values = random.integers(0, 2, (rows, *shape), dtype=np.uint8)
    bits = torch.from_numpy(np.packbits(values.reshape(rows, -1), axis=1))
    label = torch.stack([torch.arange(rows) % 3, torch.arange(rows) % 4], 1)
    parts = (Part(Packed(bits, shape), label), Part(torch.from_numpy(values * 255), label))
    as_bits, as_bytes = (Contents("image", part, test_fraction=0.2) for part in parts)
    return as_bits, as_bytes


@pytest.mark.parametrize("shape", [(1, 5, 3), (2, 4, 4)])
@pytest.mark.parametrize("held", [0, 2**29], ids=["as bits", "as floats"])
@pytest.mark.parametrize("settings", [{}, {"folds": 3, "fold": 1}, {"binarise": "static"}, {"binarise": "dynamic"}])
def test_bits_are_served_as_bytes_are(
    shape: tuple[int, ...], held: int, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(array_scaling, "FLOAT_BYTES", held)
    sources = [SimpleNamespace(load=lambda given=given: given) for given in black_and_white(shape)]
    for loader in ("train_dataloader", "val_dataloader", "test_dataloader"):
        one, other = (served(source, fake_trainer(), loader, **settings) for source in sources)
        assert rows(one) == rows(other)
        assert len(rows(one)) > 0
        for ours, theirs in zip(one, other, strict=True):
            assert torch.equal(ours.x, theirs.x)
            assert torch.equal(ours.label, theirs.label)
    module = DataModule(sources[0], **settings)
    module.setup()
    assert isinstance(module._splits["train"].part.x, Packed) == (held == 0)


def test_bits_standardised_are_bytes_standardised() -> None:
    values = []
    for contents in black_and_white():
        contents.standardise = "standard"
        values.append(torch.cat([batch.x for batch in served(SimpleNamespace(load=lambda c=contents: c))]))
    assert torch.equal(*values)
    assert values[0].mean().abs() < 1e-6


def test_every_bit_and_every_factor_is_in_the_fingerprint() -> None:
    contents, _ = black_and_white()
    before = fingerprint(contents)
    contents.train.x.bits[7, 0] ^= 16
    changed = fingerprint(contents)
    contents.train.label[3, 1] += 1
    assert len({before, changed, fingerprint(contents)}) == 3


def test_pooled_bits_are_the_bits_of_both() -> None:
    part = black_and_white()[0].train
    both = pool(part.select(torch.tensor([4, 2])), part.select(torch.tensor([9])))
    assert torch.equal(both.x.take(slice(None)), part.x.take(torch.tensor([4, 2, 9])))
    assert both.label.tolist() == part.label[[4, 2, 9]].tolist()
