"""What differs between two runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from run_copies import MakeRun

from narrows.commands import diff
from narrows.compare.run_records import read_run
from narrows.compare.two_runs import MISSING, config_differences, surroundings_differences
from narrows.types import DataSpec

SECTIONS = ["config", "command", "code", "versions", "hardware", "data", "status", "metrics"]


def test_config_differences_are_flat_and_name_what_is_missing() -> None:
    a = {"encoder": {"widths": [1, 2], "norm": None}, "seed": 0, "x": {}}
    b = {"encoder": {"widths": [1, 3], "norm": None}, "seed": False, "y": {"z": float("nan")}}
    assert config_differences(a, b) == {
        "encoder.widths": ([1, 2], [1, 3]),
        "seed": (0, False),
        "x": ({}, MISSING),
        "y.z": (MISSING, b["y"]["z"]),
    }
    assert repr(MISSING) == "(absent)"
    assert config_differences(a, a) == {}
    assert config_differences(b, {"y": {"z": float("nan")}} | b) == {}


def test_surroundings_in_four_sections() -> None:
    a = {
        "narrows": "0.1.0",
        "git": {"commit": "abc", "diff": ""},
        "source": "s1",
        "python": "3.11.7",
        "versions": {"torch": "2.13.0", "ast_serialize": "1", "narrows": "0.1.0"},
        "hardware": {"cpu": "x", "gpus": [], "threads": 1},
        "data": {"fingerprint": "f", "shape": [1, 8, 8], "size": 10},
    }
    same = {name: {} for name in ("code", "versions", "hardware", "data")}
    assert surroundings_differences(a, a) == same
    b = {
        "narrows": "0.2.0",
        "git": {"commit": "abc", "diff": "diff --git a/x b/x\n--- a/x\n+++ b/x\n-old\n+new\n+more\n"},
        "source": "s2",
        "python": "3.12.1",
        "versions": {"torch": "2.14.0", "ast-serialize": "1", "narrows": "0.2.0", "new": "1"},
        "hardware": {"cpu": "x", "gpus": ["H200"], "threads": 2},
        "data": {"fingerprint": "g", "shape": [1, 8, 8], "size": 11},
    }
    found = surroundings_differences(a, b)
    changes = found["code"].pop("uncommitted changes")
    assert changes[0] == "none"
    assert changes[1].startswith("1 file +2 -1 (")
    assert found == {
        "code": {"narrows": ("0.1.0", "0.2.0"), "source": ("s1", "s2")},
        "versions": {"python": ("3.11.7", "3.12.1"), "torch": ("2.13.0", "2.14.0"), "new": (MISSING, "1")},
        "hardware": {"threads": (1, 2), "GPUs": ([], ["H200"])},
        "data": {"fingerprint": ("f", "g"), "training examples": (10, 11)},
    }
    assert surroundings_differences({}, {"git": None, "versions": 3}) == same


def test_what_an_earlier_version_did_not_record_is_no_difference() -> None:
    new = DataSpec(shape=(3,), kind="vector", size=9).to_dict()
    old = {key: value for key, value in new.items() if key not in ("variable", "totals")}
    assert surroundings_differences({"data": old}, {"data": new})["data"] == {}
    found = surroundings_differences({"data": old}, {"data": new | {"variable": True}})["data"]
    assert found == {"different lengths": (False, True)}


def test_sections_show_what_differs_and_nothing_else(tmp_path: Path, make_run: MakeRun) -> None:
    a = make_run(tmp_path / "a", {"seed": 0}, {"val/loss": 2.0, "throughput/steps": 9.0})
    b = make_run(tmp_path / "b", {"seed": 1}, {"val/loss": 1.5, "throughput/steps": 5.0}, python="3.99.0")
    found = diff.sections(read_run(a), read_run(b))
    assert list(found) == SECTIONS
    assert found["config"] == {"seed": (0, 1)}
    assert found["command"] == {"seed": ("0", "1")}
    assert list(found["versions"]) == ["python"]
    assert found["metrics"] == {"val/loss": (2.0, 1.5)}
    assert [name for name in SECTIONS if not found[name]] == ["code", "hardware", "data", "status"]


def test_the_command_says_no_difference_where_there_is_none(
    tmp_path: Path, make_run: MakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = make_run(tmp_path / "a", {"seed": 0}), make_run(tmp_path / "b", {"seed": 0})
    diff.main([str(a), str(b), "--exit-code"])
    out = capsys.readouterr().out
    assert [f"{name}: no difference" in out for name in SECTIONS] == [True] * len(SECTIONS)


def test_the_command_shows_absolute_and_relative_differences(
    tmp_path: Path, make_run: MakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    a = make_run(tmp_path / "a", {}, {"val/loss": 2.0, "extra": 0.0})
    b = make_run(tmp_path / "b", {"encoder.activation": "[red]\x1b[2J"}, {"val/loss": 1.5, "extra": 1.0, "only_b": 1.0})
    diff.main([str(a), str(b)])
    out = capsys.readouterr().out
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line.strip()}
    assert rows["val/loss"] == ["2", "1.5", "-0.5", "-25%"]
    assert rows["extra"] == ["0", "1", "+1"]
    assert rows["only_b"] == ["(absent)", "1"]
    assert "\x1b" not in out
    assert "[red]" in out
    with pytest.raises(SystemExit) as end:
        diff.main([str(a), str(b), "--exit-code"])
    assert end.value.code == 1


def test_uncommitted_changes_line_by_line(
    tmp_path: Path, make_run: MakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [
        make_run(tmp_path / word, git={"commit": "c", "diff": f"diff --git a/x b/x\n+{word}\n"}) for word in ("p", "q")
    ]
    diff.main([*map(str, runs), "--patch"])
    lines = capsys.readouterr().out.splitlines()
    assert "-+p" in lines
    assert "++q" in lines


@pytest.mark.parametrize("place", ["none", "."])
def test_what_is_no_run_is_one_sentence(
    tmp_path: Path, make_run: MakeRun, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    run = make_run(tmp_path / "a")
    with pytest.raises(SystemExit) as end:
        diff.main([str(run), str(tmp_path / place)])
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("narrows: ")


def test_a_damaged_run_is_said_to_be(tmp_path: Path, make_run: MakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = make_run(tmp_path / "a"), make_run(tmp_path / "b")
    (b / "metrics.json").write_text("{")
    diff.main([str(a), str(b)])
    out = capsys.readouterr().out
    assert "note: metrics.json is not valid JSON" in out
    assert "metrics: not compared" in out
    assert "metrics: no difference" not in out
    with pytest.raises(SystemExit) as end:
        diff.main([str(b), str(b), "--exit-code"])
    assert end.value.code == 1


@pytest.mark.parametrize("content", [None, b"a: [1", b"\x00\xff", b"", b"- 1"])
@pytest.mark.parametrize("name", ["config.yaml", "manifest.json"])
def test_a_run_without_a_readable_record_is_never_without_difference(
    tmp_path: Path, make_run: MakeRun, capsys: pytest.CaptureFixture[str], name: str, content: bytes | None
) -> None:
    a, b = make_run(tmp_path / "a"), make_run(tmp_path / "b")
    for run in (a, b):
        (run / "checkpoints").mkdir()
        (run / name).unlink()
        if content is not None:
            (run / name).write_bytes(content)
    with pytest.raises(SystemExit) as end:
        diff.main([str(a), str(b)])
    assert end.value.code == 2
    said = capsys.readouterr()
    assert "no difference" not in said.out
    (line,) = said.err.splitlines()
    assert f"cannot be compared: {name}" in line
