"""Reading run directories: whole, damaged, and a stranger's."""

from __future__ import annotations

import fcntl
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from run_copies import MakeRun

from narrows.compare.run_records import find_runs, natural, read_history, read_run, read_runs
from narrows.config.plain_yaml import parse_yaml
from narrows.errors import UserError


def test_a_real_run_is_read_whole(real_run: Path) -> None:
    record = read_run(real_run)
    assert (record.status, record.notes, record.final) == ("completed", [], True)
    assert record.config["bottleneck.dim"] == 4
    assert record.choices["variant"] == "vae"
    assert record.choices["loss.kl"] == "kl"
    assert math.isfinite(record.metrics["val/loss"])
    assert "val/loss" in read_history(real_run)


def test_runs_are_found_once_in_the_order_of_their_numbers(sweep: Path) -> None:
    runs = find_runs([sweep, sweep / "3", sweep.parent])
    assert [run.name for run in runs] == [str(i) for i in range(12)]


def test_hidden_folders_and_folders_below_a_run_are_no_runs(tmp_path: Path, make_run: MakeRun) -> None:
    run = make_run(tmp_path / "a")
    make_run(tmp_path / ".trash" / "b")
    make_run(run / "again")
    (run / ".hydra").mkdir()
    (run / ".hydra" / "config.yaml").write_text("a: 1")
    assert find_runs([tmp_path]) == [run]


