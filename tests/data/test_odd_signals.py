"""Signals of odd files: times that are an index or written in other ways, labels on grids, series of several paces."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from signal_files import load, refusal, served

from narrows.data.datamodule import DataModule
from narrows.data.sources.series import Series
from narrows.data.time_order import Signals, TimeOrder
from narrows.errors import UserError

STEPS = 120
WHEN = pd.date_range("2026-03-01", periods=STEPS, freq="1min")
FRAME = pd.DataFrame({"when": WHEN, "a": np.sin(np.arange(STEPS) / 7), "b": np.arange(STEPS) % 11 * 1.0})
TEN = {"window": 10, "test": None}


def labelled(found: Any, series: int = 0) -> list[int]:
    return found.timeline.labels[series].tolist()


@pytest.mark.parametrize("name", ["when", None])
def test_an_index_of_times_orders_the_rows_of_a_parquet_file(tmp_path: Path, name: str | None) -> None:
    """pandas writes an index as a column of its own, and had it taken back as one, where nobody looked."""
    pytest.importorskip("pyarrow")
    gap = FRAME.drop(index=range(50, 60))
    gap.to_csv(tmp_path / "s.csv", index=False)
    gap.sample(frac=1, random_state=0).set_index("when").rename_axis(name).to_parquet(tmp_path / "s.parquet")
    expected, found = (Series(str(tmp_path / f"s.{end}"), **TEN).load() for end in ("csv", "parquet"))
    assert torch.equal(served(found), served(expected))
    assert "1 gap" in found.reading[1]
    gap.reset_index(drop=True)[3:].to_parquet(tmp_path / "numbers.parquet")
    assert Series(str(tmp_path / "numbers.parquet"), **TEN).load().feature_names == ["a", "b"]


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        (["", *WHEN.astype(str)[1:]], r"line 2 of \S+ has '' in column 'when', which is no time"),
        (WHEN.strftime("%d.%m.%Y %H:%M"), r"looks like the time of each row \('01.03.2026 00:00'\): write it as"),
        (WHEN.strftime("%m/%d/%y %I:%M %p"), "looks like the time of each row"),
        (WHEN.strftime("%H:%M:%S"), "looks like the time of each row"),
        (WHEN.strftime("%Y%m%dT%H%M%S"), "looks like the time of each row"),
        (WHEN.strftime("%a, %d %b %Y %H:%M"), "looks like the time of each row"),
        ([f"{t}{'Z' * (i > 5)}" for i, t in enumerate(WHEN)], "write all of them with their zone, or none"),
    ],
)
def test_times_that_cannot_order_the_rows_are_never_left_out(tmp_path: Path, cells: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        load(FRAME.assign(when=cells), tmp_path, **TEN)
    assert len(load(FRAME.assign(when=cells), tmp_path, order=TimeOrder(time=None), **TEN).train) > 0


def test_a_clock_of_uneven_steps_is_no_sensor(tmp_path: Path) -> None:
    seconds = np.random.default_rng(0).exponential(60, STEPS).cumsum()
    frame = FRAME.drop(columns="when").assign(Time_Stamp=seconds)
    assert "column 'Time_Stamp' of" in (said := refusal(frame, tmp_path, **TEN))
    assert "is a clock by its name: set datamodule.source.order.time=Time_Stamp" in said
    assert load(frame, tmp_path, columns=["a", "Time_Stamp"], **TEN).feature_names == ["a", "Time_Stamp"]


def test_each_series_has_its_own_usual_step(tmp_path: Path) -> None:
    """Every step of a slow series was a gap beside a fast one, so that all of it was left out."""
    slow = FRAME.assign(when=pd.date_range("2026-03-01", periods=STEPS, freq="1h"), id="slow")
    both = pd.concat([FRAME.assign(id="fast"), slow.drop(index=range(50, 60))])
    found = load(both, tmp_path, order=TimeOrder(id="id", split="time"), **TEN)
    places = found.timeline.places["train"]
    assert np.bincount(places[:, 0]).tolist() == [12, 11]
    assert "1 gap," in found.reading[1]
    assert "the series have steps of 60 to 3600 (order.resample puts all on one)" in found.reading[1]


def test_labels_survive_a_grid(tmp_path: Path) -> None:
    path = tmp_path / "labels.json"
    path.write_text(json.dumps([[str(WHEN[11]), str(WHEN[12])]]))  # between two steps of five minutes
    grid = TimeOrder(resample="5min")
    found = load(FRAME, tmp_path, order=grid, signals=Signals(intervals_path=str(path)), **TEN)
    assert np.flatnonzero(labelled(found)).tolist() == [2]
    odd = FRAME.assign(y=np.where(np.arange(STEPS) == 31, -1, 0))
    assert np.flatnonzero(labelled(load(odd, tmp_path, label_column="y", order=grid, **TEN))).tolist() == [6]
    kept = Signals(missing="keep")
    rows = FRAME.assign(y=3 * (np.arange(STEPS) >= 60)).drop(index=[20, 21, 70, 71, 72])
    found = load(rows, tmp_path, label_column="y", order=TimeOrder(resample="1min"), signals=kept, **TEN)
    assert labelled(found) == [0] * 60 + [3] * 60
    classes = pd.concat([rows.loc[:49].assign(id="u", y=1), rows.loc[50:99].assign(id="v", y=2)])
    order = TimeOrder(id="id", resample="1min")
    whole = load(classes, tmp_path, label_column="y", order=order, signals=kept, **(TEN | {"window": None}))
    assert whole.train.label.tolist() == [1, 2]


def test_labels_may_be_truth_values_and_are_never_filled_in(tmp_path: Path) -> None:
    odd = np.arange(STEPS) == 31
    assert np.flatnonzero(labelled(load(FRAME.assign(y=odd), tmp_path, label_column="y", **TEN))).tolist() == [31]
    for cell in ("", "odd"):
        frame = FRAME.assign(y=["0", cell] + ["0"] * (STEPS - 2))
        said = refusal(frame, tmp_path, label_column="y", signals=Signals(missing="keep"))
        assert f"line 3 of {tmp_path / 's.csv'} has '{cell}' in column 'y', which is no label" in said


def test_lists_in_a_column_are_no_channel(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    FRAME.assign(c=[[1, 2]] * STEPS).to_parquet(tmp_path / "s.parquet")
    with pytest.raises(UserError, match=r"column 'c' of .* holds lists or structures"):
        Series(str(tmp_path / "s.parquet"), **TEN).load()
    assert Series(str(tmp_path / "s.parquet"), columns=["a"], **TEN).load().feature_names == ["a"]


def test_examples_of_an_array_may_miss_values_and_what_is_not_read_is_said(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(5, 2, (30, 2, 16))
    x[3, 1, 4:6] = np.nan
    np.savez(tmp_path / "s.npz", X_train=x[:24], X_test=x[24:], X_val=x[:3])
    kept = Signals(missing="keep")
    data = DataModule(Series(str(tmp_path / "s.npz"), signals=kept), validation=0.2)
    data.setup()
    assert "2 missing values, kept as missing; not read: X_val" in data.reading[1]
    part = data.part("train")
    batch = torch.cat([one.x for one in data.ordered_loader("train")])
    assert part.observed is not None
    assert batch.isfinite().all()
    own = np.nanmean(np.where(part.observed.numpy(), batch.numpy(), np.nan), axis=(0, 2))
    np.testing.assert_allclose(own, 0, atol=1e-5)
    for settings in ({"scale": "each"}, {"intervals_path": "l.json"}, {"covariates": ["a"]}):
        with pytest.raises(UserError, match=f"source.signals.{next(iter(settings))}=.* cannot be used: a .npz holds"):
            Series(str(tmp_path / "s.npz"), signals=Signals(**settings)).load()


def test_series_shorter_than_a_window_are_told(tmp_path: Path) -> None:
    short = FRAME[["a", "b"]][:5]
    many = pd.concat([short.assign(id=f"s{number}") for number in range(4)] + [FRAME[["a", "b"]].assign(id="long")])
    found = load(many, tmp_path, order=TimeOrder(id="id"), **TEN)
    assert "4 series without a window, of 10 time steps in a stretch: s0, s1, s2, ... 1 more" in found.reading[1]
