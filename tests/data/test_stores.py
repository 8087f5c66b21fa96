"""Every store gives the values that it was made of, whatever is asked of it; a mapped file is as good as memory."""

# mypy: disable-error-code="arg-type, union-attr"

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import textwrap
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.sparse import csr_matrix

from narrows.data import dataset_files, stores
from narrows.data import memory_mapped as mapped_room
from narrows.data import ragged_rows as ragged_room
from narrows.data import sparse_rows as sparse_room
from narrows.data.checks import fingerprint
from narrows.data.contents import Contents, Part
from narrows.data.datamodule import DataModule, Loading
from narrows.data.image_files import ImageReader
from narrows.data.memory_mapped import Mapped
from narrows.data.ragged_rows import Ragged
from narrows.data.sources import arrays
from narrows.data.sources.arrays import Arrays, arranged
from narrows.data.sparse_rows import Sparse
from narrows.data.stores import Dense, Packed, Store, Streamed
from narrows.errors import UserError

ROWS = 13
MAKERS: dict[str, Callable[[Path, int], tuple[Store, torch.Tensor]]] = {}


def maker(function: Callable[[Path, int], tuple[Store, torch.Tensor]]) -> Any:
    MAKERS[function.__name__] = function
    return function


@maker
def dense(folder: Path, seed: int) -> tuple[Store, torch.Tensor]:
    x = torch.randn(ROWS, 2, 3, generator=torch.Generator().manual_seed(seed))
    return Dense(x), x


@maker
def packed(folder: Path, seed: int) -> tuple[Store, torch.Tensor]:
    values = np.random.default_rng(seed).integers(0, 2, (ROWS, 1, 5, 3), dtype=np.uint8)
    bits = np.packbits(values.reshape(ROWS, -1), axis=1)
    return Packed(torch.from_numpy(bits), (1, 5, 3)), torch.from_numpy(values * 255)


@maker
def streamed(folder: Path, seed: int) -> tuple[Store, torch.Tensor]:
    values = np.random.default_rng(seed).integers(0, 256, (ROWS, 4, 4), dtype=np.uint8)
    paths = [str(folder / f"{seed}_{row:02}.png") for row in range(ROWS)]
    for path, pixels in zip(paths, values, strict=True):
        Image.fromarray(pixels).save(path)
    return Streamed(paths, ImageReader(4, 1), (1, 4, 4)), torch.from_numpy(values[:, None])


@maker
def mapped(folder: Path, seed: int) -> tuple[Store, torch.Tensor]:
    values = np.random.default_rng(seed).standard_normal((ROWS, 6))
    np.save(folder / f"{seed}.npy", values)
    place = dataset_files.locate(folder / f"{seed}.npy", "x")
    assert not isinstance(place, str)
    arrange = partial(arranged, kind="vector", channels_last=False, where="")
    return Mapped([place], arrange), torch.from_numpy(values).float()


@maker
def mapped_files(folder: Path, seed: int) -> tuple[Store, torch.Tensor]:
    (first, x), (second, y) = mapped(folder, seed), mapped(folder, seed + 100)
    return first.join(second).select(torch.arange(0, 2 * ROWS, 2)), torch.cat([x, y])[::2]


@maker
def sparse(folder: Path, seed: int) -> tuple[Store, torch.Tensor]:
    values = np.random.default_rng(seed).poisson(0.5, (ROWS, 7)).astype(np.float32)
    return Sparse(csr_matrix(values)), torch.from_numpy(values)


@maker
def ragged(folder: Path, seed: int) -> tuple[Store, torch.Tensor]:
    """Rows of one length, so that all laws of stores hold; those of different lengths are in test_ragged_rows.py."""
    values = torch.randn(ROWS, 2, 4, generator=torch.Generator().manual_seed(seed))
    return Ragged.of(list(values)), values


@pytest.fixture(params=sorted(MAKERS))
def made(request: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Store, torch.Tensor, Store]:
    monkeypatch.setattr(stores, "CHUNK_BYTES", 100)
    make = MAKERS[request.param]
    return *make(tmp_path, 1), make(tmp_path, 2)[0]


