"""Laws of augmentation: the target changes as x does, by chances of seed, epoch and row, and nothing else changes."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional

from narrows.data import Augmentation, DataModule, Digits, ImageFolder, Loading, Series
from narrows.data.augmentation import Augmented
from narrows.data.batch_plans import Step
from narrows.data.contents import Contents, Part
from narrows.errors import UserError
from narrows.types import Batch

EVERYTHING = Augmentation(0.5, 0.5, 3, "reflect", brightness=0.4, contrast=0.5, saturation=0.6, hue=0.2)
SHIFTS = Augmentation(0.5, 0.5, 2, "edge")


class Held:
    """A source of these pictures."""

    def __init__(self, x: Tensor, **others: Any) -> None:
        self.part = Part(x, torch.arange(len(x)) % 3, **others)

    def load(self) -> Contents:
        return Contents("image", self.part, test_fraction=0.2)


def colours(rows: int = 40, channels: int = 3) -> Tensor:
    return torch.rand(rows, channels, 8, 10, generator=torch.Generator().manual_seed(0))


def trainer(rank: int = 0, world: int = 1, processed: int = 0) -> Any:
    progress = SimpleNamespace(total=SimpleNamespace(processed=processed))
    return SimpleNamespace(
        global_rank=rank,
        world_size=world,
        limit_train_batches=1.0,
        overfit_batches=0,
        fit_loop=SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=progress)),
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
    )


def served(source: Any, augment: Augmentation | None, at: Any = None, **settings: Any) -> list[Batch]:
    data = DataModule(source, augment=augment, **({"batch_size": 7} | settings))
    data.trainer = at
    return list(data.train_dataloader())


def by_row(batches: list[Batch]) -> dict[int, Tensor]:
    return {int(row): x for batch in batches for row, x in zip(batch.index, batch.x, strict=True)}  # type: ignore[arg-type]


def same(some: dict[int, Tensor], all_of: dict[int, Tensor]) -> bool:
    return bool(some) and all(torch.equal(x, all_of[row]) for row, x in some.items())


@pytest.mark.parametrize("padding", ["constant", "edge", "reflect", "symmetric"])
@pytest.mark.parametrize("channels", [1, 3])
def test_each_picture_is_changed_as_torchvision_changes_it(padding: Any, channels: int) -> None:
    own = {"saturation": 0.6, "hue": 0.2} if channels == 3 else {}
    how = Augmentation(0.5, 0.3, 2, padding, brightness=0.4, contrast=1.5, **own)
    x = colours(30, channels)
    changing = Augmented(how, 5, len(x))
    found, *_ = changing(Step(3, 0, slice(0, 30), 30), x, None, None, None)
    for picture, chance, got in zip(x, changing._chances(3, x.device).tolist(), found, strict=True):
        wanted = functional.horizontal_flip(picture) if chance[0] < 0.5 else picture
        wanted = functional.vertical_flip(wanted) if chance[1] < 0.3 else wanted
        wanted = functional.pad(wanted, [2], padding_mode=padding)
        wanted = functional.crop(wanted, int(5 * chance[2]), int(5 * chance[3]), 8, 10)
        wanted = functional.adjust_brightness(wanted, 0.6 + 0.8 * chance[4])
        wanted = functional.adjust_contrast(wanted, 2.5 * chance[5])
        if channels == 3:
            wanted = functional.adjust_saturation(wanted, 0.4 + 1.2 * chance[6])
            wanted = functional.adjust_hue(wanted, 0.4 * chance[7] - 0.2)
        torch.testing.assert_close(got, wanted, atol=2e-5, rtol=0)


def test_x_target_and_masks_stay_the_same_picture() -> None:
    x = colours()
    batches = served(Held(x, target=x.clone()), EVERYTHING)
    assert all(torch.equal(batch.x, batch.target) for batch in batches)  # type: ignore[arg-type]
    assert not same(by_row(batches), by_row(served(Held(x), None)))
    # A target of its own, and masks that can be seen in x: 0 is missing, 1 is hidden on purpose, and shown as 0.
    x = torch.rand(40, 1, 8, 10, generator=torch.Generator().manual_seed(1)).mul(0.4).add(0.3)
    missing, concealed = (torch.zeros_like(x).bool() for _ in range(2))
    missing[:, :, 2, 3:6], concealed[:, :, 5, 1:4] = True, True
    x = x.masked_fill(missing, 0.0).masked_fill(concealed, 1.0)
    for batch in served(Held(x, target=1 - x, observed=~(missing | concealed), concealed=concealed), SHIFTS):
        assert batch.target is not None
        assert batch.observed is not None
        assert torch.equal(batch.observed, (batch.target > 0.05) & (batch.target < 0.95))
        assert torch.equal(batch.x == 0, ~batch.observed)
        assert torch.equal(1 - batch.x[batch.observed], batch.target[batch.observed])
        assert not batch.observed.all()
    filled = Augmentation(0, 0, 7, "constant")
    shown = torch.cat([batch.observed for batch in served(Held(x, observed=~missing), filled)])  # type: ignore[misc]
    assert (~shown).sum() < missing[:29].sum(), "what comes in from the side is known"


def test_what_is_judged_stays_as_it_is() -> None:
    source = Held(colours())
    plain, changed = DataModule(source), DataModule(source, augment=EVERYTHING)
    loaders = [DataModule.val_dataloader, DataModule.test_dataloader]
    loaders += [partial(DataModule.ordered_loader, split=name) for name in ("train", "validation", "test")]  # type: ignore[list-item]
    for loader in loaders:
        pairs = zip(loader(plain), loader(changed), strict=True)
        assert all(torch.equal(one.x, other.x) for one, other in pairs)
    assert plain.spec == changed.spec


def test_a_change_is_of_seed_epoch_and_row_alone(tmp_path: Path) -> None:
    source = Held(colours())
    first = by_row(served(source, EVERYTHING, trainer()))
    assert same(by_row(served(source, EVERYTHING, trainer(), batch_size=3)), first)
    resumed = by_row(served(source, EVERYTHING, trainer(processed=2)))
    assert same(resumed, first)
    assert len(resumed) < len(first)
    ranks = [served(source, EVERYTHING, trainer(rank, 2), batch_size=5) for rank in range(2)]
    assert all(same(by_row(batches), first) for batches in ranks)
    assert len(by_row(ranks[0]) | by_row(ranks[1])) == len(first)
    for other in (
        served(source, EVERYTHING, trainer(processed=5)),
        served(source, EVERYTHING, loading=Loading(seed=1)),
    ):
        assert not any(torch.equal(x, first[row]) for row, x in by_row(other).items())
    for number in range(12):
        pixels = np.random.default_rng(number).integers(0, 256, (9, 9, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    folder = partial(ImageFolder, str(tmp_path), size=8)
    streamed = served(folder(memory_limit_mb=0), EVERYTHING, loading=Loading(num_workers=2))
    assert same(by_row(streamed), by_row(served(folder(), EVERYTHING)))


def test_what_comes_after_is_of_the_changed_picture() -> None:
    halves = torch.zeros(40, 1, 8, 10)
    halves[..., :5] = 1
    mirrored = Augmentation(flip=1, crop=0)
    for binarise in ("static", "dynamic"):
        drawn = by_row(served(Held(halves), mirrored, binarise=binarise))
        assert all(torch.equal(x, halves[0].flip(-1)) for x in drawn.values())
    features = DataModule(Held(halves), augment=mirrored, features=Left())
    assert not torch.cat([batch.x for batch in features.train_dataloader()]).any()
    assert torch.cat([batch.x for batch in features.ordered_loader("train")]).all()


class Left:
    """The left half of a picture as its features."""

    memory_limit_mb, standardise, fingerprint = 64.0, False, "left"

    def out_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (*shape[:2], shape[2] // 2)

    def __call__(self, x: Tensor) -> Tensor:
        return x[..., : x.shape[-1] // 2]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"flip": 1.5}, "augment.flip=1.5 is no probability"),
        ({"flip_vertical": -0.1}, "augment.flip_vertical=-0.1 is no probability"),
        ({"crop": -1}, "augment.crop=-1 must be at least 0"),
        ({"padding": "reflekt"}, "'reflekt': did you mean 'reflect'"),
        ({"contrast": -1}, "augment.contrast=-1 must be at least 0"),
        ({"hue": 0.7}, "augment.hue=0.7 must be in \\[0, 0.5\\]"),
    ],
)
def test_an_argument_out_of_its_range_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        Augmentation(**options)


@pytest.mark.parametrize(
    ("source", "augment", "settings", "words"),
    [
        (Series(window=16), Augmentation(), {}, "changes pictures .* not data of kind series"),
        (Digits(), Augmentation(crop=8), {}, "crop=8 must be below the shorter side of the pictures, 8"),
        (Digits(), Augmentation(crop=1, hue=0.1), {}, "hue change colours, and these pictures are grey"),
        (Digits(), Augmentation(crop=1, brightness=0.1), {"binarise": "static"}, "brightness need pictures in"),
        (Held(5 * colours()), Augmentation(contrast=0.1), {}, "contrast need pictures in"),
        (Held(colours(channels=2)), Augmentation(contrast=0.1), {}, "with 1 or 3 channels"),
    ],
)
def test_data_that_it_does_not_suit_are_refused(source: Any, augment: Any, settings: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        DataModule(source, augment=augment, **settings).setup()
