"""`narrows score` on signals: every time step in the order of the file, scored as the model scores its windows."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from command import NARROW, NO_TASKS, run_in_process

import narrows
from narrows.commands import score
from narrows.loading import recorded_by_the_data
from narrows.tasks.measures.reconstruction_errors import example_mse
from narrows.types import Batch

WINDOW = 12
SIGNALS = (
    *("datamodule=series", "datamodule.source.path=own", f"datamodule.source.window={WINDOW}"),
    *("datamodule.source.order.split=time", "datamodule.source.signals.scale=each"),
    *("datamodule.source.signals.missing=keep", "datamodule.source.stride=5", "variant=undercomplete"),
    *("bottleneck.dim=3", "trainer.max_epochs=3", "optimizer.lr=0.01", "callbacks=none"),
)


def signal(seed: int, steps: int, level: float) -> pd.DataFrame:
    generator, clock = np.random.default_rng(seed), np.arange(steps)
    flow = level + np.sin(clock / 3) + 0.1 * generator.normal(size=steps)
    stamps = pd.date_range("2026-03-01", periods=steps, freq="1min").astype(str)
    table = pd.DataFrame({"when": stamps, "flow": flow.round(4), "heat": np.cos(clock / 5).round(4), "note": "ok"})
    table.loc[table.index == 50, "heat"] = np.nan
    return table


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("signals")
    (folder / "own").mkdir()
    for number, level in enumerate((0.0, 500.0)):
        signal(number, 400, level).to_csv(folder / "own" / f"m{number}.csv", index=False)
    done = run_in_process(*SIGNALS, *NARROW, *NO_TASKS, "hydra.run.dir=run", cwd=folder)
    assert done.code == 0, done.err
    return folder


@pytest.fixture
def place(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = Path(shutil.copytree(trained, tmp_path / "signals"))
    monkeypatch.chdir(folder)
    return folder


def test_every_time_step_has_the_mean_score_of_the_windows_that_cover_it(place: Path) -> None:
    new = signal(7, 60, 500.0).drop(index=[33])
    new.loc[20:24, "flow"] += 40
    mixed = new.sample(frac=1, random_state=0)
    mixed.to_csv("m1.csv", index=False)
    score.main(["run", "m1.csv"])
    found = pd.read_csv("m1.scored.csv")
    pd.testing.assert_frame_equal(found[list(mixed)], pd.read_csv("m1.csv"))
    ordered = found.set_index("when").sort_index()
    model, scaling = narrows.load("run"), recorded_by_the_data.load_signals(Path("run"))
    assert scaling.series == ["m0.csv", "m1.csv"]
    shift, scale = scaling.of("m1.csv")
    assert shift[0, 0] == pytest.approx(500, abs=1)
    # Two stretches, 33 and 26 steps long; the last window of each reaches its end.
    values = ((ordered[["flow", "heat"]].to_numpy().T - shift.numpy()) / scale.numpy()).astype(np.float32)
    sums, counts = np.zeros(59), np.zeros(59)
    for start in (0, 5, 10, 15, 20, 21, 33, 38, 43, 47):
        window = values[:, start : start + WINDOW]
        observed = np.isfinite(window)
        x = np.where(observed, window, 0)
        batch = Batch(torch.from_numpy(x)[None], observed=torch.from_numpy(observed)[None])
        error = float(example_mse(model.reconstruct(batch), batch.x, batch.observed))
        sums[start : start + WINDOW] += error
        counts[start : start + WINDOW] += 1
    np.testing.assert_allclose(ordered["score"], sums / counts, rtol=1e-4)
    assert ordered["anomaly"].iloc[22] == 1
    assert ordered["reconstruction_flow"].sub(500).abs().max() < 60
    assert ordered["problem"].isna().all()


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as end:
        score.main(["run", *arguments])
    assert end.value.code == 2
    return capsys.readouterr().err


def test_what_cannot_be_scored_is_refused_or_said(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    signal(0, 40, 0.0).to_csv("m7.csv", index=False)
    assert "the series 'm7.csv' is none of those trained on" in refused(capsys, "m7.csv")
    signal(0, 40, 0.0).drop(columns="heat").to_csv("m0.csv", index=False)
    assert "has no column 'heat'" in refused(capsys, "m0.csv")
    signal(0, WINDOW - 1, 0.0).iloc[: WINDOW - 1].to_csv("m0.csv", index=False)
    assert f"{WINDOW - 1} time steps, is shorter than a window of the run, {WINDOW}" in refused(capsys, "m0.csv")
    signal(0, 40, 0.0).drop(index=[5]).to_csv("m0.csv", index=False)
    score.main(["run", "m0.csv"])
    found = pd.read_csv("m0.scored.csv")
    assert found["score"].isna().tolist() == [True] * 5 + [False] * 34
    assert found["problem"][0] == f"in no window: a stretch of fewer than {WINDOW} time steps, or nothing measured"
    (place / "run" / "signals.json").write_text(json.dumps({"channels": ["flow"]}))
    assert "signals.json is damaged" in refused(capsys, "m0.csv")


def test_new_rows_are_ordered_by_the_column_that_ordered_the_runs_own(
    place: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Times that were not written as dates, or lacked, left the rows in the order of the file without a word."""
    rows = signal(0, 60, 0.0)
    rows.to_csv("m0.csv", index=False)
    score.main(["run", "m0.csv"])
    expected = pd.read_csv("m0.scored.csv")
    seconds = pd.to_datetime(rows["when"]).astype("datetime64[s]").astype("int64")
    rows.assign(when=seconds)[["heat", "when", "note", "flow"]].sample(frac=1, random_state=0).to_csv(
        "m0.csv", index=False
    )
    caplog.clear()
    score.main(["run", "m0.csv"])
    found = pd.read_csv("m0.scored.csv").sort_values("when")
    assert found["score"].tolist() == expected["score"].tolist()
    assert "time steps of" not in caplog.text
    rows.drop(columns="when").to_csv("m0.csv", index=False)
    assert "has no column 'when': " in (said := refused(capsys, "m0.csv"))
    assert "datamodule.source.order.time=null takes the rows as they come" in said
    score.main(["run", "m0.csv", "datamodule.source.order.time=null"])
    rows.assign(when=pd.date_range("2026-03-01", periods=60, freq="1h")).to_csv("m0.csv", index=False)
    caplog.clear()
    score.main(["run", "m0.csv"])
    assert "m0.csv has time steps of 3600, and the run was trained on steps of 60" in caplog.text
