"""Where pictures are anomalous: maps, detectors of positions, and a run that finds scratches and blobs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from command import NO_TASKS, only_run, run_in_process
from defect_pictures import write_defects
from sklearn.metrics import roc_auc_score
from tasks.standins import Rows, context, zero_model

from narrows.data.contents import Part
from narrows.errors import UserError
from narrows.tasks.anomaly import Anomaly
from narrows.tasks.anomaly_of_pixels import PixelMaps, telling
from narrows.tasks.base import TaskContext
from narrows.tasks.classics.position_detectors import POSITIONS, Positions, greedy_coreset
from narrows.tasks.measures.anomaly_maps import finish, largest
from narrows.types import Batch

SIDE = 12


class Pictures(Rows):
    """Rows with masks, as the datamodule serves them: beside the batches."""

    masks: torch.Tensor | None = None

    def part(self, split: str) -> Part:
        return Part(self.splits[split].x, self.splits[split].label, anomalous=self.masks)


def pictures(channels: int = 1, **spec: object) -> Pictures:
    """Black pictures, of which the test split has squares of defects in half, exactly at the masks, but for one defect
    that cannot be seen and one bright pixel that is none."""

    def black(count: int) -> torch.Tensor:
        return torch.zeros(count, channels, SIDE, SIDE)

    test, masks = black(6), torch.zeros(6, 1, SIDE, SIDE, dtype=torch.uint8)
    masks[:3, 0, 2:5, 2:5] = 255
    test[:2] = masks[:2].float() / 255
    test[5, :, 0, 0] = 2.0
    labels = {"train": torch.zeros(8), "validation": torch.zeros(4), "test": torch.tensor([1, 1, 1, 0, 0, 0])}
    splits = {"train": black(8), "validation": black(4), "test": test}
    batches = {name: Batch(x, label=labels[name].long()) for name, x in splits.items()}
    data = Pictures(batches, num_classes=2, trained_labels=[0], **{"kind": "image", **spec})
    data.masks = masks
    return data


def test_figures_of_a_case_that_is_known() -> None:
    data = pictures()
    found = Anomaly(classics=[], maps=PixelMaps(smoothing=0)).run(context(zero_model(data), data)).named()
    masks = data.part("test").anomalous.take(slice(None)).numpy()[:, 0] > 0
    maps = data.splits["test"].x[:, 0].square().numpy()
    assert found["test/anomaly/pixel_auroc"] == pytest.approx(roc_auc_score(masks.ravel(), maps.ravel()))
    # The brightest pixel lies outside the masks; then come two of three regions; all else is alike, a straight line.
    first = 1 / (~masks).sum()
    wanted = 2 / 3 * (0.3 - first) + (0.3 - first) ** 2 / (1 - first) / 6
    assert found["test/anomaly/aupro"] == pytest.approx(wanted / 0.3, rel=1e-6)
    assert found["test/anomaly/pixel_threshold"] == 0
    assert found["test/anomaly/pixel_recall"] == pytest.approx(2 / 3)
    assert found["test/anomaly/pixel_precision"] == pytest.approx(18 / 19)
    assert found["test/anomaly/mean/aupro"] == pytest.approx(found["test/anomaly/aupro"])
    assert "test/anomaly/patchcore/auroc" not in found


def test_masks_and_their_absence() -> None:
    data = pictures()
    data.masks = None
    whole = Anomaly(classics=[]).run(context(zero_model(data), data)).named()
    assert "test/anomaly/auroc" in whole
    assert not any("pixel" in name or "aupro" in name for name in whole)
    data = pictures()
    assert Anomaly(classics=[], maps=None).run(context(zero_model(data), data)).named() == whole


def test_the_largest_value_of_a_map_as_a_picture_s_score() -> None:
    data = pictures()
    task = Anomaly(classics=[], maps=PixelMaps(smoothing=0), score="map_maximum")
    assert task.fits(data.spec, zero_model(data)) is None
    found = task.run(context(zero_model(data), data)).named()
    scores = data.splits["test"].x.square().flatten(1).amax(1).numpy()
    anomalous = np.arange(6) < 3
    assert found["test/anomaly/auroc"] == pytest.approx(roc_auc_score(anomalous, scores))
    assert found["test/anomaly/mean/auroc"] == pytest.approx(found["test/anomaly/auroc"])
    assert found["test/anomaly/auroc"] != pytest.approx(0.5)
    flat = Rows({name: Batch(torch.rand(4, 3)) for name in ("train", "validation", "test")})
    assert task.fits(flat.spec, zero_model(flat)) is not None


@pytest.mark.parametrize(
    "settings", [{"smoothing": -1}, {"coreset": 0.0}, {"coreset": 1.5}, {"classics": ["padym"]}], ids=str
)
def test_settings_that_mean_nothing(settings: dict[str, object]) -> None:
    with pytest.raises(UserError, match=r"task anomaly: maps\."):
        PixelMaps(**settings)  # type: ignore[arg-type]


def test_maps_are_enlarged_and_smoothed() -> None:
    spot = torch.zeros(2, 4, 4)
    spot[1, 1, 1] = 1
    assert np.array_equal(finish(spot, (4, 4), 0), spot.numpy())
    large = finish(spot, (16, 16), 2)
    assert large.shape == (2, 16, 16)
    assert not large[0].any()
    # Smoothing and enlarging keep the sum: 16 pixels for each value, nothing lost at the borders.
    assert large[1].sum() == pytest.approx(16, rel=0.02)
    assert np.unravel_index(large[1].argmax(), (16, 16)) in {(5, 5), (5, 6), (6, 5), (6, 6)}
    assert largest(large).tolist() == [0, pytest.approx(large[1].max())]


def test_the_most_telling_rows() -> None:
    scores, anomalous = np.arange(20.0), np.arange(20) % 2 == 0
    assert telling(scores, anomalous).tolist() == [18, 16, 14, 12, 0, 2, 19, 17]
    assert telling(np.array([1.0, 2.0]), np.array([True, False])).tolist() == [0, 1]


def maps_of_features(count: int, odd: bool = False) -> torch.Tensor:
    """Features on a plane of six dimensions, another one for each half of the picture; odd ones lie off it there."""
    source = torch.Generator().manual_seed(count)
    plane = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(1))).Q
    codes = torch.randn(count, 2, 4, 4, generator=source)
    x = torch.einsum("bkhw,ck->bchw", codes, plane[:, :2]) + 0.05 * torch.randn(count, 6, 4, 4, generator=source)
    x[..., 2:] += 3 * plane[:, 2, None, None]
    if odd:
        x[:, :, 0, 0] += 2 * plane[:, 3]
    return x


def features() -> Rows:
    splits = {"train": Batch(maps_of_features(40)), "test": Batch(maps_of_features(5, odd=True))}
    return Rows(splits, kind="features", batch_size=16)


@pytest.mark.parametrize("name", POSITIONS)
def test_detectors_of_positions_find_the_odd_one(name: str) -> None:
    data = features()
    told: TaskContext = context(zero_model(data), data)
    maps = POSITIONS[name](Positions(told, None))(data.splits["test"])
    assert maps.shape == (5, 4, 4)
    assert bool((maps.flatten(1).argmax(1) == 0).all())
    assert bool((maps[:, 0, 0] > 2 * maps.flatten(1)[:, 1:].mean(1)).all())


def test_padim_is_the_distance_under_each_position_s_own_gaussian() -> None:
    data = features()
    x, test = data.splits["train"].x.double(), data.splits["test"].x.double()
    found = POSITIONS["padim"](Positions(context(zero_model(data), data), None))(data.splits["test"])
    here = x[:, :, 1, 3]
    covariance = torch.from_numpy(np.cov(here.T.numpy())) + 0.01 * torch.eye(6).double()
    away = test[:, :, 1, 3] - here.mean(0)
    wanted = (away @ torch.linalg.inv(covariance) * away).sum(1).sqrt()
    assert torch.allclose(found[:, 1, 3], wanted, rtol=1e-6)


def test_patchcore_is_the_distance_to_the_nearest_position_anywhere() -> None:
    data = features()
    found = POSITIONS["patchcore"](Positions(context(zero_model(data), data), None))(data.splits["test"])
    memory, rows = (data.splits[name].x.movedim(1, -1).reshape(-1, 6) for name in ("train", "test"))
    assert torch.allclose(found.flatten(), torch.cdist(rows, memory).amin(1), atol=1e-4)


def test_a_greedy_coreset_covers_what_a_drawn_one_misses() -> None:
    random = np.random.default_rng(0)
    rows = random.normal(size=(500, 200)).astype(np.float32)
    rows[:3] += 40 * np.eye(200, dtype=np.float32)[:3]
    chosen = greedy_coreset(rows, 10, seed=0)
    assert len(set(chosen.tolist())) == 10
    assert {0, 1, 2} <= set(chosen.tolist())
    assert np.array_equal(chosen, greedy_coreset(rows, 10, seed=0))
    assert sorted(greedy_coreset(rows[:6, :4], 6, seed=0).tolist()) == list(range(6))


def test_a_run_finds_defects_that_the_mean_picture_does_not(tmp_path: Path) -> None:
    root = write_defects(tmp_path / "set")
    finished = run_in_process(
        *("variant=undercomplete", "datamodule=image_folder", f"datamodule.source.path={root}", "bottleneck.dim=8"),
        *("datamodule.source.size=32", "datamodule.source.channels=1", "+task@tasks.anomaly=anomaly"),
        *("tasks.anomaly.maps.smoothing=1", "tasks.anomaly.classics=[]", "tasks.anomaly.score=map_maximum"),
        *("trainer.max_epochs=8", *NO_TASKS, "encoder.widths=[64]", "decoder.widths=[64]"),
        cwd=tmp_path,
    )
    assert finished.code == 0, finished.err
    run = only_run(tmp_path)
    found = json.loads((run / "metrics.json").read_text())
    assert found["test/anomaly/pixel_auroc"] > 0.9 > found["test/anomaly/mean/pixel_auroc"] + 0.2
    assert found["test/anomaly/aupro"] > 0.7 > found["test/anomaly/mean/aupro"] + 0.2
    assert found["test/anomaly/auroc"] > max(0.9, found["test/anomaly/mean/auroc"])
    assert (run / "figures" / "anomaly_pixels.png").is_file()
