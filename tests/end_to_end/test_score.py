"""`narrows score` through the real command: what it appends is what the model gives in memory."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from command import NARROW, NO_TASKS, run_in_process

import narrows
from narrows.commands import score
from narrows.data.table_columns import to_cells
from narrows.data.table_files import read_chunks
from narrows.data.table_format import Format
from narrows.loading import OpenRun, recorded_by_the_data
from narrows.tasks.measures.reconstruction_errors import example_mse

TABLE = (
    *("datamodule=table", "datamodule.source.path=train.csv", "datamodule.source.label.column=kind"),
    *("datamodule.source.label.normal=[ok]", "datamodule.source.label.train=[ok]", "datamodule.source.ignore=[id]"),
    *("variant=undercomplete", "bottleneck.dim=2", "trainer.max_epochs=10", "optimizer.lr=0.01", "callbacks=none"),
    *("+task@tasks.anomaly=anomaly", "tasks.anomaly.normal_labels=[0]", "datamodule.source.test.rest=true"),
)


def rows(count: int) -> pd.DataFrame:
    random = np.random.default_rng(0)
    made = pd.DataFrame(
        {
            "id": np.arange(count),
            "width": random.normal(5, 2, count).round(3),
            "depth": random.normal(1000, 200, count).round(1),
            "paid": random.choice(["true", "false"], count),
            "colour": random.choice(["red", "green", "blue"], count),
            "kind": random.choice(["ok", "ok", "ok", "bad"], count),
        }
    )
    made.loc[made["kind"] == "bad", "width"] += 9
    made.loc[3, "width"] = np.nan
    made.loc[5, "colour"] = None
    return made


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("table")
    rows(300).to_csv(folder / "train.csv", index=False)
    done = run_in_process(*TABLE, *NARROW, *NO_TASKS, "hydra.run.dir=run", cwd=folder)
    assert done.code == 0, done.err
    return folder


@pytest.fixture
def place(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = Path(shutil.copytree(trained, tmp_path / "table"))
    monkeypatch.chdir(folder)
    return folder


def scored(place: Path, *arguments: str, out: str = "out.csv") -> pd.DataFrame:
    score.main(["run", *arguments, "-o", out])
    return pd.read_csv(place / out)


def test_a_run_of_a_sweep_has_an_equals_sign_in_its_name(place: Path) -> None:
    rows(9).to_csv("new.csv", index=False)
    (place / "run").rename("000_seed=0")
    score.main(["000_seed=0", "new.csv", "-o", "out.csv"])
    assert len(pd.read_csv("out.csv")) == 9


def test_daily_logs_keep_their_names_and_no_input_is_written_over(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for day in ("27", "28"):
        rows(9).to_csv(f"log.2026-11-{day}.csv", index=False)
        score.main(["run", f"log.2026-11-{day}.csv"])
    assert capsys.readouterr().out.split() == ["log.2026-11-27.scored.csv", "log.2026-11-28.scored.csv"]
    for target in ("log.2026-11-27.csv", "run/config.yaml"):
        before = Path(target).read_bytes()
        with pytest.raises(SystemExit) as end:
            score.main(["run", "log.2026-11-27.csv", "-o", target])
        assert end.value.code == 2
        assert "would be overwritten" in capsys.readouterr().err
        assert Path(target).read_bytes() == before


def test_what_is_appended_is_what_the_model_gives(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new = rows(120).drop(columns="kind").iloc[:, ::-1]
    new.to_csv("new.csv", index=False)
    score.main(["run", "new.csv"])
    assert capsys.readouterr().out.split() == ["new.scored.csv"]
    found = pd.read_csv("new.scored.csv")
    pd.testing.assert_frame_equal(found[list(new)], pd.read_csv("new.csv"))
    assert found["problem"].isna().all()

    model, encoding = narrows.load("run"), recorded_by_the_data.load_encoding(Path("run"))
    (chunk,) = read_chunks(Path("new.csv"), Format())
    cells = to_cells(chunk.known, encoding.columns)
    x, observed = encoding.encode(cells.values, cells.missing)
    guess = model.reconstruct(x)
    np.testing.assert_allclose(found["score"], example_mse(guess, x, observed).numpy(), rtol=1e-4)
    units = encoding.decode(guess.double().numpy())
    np.testing.assert_allclose(found["reconstruction_width"], units["width"].astype(float), rtol=1e-5)
    assert (found["reconstruction_colour"] == units["colour"]).all()
    assert 500 < found["reconstruction_depth"].mean() < 1500, "in the data's own units"
    assert not Path("metrics.csv").exists()


def test_flags_are_those_of_the_task(place: Path) -> None:
    figures = json.loads(Path("run/metrics.json").read_text())
    data = OpenRun("run").data
    places = torch.cat([batch.index for batch in data.ordered_loader("test")])
    table = pd.read_csv("train.csv").iloc[places.numpy()]
    table.to_csv("test.csv", index=False)
    found = scored(place, "test.csv")
    normal = table["kind"].to_numpy() == "ok"
    flags = found["anomaly"].to_numpy()
    assert flags[normal].mean() == pytest.approx(figures["test/anomaly/false_alarm_rate"])
    assert flags[~normal].mean() == pytest.approx(figures["test/anomaly/recall"])
    threshold = figures["test/anomaly/threshold"]
    np.testing.assert_array_equal(flags, (found["score"] > threshold).astype(int))
    assert 0 < flags.mean() < 1


def test_the_threshold_is_stored_and_needs_no_data_again(place: Path) -> None:
    rows(40).to_csv("new.csv", index=False)
    first = scored(place, "new.csv", "--quantile", "0.5")
    Path("train.csv").unlink()
    again = scored(place, "new.csv", "--quantile", "0.5", out="again.csv")
    pd.testing.assert_frame_equal(first, again)
    fewer = scored(place, "new.csv", "--quantile", "0.99", out="fewer.csv")
    assert fewer["anomaly"].sum() < first["anomaly"].sum()
    stored = json.loads(Path("run/calibration.json").read_text())["scores"]
    assert (first["anomaly"] == (first["score"] > np.quantile(stored, 0.5))).all()


def test_rows_with_problems_are_told_by_line_and_kept(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    good = "1,4.5,990,true,red,ok"
    bad = {
        3: ("2,wide,990,true,red,ok", "'wide' in column 'width' is no finite number"),
        4: ("3,4.5", "2 cells in place of 6"),
        6: ("4,4.5,990,maybe,red,ok", "'maybe' in column 'paid' is neither 0 nor 1"),
        7: ("5,,,,,ok", "no column has a value"),
        8: ("6,4.5,990,true,red,ok,7,8", "8 cells in place of 6"),
    }
    other = "7,4.5,990,true,purple,ok"
    lines = [
        "id,width,depth,paid,colour,kind",
        good,
        bad[3][0],
        bad[4][0],
        good,
        bad[6][0],
        bad[7][0],
        bad[8][0],
        other,
    ]
    Path("new.csv").write_text("\n".join(lines) + "\n")
    found = scored(place, "new.csv")
    assert found["id"].tolist() == [1, 2, 3, 1, 4, 5, 6, 7]
    for line, (_, what) in bad.items():
        assert f"line {line} of new.csv: {what}" in caplog.text
        row = found.iloc[line - 2]
        assert row["problem"] == what
        assert row[["score", "anomaly", "reconstruction_width"]].isna().all()
    fine = found.iloc[[0, 3]]
    assert fine["problem"].isna().all()
    assert fine["score"].notna().all()
    unseen = found.iloc[7]
    assert unseen["problem"] == "'purple' in column 'colour' is a category that the training rows do not have"
    assert unseen["score"] > fine["score"].iloc[0], "scored as what no training row has"
    assert "8 rows, " in caplog.text
    assert "6 with problems, 5 of them not scored" in caplog.text


def test_many_chunks_are_one_answer(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows(50).to_csv("new.csv", index=False)
    rows(50).to_parquet("new.parquet")
    whole = scored(place, "new.csv")
    seen = []
    real = read_chunks

    def small(path: Path, how: Format, rows: int = 7) -> Any:
        for chunk in real(path, how, rows):
            seen.append((len(chunk.frame), chunk.done))
            yield chunk

    monkeypatch.setattr("narrows.data.table_files.read_chunks", small)
    pieces = scored(place, "new.csv", out="pieces.csv")
    assert [size for size, _ in seen] == [7] * 7 + [1]
    pd.testing.assert_frame_equal(pieces, whole, rtol=1e-5)
    seen.clear()
    packed = scored(place, "new.parquet", out="packed.csv")
    np.testing.assert_allclose(packed["score"], whole["score"], rtol=1e-5)
    assert [done for _, done in seen] == sorted(done for _, done in seen)
    assert seen[-1][1] == 1.0


REFUSALS: dict[tuple[str, ...], str] = {
    ("run",): "name the run and one file",
    ("nowhere", "new.csv"): "there is no run directory nowhere",
    ("run", "missing.csv"): "there is no file missing.csv",
    ("run", "new.csv", "--quantile", "1"): r"--quantile must be in \(0, 1\), not 1",
    ("run", "new.csv", "-o", "new.csv"): "new.csv is what is read, and would be overwritten",
    ("run", "less.csv"): "less.csv has no column 'paid, colour'",
    ("run", "again.csv"): "has a column 'score' already",
    ("run", "empty.csv"): "empty.csv holds no rows",
}


@pytest.mark.parametrize("arguments", REFUSALS, ids=" ".join)
def test_refusals_leave_what_was_there(arguments: tuple[str, ...], place: Path, capsys: Any) -> None:
    rows(20).to_csv("new.csv", index=False)
    rows(20).drop(columns=["paid", "colour"]).to_csv("less.csv", index=False)
    rows(20).assign(score=1).to_csv("again.csv", index=False)
    Path("empty.csv").write_text("id,width,depth,paid,colour,kind\n")
    Path("out.csv").write_text("what was there")
    before = sorted(path.name for path in place.iterdir())
    with pytest.raises(SystemExit) as end:
        score.main([*arguments, *(() if "-o" in arguments else ("-o", "out.csv"))])
    assert end.value.code == 2
    assert re.search(REFUSALS[arguments], capsys.readouterr().err)
    assert Path("out.csv").read_text() == "what was there"
    assert sorted(path.name for path in place.iterdir()) == before


def test_a_run_of_a_table_without_its_encoding_is_refused(place: Path, capsys: Any) -> None:
    Path("run/encoding.json").unlink()
    rows(5).to_csv("new.csv", index=False)
    with pytest.raises(SystemExit):
        score.main(["run", "new.csv"])
    assert "run has no encoding of a table: runs of datamodule=table have one" in capsys.readouterr().err


def test_the_example_of_another_separator_works_when_pasted(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trained)
    (line,) = (line for line in score.EPILOG.splitlines() if "separator" in line)
    override = shlex.split(line)[4]
    rows(20).to_csv("new.csv", index=False)
    score.main(["run", "new.csv", "-o", "commas.csv"])
    rows(20).to_csv("new.csv", index=False, sep=";")
    score.main(["run", "new.csv", override, "-o", "semicolons.csv"])
    assert Path("semicolons.csv").read_text() == Path("commas.csv").read_text()


def test_a_strangers_category_is_no_formula_and_the_users_own_cells_stay(place: Path) -> None:
    encoding = Path("run/encoding.json")
    encoding.write_text(
        encoding.read_text().replace('"red"', '"=A1"').replace('"blue"', '"@x"').replace("green", "+1+1")
    )
    new = rows(60).drop(columns="kind").replace({"colour": {"red": "=A1", "blue": "@x", "green": "+1+1"}})
    new.to_csv("new.csv", index=False)
    own = {name: Path(name).read_bytes() for name in ("train.csv",)}
    found = scored(place, "new.csv")
    assert own == {name: Path(name).read_bytes() for name in own}
    assert set(found["reconstruction_colour"].dropna()) <= {"'=A1", "'@x", "'+1+1"}
    assert set(found["colour"].dropna()) == {"=A1", "@x", "+1+1"}
