"""How a run read its files, through the real command: told before training, recorded, or refused in one sentence."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
from command import NARROW, NO_TASKS, TINY, Finished, manifest, run_directories, run_in_process

ROWS = 80
RANDOM = np.random.default_rng(0)
ODD = pd.DataFrame(
    {
        "": range(ROWS),
        "zip code": RANDOM.choice([10115, 20095], ROWS),
        "Größe (cm)": RANDOM.normal(170, 9, ROWS).round(1).astype(object),
        "when": pd.date_range("2026-01-01", periods=ROWS, freq="6h").astype(str),
        "kind": RANDOM.choice(["ok", "bad"], ROWS),
    }
)
ODD.iloc[7, 2] = "?"


def train(folder: Path, *more: str) -> Finished:
    small = ("variant=undercomplete", *TINY, *NARROW, *NO_TASKS)
    return run_in_process(*small, *more, cwd=folder)


def recorded(folder: Path) -> list[str]:
    """What the source of the newest run said of its files."""
    newest = max(run_directories(folder), key=lambda run: (run / "config.yaml").stat().st_mtime_ns)
    lines = manifest(newest)["reading"]
    return [line for line in lines if line.startswith(("table: ", "series: "))]


def test_the_way_out_of_a_refusal_leads_to_a_run_that_says_what_it_read(tmp_path: Path) -> None:
    ODD.to_csv(tmp_path / "odd.csv", index=False)
    table = ["datamodule=table", "datamodule.source.path=odd.csv", "datamodule.source.label.column=kind"]
    table += ['datamodule.source.kinds=["zip code: categorical", "when: date"]', "datamodule.source.ignore=[0]"]
    refused = train(tmp_path, *table)
    assert refused.code == 2
    (sentence,) = refused.complaints
    assert "line 9 of odd.csv: '?' in column 'Größe (cm)' is no finite number" in sentence
    missing, kinds = (shlex.split(text)[0] for text in re.findall(r"'datamodule.*?\]'", sentence))
    assert kinds == 'datamodule.source.kinds=["Größe (cm): categorical"]'
    done = train(tmp_path, *table, missing)
    assert done.code == 0
    reading = [
        "table: 1 numeric (Größe (cm)), 1 categorical (zip code: 2 levels), 1 date (when); 80 rows, 1 missing cells; "
        "label: kind (0 is bad, 1 is ok)",
        "table: left out: one without a name",
    ]
    assert recorded(tmp_path) == reading
    told = done.err.splitlines()
    assert told.index(reading[0]) < told.index(reading[1]) < next(n for n, s in enumerate(told) if "parameters" in s)


def test_a_series_says_what_it_read(tmp_path: Path) -> None:
    steps = np.arange(300)
    frame = pd.DataFrame({"a": np.sin(steps / 10), "b": 101325 + 0.05 * np.cos(steps / 17), "time": 60.0 * steps})
    frame.drop(index=100).to_csv(tmp_path / "s.csv", index=False)
    series = ("datamodule=series", "datamodule.source.path=s.csv", "datamodule.source.window=16")
    refused = train(tmp_path, *series)
    assert refused.code == 2
    (sentence,) = refused.complaints
    assert "column 'time' of s.csv moves by 60 in every row, as a clock or a row number does" in sentence
    (way_out,) = re.findall(r"datamodule\.source\.order\.time=\w+", sentence)
    assert train(tmp_path, *series, way_out).code == 0
    assert recorded(tmp_path) == [
        "series: 65 examples (15 of them to test) of 2 channels (a, b) x 16 time steps, a window every 4 of 299 time "
        "steps",
        "series: ordered by 'time'; 1 gap, which no window crosses",
    ]