def test_every_store_is_in_the_table() -> None:
    known = {name.removesuffix("_files") for name in MAKERS}
    rooms = vars(stores) | vars(mapped_room) | vars(sparse_room) | vars(ragged_room)
    found = {name for name, value in rooms.items() if isinstance(value, type) and hasattr(value, "chunks")}
    assert {name.lower() for name in found - {"Store"}} == known


def test_a_store_gives_the_rows_that_are_asked_for(made: tuple[Store, torch.Tensor, Store]) -> None:
    store, x, _ = made
    assert (len(store), store.shape, store.dtype) == (len(x), x.shape, x.dtype)
    rows = torch.tensor([7, 0, 7, 12])
    assert torch.equal(store.take(rows), x[rows])
    assert torch.equal(store.take(slice(2, 11, 3)), x[2:11:3])
    assert torch.equal(store.select(rows).take(torch.tensor([3, 1])), x[[12, 0]])
    assert torch.equal(store.select(rows).select(torch.tensor([2])).take(slice(None)), x[[7]])
    assert torch.equal(store.to(torch.device("cpu")).take(rows), x[rows])


def test_joined_stores_are_the_rows_of_both(made: tuple[Store, torch.Tensor, Store]) -> None:
    store, x, other = made
    both = torch.cat([x, other.take(slice(None))])
    rows = torch.tensor([25, 0, 13, 12])
    assert torch.equal(store.join(other).take(rows), both[rows])
    some = store.select(torch.tensor([4, 2])).join(other.select(torch.tensor([9])))
    assert torch.equal(some.take(slice(None)), both[[4, 2, ROWS + 9]])
    with pytest.raises(UserError, match="cannot be pooled: set validation=official"):
        store.join(SimpleNamespace())


def test_chunks_are_all_rows_in_order_and_small(made: tuple[Store, torch.Tensor, Store]) -> None:
    store, x, _ = made
    parts = list(store.chunks())
    assert torch.equal(torch.cat(parts), x)
    each = x[0].numel() * x.element_size()
    assert len(parts) > 1
    assert all(len(part) * each <= max(100, each) for part in parts)


def test_what_is_taken_is_the_takers_own(made: tuple[Store, torch.Tensor, Store]) -> None:
    store, x, _ = made
    for rows in (slice(0, 3), torch.arange(3)):
        kept = x[:3].clone()
        store.take(rows).zero_()
        assert torch.equal(store.take(rows), kept)


def test_a_store_travels_to_a_worker(made: tuple[Store, torch.Tensor, Store]) -> None:
    store, x, _ = made
    store.take(slice(0, 1))
    packet = pickle.dumps(store)
    assert torch.equal(pickle.loads(packet).take(slice(None)), x)


def test_a_mapped_store_travels_without_its_values(tmp_path: Path) -> None:
    np.save(tmp_path / "large.npy", np.zeros((1000, 1000)))
    store = Arrays(str(tmp_path / "large.npy"), mapped=True).load().train.x
    store.take(slice(0, 1))
    assert len(pickle.dumps(store)) < 5000


def test_the_fingerprint_is_of_every_value_and_of_the_shape(made: tuple[Store, torch.Tensor, Store]) -> None:
    store, _, other = made
    prints = [fingerprint(Contents("vector", Part(one))) for one in (store, other, store.select(torch.arange(12)))]
    assert len(set(prints)) == 3
    assert fingerprint(Contents("vector", Part(store))) == prints[0]


# ── a target beside what goes in ────────────────────────────────────────────────────────────────────────


def paired(kind: Any = "image") -> tuple[Contents, torch.Tensor]:
    x = torch.arange(20 * 4, dtype=torch.uint8).reshape(20, 1, 2, 2)
    return Contents(kind, Part(x, target=255 - x), test_fraction=0.2), x


def test_targets_follow_their_examples_through_splits_and_batches() -> None:
    contents, x = paired()
    data = DataModule(SimpleNamespace(load=lambda: contents), batch_size=5)
    for loader in (data.train_dataloader(), data.ordered_loader("validation"), data.ordered_loader("test")):
        for batch in loader:
            assert torch.equal(batch.x, x[batch.index].float() / 255)
            torch.testing.assert_close(batch.target, 1 - batch.x)


