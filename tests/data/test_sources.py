"""Sources on small local files: what is in the file is what is served."""

# mypy: disable-error-code="arg-type, union-attr, index, misc, operator"

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from source_contents import held, load

from narrows.data.datamodule import DataModule
from narrows.data.image_files import ImageReader
from narrows.data.sources import synthetic
from narrows.data.sources.arrays import Arrays, HeldOut
from narrows.data.sources.celeba import CelebA
from narrows.data.sources.digits import Digits
from narrows.data.sources.image_folder import ImageFolder
from narrows.data.sources.series import Series
from narrows.data.stores import Streamed
from narrows.types import DataSpec


def spec(source: Any, **settings: Any) -> DataSpec:
    datamodule = DataModule(source, **settings)
    datamodule.setup("fit")
    before = datamodule.spec
    datamodule.setup("test")
    assert datamodule.spec is before
    assert DataSpec.from_dict(before.to_dict()) == before
    return before


def test_digits() -> None:
    found = spec(Digits())
    assert (found.shape, found.kind, found.size, found.num_classes) == ((1, 8, 8), "image", 1455, 10)
    assert found.value_range == (0.0, 1.0)
    assert held(load(Digits()).train).unique().tolist() == [level / 16 for level in range(17)]


@pytest.mark.parametrize(
    ("x", "settings", "shape", "kind"),
    [
        (np.zeros((9, 5)), {}, (5,), "vector"),
        (np.zeros((9, 5), np.int16), {}, (5,), "vector"),
        (np.zeros((9, 5)), {"kind": "series"}, (1, 5), "series"),
        (np.zeros((9, 3, 5)), {}, (3, 5), "series"),
        (np.zeros((9, 5, 3)), {"channels_last": True}, (3, 5), "series"),
        (np.zeros((9, 6, 5), np.uint8), {}, (1, 6, 5), "image"),
        (np.zeros((9, 6, 5), bool), {}, (1, 6, 5), "image"),
        (np.zeros((9, 6, 5)), {"kind": "image"}, (1, 6, 5), "image"),
        (np.zeros((9, 3, 6, 5), np.uint8), {}, (3, 6, 5), "image"),
        (np.zeros((9, 6, 5, 3), np.uint8), {"channels_last": True}, (3, 6, 5), "image"),
    ],
)
def test_shapes_of_arrays(x: Any, settings: dict[str, Any], shape: Any, kind: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=x)
    np.save(tmp_path / "a.npy", x)
    for name in ("a.npz", "a.npy"):
        found = spec(Arrays(str(tmp_path / name), **settings))
        assert (found.shape, found.kind) == (shape, kind)


def test_values_of_arrays(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (12, 4, 5, 3), dtype=np.uint8)
    label = np.arange(12)[:, None] % 4
    np.savez(tmp_path / "a.npz", image=image, label=label)
    source = Arrays(str(tmp_path / "a.npz"), x_key="image", label_key="label", channels_last=True)
    datamodule = DataModule(source)
    for batch in datamodule.ordered_loader("train"):
        wanted = torch.from_numpy(image).permute(0, 3, 1, 2)[batch.index] / 255
        assert torch.equal(batch.x, wanted)
        assert torch.equal(batch.label, batch.index % 4)
    truth = image > 128
    np.save(tmp_path / "b.npy", truth)
    for batch in DataModule(Arrays(str(tmp_path / "b.npy"), channels_last=True)).ordered_loader("test"):
        assert torch.equal(batch.x, torch.from_numpy(truth).permute(0, 3, 1, 2)[batch.index].float())
    raw = np.random.default_rng(0).integers(0, 256, (12, 4), dtype=np.uint8)  # bytes, but no image: not scaled
    np.save(tmp_path / "c.npy", raw)
    for batch in DataModule(Arrays(str(tmp_path / "c.npy"))).ordered_loader("test"):
        assert torch.equal(batch.x, torch.from_numpy(raw)[batch.index].float())


def test_the_test_arrays(tmp_path: Path) -> None:
    a, b = np.zeros((8, 3)), np.ones((5, 3))
    np.savez(tmp_path / "a.npz", x=a, y=np.zeros(8), x2=b, y2=np.ones(5))
    np.savez(tmp_path / "b.npz", x=b, y=np.ones(5))
    path = str(tmp_path / "a.npz")
    for place in (HeldOut(path=str(tmp_path / "b.npz")), HeldOut(x_key="x2", label_key="y2")):
        found = load(Arrays(path, label_key="y", test=place))
        assert found.test is not None
        assert found.test.label is not None
        assert held(found.test).tolist() == b.tolist()
        assert found.test.label.tolist() == [1] * 5
        assert found.test_fraction is None
    assert load(Arrays(path, test=HeldOut(fraction=0.3))).test_fraction == 0.3


