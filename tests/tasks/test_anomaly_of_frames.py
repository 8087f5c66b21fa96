"""Which frames of clips are anomalous: scores folded back to films, their figures, and a run that finds odd digits."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from command import NO_TASKS, only_run, run_in_process
from sklearn.metrics import average_precision_score, roc_auc_score
from tasks.standins import Rows, context, zero_model

from narrows.data import Clips
from narrows.data.contents import Part
from narrows.data.sources.video import clip_name
from narrows.errors import UserError
from narrows.tasks.anomaly import Anomaly
from narrows.tasks.anomaly_of_frames import FrameScores
from narrows.tasks.classics.frame_methods import before
from narrows.tasks.measures.folded_frames import Folding
from narrows.tasks.measures.frame_figures import frame_figures
from narrows.types import Batch

HOW = Clips(frames=4, stride=2)


class Filmed(Rows):
    """Clips with names and masks, as the datamodule serves them."""

    names: dict[str, list[str]]
    masks: torch.Tensor | None

    def part(self, split: str) -> Part:
        rows = self.splits[split]
        marks = self.masks if split == "test" else None
        return Part(rows.x, rows.label, names=self.names[split], anomalous=marks)


def levels() -> dict[str, np.ndarray]:
    """The brightness of each frame of two test films."""
    return {"a": np.array([0, 1, 2, 9, 8, 1, 0, 1.0]), "b": np.array([1, 0, 1, 0, 3, 2.0])}


def marked() -> dict[str, np.ndarray]:
    return {"a": np.array([0, 0, 0, 1, 1, 0, 0, 0]), "b": np.array([0, 1, 0, 0, 0, 0])}


def filmed() -> Filmed:
    """Grey frames of one brightness, whose error by a model of zeros is its square."""
    names, clips, masks = [], [], []
    for film, values in levels().items():
        for start in HOW.starts(len(values)):
            names.append(clip_name(film, start, HOW))
            clips.append(torch.from_numpy(values[start : start + 4]).float()[None, :, None, None].expand(1, 4, 3, 2))
            mask = torch.zeros(1, 4, 3, 2, dtype=torch.uint8)
            mask[0, :, 1, 1] = torch.from_numpy(255 * marked()[film][start : start + 4]).byte()
            masks.append(mask)
    x, anomalous = torch.stack(clips), torch.stack(masks)
    label = anomalous.flatten(1).amax(1).long().clamp(max=1)
    usual = torch.linspace(0, 1, 12).reshape(3, 1, 4, 1, 1).expand(3, 1, 4, 3, 2).contiguous()
    splits = {
        "train": Batch(usual, label=torch.zeros(3).long()),
        "validation": Batch(usual, label=torch.zeros(3).long()),
        "test": Batch(x, label=label),
    }
    data = Filmed(splits, kind="video", num_classes=2, trained_labels=[0], batch_size=2)
    data.names = {"test": names, "validation": ["c:0-3", "c:4-7", "d:0-3"], "train": ["e:0-3", "e:4-7", "e:8-11"]}
    data.masks = anomalous
    return data


def test_a_frame_is_judged_by_the_clips_that_hold_it() -> None:
    data = filmed()
    found = Anomaly(classics=[], maps=None, frames=FrameScores()).run(context(zero_model(data), data)).named()
    scores = np.concatenate([values**2 for values in levels().values()])
    anomalous = np.concatenate([*marked().values()]) > 0
    assert found["test/anomaly/frame_auroc"] == pytest.approx(roc_auc_score(anomalous, scores))
    assert found["test/anomaly/frame_average_precision"] == pytest.approx(average_precision_score(anomalous, scores))
    assert found["test/anomaly/frame_prevalence"] == pytest.approx(3 / 14)
    threshold = np.quantile(np.linspace(0, 1, 12) ** 2, 0.95)
    assert found["test/anomaly/frame_threshold"] == pytest.approx(threshold, rel=1e-5)
    assert found["test/anomaly/frame_recall"] == pytest.approx(2 / 3)
    # What comes before a frame depends on where its clip begins: in the middle of a film, of either clip.
    x = data.splits["test"].x
    errors = (before(x) - x).square().mean((1, 3, 4)).numpy()
    wanted = Folding(data.names["test"], *errors.shape).mean(errors)
    assert found["test/anomaly/previous_frame/frame_auroc"] == pytest.approx(roc_auc_score(anomalous, wanted))
    assert {"test/anomaly/pca/frame_auroc", "test/anomaly/mean/frame_auroc"} <= found.keys()
    assert found["test/anomaly/frame_auroc_stderr"] > 0


def test_without_masks_or_without_the_option_whole_clips_alone_are_judged() -> None:
    data = filmed()
    plain = Anomaly(classics=[], maps=None).run(context(zero_model(data), data)).named()
    assert not any("frame" in name for name in plain)
    data.masks = None
    found = Anomaly(classics=[], maps=None, frames=FrameScores()).run(context(zero_model(data), data)).named()
    assert found == plain
    with pytest.raises(UserError, match=r"frames\.classics has no 'last_frame'"):
        FrameScores(["last_frame"])


def test_clips_are_folded_by_film_and_place_and_by_themselves_without_names() -> None:
    values = np.arange(12.0).reshape(3, 4)
    folding = Folding(["a:0-3", "b:0-3", "a:2-5"], 3, 4)
    assert folding.names == ["a", "b"]
    np.testing.assert_array_equal(folding.mean(values), [0, 1, (2 + 8) / 2, (3 + 9) / 2, 10, 11, 4, 5, 6, 7])
    assert folding.place[folding.film == 0].tolist() == [0, 1, 2, 3, 4, 5]
    every_second = Folding(["a:0-6", "a:1-7"], 2, 4)
    assert every_second.place.tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    np.testing.assert_array_equal(every_second.mean(values[:2]), [0, 4, 1, 5, 2, 6, 3, 7])
    alone = Folding(None, 3, 4)
    np.testing.assert_array_equal(alone.mean(values), values.ravel())
    assert len(alone.names) == 3


def test_standard_errors_are_over_films() -> None:
    source = np.random.default_rng(0)
    films = np.arange(20).repeat(10)
    # All frames of a film are alike, so that 200 frames say no more than 20 films.
    scores = source.normal(size=20).repeat(10)
    anomalous = (source.random(20) < 0.5).repeat(10)
    found = frame_figures(scores, anomalous, 0.0, films, seed=0)
    apart = frame_figures(scores, anomalous, 0.0, np.arange(200), seed=0)
    assert found["frame_auroc"] == apart["frame_auroc"] == pytest.approx(roc_auc_score(anomalous, scores))
    assert found["frame_auroc_stderr"] > 2 * apart["frame_auroc_stderr"]
    one = frame_figures(source.normal(size=10), np.arange(10) < 3, 0.0, films[:10], seed=0)
    assert np.isnan(one["frame_auroc_stderr"])


def test_the_frame_before() -> None:
    clips = torch.arange(8.0).reshape(2, 1, 4, 1, 1)
    assert before(clips).flatten(1).tolist() == [[1, 0, 1, 2], [5, 4, 5, 6]]
    assert before(clips[:, :, :1]).flatten().tolist() == [0, 4]


def test_a_run_on_films_with_masks_judges_their_frames(tmp_path: Path) -> None:
    """A bar that goes round; in test films it turns back for a while, and a square appears."""
    root = tmp_path / "films"
    for part in ("train", "test", "ground_truth"):
        (root / part).mkdir(parents=True)
    for number in range(12):
        part, marks = ("train" if number < 8 else "test"), np.zeros((24, 12, 11), np.uint8)
        places = np.arange(11)[None] - np.arange(24)[:, None] - number
        film = np.repeat(np.where(places % 11 < 3, 220, 20).astype(np.uint8)[:, None], 12, axis=1)
        if number >= 10:
            film[8:14, 2:7, 3:9] = 255
            marks[8:14, 2:7, 3:9] = 1
            np.save(root / "ground_truth" / f"{number}_mask.npy", marks)
        np.save(root / part / f"{number}.npy", film)
    done = run_in_process(
        *("variant=undercomplete", "datamodule=video", f"datamodule.source.path={root}", "bottleneck.dim=4"),
        *("datamodule.source.clips.frames=4", "datamodule.source.clips.stride=1", "+task@tasks.anomaly=anomaly"),
        *("tasks.anomaly.classics=[]", "tasks.anomaly.maps.smoothing=0", "trainer.max_epochs=6", *NO_TASKS),
        *("encoder.channels=[8,8]", "decoder.channels=[8,8]", "optimizer.lr=0.01"),
        cwd=tmp_path,
    )
    assert done.code == 0, done.err
    run = only_run(tmp_path)
    found = json.loads((run / "metrics.json").read_text())
    assert found["test/anomaly/frame_prevalence"] == pytest.approx(12 / 96)
    assert found["test/anomaly/frame_auroc"] > 0.8
    assert {"test/anomaly/frame_pca/frame_auroc", "test/anomaly/pixel_auroc"} <= found.keys()
    assert (run / "figures" / "anomaly_frames.png").is_file()
