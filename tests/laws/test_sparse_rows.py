"""Laws of sparse rows: they are the dense ones, whatever is done with them, and never more of them than a batch."""

# mypy: disable-error-code="arg-type, union-attr"

from __future__ import annotations

import subprocess
import sys
import textwrap
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import sparse

from narrows.data import Counting, DataModule, Sparse, loading_options
from narrows.data.contents import Contents, Part
from narrows.data.sparse_rows import spread
from narrows.data.stores import Dense
from narrows.errors import UserError
from narrows.evaluation import TrainedLabels

ROWS, WIDTH = 90, 23


def counts(seed: int = 0, rows: int = ROWS, width: int = WIDTH) -> Any:
    found = np.random.default_rng(seed).poisson(0.4, (rows, width)).astype(np.float32)
    found[:, 0] += 1  # no row is empty
    return found


def module(x: Any, kind: Any = "counts", **options: Any) -> DataModule:
    label = torch.arange(len(x)) % 3
    held = {name: options.pop(name) for name in ("counting", "feature_names", "target") if name in options}
    target = held.pop("target", None)
    contents = Contents(kind, Part(x, label, target=target), test_fraction=0.2, **held)
    return DataModule(SimpleNamespace(load=lambda: contents), batch_size=16, **options)


def test_matrices_of_equal_values_are_held_alike() -> None:
    x = counts()
    row, column = x.nonzero()
    doubled = sparse.coo_matrix(
        (np.concatenate([x[row, column] * 0.5] * 2), (np.tile(row, 2)[::-1], np.tile(column, 2)[::-1])), x.shape
    )
    doubled.data = np.concatenate([x[row, column] * 0.25, x[row, column] * 0.75])[::-1]
    zeros = sparse.csr_matrix(x)
    zeros.data[:5] = 0
    zeros = sparse.csr_matrix((x.ravel(), np.tile(np.arange(WIDTH)[::-1], ROWS), np.arange(0, x.size + 1, WIDTH)))
    zeros = sparse.csr_matrix((x[:, ::-1].ravel(), zeros.indices, zeros.indptr), x.shape)
    for other in (x, sparse.csc_matrix(x), sparse.csr_array(x), sparse.csr_matrix(x, dtype=np.uint8), doubled, zeros):
        store = Sparse(other)
        assert store.matrix.has_canonical_format
        assert store.matrix.nnz == (x > 0).sum()
        assert b"".join(store.bytes()) == b"".join(Sparse(x).bytes())
        assert np.array_equal(store.matrix.toarray(), x)


def test_bytes_that_are_summed_do_not_run_over_and_the_callers_matrix_stays_as_it_is() -> None:
    given = sparse.coo_matrix((np.array([200, 200], np.uint8), ([0, 0], [1, 1])), (1, 2))
    assert Sparse(given).take(slice(None)).tolist() == [[0, 400]]
    doubled = sparse.csr_matrix((np.array([200, 0, 200], np.uint8), np.array([1, 0, 1]), np.array([0, 3])), (1, 2))
    assert Sparse(doubled).take(slice(None)).tolist() == [[0, 400]]
    assert doubled.data.tolist() == [200, 0, 200]


def test_what_is_no_number_is_refused_where_it_stands() -> None:
    x = counts()
    x[7, 3] = np.nan
    with pytest.raises(UserError, match="row 7 holds nan at position 3: sparse rows hold finite numbers"):
        Sparse(x)


def test_rows_spread_on_a_device_are_those_of_scipy() -> None:
    matrix = Sparse(counts() * (np.arange(ROWS) % 5 > 0)[:, None]).matrix
    parts = (torch.from_numpy(matrix.indptr.astype(np.int64)), torch.from_numpy(matrix.indices))
    for rows in ([3, 0, 3, 5, 89], [5], []):
        found = spread(*parts, torch.from_numpy(matrix.data), torch.tensor(rows, dtype=torch.long), WIDTH)
        assert np.array_equal(found.numpy(), matrix[rows].toarray())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_rows_are_held_on_a_gpu() -> None:
    x = counts()
    store = Sparse(x).to(torch.device("cuda"))
    for rows in (slice(3, 80, 7), torch.tensor([4, 4, 0], device="cuda")):
        found = store.take(rows)
        assert found.device.type == "cuda"
        assert np.array_equal(found.cpu().numpy(), x[rows if isinstance(rows, slice) else rows.cpu().numpy()])
    assert store.select(torch.tensor([2], device="cuda")).device.type == "cuda"