@pytest.mark.parametrize(
    "names", [("X_train", "y_train", "X_test", "y_test"), ("x_train", "y_train", "x_test", "y_test")]
)
def test_series_of_whole_examples(names: Any, tmp_path: Path) -> None:
    values = (np.ones((6, 7)), np.arange(6), np.zeros((4, 7)), np.arange(4))
    np.savez(tmp_path / "s.npz", **dict(zip(names, values, strict=True)))
    found = spec(Series(str(tmp_path / "s.npz")))
    assert (found.shape, found.kind, found.size) == ((1, 7), "series", 5)
    np.savez(tmp_path / "s.npz", X=np.ones((10, 2, 7)))
    assert spec(Series(str(tmp_path / "s.npz"))).shape == (2, 7)


def test_windows_of_a_csv(tmp_path: Path) -> None:
    rows = [f"2026-01-01 00:{step:02},{step},{-step},{int(step == 45)}" for step in range(50)]
    (tmp_path / "s.csv").write_text("time,a,b,fault\n" + "\n".join(rows) + "\n")
    source = Series(str(tmp_path / "s.csv"), 6, 2, ["a", "b"], "fault", standardise="none", test=0.2)
    datamodule = DataModule(source, validation=0.2)
    datamodule.setup()
    assert datamodule.spec.feature_names == ["a", "b"]
    parts = {name: next(iter(datamodule.ordered_loader(name))) for name in ("train", "validation", "test")}
    assert {name: batch.x.shape[1:] for name, batch in parts.items()} == dict.fromkeys(parts, (2, 6))
    steps = {name: set(batch.x[:, 0].flatten().int().tolist()) for name, batch in parts.items()}
    assert steps["test"] == set(range(40, 50))
    assert not steps["train"] & steps["validation"]
    assert steps["train"] | steps["validation"] == set(range(40))
    assert torch.equal(parts["test"].x[1, 0], torch.arange(42.0, 48.0))
    assert torch.equal(parts["test"].x[:, 1], -parts["test"].x[:, 0])
    assert parts["test"].label is not None
    assert parts["test"].label.tolist() == [1, 1, 1]
    assert load(Series(str(tmp_path / "s.csv"), 6, columns=["b"], test=None)).train.x.shape == (8, 1, 6)