def test_a_target_is_in_the_fingerprint_and_must_fit() -> None:
    contents, x = paired()
    plain = fingerprint(Contents("image", Part(x)))
    swapped = fingerprint(Contents("image", Part(x, target=x)))
    assert len({plain, swapped, fingerprint(contents)}) == 3
    wrong = Contents("image", Part(x, target=x[:, :, :1]))
    with pytest.raises(UserError, match="every example needs a target of its own shape"):
        DataModule(SimpleNamespace(load=lambda: wrong)).setup()
    with pytest.raises(UserError, match="binarise=static would change the examples but not the targets"):
        DataModule(SimpleNamespace(load=lambda: contents), binarise="static").setup()
    endless = Contents("vector", Part(torch.zeros(9, 2), target=torch.full((9, 2), torch.inf)))
    with pytest.raises(UserError, match="NaN or infinite"):
        DataModule(SimpleNamespace(load=lambda: endless)).setup()


@pytest.mark.parametrize(
    ("kind", "stored", "expected"),
    [
        ("image", torch.uint8, torch.float32),
        ("tokens", torch.uint8, torch.int64),
        ("tokens", torch.int16, torch.int64),
        ("counts", torch.uint8, torch.float32),
        ("vector", torch.float64, torch.float32),
    ],
)
def test_scaling_goes_by_the_kind(kind: Any, stored: torch.dtype, expected: torch.dtype) -> None:
    x = torch.arange(40).reshape(20, 2).to(stored)
    x = x.reshape(20, 1, 2, 1) if kind == "image" else x
    data = DataModule(SimpleNamespace(load=lambda: Contents(kind, Part(x), test_fraction=0.2)), batch_size=4)
    (batch, *_) = data.train_dataloader()
    assert batch.x.dtype == expected
    factor = 255 if kind == "image" else 1
    torch.testing.assert_close(batch.x.double() * factor, x[batch.index].double())


# ── a file that is larger than memory ───────────────────────────────────────────────────────────────────

SHAPES: dict[str, tuple[Any, dict[str, Any]]] = {
    "vectors": (np.random.default_rng(0).standard_normal((40, 5)), {}),
    "half": (np.random.default_rng(0).standard_normal((40, 5)).astype(np.float16), {}),
    "big endian": (np.random.default_rng(0).random((40, 5)).astype(">f4"), {}),
    "by columns": (np.asfortranarray(np.random.default_rng(0).random((40, 5), np.float32)), {}),
    "images": (np.random.default_rng(0).integers(0, 256, (40, 4, 3), np.uint8), {}),
    "channels last": (np.random.default_rng(0).integers(0, 256, (40, 4, 3, 3), np.uint8), {"channels_last": True}),
    "truth values": (np.random.default_rng(0).random((40, 4, 4)) < 0.5, {}),
    "series": (np.random.default_rng(0).random((40, 7)), {"kind": "series"}),
}


def batches(source: Arrays, **settings: Any) -> list[Any]:
    data = DataModule(source, batch_size=7, **settings)
    found = [list(data.train_dataloader()), list(data.ordered_loader("validation")), list(data.ordered_loader("test"))]
    return [data.spec, *(batch for loader in found for batch in loader)]


@pytest.mark.parametrize("suffix", ["npy", "npz"])
@pytest.mark.parametrize("name", SHAPES)
def test_a_mapped_file_is_the_same_data(name: str, suffix: str, tmp_path: Path) -> None:
    x, settings = SHAPES[name]
    path, label = tmp_path / f"x.{suffix}", {}
    if suffix == "npy":
        np.save(path, x)
    else:
        np.savez(path, first=np.arange(3), x=x, y=np.arange(40) % 3)
        label = {"label_key": "y"}
    one, other = (Arrays(str(path), mapped=how, **label, **settings) for how in (True, False))
    assert isinstance(one.load().train.x, Mapped)
    assert isinstance(other.load().train.x, Dense)
    for workers in (0, 1) if name == "images" else (0,):
        loading = Loading(num_workers=workers)
        (spec, *ours), (wanted, *theirs) = batches(one, loading=loading), batches(other)
        assert spec == wanted
        for batch, same in zip(ours, theirs, strict=True):
            assert torch.equal(batch.x, same.x)
            assert torch.equal(batch.index, same.index)
            assert (batch.label is None and same.label is None) or torch.equal(batch.label, same.label)


