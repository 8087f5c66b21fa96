"""Features of pictures as data: what is served, held, described and refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from defect_pictures import write_defects
from torch import Tensor

from narrows.data import DataModule, Digits, ImageFolder
from narrows.data.contents import Contents, Part
from narrows.errors import UserError


class Edges:
    """Differences to the right and below, at half the side."""

    standardise = False

    def __init__(self, memory_limit_mb: float = 64, name: str = "edges") -> None:
        self.memory_limit_mb, self.name, self.seen = memory_limit_mb, name, 0

    @property
    def fingerprint(self) -> str:
        return self.name

    def out_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        channels, height, width = shape
        return (2 * channels, height // 2, width // 2)

    def __call__(self, x: Tensor) -> Tensor:
        self.seen += len(x)
        beside, below = x.roll(-1, 3) - x, x.roll(-1, 2) - x
        return torch.nn.functional.avg_pool2d(torch.cat([beside, below], 1), 2)


class Held:
    """A source of these contents."""

    def __init__(self, x: Tensor, target: Tensor | None = None) -> None:
        self.x, self.target = x, target

    def load(self) -> Contents:
        return Contents("image", Part(self.x, target=self.target))


def test_features_stand_in_the_place_of_pictures(tmp_path) -> None:  # type: ignore[no-untyped-def]
    root = str(write_defects(tmp_path, side=16, good=12, test=2))
    served = {}
    for name, limit, memory in (("held", 64, 2048), ("anew", 0, 2048), ("streamed", 0, 0), ("streamed, held", 64, 0)):
        edges = Edges(limit)
        source = ImageFolder(root, size=16, channels=1, memory_limit_mb=memory)
        data = DataModule(source, batch_size=4, validation=3, features=edges)
        data.setup()
        assert (data.spec.kind, data.spec.shape, data.spec.value_range) == ("features", (2, 8, 8), None)
        assert data.spec.class_names == ["good", "blob", "scratch"]
        batches = [batch for _ in range(2) for batch in data.ordered_loader("test")]
        batches += list(data.train_dataloader())
        served[name] = torch.cat([batch.x for batch in batches])
        # Beside one zero picture, by which the shape is found, none is looked at twice where features are held.
        assert edges.seen == (6 + 9 if limit else 2 * 6 + 9)
        pictures = data.part("test").x.take(slice(None))
        assert pictures.shape == (6, 1, 16, 16)
        wanted = Edges()(pictures / 255 if pictures.dtype == torch.uint8 else pictures)
        assert torch.allclose(served[name][:6], wanted, atol=1e-6)
        assert data.part("test").anomalous is not None
    for name, x in served.items():
        assert torch.allclose(x, served["held"], atol=1e-6), name


def test_features_are_standardised_by_training_pictures() -> None:
    x = torch.rand(300, 1, 8, 8) * torch.linspace(0.1, 1, 300)[:, None, None, None]
    x = x.cumsum(2) / 8
    edges = Edges()
    edges.standardise = True
    data = DataModule(Held(x), validation=0.1, features=edges)
    train, held = (torch.cat([batch.x for batch in data.ordered_loader(name)]) for name in ("train", "validation"))
    assert torch.allclose(train.mean((0, 2, 3)), torch.zeros(2), atol=0.1)
    assert torch.allclose(train.std((0, 2, 3)), torch.ones(2), atol=0.1)
    plain = Edges()(data.part("train").x.take(slice(None)))
    # One line for both splits: what is fitted to training rows is laid on the others.
    slope = plain[:, 0].std() / train[:, 0].std()
    offset = plain[:, 0].mean() - slope * train[:, 0].mean()
    validation = Edges()(data.part("validation").x.take(slice(None)))
    assert torch.allclose(validation[:, 0], slope * held[:, 0] + offset, atol=1e-5)


def test_the_fingerprint_is_of_pictures_and_features() -> None:
    prints = []
    for features in (None, Edges(), Edges(name="others")):
        data = DataModule(Digits(), features=features)
        data.setup()
        prints.append(data.spec.fingerprint)
    assert len(set(prints)) == 3


@pytest.mark.parametrize(
    ("source", "settings", "said"),
    [
        (Held(torch.rand(40, 1, 8, 8) * 2), {}, "not of data of kind image that leave"),
        (Digits(), {"binarise": "static"}, "not of binarised ones: set binarise=none"),
        (Held(torch.rand(40, 1, 8, 8), torch.rand(40, 1, 8, 8)), {}, "these come with a target each"),
    ],
)
def test_what_has_no_features(source: object, settings: dict[str, str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        DataModule(source, features=Edges(), **settings).setup()  # type: ignore[arg-type]


def test_rows_at_once_are_bounded_by_values() -> None:
    data = DataModule(Digits(), features=Edges())
    data.setup()
    data.spec.shape = (1024, 64, 64)
    assert data.loading.rows_at_once(data.spec) == 4
    assert np.prod(data.spec.shape) * 4 == 2**24
