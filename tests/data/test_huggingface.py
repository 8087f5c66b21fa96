"""Hugging Face data sets: every row is served once, as the files or arrays that it was made of, and no gap passes."""

from __future__ import annotations

import io
import os
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hub_stand_in import serving
from lightning.pytorch import Trainer
from PIL import Image
from served_over_ranks import every_row_once_in_an_epoch
from test_trainer import QUIET, Recorder, SaveAt

from narrows.data import (
    Arrays,
    ArrowNumbers,
    ArrowPictures,
    DataModule,
    HeldOut,
    HubFiles,
    HuggingFace,
    ImageFolder,
    Loading,
    Numbers,
    Pictures,
)
from narrows.data.hub_datasets import parquet_parts
from narrows.errors import UserError

datasets = pytest.importorskip("datasets")
pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
datasets.disable_progress_bars()
COUNT = 23
PICTURE = pa.struct({"bytes": pa.binary(), "path": pa.string()})
NAMES = ["cat", "dog", "fish"]
VECTORS = np.random.default_rng(0).normal(size=(COUNT, 4)).astype(np.float32)
MATRICES = np.random.default_rng(1).integers(0, 256, (COUNT, 3, 2), dtype=np.uint8)
DOUBLES = VECTORS.astype(np.float64) + 0.1