def test_large_files_are_mapped_where_they_can_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.zeros((40, 50))
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "x.npz", x=x)
    np.savez(tmp_path / "small.npz", x=x[:, :1], large=np.arange(9000))
    np.savez_compressed(tmp_path / "c.npz", x=np.random.default_rng(0).random((40, 500)))

    def kind(name: str, **settings: Any) -> type:
        return type(Arrays(str(tmp_path / name), **settings).load().train.x)

    assert {kind(name) for name in ("x.npy", "x.npz", "c.npz")} == {Dense}
    monkeypatch.setattr(arrays, "HELD_BYTES", 1000)
    assert [kind(name) for name in ("x.npy", "x.npz", "small.npz", "c.npz")] == [Mapped, Mapped, Dense, Dense]
    assert kind("x.npy", mapped=False) == kind("x.npy", standardise="standard") == Dense


def test_refusals_of_what_cannot_be_mapped(tmp_path: Path) -> None:
    x = np.arange(4000.0).reshape(40, 100)
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "x.npz", x=x)
    np.savez_compressed(tmp_path / "c.npz", x=x)
    whole = (tmp_path / "x.npz").read_bytes()
    (tmp_path / "flipped.npz").write_bytes(whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:])
    (tmp_path / "torn.npy").write_bytes((tmp_path / "x.npy").read_bytes()[:1000])
    np.save(tmp_path / "holes.npy", np.where(x == 777, np.nan, x))

    def said(name: str, binarise: Any = "none", **settings: Any) -> str:
        with pytest.raises(UserError) as refused:
            DataModule(Arrays(str(tmp_path / name), mapped=True, **settings), binarise=binarise).setup()
        return str(refused.value)

    assert "array 'x' of" in said("c.npz")
    assert "is compressed or encrypted: write it with numpy.savez, or as a .npy" in said("c.npz")
    assert "has no array 'z'" in said("x.npz", x_key="z")
    assert "flipped.npz cannot be read" in said("flipped.npz")
    assert "torn.npy cannot be read" in said("torn.npy")
    assert "standardise=standard would hold all of them in memory" in said("x.npy", standardise="standard")
    assert "binarise=dynamic would hold all examples in memory" in said("x.npy", binarise="dynamic")
    assert "holds 1 value that are NaN or infinite, the first in row 7 at position [77]" in said("holes.npy")
    assert "has shape [40, 100], but image data must be" in said("x.npy", kind="image")
    assert "holds one array and no keys" in said("x.npy", label_key="y")
    with pytest.raises(UserError, match="unknown mapped=1"):
        Arrays("x.npy", mapped=1)  # type: ignore[arg-type]


MEASURE = """
    import json, sys
    import torch
    import narrows.data.datamodule
    from narrows.data.sources.arrays import Arrays
    from narrows.data.datamodule import DataModule

    def anonymous():
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("RssAnon"))

    def grown(mapped):
        before, most = anonymous(), 0
        data = DataModule(Arrays(sys.argv[1], mapped=mapped), batch_size=64)
        layer = torch.nn.Linear(1024, 8)
        for number, batch in enumerate(data.train_dataloader()):
            layer(batch.x).square().mean().backward()
            if number % 20 == 0:
                most = max(most, anonymous())
        return most - before, data.spec.size

    print(json.dumps([*grown(True), *grown(False)]))
"""


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="RssAnon is Linux's")
def test_memory_is_bounded_by_the_batch_and_not_by_the_file(tmp_path: Path) -> None:
    path, rows = tmp_path / "holes.npy", 25_000
    np.lib.format.open_memmap(path, "w+", np.float32, (rows, 1024)).flush()  # 102 MB that take no disk
    command = [sys.executable, "-c", textwrap.dedent(MEASURE), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    mapped, size, held, same = json.loads(done.stdout)
    assert size == same == rows * 0.81
    assert mapped < 0.25 * path.stat().st_size
    assert held > 0.9 * path.stat().st_size, "the measure sees nothing"
