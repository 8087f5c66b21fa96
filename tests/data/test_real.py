"""Real files: the folder named by NARROWS_DATA, else ../shared/data beside the checkout."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from narrows.data.datamodule import DataModule
from narrows.data.sources.arrays import Arrays, HeldOut
from narrows.data.sources.binarized_mnist import BinarizedMNIST
from narrows.data.sources.dsprites import DSprites
from narrows.data.sources.image_folder import ImageFolder
from narrows.data.sources.mnist import MNIST, FashionMNIST
from narrows.data.sources.series import Series
from narrows.errors import UserError

DATA = Path(os.environ.get("NARROWS_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"no real data: set NARROWS_DATA (looked in {DATA})")


def prepared(source: Any, **settings: Any) -> DataModule:
    datamodule = DataModule(source, **settings)
    datamodule.setup()
    return datamodule


@pytest.mark.parametrize(("source", "mean"), [(MNIST, 0.1307), (FashionMNIST, 0.2860)])
def test_mnist(source: Any, mean: float) -> None:
    datamodule = prepared(source(str(DATA), download=False), validation=1 / 6)
    assert datamodule.spec.shape == (1, 28, 28)
    assert datamodule.spec.num_classes == 10
    batches = [*datamodule.ordered_loader("train"), *datamodule.ordered_loader("validation")]
    counts = torch.stack([batch.label.bincount(minlength=10) for batch in batches if batch.label is not None]).sum(0)
    if source is MNIST:
        assert counts.tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    else:
        assert counts.tolist() == [6000] * 10
    # The published mean of all training pixels, a figure of nobody's code.
    assert sum(batch.x.sum() for batch in batches) / (60000 * 784) == pytest.approx(mean, abs=1e-4)
    tests = list(datamodule.test_dataloader())
    assert [len(batch) for batch in tests] == [1000] * 10
    if source is MNIST:
        assert tests[0].label is not None
        assert tests[0].label[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]


def test_mnist_may_have_a_black_border() -> None:
    plain, padded = (MNIST(str(DATA), download=False, pad=pad).load().test for pad in (0, 2))
    framed, digits = (part.x.take(torch.arange(10_000)) for part in (padded, plain))
    assert framed.shape == (10_000, 1, 32, 32)
    assert torch.equal(framed[..., 2:-2, 2:-2], digits)
    assert framed.sum() == digits.sum()
    with pytest.raises(UserError, match="data MNIST: pad must be at least 0, not -1"):
        MNIST(str(DATA), pad=-1)


def test_binarized_mnist() -> None:
    datamodule = prepared(BinarizedMNIST(str(DATA), download=False), validation="official")
    assert (datamodule.spec.size, datamodule.spec.num_classes) == (50_000, None)
    sizes = {name: sum(map(len, datamodule.ordered_loader(name))) for name in ("train", "validation", "test")}  # type: ignore[arg-type]
    assert sizes == {"train": 50_000, "validation": 10_000, "test": 10_000}
    first = next(iter(datamodule.ordered_loader("test")))
    assert first.x.unique().tolist() == [0.0, 1.0]
    assert first.x.mean() == pytest.approx(0.13, abs=0.05)
    assert first.label is None


def test_sprites_of_the_complete_grid() -> None:
    datamodule = prepared(DSprites(str(DATA), download=False, file="dsprites_grid46080.npz"))
    assert (datamodule.spec.size, datamodule.spec.factor_sizes) == (37_325, [3, 6, 10, 16, 16])
    for batch in datamodule.ordered_loader("test"):
        assert batch.label is not None
        # The sprite stands where its factors say: its centre of mass runs along with them.
        mass = batch.x.sum((1, 2, 3))
        place = torch.arange(64.0)
        across, down = ((batch.x * grid).sum((1, 2, 3)) / mass for grid in (place, place[:, None]))
        for centre, factor in ((across, 3), (down, 4)):
            assert torch.corrcoef(torch.stack([centre, batch.label[:, factor].float()]))[0, 1] > 0.99
        size = torch.stack([mass, batch.label[:, 1].float()])
        assert torch.corrcoef(size)[0, 1] > 0.7


def test_ecg5000() -> None:
    source = Series(str(DATA / "ucr" / "ECG5000.npz"), standardise="none", test=None, train_labels=[1])
    datamodule = prepared(source)
    assert (datamodule.spec.shape, datamodule.spec.kind) == ((1, 140), "series")
    served = [*datamodule.ordered_loader("train"), *datamodule.ordered_loader("validation")]
    development = [batch.label for batch in served]
    assert sum(len(label) for label in development if label is not None) == 292
    assert all((label == 1).all() for label in development)
    batches = list(datamodule.ordered_loader("test"))
    labels = torch.cat([batch.label for batch in batches if batch.label is not None])
    assert labels.bincount().tolist() == [0, 2627, 1590, 86, 175, 22]
    torch.testing.assert_close(batches[0].x.mean(-1), torch.zeros(len(batches[0]), 1), atol=1e-3, rtol=0)


def test_a_measured_signal_in_windows() -> None:
    path = DATA / "nab" / "data" / "realKnownCause" / "machine_temperature_system_failure.csv"
    datamodule = prepared(Series(str(path), window=288, stride=72, test=0.25))  # days of five-minute steps
    assert datamodule.spec.feature_names == ["value"]
    assert datamodule.spec.shape == (1, 288)
    train = torch.cat([batch.x for batch in datamodule.ordered_loader("train")])
    assert train.mean() == pytest.approx(0, abs=1e-4)
    assert train.std() == pytest.approx(1, abs=1e-3)
    assert sum(map(len, datamodule.ordered_loader("test"))) == (round(22695 * 0.25) - 288) // 72 + 1


@pytest.mark.parametrize(
    ("path", "keys", "shape", "sizes"),
    [
        ("adbench/38_thyroid.npz", {"x_key": "X", "label_key": "y", "standardise": "standard"}, (6,), (3055, 377)),
        (
            "medmnist/pneumoniamnist.npz",
            {
                "x_key": "train_images",
                "label_key": "train_labels",
                "test": HeldOut(x_key="test_images", label_key="test_labels"),
            },
            (1, 28, 28),
            (4237, 624),
        ),
        ("frey_faces/frey_faces.npz", {"x_key": "images"}, (1, 28, 20), (1592, 196)),
    ],
)
def test_arrays(path: str, keys: dict[str, Any], shape: Any, sizes: tuple[int, int]) -> None:
    datamodule = prepared(Arrays(str(DATA / path), **keys))
    assert datamodule.spec.shape == shape
    assert (datamodule.spec.size, sum(map(len, datamodule.ordered_loader("test")))) == sizes


def test_photographs() -> None:
    datamodule = prepared(ImageFolder(str(DATA / "kodak"), size=64), batch_size=8)
    assert (datamodule.spec.shape, datamodule.spec.size) == ((3, 64, 64), 20)
    assert 0.2 < next(iter(datamodule.train_dataloader())).x.mean() < 0.7
