"""Sources of multi-modal data: parts side by side, paired by rows or by class, and pictures of sound."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sound_clips import write_clips

from narrows.data import (
    Arrays,
    Audio,
    Contents,
    DataModule,
    Dense,
    Digits,
    Halves,
    LogMel,
    Multimodal,
    Part,
    SideBySide,
)
from narrows.data.clip_names import ClipNames
from narrows.data.mel_scale import mel_filters
from narrows.errors import UserError
from narrows.types import Kind


class Rows:
    """Rows whose first value is their own number, so that it can be told which were put together."""

    def __init__(self, labels: list[int], width: int = 2, kind: Kind = "vector", test: int | None = None) -> None:
        self.labels, self.width, self.kind, self.test = labels, width, kind, test

    def load(self) -> Contents:
        count = len(self.labels)
        x = torch.arange(count, dtype=torch.float32)[:, None].repeat(1, self.width)
        part = Part(x, torch.tensor(self.labels))
        cut = self.test or count
        first, last = part.select(torch.arange(cut)), part.select(torch.arange(cut, count))
        return Contents(self.kind, first, test=last if self.test else None, test_fraction=None if self.test else 0.2)


def split(data: DataModule, name: Any) -> Any:
    return data.part(name)


def test_rows_of_stores_stand_side_by_side() -> None:
    one, two = torch.rand(4, 1, 2, 2), torch.arange(6, dtype=torch.uint8).reshape(3, 1, 1, 2)
    pairs = SideBySide([Dense(one), Dense(two)], ["vector", "image"], torch.tensor([[3, 0], [1, 2], [1, 1]]))
    wanted = torch.cat([one[[3, 1, 1]].flatten(1), two[[0, 2, 1]].flatten(1) / 255], 1)
    assert pairs.shape == (3, 6)
    assert torch.equal(pairs.take(slice(None)), wanted)
    assert torch.equal(pairs.take(torch.tensor([2, 0])), wanted[[2, 0]])
    assert torch.equal(pairs.select(torch.tensor([1])).take(slice(None)), wanted[[1]])
    assert torch.equal(pairs.join(pairs).take(slice(None)), wanted.repeat(2, 1))
    assert torch.equal(torch.cat(list(pairs.chunks())), wanted)
    other = SideBySide([Dense(one), Dense(two)], ["vector", "image"], torch.tensor([[3, 0], [1, 2], [1, 0]]))
    content = b"".join(map(bytes, pairs.bytes()))
    assert content == b"".join(map(bytes, pairs.to(torch.device("cpu")).bytes()))
    assert content != b"".join(map(bytes, other.bytes()))


def test_pairs_by_class_share_no_row_between_splits() -> None:
    left, right = [0, 1, 2] * 20, [0] * 6 + [1] * 9 + [2] * 12
    source = Multimodal({"left": Rows(left), "right": Rows(right, 3)}, pairing="label", pairs=2)
    data = DataModule(source, validation="auto")
    data.setup()
    seen: dict[str, list[set[int]]] = {}
    for name in ("train", "validation", "test"):
        part = split(data, name)
        x = part.x.take(slice(None))
        rows = [x[:, 0].long(), x[:, 2].long()]
        seen[name] = [set(one.tolist()) for one in rows]
        for values, labels in zip(rows, (left, right), strict=True):
            assert torch.equal(torch.tensor(labels)[values], part.label)
        times = torch.bincount(rows[0])
        assert set(times[times > 0].tolist()) == {2}  # of the larger part each stands in as many pairs
        fewer = torch.bincount(rows[1], minlength=27)
        for one in range(3):
            own = fewer[torch.tensor(right) == one]
            counts = own[own > 0]  # in as many pairs each, but one
            assert len(counts) == 0 or counts.max() - counts.min() <= 1
    for place in (0, 1):
        assert not seen["train"][place] & seen["test"][place]
        assert not seen["train"][place] & seen["validation"][place]
    assert data.spec.parts is not None
    assert [(part.name, part.shape) for part in data.spec.parts] == [("left", (2,)), ("right", (3,))]
    again = DataModule(
        Multimodal({"left": Rows(left), "right": Rows(right, 3)}, pairing="label", pairs=2), validation="auto"
    )
    again.setup()
    assert again.spec.fingerprint == data.spec.fingerprint
    other = DataModule(
        Multimodal({"left": Rows(left), "right": Rows(right, 3)}, pairing="label", seed=1), validation="auto"
    )
    other.setup()
    assert other.spec.fingerprint != data.spec.fingerprint


@pytest.mark.parametrize("options", [{"validation": 0.2}, {"folds": 3}])
def test_pairs_by_class_are_not_divided_again(options: dict[str, Any]) -> None:
    """Another division would put the same example into training and validation."""
    source = Multimodal({"a": Rows([0, 1] * 20), "b": Rows([0, 1] * 20)}, pairing="label")
    with pytest.raises(UserError, match="set validation=official and folds=null"):
        DataModule(source, **options).setup()


def test_rows_belong_together_and_nan_is_missing(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    image, words = rng.integers(0, 255, (40, 5, 4), np.uint8), rng.normal(3.0, 2.0, (40, 3)).astype(np.float32)
    words[7] = np.nan
    words[9, 1] = np.nan
    np.save(tmp_path / "image.npy", image)
    np.save(tmp_path / "words.npy", words)
    sources = {
        "image": Arrays(str(tmp_path / "image.npy")),
        "words": Arrays(str(tmp_path / "words.npy"), standardise="standard"),
    }
    data = DataModule(Multimodal(sources), validation=0.25)
    data.setup()
    assert data.spec.parts is not None
    assert [part.value_range for part in data.spec.parts] == [(0.0, 1.0), None]
    observed, x, rows = [], [], []
    for name in ("train", "validation", "test"):
        for batch in data.ordered_loader(name):
            assert batch.observed is not None
            observed.append(batch.observed)
            x.append(batch.x)
            rows.append(batch.index)
    order = torch.cat(rows).argsort()
    seen, values = torch.cat(observed)[order], torch.cat(x)[order]
    assert torch.equal(seen[:, 20:], torch.from_numpy(~np.isnan(words)))
    assert seen[:, :20].all()
    assert (values.masked_select(~seen) == 0).all()
    torch.testing.assert_close(values[:, :20], torch.from_numpy(image).flatten(1) / 255)
    assert data.scaling is not None
    back = data.scaling.undo(values)[:, 20:].numpy()
    np.testing.assert_allclose(back[seen[:, 20:].numpy()], words[~np.isnan(words)], rtol=1e-5)
    train = torch.cat([b.x for b in data.ordered_loader("train")])
    known = torch.cat([b.observed for b in data.ordered_loader("train")])  # type: ignore[misc]
    assert abs(float(train[:, 20][known[:, 20]].mean())) < 1e-5


def test_halves_are_those_of_the_picture() -> None:
    contents = Halves(Digits()).load()
    whole = Digits().load().train.x.take(slice(None))
    assert [part.shape for part in contents.named_parts or []] == [(1, 8, 4), (1, 8, 4)]
    x = contents.train.x.take(slice(None))
    both = torch.cat([x[:, :32].reshape(-1, 1, 8, 4), x[:, 32:].reshape(-1, 1, 8, 4)], 3)
    assert torch.equal(both, whole)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Multimodal({"a": Rows([0])}), "two parts or more"),
        (lambda: Multimodal({"a b": Rows([0]), "c": Rows([0])}), "no name"),
        (lambda: Multimodal({"a": Rows([0]), "b": Rows([0])}, pairing="row"), "unknown pairing='row'"),  # type: ignore[arg-type]
        (lambda: Multimodal({"a": Rows([0]), "b": Rows([0])}, pairs=0), "pairs must be at least 1"),
        (lambda: Multimodal({"a": Rows([0, 1]), "b": Rows([0, 1, 1])}).load(), "2 rows, and that of 'b' 3"),
        (lambda: Multimodal({"a": Rows([0, 1]), "b": Rows([0, 0])}).load(), "labels of part 'b' are not those"),
        (lambda: Multimodal({"a": Rows([0] * 9), "b": Rows([0] * 9, test=5)}).load(), "must have the same"),
        (
            lambda: Multimodal({"a": Rows([0] * 40), "b": Rows([1] * 40)}, pairing="label").load(),
            "no class in common",
        ),
        (lambda: Multimodal({"a": Rows([0] * 9), "b": Rows([0] * 9, kind="counts")}).load(), "counts data there"),
        (lambda: Halves(Rows([0, 1])).load(), "cuts pictures"),
        (lambda: LogMel(Rows([0, 1])).load(), "makes pictures of sound"),
        (lambda: LogMel(Rows([0]), bands=0), "bands must be at least 1"),
        (lambda: LogMel(Rows([0]), decibels=0), "decibels must be above 0"),
    ],
)
def test_what_cannot_be_paired_is_refused(make: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make()


def test_log_mel_pictures_show_when_and_how_high(tmp_path: Path) -> None:
    write_clips(tmp_path / "clips")
    contents = LogMel(Audio(str(tmp_path / "clips"), window=None, names=ClipNames()), bands=12, frames=9).load()
    x = contents.train.x.take(slice(None))
    assert x.shape[1:] == (1, 12, 9)
    assert contents.kind == "image"
    assert float(x.min()) >= 0
    torch.testing.assert_close(x.flatten(1).amax(1), torch.ones(len(x)))
    made = LogMel(Rows([0]), bands=16, frames=8, hop=64, width=128)
    filters = torch.from_numpy(mel_filters(8000, 128, 16))
    time = torch.arange(1024, dtype=torch.float64) / 8000
    for hertz in (400.0, 1500.0, 3200.0):
        tone = torch.sin(2 * torch.pi * hertz * time)[None, None]
        loudest = made._levels(made._cut(tone), filters)[0, 0].sum(1).argmax()
        assert loudest == filters[:, round(hertz / 8000 * 128)].argmax()
    quiet = torch.zeros(1, 1, 1024)
    assert made._levels(made._cut(quiet), filters).eq(0).all()
    once = torch.zeros(1, 1, 1024)
    once[..., 64 * 5] = 100.0
    assert made._levels(made._cut(once), filters)[0, 0].sum(0).argmax() == 5
    assert torch.equal(made._levels(made._cut(once), filters), made._levels(made._cut(0.1 * once), filters))


class Named(Rows):
    """Such rows, with names for their classes."""

    def __init__(self, labels: list[int], names: list[str]) -> None:
        super().__init__(labels)
        self.names = names

    def load(self) -> Contents:
        return replace(super().load(), class_names=self.names)


def test_classes_are_paired_by_their_names(caplog: pytest.LogCaptureFixture) -> None:
    """Every source numbers its own classes: what is 1 in one may be 0 in another."""
    pictures = Named([0, 1, 2] * 20, ["cat", "dog", "owl"])
    sounds = Named([0, 1, 2] * 20, ["ape", "cat", "dog"])
    contents = Multimodal({"picture": pictures, "sound": sounds}, "label").load()
    assert contents.class_names == ["cat", "dog", "owl", "ape"]
    for part in contents.parts().values():
        assert isinstance(part.x, SideBySide)
        values = part.x.take(slice(None))
        picture, sound = values[:, 0] % 3, values[:, 2] % 3
        assert torch.equal(picture + 1, sound)
        assert part.label is not None
        assert torch.equal(part.label, picture.long())
    assert "class owl of part 'picture' of train is left out: not every part has it" in caplog.text
    with pytest.raises(UserError, match="the labels of part 'sound' are not those of part 'picture', row by row"):
        Multimodal({"picture": pictures, "sound": sounds}).load()
    numbered = Multimodal({"picture": pictures, "sound": Rows([0, 1, 2] * 20)}, "label").load()
    assert numbered.reading[-1].endswith(
        "; classes of sound are numbers, taken for those of the others (0 is cat, 1 is dog, 2 is owl)"
    )