def png(number: int) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 256, (6, 5, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def pixels(number: int) -> torch.Tensor:
    return torch.from_numpy(np.array(Image.open(io.BytesIO(png(number)))).transpose(2, 0, 1).copy())


def rows(first: int = 0, stop: int = COUNT) -> Any:
    """A data set with a column of every kind."""
    features = {
        "picture": datasets.Image(),
        "animal": datasets.ClassLabel(names=NAMES),
        "vector": datasets.List(datasets.Value("float32"), length=4),
        "matrix": datasets.Array2D((3, 2), "uint8"),
        "double": datasets.List(datasets.Value("float64")),
        "word": datasets.Value("string"),
        "number": datasets.Value("int8"),
    }
    chosen = range(first, stop)
    values = {
        "picture": [{"bytes": png(number), "path": f"{number}.png"} for number in chosen],
        "animal": [number % 3 for number in chosen],
        "vector": [VECTORS[number] for number in chosen],
        "matrix": [MATRICES[number] for number in chosen],
        "double": [DOUBLES[number].tolist() for number in chosen],
        "word": [["b", "a"][number % 2] for number in chosen],
        "number": [number % 5 for number in chosen],
    }
    return datasets.Dataset.from_dict(values, features=datasets.Features(features))


def made(values: dict[str, Any], folder: Path, **features: Any) -> Path:
    """A saved data set of these columns."""
    told = datasets.Features(features) if features else None
    datasets.Dataset.from_dict(values, features=told).save_to_disk(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same rows as one saved data set of several files, as one of parts, and as Parquet."""
    place: Path = tmp_path_factory.mktemp("sets")
    rows().save_to_disk(place / "saved", num_shards=3)
    parts = {"train": rows(), "validation": rows(2, 5), "test": rows(7, 11), "extra": rows(0, 2)}
    datasets.DatasetDict(parts).save_to_disk(place / "parts")
    (place / "parquet[1]").mkdir()  # the library would take the brackets for a pattern
    for number, (first, stop) in enumerate([(0, 10), (10, 11), (11, COUNT)]):
        rows(first, stop).to_parquet(place / "parquet[1]" / f"train-{number:05d}-of-00003.parquet", batch_size=4)
    rows(7, 11).to_parquet(place / "parquet[1]" / "test-00000-of-00001.parquet")
    rows(0, 2).to_parquet(place / "parquet[1]" / "extra-00000-of-00001.parquet")
    return place


def source(path: Path | str, data_dir: Path | None = None, **settings: Any) -> HuggingFace:
    files = settings.pop("files", {})
    where = {} if data_dir is None else {"data_dir": str(data_dir)}
    given = {"size": [6, 5], "test": None, "memory_limit_mb": 0, "files": HubFiles(**where, **files), **settings}
    return HuggingFace(str(path), **given)


def refused(path: Path | str, **settings: Any) -> str:
    with pytest.raises(UserError) as error:
        source(path, **settings).load()
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("name", ["saved", "parts", "parquet[1]"])
def test_pictures_are_those_of_a_folder_of_the_same_files(name: str, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "loose").mkdir()
    for number in range(COUNT):
        (tmp_path / "loose" / f"{number:02d}.png").write_bytes(png(number))
    loose = ImageFolder(str(tmp_path / "loose"), size=[6, 5], test=None, memory_limit_mb=0).load().train.x
    streamed = source(folder / name, tmp_path).load()
    held = source(folder / name, tmp_path, memory_limit_mb=1).load()
    assert isinstance(streamed.train.x, ArrowPictures)
    assert not held.train.x.reads_files
    assert list(streamed.train.x.bytes()) == list(loose.bytes())
    for contents in (streamed, held):
        assert torch.equal(contents.train.x.take(slice(None)), loose.take(slice(None)))
        assert contents.train.label is not None
        assert contents.train.label.tolist() == [number % 3 for number in range(COUNT)]
        assert contents.class_names == NAMES


@pytest.mark.parametrize(("column", "values"), [("vector", VECTORS), ("matrix", MATRICES), ("double", DOUBLES)])
def test_numbers_are_those_of_an_array(column: str, values: Any, folder: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", values)
    array = Arrays(str(tmp_path / "x.npy"), test=HeldOut(fraction=None))
    expected = array.load()
    for limit in (0, 1):
        contents = source(folder / "saved", column=column, memory_limit_mb=limit).load()
        assert contents.kind == expected.kind
        assert isinstance(contents.train.x, ArrowNumbers) == (limit == 0)
        served = contents.train.x.take(slice(None))
        assert torch.equal(served, expected.train.x.take(slice(None)).to(served.dtype))
        own = source(folder / "saved", column=column, label=None, memory_limit_mb=limit)
        assert printed(own) == printed(array)


def printed(one: Any) -> str:
    """The fingerprint that a run records."""
    data = DataModule(one, validation=3)
    data.setup("fit")
    return data.spec.fingerprint


def test_numbers_of_parquet_are_those_too(folder: Path, tmp_path: Path) -> None:
    for column, values in {
        "vector": VECTORS,
        "matrix": MATRICES[:, None],
        "double": DOUBLES.astype(np.float32),
    }.items():
        x = source(folder / "parquet[1]", tmp_path, column=column).load().train.x
        assert torch.equal(x.take(slice(None)), torch.from_numpy(values))
    assert len(list(tmp_path.rglob("*.arrow"))) == 2  # of train and test, and none of what is left aside


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_every_picture_is_served_once_in_an_epoch_over_all_ranks(folder: Path, world: int, workers: int) -> None:
    every_row_once_in_an_epoch(lambda: source(folder / "saved"), pixels, COUNT, world, workers)


def test_every_row_of_numbers_is_too(folder: Path, tmp_path: Path) -> None:
    def make() -> HuggingFace:
        return source(folder / "parquet[1]", tmp_path, column="vector", files={"split": "train"})

    every_row_once_in_an_epoch(make, lambda row: torch.from_numpy(VECTORS[row]), COUNT, world=3, workers=2)


@pytest.mark.filterwarnings("ignore:.*does not have many workers.*", "ignore:.*LeafSpec.*", "ignore:.*treespec.*")
@pytest.mark.parametrize("step", [2, 7])
def test_a_run_resumed_within_an_epoch_sees_the_rows_of_the_uninterrupted_one(
    step: int, folder: Path, tmp_path: Path
) -> None:
    def run(callbacks: list[Any], workers: int, checkpoint: str | None = None) -> list[list[int]]:
        model, loading = Recorder(), Loading(num_workers=workers)
        data = DataModule(source(folder / "saved"), batch_size=4, validation=3, loading=loading)
        Trainer(**QUIET, callbacks=callbacks, max_epochs=2).fit(model, datamodule=data, ckpt_path=checkpoint)
        return model.seen

    whole = run([SaveAt(step, tmp_path / "middle.ckpt")], workers=0)
    assert len(whole) == 10
    assert run([], 2, str(tmp_path / "middle.ckpt")) == whole[step:]


def test_parts_are_used_as_they_are(folder: Path, tmp_path: Path) -> None:
    contents = source(folder / "parts").load()
    sizes = {name: len(part) for name, part in contents.parts().items()}
    assert sizes == {"train": COUNT, "validation": 3, "test": 4}
    assert torch.equal(contents.parts()["test"].x.take(torch.tensor([1])), pixels(8)[None])
    assert contents.reading == [
        "rows: 23 to train on and 3 to validate on and 4 to test on of 3 classes ('animal'), column 'picture' as "
        "3x6x5, read from their places when they are needed; left aside: the parts extra"
    ]
    assert [*source(folder / "parquet[1]", tmp_path).load().parts()] == ["train", "test"]
    other = source(folder / "parts", files={"split": "extra"}).load()
    assert len(other.train) == 2
    assert "has no part 'extar': did you mean 'extra'?" in refused(folder / "parts", files={"split": "extar"})
    alone = source(folder / "saved", test=0.2).load()
    assert (alone.test, alone.test_fraction) == (None, 0.2)


def test_rows_are_selected_and_joined_by_place(folder: Path) -> None:
    contents = source(folder / "parts").load()
    pooled = contents.train.x.select(torch.tensor([20, 3, 4, 5])).join(contents.parts()["test"].x)
    again = pickle.loads(pickle.dumps(pooled.select(torch.tensor([5, 0, 2]))))
    assert torch.equal(again.take(torch.tensor([0, 1, 2])), torch.stack([pixels(8), pixels(20), pixels(4)]))
    assert again.take(torch.tensor([], dtype=torch.int64)).shape == (0, 3, 6, 5)


def test_a_worker_is_sent_places_and_no_pictures(tmp_path: Path) -> None:
    noise = [np.random.default_rng(number).bytes(50_000) for number in range(20)]
    x = source(made({"x": noise}, tmp_path / "large")).load().train.x
    assert len(pickle.dumps(x)) < 10_000


def test_parquet_is_copied_once_and_again_when_it_has_changed(tmp_path: Path) -> None:
    file, kept = tmp_path / "one.parquet", tmp_path / "data" / "huggingface" / "arrow"

    def load() -> torch.Tensor:
        return source(file, tmp_path / "data", column="vector").load().train.x.take(slice(None))

    def copies() -> dict[str, int]:
        return {str(path): path.stat().st_mtime_ns for path in kept.rglob("*.arrow")}

    rows().to_parquet(file)
    first, made_once = load(), copies()
    assert len(made_once) == 1
    assert torch.equal(load(), first)
    assert copies() == made_once
    rows(0, 5).to_parquet(file)
    os.utime(file, ns=(1, 1))
    assert torch.equal(load(), first[:5])


def test_labels_are_classes_numbers_or_words(folder: Path) -> None:
    def label(**settings: Any) -> tuple[Any, Any]:
        contents = source(folder / "saved", **settings).load()
        return None if contents.train.label is None else contents.train.label.tolist()[:6], contents.class_names

    assert label(label="word") == ([1, 0, 1, 0, 1, 0], ["a", "b"])
    assert label(label="number") == ([0, 1, 2, 3, 4, 0], None)
    assert label(label=None) == (None, None)
    assert source(folder / "saved", train_labels=["dog", 2]).load().train_labels == [1, 2]
    assert "there is no class 'cow'" in refused(folder / "saved", train_labels=["cow"])


def test_columns_that_do_not_fit_are_refused_by_name(folder: Path, tmp_path: Path) -> None:
    saved = folder / "saved"
    assert "has no column 'pictrue': did you mean 'picture'?" in refused(saved, column="pictrue")
    assert "has no column 'animals': did you mean 'animal'?" in refused(saved, label="animals")
    assert "column 'word' of part 'train'" in refused(saved, column="word")
    assert "holds string: pictures or lists of numbers are needed" in refused(saved, column="word")
    assert "columns of single numbers by datamodule=table" in refused(saved, column="number")
    halves = made({"x": [[1]], "y": [0.5]}, tmp_path / "halves")
    assert "column 'y' of part 'train'" in refused(halves, label="y")
    assert "holds double: classes are whole numbers or words" in refused(halves, label="y")
    several = made({"a": [[1]], "b": [[2]]}, tmp_path / "several")
    assert "has several columns of numbers; set source.column to one of a (list" in refused(several)
    assert "has neither of the two of a (string)" in refused(made({"a": ["b"]}, tmp_path / "neither"))


def test_pictures_that_are_kept_by_their_paths_are_read_there(tmp_path: Path) -> None:
    path = str(tmp_path / "gone.png")
    table = pa.table({"x": pa.array([{"bytes": None, "path": path}], PICTURE)})
    pq.write_table(table, tmp_path / "paths.parquet")
    x = source(tmp_path / "paths.parquet", tmp_path).load().train.x
    with pytest.raises(UserError, match=r"holds the path .*gone.png and no picture"):
        x.take(slice(None))
    (tmp_path / "gone.png").write_bytes(png(3))
    assert torch.equal(x.take(slice(None)), pixels(3)[None])


def test_rows_that_do_not_fit_are_refused_by_number(tmp_path: Path) -> None:
    def one(name: str, values: dict[str, Any], **features: Any) -> str:
        return refused(made(values, tmp_path / name, **features))

    lists = {"x": datasets.List(datasets.Value("float32"))}
    ragged = [[1.0, 2.0]] * 1100 + [[3.0]]
    assert "row 1,100 of column 'x'" in one("ragged", {"x": ragged}, **lists)
    assert "holds 1 numbers where the first one has 2" in one("short", {"x": [[1.0, 2.0], [3.0]]}, **lists)
    assert "row 1 of column 'x' of part 'train'" in one("gap", {"x": [[1.0, 2.0], [3.0, None]]}, **lists)
    assert "row 1 of column 'x' of part 'train'" in one("none", {"x": [[1.0], None]}, **lists)
    deep = {"x": datasets.List(datasets.List(datasets.Value("int32")))}
    assert "row 1 of" in one("deep", {"x": [[[1, 2], [3, 4]], [[1, 2], [3]]]}, **deep)
    assert "row 2 of column 'x' of part 'train'" in one(
        "bare", {"x": [{"bytes": png(0)}, {"bytes": png(1)}, None]}, x=datasets.Image()
    )
    named = {"x": datasets.List(datasets.Value("int32")), "label": datasets.ClassLabel(names=["a", "b"])}
    assert "row 1 of column 'label'" in one("minus", {"x": [[1], [2]], "label": [0, -1]}, **named)
    assert "row 1 of column 'label' of part 'train'" in one(
        "unlabelled", {"x": [[1], [2]], "label": [0, None]}, **named
    )
    broken = made({"x": [png(0), png(1)[:60]]}, tmp_path / "broken")
    assert "row 1 of column 'x'" in refused(broken, memory_limit_mb=1)
    parts = {"train": [[1.0, 2.0]], "test": [[1.0]]}
    both = datasets.DatasetDict({name: datasets.Dataset.from_dict({"x": x}) for name, x in parts.items()})
    both.save_to_disk(tmp_path / "unlike")
    assert "the parts must be alike" in refused(tmp_path / "unlike")
    words = {name: datasets.Dataset.from_dict({"x": [[1]], "label": [name]}) for name in ("train", "test")}
    datasets.DatasetDict(words).save_to_disk(tmp_path / "strange")
    assert "is of class 'test', which no training row has" in refused(tmp_path / "strange")


def test_places_that_hold_no_data_set_are_refused(folder: Path, tmp_path: Path) -> None:
    assert "is no name of the hub, OWNER/NAME" in refused(tmp_path / "nowhere")
    assert "holds no data set" in refused(tmp_path)
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and no more")
    assert "a.parquet cannot be read as Parquet" in refused(tmp_path / "a.parquet", data_dir=tmp_path)
    assert not list(tmp_path.rglob("*.arrow"))
    for name, values in {"b": [[1]], "c": [["d"]]}.items():
        pq.write_table(pa.table({"x": values}), tmp_path / f"{name}.parquet")
    pq.write_table(pa.table({"x": pa.array([], pa.list_(pa.int8()))}), tmp_path / "a.parquet")
    assert "a.parquet has no rows" in refused(tmp_path / "a.parquet", data_dir=tmp_path)
    (tmp_path / "a.parquet").unlink()
    assert "c.parquet has the columns x (list" in refused(tmp_path, data_dir=tmp_path)
    place = tmp_path / "cut"
    rows().save_to_disk(place)
    (arrow,) = place.glob("*.arrow")
    arrow.write_bytes(arrow.read_bytes()[:2000])
    assert "cannot be read as a data set" in refused(place)
    with pytest.raises(UserError, match="frames=each is for folders"):
        HuggingFace("x", pictures=Pictures(frames="each"))
    with pytest.raises(UserError, match=r"unknown numbers.kind='vectro': did you mean 'vector'"):
        Numbers(kind="vectro")  # type: ignore[arg-type]


def test_files_are_told_apart_by_name_or_folder(tmp_path: Path) -> None:
    def parts(*names: str) -> dict[str, int]:
        place = tmp_path / str(len(list(tmp_path.iterdir())))
        for name in names:
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).touch()
        return {part: len(paths) for part, paths in parquet_parts(place).items()}

    assert parts("a.parquet", "b.parquet", ".cache/c.parquet") == {"train": 2}
    assert parts("train.parquet", "val.parquet") == {"train": 1, "validation": 1}
    assert parts("all/train/0.parquet", "all/train/1.parquet", "all/test/0.parquet") == {"train": 2, "test": 1}
    assert parts("data/train-00000-of-00001-ab12.parquet", "data/more-00000-of-00001.parquet") == {
        "train": 1,
        "more": 1,
    }
    with pytest.raises(UserError, match=r"belongs to none: rename it"):
        parts("train.parquet", "other.parquet")
    with pytest.raises(UserError, match=r"several data sets, in the folders cola, sst2: set source.files.subset"):
        parts("cola/train.parquet", "sst2/train.parquet")


def test_a_data_set_of_the_hub_is_downloaded_once_where_that_is_allowed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = {f"data/{path.name}": path.read_bytes() for path in (folder / "parquet[1]").iterdir()}
    repositories = {"me/pictures": kept | {"pictures.py": b"evil()"}, "me/none": {"data.csv": b""}}
    off = {"files": {"download": False}}
    with serving(repositories) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        assert "source.files.download is off" in refused("me/pictures", data_dir=tmp_path, **off)
        assert torch.equal(source("me/pictures", tmp_path).load().train.x.take(torch.tensor([5])), pixels(5)[None])
        assert "downloading it failed" in refused("me/nobody", data_dir=tmp_path)
        assert "me/none has no Parquet files" in refused("me/none", data_dir=tmp_path)
        marks = [path.name for path in (tmp_path / "huggingface" / "hub").glob("me--*")]
        assert marks == ["me--pictures@newest"]  # what says that all of a data set is there
    assert not list(tmp_path.rglob("*.py"))
    assert torch.equal(source("me/pictures", tmp_path, **off).load().train.x.take(torch.tensor([5])), pixels(5)[None])
    assert "downloading it failed" in refused("me/other", data_dir=tmp_path)


def test_without_the_extra_it_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert "pip install 'narrows[hf-datasets]'" in refused(folder / "saved")
