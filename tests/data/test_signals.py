"""Signals in tables: every column is judged by all its cells, time orders the rows, and no window crosses a gap."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from signal_files import load, refusal, served

from narrows.data.datamodule import DataModule
from narrows.data.sources.series import Series
from narrows.data.table_format import Format
from narrows.data.time_order import TimeOrder
from narrows.errors import UserError

STEPS = 200
T = np.arange(STEPS)
FRAME = pd.DataFrame({"a": np.sin(T / 10).round(4), "b": np.cos(T / 17).round(4)})
STAMPS = pd.date_range("2026-03-01", periods=STEPS, freq="1min").astype(str)


@pytest.mark.parametrize("row", [0, 50, STEPS - 1])
def test_a_missing_reading_is_refused_wherever_it_is(tmp_path: Path, row: int) -> None:
    frame = FRAME.copy()
    frame.loc[row, "a"] = np.nan
    assert f"line {row + 2} of {tmp_path / 's.csv'} has '' in column 'a', which is no number" in refusal(
        frame, tmp_path
    )
    assert load(frame, tmp_path, columns=["b"]).feature_names == ["b"]


def test_what_is_left_out_is_said_and_blank_lines_are_skipped(tmp_path: Path) -> None:
    frame = FRAME.assign(state="on", empty=None)
    found = load(frame, tmp_path)
    assert found.reading == [
        "series: 10 examples (1 of them to test) of 2 channels (a, b) x 20 time steps, a window every 20 of 200 time "
        "steps",
        "series: left out: state (no cell is a number), empty (no cell is a number)",
    ]
    text = (tmp_path / "s.csv").read_text()
    for spaced in (text + "\n", text.replace("\n", "\n\n")):
        (tmp_path / "s.csv").write_text(spaced)
        assert torch.equal(served(Series(str(tmp_path / "s.csv"), 20, standardise="none").load()), served(found))


def test_decimal_commas_are_named_and_can_be_read(tmp_path: Path) -> None:
    commas = FRAME.map(lambda value: str(value).replace(".", ","))
    sentence = refusal(commas, tmp_path)
    assert "line 2 of" in sentence
    assert "has '0,0' in column 'a', which looks like a number with a decimal comma" in sentence
    read = served(load(commas, tmp_path, format=Format(decimal="comma")))
    assert torch.equal(read, served(load(FRAME, tmp_path)))


def test_one_table_however_it_is_written(tmp_path: Path) -> None:
    expected = served(load(FRAME, tmp_path))
    text = FRAME.to_csv(index=False)
    (tmp_path / "wide.csv").write_bytes(text.encode("utf-16"))
    FRAME.to_csv(tmp_path / "packed.csv.gz", index=False)
    FRAME.to_parquet(tmp_path / "table.parquet")
    FRAME.to_csv(tmp_path / "tabs.tsv", index=False, sep="\t")
    for name in ("wide.csv", "packed.csv.gz", "table.parquet"):
        assert torch.equal(served(Series(str(tmp_path / name), 20, standardise="none").load()), expected)
    with pytest.raises(UserError, match=r"separator=tab"):
        Series(str(tmp_path / "tabs.tsv"), 20).load()
    tabs = Series(str(tmp_path / "tabs.tsv"), 20, standardise="none", format=Format("tab"))
    assert torch.equal(served(tabs.load()), expected)


def test_clocks_and_columns_without_a_name_are_no_sensors(tmp_path: Path) -> None:
    clocks = {
        "unix": 1.7e9 + 60 * T,
        "row": T,
        "down": -0.1 * T,
        "with a pause": 1.7e9 + 60 * T + 3600 * (T > 90),
    }
    for name, clock in clocks.items():
        sentence = refusal(FRAME.assign(**{name: clock}), tmp_path)
        assert f"column '{name}' of" in sentence
        assert "as a clock or a row number does" in sentence
        assert '\'datamodule.source.columns=["a", "b"]\'' in sentence
        assert load(FRAME.assign(**{name: clock}), tmp_path, columns=["a", name]).feature_names == ["a", name]
    assert "has no name ('')" in refusal(FRAME.reset_index().rename(columns={"index": ""}), tmp_path)
    growing = np.cumsum(np.random.default_rng(0).uniform(0, 1, STEPS))
    assert load(FRAME.assign(meter=growing), tmp_path).feature_names == ["a", "b", "meter"]


def test_headers(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text(FRAME.to_csv(index=False, header=False))
    with pytest.raises(UserError, match=r"holds numbers, not the names of columns.*format\.header=false"):
        Series(str(tmp_path / "s.csv"), 20).load()
    read = Series(str(tmp_path / "s.csv"), 20, format=Format(header=False)).load()
    assert read.feature_names == ["0", "1"]
    (tmp_path / "s.csv").write_text("a,a\n" + FRAME.to_csv(index=False, header=False))
    with pytest.raises(UserError, match="more than one column 'a'"):
        Series(str(tmp_path / "s.csv"), 20).load()


def test_time_orders_the_rows_and_no_window_crosses_a_gap(tmp_path: Path) -> None:
    whole = FRAME.assign(when=STAMPS, number=T * 1.0)
    columns = ["a", "number"]
    straight = load(whole, tmp_path, columns=columns, stride=4)
    mixed = load(whole.sample(frac=1, random_state=0), tmp_path, columns=columns, stride=4)
    assert torch.equal(served(mixed), served(straight))
    assert "series: ordered by 'when'" in straight.reading[1]
    assert "out of order" not in straight.reading[1]
    assert "the rows were out of order in" in mixed.reading[1]
    gappy = whole.drop(index=[60, 100, 101, 102])
    for settings in ({}, {"order": TimeOrder("seconds")}):
        frame = gappy.assign(seconds=60.0 * gappy.index)
        read = load(frame, tmp_path, columns=columns, stride=4, **settings)
        assert "2 gaps, which no window crosses" in read.reading[1]
        assert bool((served(read)[:, 1].diff(dim=1) == 1).all())
        starts = set(served(read)[:, 1, 0].int().tolist())
        assert {0, 40, 61, 103} <= starts
        assert not starts & set(range(42, 61))
    as_they_come = load(gappy, tmp_path, columns=columns, stride=4, order=TimeOrder(None))
    assert len(as_they_come.train) > len(read.train)
    assert len(as_they_come.reading) == 1


def test_a_clock_that_was_set_back_cuts_the_signal_and_leaves_the_rows_as_they_are(tmp_path: Path) -> None:
    steps = np.arange(1000)
    clock = pd.Series(pd.date_range("2026-10-25", periods=1000, freq="15min"))
    clock[500:] -= pd.Timedelta("1h")
    read = load(pd.DataFrame({"when": clock, "number": steps}), tmp_path, columns=["number"], stride=4)
    assert read.reading[1].endswith("the time does not go forward in 1 place, where no window goes on")
    assert bool((served(read)[:, 0].diff(dim=1) == 1).all())
    starts = set(served(read)[:, 0, 0].int().tolist())
    assert {480, 500} <= starts
    assert not starts & set(range(481, 500))


def test_times_that_order_nothing(tmp_path: Path) -> None:
    twice = FRAME.assign(when=[STAMPS[row // 2] for row in range(STEPS)])
    sentence = refusal(twice, tmp_path)
    assert f"line 3 of {tmp_path / 's.csv'} has the time '{STAMPS[0]}' of line 2" in sentence
    assert "order.id" in sentence
    assert "order.time=null" in sentence
    two = FRAME.assign(when=STAMPS, seen=STAMPS)
    assert "more than one column of time stamps (when, seen)" in refusal(two, tmp_path)
    torn = FRAME.assign(when=STAMPS)
    torn.loc[5, "when"] = "later"
    assert "line 7" in (said := refusal(torn, tmp_path))
    assert "has 'later' in column 'when', which is no time" in said
    assert "has no column 'wenn': did you mean 'when'?" in refusal(two, tmp_path, order=TimeOrder("wenn"))
    apart = FRAME.assign(when=pd.date_range("2026-03-01", periods=STEPS, freq="1min") + pd.to_timedelta(T**2, "h"))
    assert "are fewer than window=20" in refusal(apart, tmp_path)
    with pytest.raises(UserError, match=r"unknown order\.split='both'"):
        TimeOrder(split="both")  # type: ignore[arg-type]


def fleet(lengths: list[int]) -> pd.DataFrame:
    """Machines whose rows alternate; `number` is the machine's number and the time step."""
    found = [
        pd.DataFrame({"machine": f"m{m}", "when": STAMPS[:n], "number": 1000.0 * m + T[:n], "fault": m % 2})
        for m, n in enumerate(lengths)
    ]
    return pd.concat(found).sort_values("when", kind="stable")