def test_names_are_the_shortest_that_differ(tmp_path: Path, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    make_run(tmp_path / "x" / "0")
    make_run(tmp_path / "y" / "0")
    monkeypatch.chdir(tmp_path)
    assert [record.name for record in read_runs(["x", tmp_path / "y"])] == ["x/0", "y/0"]


def test_no_place_and_no_run_are_one_sentence_each(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no directory"):
        find_runs([tmp_path / "none"])
    with pytest.raises(UserError, match="no run directory at or below"):
        find_runs([tmp_path])


@pytest.mark.parametrize(
    ("name", "content", "note"),
    [
        ("config.yaml", None, "config.yaml is missing"),
        ("config.yaml", b"a: [1, 2", "config.yaml is not valid YAML (line"),
        ("config.yaml", b"", "config.yaml is empty"),
        ("config.yaml", b"- 1\n", "config.yaml is no config"),
        ("config.yaml", b"\xff\xfe\x00a", "config.yaml is not text"),
        ("config.yaml", b"a: &x [1]\nb: *x\n", "config.yaml uses YAML aliases"),
        ("config.yaml", b"a: !!python/object/apply:os.system ['true']\n", "config.yaml is not valid YAML"),
        ("config.yaml", b"a: " + b"[" * 1_000_000, "config.yaml is nested too deeply"),
        ("config.yaml", b"a: " + b"- " * 100_000, "config.yaml is not valid YAML"),
        ("config.yaml", b"- " * 100_000, "config.yaml is nested too deeply"),
        ("manifest.json", b'{"status": "comp', "manifest.json is not valid JSON (line 1"),
        ("manifest.json", b"[1]", "manifest.json holds a list"),
        ("metrics.json", None, "metrics.json is missing"),
        ("metrics.json", b"[" * 200_000, "metrics.json is nested too deeply"),
    ],
)
def test_a_damaged_file_is_named_with_the_reason(
    tmp_path: Path, make_run: MakeRun, name: str, content: bytes | None, note: str
) -> None:
    run = make_run(tmp_path / "a")
    make_run(tmp_path / "b")
    (run / name).unlink()
    if content is not None:
        (run / name).write_bytes(content)
    damaged, sound = read_runs([tmp_path])
    assert damaged.notes[0].startswith(note)
    assert damaged.usable is (name != "config.yaml")
    assert sound.notes == []


def test_a_directory_a_pipe_and_a_giant_in_place_of_a_file(tmp_path: Path, make_run: MakeRun) -> None:
    run = make_run(tmp_path / "a")
    (run / "config.yaml").unlink()
    (run / "config.yaml").mkdir()
    (run / "metrics.json").unlink()
    (run / "metrics.json").mkdir()
    (run / "metrics.csv").unlink()
    with open(run / "manifest.json", "ab") as file:
        file.truncate(17 * 2**20)
    record = read_run(run)
    assert record.notes == [
        "manifest.json is longer than 16 MB",
        "config.yaml is not a file",
        "metrics.json is not a file",
    ]
    os.mkfifo(run / "metrics.csv")
    assert read_history(run) == {}
    record = read_run(run)
    assert record.notes == [f"{run / 'metrics.csv'} is neither a file nor a folder, which no record holds"]
    assert not record.usable


def test_a_torn_history_keeps_its_whole_rows(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text('step,metric,value\n1,val/loss,2.0\n2,val/loss,nan\n3,"a,b",1.0\n4,val/lo')
    curves = read_history(tmp_path)
    assert curves["val/loss"][0] == [1, 2]
    assert curves["a,b"] == ([3], [1.0])


def test_what_is_not_finished_shows_its_last_logged_figures(tmp_path: Path, make_run: MakeRun) -> None:
    run = make_run(tmp_path / "a", status="interrupted")
    (run / "metrics.json").unlink()
    (run / "metrics.csv").write_text("step,metric,value\n1,val/loss,3.0\n2,val/loss,2.5\n")
    record = read_run(run)
    assert (record.metrics, record.final, record.notes) == ({"val/loss": 2.5}, False, [])


def test_running_needs_a_process_that_holds_the_lock(tmp_path: Path, make_run: MakeRun) -> None:
    run = make_run(tmp_path / "a", status="running")
    (run / ".lock").write_text("1@here\n")
    assert read_run(run).status == "killed"
    script = "import sys; from pathlib import Path; from narrows.compare.run_records import read_run; "
    with open(run / ".lock", "r+") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        done = subprocess.run(
            [sys.executable, "-c", script + "print(read_run(Path(sys.argv[1])).status)", str(run)],
            capture_output=True,
            text=True,
            check=True,
        )
    assert done.stdout == "running\n"


def test_a_status_that_is_none_of_ours_is_unknown(tmp_path: Path, make_run: MakeRun) -> None:
    for i, status in enumerate(("<script>", 7, None, ["completed"])):
        assert read_run(make_run(tmp_path / str(i), status=status)).status == "unknown"


def test_manifests_of_wrong_types_are_read_as_empty(tmp_path: Path, make_run: MakeRun) -> None:
    run = make_run(tmp_path / "a", choices=["x"], overrides="seed=1", sweep=3)
    (run / "metrics.json").write_text(json.dumps({"val/loss": "low", "ok": 1, "flag": True, "a\x1b": 2.0}))
    record = read_run(run)
    assert (record.choices, record.overrides) == ({}, [])
    assert record.metrics == {"ok": 1.0, "a\N{REPLACEMENT CHARACTER}": 2.0}


def test_numbers_without_end(tmp_path: Path, make_run: MakeRun) -> None:
    run = make_run(tmp_path / "a")
    (run / "metrics.json").write_text(f'{{"val/loss": 1{"0" * 400}}}')
    (run / "config.yaml").write_text(f"a: -0x{'f' * 9000}\nb: [1{'0' * 400}]\n")
    record = read_run(run)
    assert record.metrics == {"val/loss": math.inf}
    assert record.config == {"a": -math.inf, "b": [math.inf]}


def test_yaml_dates_stay_text_and_numbers_stay_numbers() -> None:
    assert parse_yaml("a: 2026-11-21\nb: 1.0e-08\nc: '*'\n") == {"a": "2026-11-21", "b": 1e-8, "c": "*"}


def test_natural_order() -> None:
    assert sorted(["10", "9", "a2", "a10"], key=natural) == ["9", "10", "a2", "a10"]


def test_values_are_those_that_omegaconf_reads() -> None:
    words = (
        "1 -1 0x1f 1_000 1e-3 1E5 +1.5e+3 .5 -.5 1. 1._0 .inf -.inf .NaN 1:30.5 12e 1e5x 1.2.3 yes on null ~ '1e3' 1-2"
    )
    text = "".join(f"k{number}: {word}\n" for number, word in enumerate(words.split()))
    ours, theirs = parse_yaml(text), OmegaConf.to_container(OmegaConf.create(text))
    assert [repr(value) for value in ours.values()] == [repr(value) for value in theirs.values()]
    with pytest.raises(ValueError, match="duplicate key a"):
        parse_yaml("a: 1\na: 2\n")
    with pytest.raises(ValueError, match="more than 20,000 values"):
        parse_yaml("a:\n" + "- 1\n" * 20_001)
