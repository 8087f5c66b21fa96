"""Anomalous time steps: event figures and VUS-PR by hand-made cases, scores folded back, classics, the whole task."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from tasks.standins import zero_model

from narrows.data.datamodule import DataModule
from narrows.data.sources.series import Series
from narrows.data.time_order import Signals, TimeOrder
from narrows.errors import UserError
from narrows.tasks.anomaly import Anomaly
from narrows.tasks.anomaly_of_points import Points
from narrows.tasks.base import TaskContext
from narrows.tasks.classics.series_detectors import DETECTORS, OneSeries
from narrows.tasks.measures.event_figures import event_figures, runs
from narrows.tasks.measures.time_steps import Cut, fold, in_time, interpolated
from narrows.tasks.measures.volume_under_surface import period_of, vus_pr


def flags(text: str) -> np.ndarray:
    return np.array(list(text)) == "x"


@pytest.mark.parametrize(
    ("truth", "alarms", "recall", "precision", "delay"),
    [
        ("..xxx..xx.", "..xxx..xx.", 1.0, 1.0, 0.0),
        ("..xxx..xx.", "....x...x.", 1.0, 1.0, 1.5),
        ("..xxx..xx.", "xx.x......", 0.5, 1 / 3, 1.0),
        ("..xxx..xx.", "xxxxxxxxxx", 1.0, 0.5, 0.0),
        ("..xxx..xx.", "xx........", 0.0, 0.0, None),
        ("..xxx..xx.", "..........", 0.0, 0.0, None),
    ],
)
def test_events_are_counted_once_and_alarms_by_their_steps(
    truth: str, alarms: str, recall: float, precision: float, delay: float | None
) -> None:
    found = event_figures(flags(alarms), flags(truth))
    assert found["event_recall"] == pytest.approx(recall)
    assert found["event_precision"] == pytest.approx(precision)
    both = recall + precision
    assert found["event_f1"] == pytest.approx(2 * recall * precision / both if both else 0.0)
    assert found.get("delay") == (None if delay is None else pytest.approx(delay))
    assert runs(flags("xx..x")) == [(0, 2), (4, 5)]


# The values of the authors' implementation (TSB-AD, `RangeAUC_volume_opt`, 250 thresholds), run once on these series.
PUBLISHED = {(0, 0): 0.6495581741, (1, 7): 0.7690917189, (2, 20): 0.8793510689, (3, 31): 0.8881482301}


def constructed(case: int) -> tuple[np.ndarray, np.ndarray]:
    """A series of which the first and the last step may lie in an event, and borders of neighbours touch."""
    steps = np.arange(400)
    scores = np.modf(np.abs(np.sin((steps + 1) * (12.9898 + case))) * 43.7585)[0]
    truth = np.zeros(400, dtype=bool)
    for start, end in ((0, 6), (100, 130), (140, 150), (300, 340), (395, 400))[: 2 + case]:
        truth[start:end] = True
    return np.round(scores + 0.6 * truth, 1 + case), truth


@pytest.mark.parametrize("case", sorted(PUBLISHED))
def test_vus_pr_is_the_published_one(case: tuple[int, int]) -> None:
    scores, truth = constructed(case[0])
    assert vus_pr(scores, truth, case[1], thresholds=250) == pytest.approx(PUBLISHED[case], abs=1e-9)
    assert vus_pr(scores, truth, case[1]) == pytest.approx(PUBLISHED[case], abs=0.02)


def slow_vus_pr(scores: np.ndarray, truth: np.ndarray, period: int) -> float:
    """The definition, one width, one threshold and one step at a time."""
    steps, areas = len(scores), []
    events = runs(truth)
    for width in range(period + 1):
        weight = truth.astype(float)
        for step in range(steps):
            for start, end in events:
                away = start - step if step < start else step - end + 1
                if not truth[step] and away <= width // 2:
                    weight[step] = min(1.0, weight[step] + math.sqrt(1 - away / width))
        # Two bordered events are one where they share a step, not where they are neighbours.
        bordered = [[start - width // 2, end + width // 2] for start, end in events]
        segments = [bordered[0]]
        for low, high in bordered[1:]:
            if low < segments[-1][1]:
                segments[-1][1] = high
            else:
                segments.append([low, high])
        area = before = 0.0
        for threshold in sorted(set(scores), reverse=True):
            alarms = scores >= threshold
            hits = float((weight * alarms).sum())
            extra = float((weight * alarms * ~truth).sum())
            met = sum(alarms[max(start, 0) : end].any() for start, end in segments) / len(segments)
            recall = min(1.0, hits / (truth.sum() + extra / 2)) * met
            area, before = area + (recall - before) * hits / alarms.sum(), recall
        areas.append(area)
    return float(np.mean(areas))


def test_vus_pr_is_its_definition_and_forgives_only_what_lies_near() -> None:
    generator = np.random.default_rng(0)
    truth = flags("....xxx......xx......xxxx....")
    scores = generator.normal(size=len(truth)).round(1)
    for period in (0, 3, 8):
        assert vus_pr(scores, truth, period) == pytest.approx(slow_vus_pr(scores, truth, period))
    late, far = np.roll(truth, 1).astype(float), np.roll(truth, 10).astype(float)
    assert vus_pr(truth.astype(float), truth, 0) == pytest.approx(1.0)
    assert vus_pr(late, truth, 8) > vus_pr(late, truth, 0)
    assert vus_pr(far, truth, 8) < vus_pr(late, truth, 8)


def test_the_period_is_the_highest_peak_of_the_autocorrelation() -> None:
    steps = np.arange(600)
    wave = np.sin(2 * np.pi * steps / 24) + 0.1 * np.random.default_rng(0).normal(size=600)
    assert period_of(wave[None]) == 24
    assert period_of(np.stack([wave, np.zeros(600)])) == 24
    assert period_of(np.zeros((1, 600))) is None
    assert period_of(wave[None, :6]) is None


def test_scores_are_folded_to_the_mean_of_the_windows_that_cover_a_step() -> None:
    scores = np.array([1.0, 2.0, 6.0])
    assert fold(scores, np.array([0, 1, 4]), 3, 8).tolist()[:7] == [1, 1.5, 1.5, 2, 6, 6, 6]
    assert np.isnan(fold(scores, np.array([0, 1, 4]), 3, 8)[7])
    values = np.arange(16.0).reshape(2, 8)
    windows = np.stack([values[:, start : start + 3] for start in (0, 1, 4)])
    cut = Cut(windows, np.array([0, 1, 4]), 8)
    missing = np.zeros(windows.shape, dtype=bool)
    missing[2, 0, 1] = True
    back = in_time(cut, missing)
    assert np.isnan(back[0, 5])
    assert np.isnan(back[:, 7]).all()
    assert np.array_equal(back[1, :7], values[1, :7])
    assert np.array_equal(interpolated(back)[:, :7], values[:, :7])
    assert np.isfinite(interpolated(np.full((1, 4), np.nan))).all()


def one_series() -> tuple[OneSeries, np.ndarray]:
    """A wave with noise; one period of the test part, after step 500, is flat."""
    steps = np.arange(700)
    values = (np.sin(2 * np.pi * steps / 20) + 0.05 * np.random.default_rng(1).normal(size=700))[None]
    truth = np.zeros(700, dtype=bool)
    truth[600:620] = True
    values[:, truth] = 2.5
    windows = np.lib.stride_tricks.sliding_window_view(values, 20, axis=1).transpose(1, 0, 2)
    judged = {"test": Cut(windows[500:], np.arange(500, 681), 700)}
    trained = steps < 500
    return OneSeries(windows[:480], judged, values, trained, period=20, components=3, seed=0), truth


@pytest.mark.parametrize(
    "name",
    # Its library compiles itself for two minutes.
    [pytest.param(name, marks=pytest.mark.slow if name == "matrix_profile" else ()) for name in DETECTORS],
)
def test_every_classic_finds_a_stretch_that_no_training_window_has(name: str) -> None:
    if name == "matrix_profile":
        pytest.importorskip("stumpy")
    series, truth = one_series()
    found = DETECTORS[name](series)
    assert found is not None
    scores = found["test"]
    assert np.isnan(scores[:500]).all()
    assert np.isfinite(scores[500:]).all()
    # The two that compare with what came just before grow used to the level, and are surprised by its end too.
    assert vus_pr(scores[500:], truth[500:], 20) > (0.35 if name in ("rolling_z", "seasonal_naive") else 0.7)
    assert np.argmax(scores[500:]) in range(80, 140)


def write(folder: Path, *, labelled: bool = True) -> Series:
    """Two machines, a table each, whose test parts have one anomaly or none."""
    steps = np.arange(600)
    intervals = {}
    for number, at in enumerate((500, None)):
        values = np.sin(2 * np.pi * steps / 20) * (number + 1) * 10 + np.random.default_rng(number).normal(size=600)
        if at is not None:
            values[at : at + 30] += 60
        stamps = pd.date_range("2026-03-01", periods=600, freq="5min")
        table = pd.DataFrame({"when": stamps, "value": values})
        (folder / "signals").mkdir(exist_ok=True)
        table.to_csv(folder / "signals" / f"m{number}.csv", index=False)
        intervals[f"group/m{number}.csv"] = [] if at is None else [[str(stamps[at]), str(stamps[at + 29])]]
    (folder / "labels.json").write_text(json.dumps(intervals))
    return Series(
        str(folder / "signals"),
        20,
        2,
        test=0.5,
        order=TimeOrder(split="time"),
        signals=Signals(intervals_path=str(folder / "labels.json") if labelled else None, scale="each"),
    )


def judged(folder: Path, task: Anomaly, **settings: bool) -> tuple[dict[str, float], TaskContext]:
    data = DataModule(write(folder, **settings), validation=0.3)
    data.setup()
    context = TaskContext(zero_model(data), data, folder, seed=0, device=torch.device("cpu"))
    with torch.no_grad():
        return task.run(context).named(), context


def test_time_steps_are_judged_series_by_series(tmp_path: Path) -> None:
    task = Anomaly(points=Points(classics=["knn"], deviations=3))
    found, context = judged(tmp_path, task)
    # The score of a window is its mean square: the shifted stretch is the only one far from 0.
    assert found["test/anomaly/vus_pr"] > 0.9
    assert found["test/anomaly/event_recall"] == 1
    assert found["test/anomaly/prevalence"] == pytest.approx(30 / 300, abs=0.01)
    assert 0.5 < found["test/anomaly/event_f1"] <= 1
    assert set(Anomaly.figures) <= found.keys()
    for classic in ("pca", "mean", "knn"):
        assert 0 <= found[f"test/anomaly/{classic}/vus_pr"] <= 1
    assert "| m0.csv | 300 | 20 |" in context.texts["anomaly_series"]
    assert "m1.csv" not in context.texts["anomaly_series"], "it has no anomalous step"
    assert (tmp_path / "figures" / "anomaly_in_time.png").is_file()


def test_windows_are_judged_where_time_steps_are_not(tmp_path: Path) -> None:
    found, _ = judged(tmp_path, Anomaly(normal_labels=[0], classics=[]))
    assert "test/anomaly/vus_pr" not in found
    assert found["test/anomaly/auroc"] > 0.9


def test_points_that_cannot_be_judged(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no classic 'kn': did you mean 'knn'"):
        Points(classics=["kn"])
    with pytest.raises(UserError, match=r"points\.period=0 must be at least 1"):
        Points(period=0)
    with pytest.raises(UserError, match=r"points\.deviations=0 must be above 0"):
        Points(deviations=0)
    with pytest.raises(UserError, match=r"from points\.deviations or from false_alarms"):
        Anomaly(points=Points(deviations=3), false_alarms=0.1)
    source = write(tmp_path)
    (tmp_path / "labels.json").write_text(json.dumps({"m0.csv": [], "m1.csv": []}))
    data = DataModule(source, validation=0.3)
    data.setup()
    context = TaskContext(zero_model(data), data, None, seed=0, device=torch.device("cpu"))
    with torch.no_grad(), pytest.raises(UserError, match="no series has both normal and anomalous time steps"):
        Anomaly(points=Points(classics=[])).run(context)