@pytest.mark.parametrize("folds", [None, 3])
@pytest.mark.parametrize("split", ["series", "time"])
def test_one_column_tells_many_series_apart(tmp_path: Path, split: Any, folds: int | None) -> None:
    fleet([120, 100, 80, 110, 90, 100]).to_csv(tmp_path / "s.csv", index=False)
    order = TimeOrder(id="machine", split=split)
    source = Series(str(tmp_path / "s.csv"), 10, 3, ["number"], "fault", "none", 0.3, order=order)
    module = DataModule(source, **({"validation": 0.3} if folds is None else {"folds": folds, "fold": 1}))
    x = {name: next(iter(module.ordered_loader(name))).x[:, 0] for name in ("train", "validation", "test")}  # type: ignore[arg-type]
    steps = {name: set(values.flatten().int().tolist()) for name, values in x.items()}
    machines = {name: {step // 1000 for step in found} for name, found in steps.items()}
    assert all(bool((values.diff(dim=1) == 1).all()) for values in x.values()), "no window crosses two series"
    for first, second in (("train", "validation"), ("train", "test"), ("validation", "test")):
        assert not steps[first] & steps[second]
        if split == "series":
            assert not machines[first] & machines[second]
    assert f"in 6 series told apart by 'machine', split by {split}" in module.reading[0]
    assert "label: fault" in module.reading[0]
    if split == "time":
        assert machines["train"] == machines["validation"] == machines["test"] == set(range(6))
        for machine in range(6) if folds is None else ():
            own = [sorted(step for step in steps[name] if step // 1000 == machine) for name in x]
            assert own[0][-1] < own[1][0] <= own[1][-1] < own[2][0]


def test_whole_series_are_examples(tmp_path: Path) -> None:
    order = TimeOrder(id="machine")
    found = load(fleet([30] * 6), tmp_path, window=None, columns=["number"], label_column="fault", order=order)
    assert found.train.x.shape == (6, 1, 30)
    assert found.train.label is not None
    assert found.train.label.tolist() == [0, 1] * 3
    assert found.reading[0].endswith("x 30 time steps, each a series named by 'machine'; label: fault")
    assert "have 30 to 40 time steps: set source.window" in refusal(
        fleet([30, 40]), tmp_path, window=None, order=order, columns=["number"]
    )
    gap = fleet([30, 31]).query("not (machine == 'm1' and number == 1010)")
    assert "series 'm1' has a gap" in refusal(gap, tmp_path, window=None, order=order, columns=["number"])
    torn = fleet([30, 30]).assign(machine=lambda frame: frame["machine"].where(frame["number"] != 1004.0))
    assert "has nothing in column 'machine'" in refusal(torn, tmp_path, order=order)
    one = fleet([100]).assign(number=lambda frame: np.sin(frame["number"]))
    one.to_csv(tmp_path / "s.csv", index=False)
    with pytest.raises(UserError, match="takes 1 of 1 series and leaves none"):
        DataModule(Series(str(tmp_path / "s.csv"), 10, columns=["number"], order=order)).setup()


def test_examples_of_an_array(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(12, 50, 3))
    np.savez(tmp_path / "s.npz", X=x, y=np.arange(12) % 2)
    for stride in (None, "auto"):
        found = Series(str(tmp_path / "s.npz"), stride=stride, channels_last=True).load()  # type: ignore[arg-type]
        assert torch.equal(served(found), torch.from_numpy(x).movedim(-1, 1))
        assert found.reading == ["series: 12 examples of 3 channels x 50 time steps; label: y"]
    with pytest.raises(UserError, match=r"source\.channels_last=True cannot be used"):
        load(FRAME, tmp_path, channels_last=True)
    assert load(FRAME, tmp_path, stride="auto").reading[0].endswith("a window every 5 of 200 time steps")
