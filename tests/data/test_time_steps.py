"""Signals on their time axis: missing values, equal steps, intervals of labels, series scaled each, folders."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from instances import model
from signal_files import load, refusal, served

from narrows.data.datamodule import DataModule
from narrows.data.label_intervals import Intervals
from narrows.data.sources.series import Series
from narrows.data.time_grid import put_on_grid
from narrows.data.time_order import Signals, TimeOrder
from narrows.errors import UserError
from narrows.inputs import Covariates
from narrows.types import Batch, DataSpec

STEPS = 200
T = np.arange(STEPS)
STAMPS = pd.Series(pd.date_range("2026-03-01", periods=STEPS, freq="1min"))
FRAME = pd.DataFrame({"when": STAMPS, "a": np.sin(T / 10).round(4), "b": np.cos(T / 17).round(4)})


KEPT = Signals(missing="keep")


def test_missing_readings_stay_missing_and_enter_no_statistic(tmp_path: Path) -> None:
    frame = FRAME.astype({"a": object, "b": object})
    frame.loc[30, "a"], frame.loc[31, "a"], frame.loc[100:119, ["a", "b"]] = None, "NA", None
    assert "set source.signals.missing=keep" in refusal(frame, tmp_path)
    found = load(frame, tmp_path, signals=KEPT)
    assert "42 missing values, kept as missing" in found.reading[1]
    assert found.train.observed is not None
    # The window from 100 to 119, in which nothing was measured, is left out.
    assert len(found.train) == 8
    gone = ~found.train.observed
    assert gone.nonzero().tolist() == [[1, 0, 10], [1, 0, 11]]
    assert bool((served(found)[gone] == 0).all())
    assert found.test is not None
    assert found.test.observed is not None, "both parts have a mask, or neither"
    frame.loc[60, "b"] = "broken"
    assert "line 62" in (said := refusal(frame, tmp_path, signals=KEPT))
    assert "has 'broken' in column 'b'" in said


def test_standardising_reads_observed_values_and_puts_missing_ones_at_the_mean(tmp_path: Path) -> None:
    frame = FRAME.copy()
    frame.loc[::3, "a"] = np.nan
    frame.to_csv(tmp_path / "s.csv", index=False)
    source = Series(str(tmp_path / "s.csv"), 20, standardise="standard", signals=KEPT, test=0.2)
    data = DataModule(source, validation=0.2)
    data.setup()
    part = data.part("train")  # type: ignore[arg-type]
    x, observed = part.x.take(slice(None)), part.observed
    assert float(x[observed].mean()) == pytest.approx(0, abs=1e-4)
    assert float(x[:, 0][observed[:, 0]].std(correction=0)) == pytest.approx(1, abs=1e-4)
    assert bool((x[~observed] == 0).all())
    batch = next(iter(data.ordered_loader("test")))
    assert batch.observed is not None
    assert float(batch.observed[:, 0].float().mean()) == pytest.approx(2 / 3, abs=0.02)


def test_rows_are_put_on_equal_steps(tmp_path: Path) -> None:
    values = np.array([[1.0, 3.0, 5.0, np.nan, 9.0]])
    found = put_on_grid(values, np.array([0, 1, 0, 0, 2]), np.array([0.0, 20, 60, 120, 300]), 60, "s")
    np.testing.assert_array_equal(found.values, [[2.0, 5.0, np.nan, np.nan, np.nan, 9.0]])
    assert found.label is not None
    assert found.label.tolist() == [1, 0, 0, 0, 0, 2]
    assert found.of_rows.tolist() == [0, 0, 1, 2, 5]
    gappy = FRAME.drop(index=[60, 100, 101])
    assert "3 of 200 time steps" in refusal(gappy, tmp_path, order=TimeOrder(resample="auto"))
    read = load(gappy, tmp_path, order=TimeOrder(resample="auto"), signals=KEPT)
    assert "put on steps of 60; 6 missing values, kept as missing" in read.reading[1]
    assert len(read.train) == 9
    coarse = load(FRAME, tmp_path, order=TimeOrder(resample="5min"), window=10, test=None)
    assert torch.allclose(served(coarse)[0, 0, 1], torch.tensor(FRAME["a"][3:8].mean()), atol=1e-9)
    for resample, said in (("5 fortnights", "is no step above 0"), (-1, "is no step above 0"), ("1ms", "longer step")):
        assert said in refusal(FRAME, tmp_path, order=TimeOrder(resample=resample))
    assert "no column of time to resample by" in refusal(
        FRAME.drop(columns="when"), tmp_path, order=TimeOrder(resample="5min")
    )
    assert "a duration, but column 'when' holds numbers" in refusal(
        FRAME.assign(when=60 * T), tmp_path, order=TimeOrder("when", resample="5min")
    )


def test_gaps_are_cut_refused_or_ignored(tmp_path: Path) -> None:
    gappy = FRAME.drop(index=[60, 100, 101])
    assert len(load(gappy, tmp_path, stride=1).train) < len(load(gappy, tmp_path, stride=1, order=IGNORE).train)
    assert "2 gaps in its time, the first before step 60" in refusal(gappy, tmp_path, order=TimeOrder(gaps="refuse"))
    assert len(load(FRAME, tmp_path, order=TimeOrder(gaps="refuse")).train) == 9
    with pytest.raises(UserError, match=r"unknown order\.gaps='cat': did you mean 'cut'"):
        TimeOrder(gaps="cat")  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"order\.resample=5min leaves no gaps"):
        TimeOrder(gaps="ignore", resample="5min")


IGNORE = TimeOrder(gaps="ignore")


def test_labels_are_intervals_of_time_both_ends_included(tmp_path: Path) -> None:
    path = tmp_path / "labels.json"
    path.write_text(json.dumps([[str(STAMPS[45]), str(STAMPS[47])], [str(STAMPS[199]), "2027-01-01"]]))
    found = load(FRAME, tmp_path, signals=Signals(intervals_path=str(path)))
    assert found.train.label is not None
    assert found.train.label.tolist() == [0, 0, 1, 0, 0, 0, 0, 0, 0]
    assert found.timeline is not None
    assert found.timeline.labels[0] is not None
    assert found.timeline.labels[0].nonzero().flatten().tolist() == [45, 46, 47, 199]
    path.write_text(json.dumps([["2020-01-01", "2020-01-02"], [str(STAMPS[45]), str(STAMPS[47])]]))
    assert (
        "1 interval without a time step" in load(FRAME, tmp_path, signals=Signals(intervals_path=str(path))).reading[1]
    )
    for content, said in (
        ([["2020-01-01", "2020-01-02"]], "none of the 1 intervals of"),
        ([[45, 47]], "are numbers, and the times in column 'when' of"),
        ([["2026-03-01 00:45:00+01:00", "2026-03-01 00:47:00+01:00"]], "are dates with a zone, and the times in"),
        ([["2026-03-01"]], "must be a list of pairs [first, last]"),
        ([["today", "tomorrow"]], "has ['today', 'tomorrow']: it must be"),
        ([[5, 3]], "has the interval [5, 3], which ends before it begins"),
        ({"other": []}, "has no entry of the series"),
        ("a", "must be a list of pairs"),
    ):
        path.write_text(json.dumps(content))
        assert said in refusal(FRAME, tmp_path, signals=Signals(intervals_path=str(path)))
    assert Intervals(path, {"": [(1.0, 2.0)]}).label("", None, 4)[0].tolist() == [0, 1, 1, 0]
    with pytest.raises(UserError, match=r"labels are source\.label_column or source\.signals\.intervals_path"):
        Series("s.csv", label_column="y", signals=Signals(intervals_path="l.json"))


def test_a_folder_holds_a_series_in_each_table(tmp_path: Path) -> None:
    folder = tmp_path / "fleet"
    (folder / "north").mkdir(parents=True)
    for name, level in {"m0.csv": 0.0, "north/m1.csv": 1000.0}.items():
        FRAME.assign(a=FRAME["a"] + level, b=FRAME["b"] * (1 + level)).to_csv(folder / name, index=False)
    (tmp_path / "labels.json").write_text(
        json.dumps({"m0.csv": [], "x/north/m1.csv": [[str(STAMPS[190]), "2027-01-01"]]})
    )
    signals = Signals(intervals_path=str(tmp_path / "labels.json"), scale="each")
    source = Series(str(folder), 10, 5, test=0.2, order=TimeOrder(split="time"), signals=signals)
    data = DataModule(source, validation=0.25)
    data.setup()
    assert "in 2 series told apart by their files, split by time" in data.reading[0]
    assert data.timeline is not None
    assert data.timeline.names == ["m0.csv", "north/m1.csv"]
    part, places = data.part("train"), data.timeline.places["train"]  # type: ignore[arg-type]
    x = part.x.take(slice(None))
    for number in (0, 1):
        own = x[places[:, 0] == number]
        assert own.mean((0, 2)).abs().max() < 1e-4
        assert (own.std((0, 2), correction=0) - 1).abs().max() < 1e-4
    for split in ("train", "validation", "test"):
        values, where = data.part(split).x.take(slice(None)), data.timeline.places[split]  # type: ignore[arg-type]
        assert len(values) == len(where)
        assert data.signals is not None
        shift, scale = data.signals.of("m1.csv")
        for window, (number, start) in zip(values, where.tolist(), strict=True):
            if number == 1:
                expected = (FRAME["a"].to_numpy()[start : start + 10] + 1000 - float(shift[0])) / float(scale[0])
                np.testing.assert_allclose(window[0], expected, atol=1e-3)
    with pytest.raises(UserError, match="the series 'm9' is none of those trained on"):
        data.signals.of("m9")
    whole = DataModule(Series(str(folder), 10, 5, order=TimeOrder(), signals=Signals(scale="each")), validation=0.25)
    with pytest.raises(UserError, match=r"no training window, by which signals\.scale=each|leaves none to train on"):
        whole.setup()
    FRAME.drop(columns="b").to_csv(folder / "m2.csv", index=False)
    with pytest.raises(UserError, match=r"has the channels a, b, but .*m2\.csv has a|has the channels a"):
        Series(str(folder), 10).load()
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match="holds no table"):
        Series(str(tmp_path / "none"), 10).load()


def test_covariates_are_read_beside_the_channels_and_are_not_rebuilt(tmp_path: Path) -> None:
    frame = FRAME.assign(hour=(T % 24) * 1.0, free=3.0 * T)
    frame.loc[7, "hour"] = np.nan
    frame.to_csv(tmp_path / "s.csv", index=False)
    signals = Signals(covariates=["hour"], missing="keep")
    source = Series(str(tmp_path / "s.csv"), 10, columns=["a", "b"], test=0.2, signals=signals)
    data = DataModule(source, validation=0.2)
    data.setup()
    spec = data.spec
    assert (spec.shape, spec.feature_names, spec.covariates) == ((2, 10), ["a", "b"], ["hour"])
    assert "of 2 channels (a, b) x 10 time steps" in data.reading[0]
    assert "beside them hour" in data.reading[0]
    batch = next(iter(data.ordered_loader("train")))
    assert batch.covariates is not None
    assert batch.covariates.shape == (len(batch), 1, 10)
    assert batch.covariates[0, 0, 7] == 0
    assert batch.observed is None, "nothing of the channels is missing"
    known = batch.covariates.flatten()[torch.arange(batch.covariates.numel()) != 7]
    assert float(known.mean()) == pytest.approx(0, abs=1e-4)
    assert float(known.std(correction=0)) == pytest.approx(1, abs=1e-4)
    joined = Batch.cat([batch, batch])
    assert joined.covariates is not None
    assert len(joined.covariates) == 2 * len(batch)
    frame.assign(hour=frame["hour"] + 1).to_csv(tmp_path / "s.csv", index=False)
    again = DataModule(source, validation=0.2)
    again.setup()
    assert again.spec.fingerprint != spec.fingerprint, "covariates are content"
    for settings, said in (
        ({"columns": ["a"], "signals": Signals(covariates=["a"])}, "column 'a' is both a channel and a covariate"),
        ({"signals": Signals(covariates=["hours"])}, "has no column 'hours': did you mean 'hour'?"),
    ):
        assert said in refusal(frame.fillna(0), tmp_path, **settings)


def test_the_model_sees_covariates_and_says_where_they_would_be_lost() -> None:
    spec = DataSpec(shape=(2, 12), kind="series", size=9, value_range=(0, 1), covariates=["hour"])
    with pytest.raises(UserError, match=r"these data have covariates \(hour\), which input Identity does not read"):
        model(spec)
    net = model(spec, input=partial(Covariates)).eval()
    assert net.seen_shape == (3, 12)
    x = torch.rand(5, 2, 12)
    batches = [Batch(x, covariates=torch.full((5, 1, 12), value)) for value in (0.0, 1.0)]
    first, second = (net.embed(batch) for batch in batches)
    assert not torch.allclose(first, second)
    assert net.reconstruct(batches[0]).shape == x.shape
    with pytest.raises(UserError, match="this model reads hour beside x: give it a Batch with covariates"):
        net.reconstruct(x)
