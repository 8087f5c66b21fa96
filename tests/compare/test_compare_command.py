"""`narrows compare` as a command."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from run_copies import MakeRun

from narrows.commands import compare


def run(*arguments: object) -> None:
    compare.main([str(argument) for argument in arguments])


def refusal(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    with pytest.raises(SystemExit) as end:
        run(*arguments)
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("narrows: ")
    return line


def test_three_hundred_runs_without_torch_or_a_network_of_imports(tmp_path: Path, make_run: MakeRun) -> None:
    for i in range(300):
        make_run(tmp_path / str(i), {"seed": i % 3, "bottleneck.dim": 1 + i // 3}, {"val/loss": float(i)})
    script = (
        "import sys; from narrows.commands.compare import main; main(sys.argv[1:]); "
        "heavy = {'torch', 'lightning', 'hydra', 'numpy', 'omegaconf', 'pandas', 'optuna', 'sklearn', 'plotly'}; "
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    command = [sys.executable, "-W", "error", "-c", script, str(tmp_path), "--csv", "-"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [row["run"] for row in rows] == [str(i) for i in range(300)]


def test_the_table_names_the_best_and_what_to_do_next(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(sweep)
    out = capsys.readouterr().out
    assert "★ 2.25" in out
    assert "--group-by seed gives mean" in out


def test_no_run_is_best_among_runs_of_different_data(
    tmp_path: Path, make_run: MakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    prints = {"a": "1", "b": "1", "c": "2", "d": "2"}
    for place, (name, fingerprint) in enumerate(prints.items()):
        keys = {"seed": place % 2, "bottleneck.dim": 2 + place // 2}
        make_run(tmp_path / name, keys, {"val/loss": float(place)}, data={"fingerprint": fingerprint})
    make_run(tmp_path / "unrecorded", {"seed": 9}, {"val/loss": 9.0}, data=None)
    said = "the runs are of 2 different data sets, by their fingerprints, so that none is marked as best"
    for options in ([], ["--top", 1], ["--group-by", "seed"], ["--html", tmp_path / "report.html"]):
        run(*(tmp_path / name for name in prints), *options)
        out = capsys.readouterr().out
        assert said in out
        assert "★" not in out
    assert said in (tmp_path / "report.html").read_text()
    run(*(tmp_path / name for name in prints), "--json", "-")
    table = json.loads(capsys.readouterr().out)
    assert [row["best"] for row in table["rows"]] == [[]] * 4
    assert said in table["notes"][-1]
    for names in (["a", "b"], ["a", "b", "unrecorded"]):
        run(*(tmp_path / name for name in names))
        out = capsys.readouterr().out
        assert "★ 0" in out
        assert "different data" not in out


def test_marks_are_those_of_all_runs_and_not_of_the_first(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(sweep, "--top", 2, "--sort", "val/loss", "--json", "-")
    first, second = json.loads(capsys.readouterr().out)["rows"]
    assert "val/loss" in first["best"]
    assert "test/kl" not in first["best"] + second["best"]


def test_sorting_by_a_key_and_by_a_metric_that_is_not_shown(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(sweep, "--sort", "bottleneck.dim", "--csv", "-")
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["bottleneck.dim"] for row in rows] == ["2"] * 6 + ["8"] * 6
    run(sweep, "--metrics", "test/mse", "--sort", "test/kl", "--csv", "-")
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert list(rows[0])[-2:] == ["test/mse", "test/kl"]
    assert float(rows[0]["test/kl"]) == 1.0


def test_files_are_written_beside_the_table(sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    targets = {name: tmp_path / f"out.{name}" for name in ("csv", "json", "markdown")}
    run(sweep, "--group-by", "seed", *(part for name, path in targets.items() for part in (f"--{name}", path)))
    assert "±" in capsys.readouterr().out
    assert len(targets["csv"].read_text().splitlines()) == 5
    assert json.loads(targets["json"].read_text())["grouped_by"] == ["seed"]
    assert targets["markdown"].read_text().startswith("| n | status |")


def test_damaged_runs_are_named_and_the_rest_compared(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (sweep / "3" / "config.yaml").write_text("a: [")
    (sweep / "4" / "metrics.json").write_text("")
    run(sweep, "--csv", "-")
    assert len(capsys.readouterr().out.splitlines()) == 12
    run(sweep)
    out = capsys.readouterr().out
    assert "note  3: config.yaml is not valid YAML" in out
    assert "(left out)" in out
    assert "note  4: metrics.json is not valid JSON" in out


def test_one_run_is_a_table_too(tmp_path: Path, make_run: MakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    run(make_run(tmp_path / "only"))
    assert "only" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--sort", "val/los"], "cannot sort by 'val/los': did you mean 'val/loss'"),
        (["--metrics", "nothing*"], "no run has the metric 'nothing*'"),
        (["--group-by", "optimizer.eps"], "the runs do not differ in it"),
        (["--maximize", "test/ms"], "did you mean 'test/mse'"),
        (["--csv", "/nowhere/at/all.csv"], "cannot use /nowhere/at/all.csv"),
    ],
)
def test_mistakes_are_one_sentence(
    sweep: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    assert sentence in refusal(capsys, sweep, *arguments)


def test_no_result_is_written_over_another_or_over_a_run(
    sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert "named for more than one result" in refusal(capsys, sweep, "--csv", out, "--html", out)
    record = next(sweep.rglob("metrics.json"))
    before = record.read_bytes()
    assert "is a part of the run" in refusal(capsys, sweep, "--json", record)
    assert record.read_bytes() == before


def test_nothing_to_compare_is_one_sentence(
    tmp_path: Path, make_run: MakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "there is no directory" in refusal(capsys, tmp_path / "none")
    assert "no run directory" in refusal(capsys, tmp_path)
    (make_run(tmp_path / "a") / "config.yaml").write_text("")
    assert "no run can be compared: a: config.yaml is empty" in refusal(capsys, tmp_path)


@pytest.mark.parametrize("kind", ["csv", "json", "markdown", "html"])
def test_a_full_disk_is_one_sentence_and_leaves_nothing(
    sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    target = tmp_path / "out"
    assert refusal(capsys, sweep, f"--{kind}", target) == f"narrows: cannot use {target}: No space left on device"
    assert [path for path in tmp_path.iterdir() if path.is_file()] == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_behind_the_output_is_one_sentence(tmp_path: Path, make_run: MakeRun) -> None:
    command = [sys.executable, "-m", "narrows.commands.compare", str(make_run(tmp_path / "only")), "--csv", "-"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (2, "narrows: cannot use standard output: No space left on device\n")