@pytest.mark.parametrize(("window", "stride"), [(10, 4), (10, 3), (10, 5), (7, 2), (6, 9)])
@pytest.mark.parametrize("folds", [None, 4])
def test_no_part_of_a_signal_shares_a_time_step(window: int, stride: int, folds: int | None, tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("t\n" + "".join(f"{t}\n" for t in range(400)))
    for fold in range(folds or 1):
        source = Series(str(tmp_path / "s.csv"), window, stride, ["t"], test=0.25, standardise="none")
        datamodule = DataModule(source, **({} if folds is None else {"folds": folds, "fold": fold}))
        datamodule.setup()
        steps = {}
        for name in ("train", "validation", "test"):
            (rows,) = [batch.x for batch in datamodule.ordered_loader(name)]
            assert len(rows) > 2
            steps[name] = set(rows.flatten().int().tolist())
        assert not steps["train"] & steps["validation"]
        assert not (steps["train"] | steps["validation"]) & steps["test"]


def test_the_generated_signal() -> None:
    datamodule = DataModule(Series(window=64, stride=16, test=0.25))
    datamodule.setup()
    assert "SYNTHETIC" in datamodule.reading[0]
    assert datamodule.spec.feature_names == [f"synthetic_{sensor}" for sensor in range(6)]
    (test,) = datamodule.ordered_loader("test")
    assert test.label is not None
    assert 0.1 < test.label.float().mean() < 0.5
    assert all(batch.label is not None and not batch.label.any() for batch in datamodule.ordered_loader("train"))
    again = synthetic.generate(18_000)
    assert torch.equal(again.values, synthetic.generate(18_000).values)
    correlation = torch.corrcoef(again.values[:, 10_000:18_000]) - torch.eye(6)
    assert correlation.abs().max() > 0.5
    early, late = again.values[:, :4000], again.values[:, 10_000:18_000]
    assert (torch.corrcoef(early) - torch.corrcoef(late)).abs().max() > 0.5  # the regime change


def test_injected_anomalies_can_be_found() -> None:
    datamodule = DataModule(Series(window=64, stride=16, test=0.25))
    train = torch.cat([batch.x for batch in datamodule.ordered_loader("train")]).flatten(1)
    (test,) = datamodule.ordered_loader("test")
    centre = train.mean(0)
    basis = torch.linalg.svd(train - centre, full_matrices=False).Vh[:24]
    rest = test.x.flatten(1) - centre
    error = (rest - rest @ basis.T @ basis).square().sum(1)
    assert test.label is not None
    normal, odd = error[test.label == 0], error[test.label == 1]
    auc = (odd[:, None] > normal).float().mean()
    assert 0.8 < auc < 1.0  # PCA finds most, and leaves something to do


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    source = np.random.default_rng(0)
    for number in range(12):
        folder = tmp_path / "ab"[number % 2]
        folder.mkdir(exist_ok=True)
        Image.fromarray(source.integers(0, 256, (10, 14, 3), dtype=np.uint8)).save(folder / f"{number:02}.png")
    (tmp_path / "a" / "notes.txt").write_text("no image")
    return tmp_path


def test_image_folder(pictures: Path) -> None:
    in_memory = load(ImageFolder(str(pictures), size=10))
    assert in_memory.train.x.shape == (12, 3, 10, 10)
    assert in_memory.train.label is not None
    assert in_memory.train.label.tolist() == [0] * 6 + [1] * 6
    first = np.asarray(Image.open(pictures / "a" / "00.png"))[:, 2:12].transpose(2, 0, 1)
    assert np.array_equal(held(in_memory.train)[0], first)
    streamed = load(ImageFolder(str(pictures), size=10, memory_limit_mb=0.001))
    assert isinstance(streamed.train.x, Streamed)
    assert torch.equal(held(streamed.train), held(in_memory.train))
    assert load(ImageFolder(str(pictures / "a"), size=4, channels=1)).train.x.shape == (6, 1, 4, 4)
    assert load(ImageFolder(str(pictures / "a"), size=4)).train.label is None
    official = load(ImageFolder(str(pictures), size=4, test_path=str(pictures)))
    assert official.test is not None
    assert len(official.test) == 12


def test_the_fingerprint_of_a_stream(pictures: Path) -> None:
    def fingerprint(size: int = 8) -> str:
        return spec(ImageFolder(str(pictures), size=size, memory_limit_mb=0)).fingerprint

    first = fingerprint()
    assert fingerprint() == first
    assert fingerprint(size=9) != first
    (pictures / "a" / "00.png").write_bytes((pictures / "a" / "02.png").read_bytes())
    assert fingerprint() != first


def test_the_image_reader(tmp_path: Path) -> None:
    path = str(tmp_path / "p.png")
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    palette.save(path)
    assert ImageReader(4)(path)[:, 0, 0].tolist() == [10, 20, 30]
    Image.new("1", (4, 4), 1).save(path)
    assert ImageReader(4, 1)(path).unique().tolist() == [255]
    assert ImageReader(3)(path).shape == (3, 3, 3)
    Image.new("RGBA", (4, 4), (10, 20, 30, 255)).save(path)
    assert ImageReader(4)(path)[:, 0, 0].tolist() == [10, 20, 30]
    sideways = Image.new("L", (6, 4))
    exif = sideways.getexif()
    exif[0x0112] = 3  # upside down
    sideways.putpixel((1, 0), 200)
    sideways.save(path, exif=exif)
    assert ImageReader(4, 1)(path)[0, 3].tolist() == [0, 0, 0, 200]


def test_celeba_from_local_files(tmp_path: Path) -> None:
    folder = tmp_path / "celeba"
    (folder / "img_align_celeba").mkdir(parents=True)
    names = [f"{number:06}.jpg" for number in range(1, 9)]
    source = np.random.default_rng(0)
    for name in names:
        Image.fromarray(source.integers(0, 256, (218, 178, 3), dtype=np.uint8)).save(folder / "img_align_celeba" / name)
    parts = list("00001122")
    (folder / "list_eval_partition.txt").write_text(
        "\n".join(f"{name} {part}" for name, part in zip(names, parts, strict=True)) + "\n"
    )
    signs = [f"{name}  1 {'-1' if number % 2 else ' 1'}" for number, name in enumerate(names)]
    (folder / "list_attr_celeba.txt").write_text("8\nYoung Smiling \n" + "\n".join(signs) + "\n")
    datamodule = DataModule(CelebA(str(tmp_path), size=16, attribute="Smiling"), 2, validation="official")
    datamodule.setup()
    assert (datamodule.spec.shape, datamodule.spec.size, datamodule.spec.num_classes) == ((3, 16, 16), 4, 2)
    assert len(list(datamodule.train_dataloader())) == 2
    (test,) = datamodule.ordered_loader("test")
    assert test.label is not None
    assert test.label.tolist() == [1, 0]
    with Image.open(folder / "img_align_celeba" / names[6]) as image:
        face = image.crop((15, 35, 163, 183)).resize((16, 16), Image.Resampling.BILINEAR)
    assert torch.equal(test.x[0], torch.from_numpy(np.array(face)).permute(2, 0, 1) / 255)