@pytest.mark.parametrize("kind", ["counts", "interactions"])
def test_sparse_and_dense_rows_give_equal_splits_batches_and_fingerprints(kind: Any) -> None:
    x = counts()
    stores = (Dense(torch.from_numpy(x)), Sparse(x), Dense(torch.from_numpy(x).double()), Sparse(sparse.csc_matrix(x)))
    found = [module(store, kind, folds=3, fold=1) for store in stores]
    for data in found:
        data.setup()
        assert data.spec == found[0].spec
        assert data.reading[-1] == found[0].reading[-1]
        for name in ("train", "validation", "test"):
            assert isinstance(data.part(name).x, Sparse)
            for one, other in zip(data.ordered_loader(name), found[0].ordered_loader(name), strict=True):
                assert torch.equal(one.x, other.x)
                assert torch.equal(one.x, torch.from_numpy(x)[one.index])
                assert torch.equal(one.label, one.index % 3)
    first, second = ([batch.x for batch in data.train_dataloader()] for data in found[:2])
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def test_rows_that_stand_in_training_too_are_counted() -> None:
    x = np.repeat(counts(), 2, axis=0)
    dense, held = module(torch.from_numpy(x), "vector"), module(Sparse(x))
    dense.setup()
    held.setup()
    assert "also stand in train" in held.reading[-1]
    assert dense.reading[-1] == held.reading[-1]


def test_what_counts_are_is_said_to_the_model() -> None:
    x = counts()
    data = module(Sparse(x), feature_names=[f"word{place}" for place in range(WIDTH)])
    data.setup()
    assert (data.spec.kind, data.spec.shape, data.spec.value_range) == ("counts", (WIDTH,), (0.0, float("inf")))
    logs = np.log(x[data._split("train").rows].sum(1))
    assert data.spec.totals == pytest.approx((logs.mean(), logs.std()), rel=1e-5)
    assert data.spec.feature_names[3] == "word3"
    renamed = module(Sparse(x), feature_names=[f"gene{place}" for place in range(WIDTH)])
    renamed.setup()
    assert renamed.spec.fingerprint != data.spec.fingerprint


@pytest.mark.parametrize(
    ("wrong", "kind", "sentence"),
    [
        (
            -1.0,
            "counts",
            "train split holds -1 in row 4 at feature 'f2': counts must be whole numbers of 0 or more",
        ),
        (0.5, "counts", "the train split holds 0.5 in row 4 at feature 'f2'"),
        (-0.5, "interactions", "holds -0.5 in row 4 at feature 'f2': interactions must be 0 or more"),
    ],
)
def test_values_that_are_no_counts_are_refused(wrong: float, kind: str, sentence: str) -> None:
    x = counts()
    x[4, 2] = wrong
    with pytest.raises(UserError, match=sentence):
        module(Dense(torch.from_numpy(x)), kind, feature_names=[f"f{place}" for place in range(WIDTH)]).setup()


def test_interactions_may_have_weights() -> None:
    module(Sparse(counts() / 2), "interactions").setup()


def test_what_would_fill_in_the_zeros_is_refused() -> None:
    for how in ("static", "dynamic"):
        with pytest.raises(UserError, match=f"binarise={how} would change every 0 of sparse rows"):
            module(Sparse(counts()), binarise=how).setup()
    contents = Contents("counts", Part(Dense(torch.from_numpy(counts()))), standardise="standard")
    with pytest.raises(UserError, match="standardise=standard would change every 0 of sparse rows"):
        DataModule(SimpleNamespace(load=lambda: contents)).setup()


def test_empty_rows_are_named_dropped_or_kept() -> None:
    x = counts()
    x[[3, 40, 41]] = 0
    with pytest.raises(UserError, match=r"split (has|have) no counts: set source\.empty=drop to leave such rows out"):
        module(Sparse(x)).setup()
    dropped, kept = (module(Sparse(x), counting=Counting(empty)) for empty in ("drop", "keep"))
    sizes = {}
    for data in (dropped, kept):
        data.setup()
        loaders = (data.ordered_loader(name) for name in ("train", "validation", "test"))
        rows = torch.cat([batch.index for loader in loaders for batch in loader])
        sizes[data] = len(rows)
        assert any("no counts; left out" in line or "no counts; kept" in line for line in data.reading)
    assert (sizes[dropped], sizes[kept]) == (ROWS - 3, ROWS)


@pytest.mark.parametrize("share", [0.5, 0.8])
def test_a_held_out_row_is_cut_into_what_goes_in_and_what_is_judged(share: float) -> None:
    x = counts(rows=300)
    x[:, 1] += 1  # two entries at least
    found = [module(Sparse(x), "interactions", counting=Counting(fold_in=share), split_seed=seed) for seed in (0, 0, 1)]
    inside = []
    for data in found:
        train = next(iter(data.ordered_loader("train")))
        assert train.target is None
        assert np.array_equal(train.x.numpy(), x[train.index])
        batch = next(iter(data.ordered_loader("test")))
        whole = torch.from_numpy(x)[batch.index]
        assert torch.equal(batch.x + batch.target, whole)
        assert not ((batch.x > 0) & (batch.target > 0)).any()
        sizes, kept = (whole > 0).sum(1), (batch.x > 0).sum(1)
        assert torch.equal(kept, (share * sizes.double()).round().long().clamp_min(1).minimum(sizes - 1))
        assert torch.equal(batch.total, batch.target.sum(1))
        inside.append(batch.x)
    assert torch.equal(inside[0], inside[1])
    assert inside[2].shape != inside[0].shape or not torch.equal(inside[0], inside[2])
    short = counts() * 0
    short[:, 0] = 1
    with pytest.raises(UserError, match="have fewer than two entries"):
        module(Sparse(short), "interactions", counting=Counting(fold_in=share)).setup()


def test_targets_and_none_are_not_pooled() -> None:
    x = Sparse(counts())
    contents = Contents("interactions", Part(x), validation=Part(x, target=x))
    with pytest.raises(UserError, match="with a target of their own and without one cannot be pooled"):
        DataModule(SimpleNamespace(load=lambda: contents), validation=0.1).setup()


MEMORY = """
    import os, sys, threading, time
    import numpy as np, torch
    from scipy import sparse
    from types import SimpleNamespace
    from narrows.data import Contents, DataModule, Loading, Part, Sparse
    import narrows.data.duplicates, narrows.data.counted

    def held():
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("RssAnon:"))

    rows, width, each = map(int, sys.argv[1:])
    torch.set_num_threads(1)
    random = np.random.default_rng(0)
    # Warm up: libraries keep memory of their own.
    tiny = Sparse(sparse.csr_matrix(np.ones((50, 5), np.float32)))
    data = DataModule(SimpleNamespace(load=lambda: Contents("counts", Part(tiny), test_fraction=0.1)), batch_size=128)
    [batch.x.sum() for batch in data.train_dataloader()]
    columns = np.sort(random.integers(0, width, (rows, each), dtype=np.int32), 1).ravel()
    ends = np.arange(0, rows * each + 1, each, dtype=np.int32)
    before, most, done = held(), 0, threading.Event()

    def watch():
        global most
        while not done.is_set():
            most = max(most, held())
            time.sleep(0.002)

    watcher = threading.Thread(target=watch)
    watcher.start()
    store = Sparse(sparse.csr_matrix((np.ones(rows * each, np.uint8), columns, ends), (rows, width)))
    own = store.matrix.data.nbytes + store.matrix.indices.nbytes + store.matrix.indptr.nbytes
    contents = Contents("counts", Part(store, torch.arange(rows) % 5), test_fraction=0.1)
    data = DataModule(SimpleNamespace(load=lambda: contents), batch_size=128, loading=Loading(eval_batch_size=128))
    seen = sum(float(batch.x.sum()) for batch in data.train_dataloader())
    for name in ("validation", "test"):
        seen += sum(float(batch.x.sum()) for batch in data.ordered_loader(name))
    done.set()
    watcher.join()
    print(int(seen == rows * each), own, 4 * 128 * width, most - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
@pytest.mark.parametrize(
    ("rows", "width", "each"),
    [(3_000, 40_000, 40), pytest.param(200_000, 50_000, 50, marks=pytest.mark.slow)],
)
def test_memory_is_bounded_by_the_matrix_and_the_batch(rows: int, width: int, each: int) -> None:
    program = [sys.executable, "-c", textwrap.dedent(MEMORY), *map(str, (rows, width, each))]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    whole, own, batch, held = map(int, done.stdout.split())
    assert whole
    assert held < 5 * own + 4 * batch + 2**24
    assert held < 4 * rows * width / 8


def test_long_rows_are_evaluated_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading_options, "MOST_COUNTS", 5 * WIDTH)
    sizes = {}
    for kind in ("counts", "vector"):
        data = module(Sparse(counts()) if kind == "counts" else torch.from_numpy(counts()), kind)
        sizes[kind] = [len(batch) for batch in data.ordered_loader("test")]
    assert sum(sizes["counts"]) == sum(sizes["vector"]) == ROWS * 0.2
    assert max(sizes["counts"]) == 5
    assert len(sizes["vector"]) == 1


def test_a_part_of_the_trained_labels_has_the_rows_of_its_batches() -> None:
    contents = Contents(
        "counts", Part(Sparse(counts()), torch.arange(ROWS) % 3), test_fraction=0.3, train_labels=[0, 2]
    )
    whole = DataModule(SimpleNamespace(load=lambda: contents))
    whole.setup()
    data = TrainedLabels(whole)
    for name in ("train", "validation", "test"):
        batches = list(data.ordered_loader(name))
        assert np.array_equal(data.part(name).x.matrix.toarray(), torch.cat([batch.x for batch in batches]))
        assert set(data.part(name).label.tolist()) == {0, 2}
