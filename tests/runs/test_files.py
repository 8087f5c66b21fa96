"""What a command writes is there whole, or what was there before is; a failure names the file."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from narrows.errors import UserError, explained
from narrows.files import appearing, replacing, write_atomically
from narrows.runs.overwriting import require_outside_runs
from narrows.runs.run_directory import RunDirectory


class Full(OSError):
    """What the system says when a disk is full, without the name of any file."""

    def __init__(self) -> None:
        super().__init__(errno.ENOSPC, os.strerror(errno.ENOSPC))


def write_half(target: Path) -> None:
    with explained(), replacing(target) as file:
        file.write(b"half")
        raise Full


def test_a_full_disk_keeps_what_was_there_and_is_one_sentence(tmp_path: Path, capsys: Any) -> None:
    target = tmp_path / "table.csv"
    write_atomically(target, "before")
    with pytest.raises(SystemExit) as end:
        write_half(target)
    assert end.value.code == 2
    assert capsys.readouterr().err == f"narrows: cannot use {target}: No space left on device\n"
    assert target.read_text() == "before"
    assert list(tmp_path.iterdir()) == [target], "no temporary file stays behind"


@pytest.mark.parametrize("step", ["os.fsync", "pathlib.Path.replace"])
def test_the_last_steps_fail_as_cleanly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    def full(*_: Any) -> None:
        raise Full

    monkeypatch.setattr(step, full)
    with pytest.raises(OSError, match="No space left") as failure:
        write_atomically(tmp_path / "new", b"content")
    assert failure.value.filename == str(tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_another_file_keeps_its_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as failure, replacing(tmp_path / "out"):
        (tmp_path / "in").read_bytes()
    assert failure.value.filename == str(tmp_path / "in")


def test_a_folder_that_is_not_there_is_named_by_the_target(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as failure:
        write_atomically(tmp_path / "none" / "out", "x")
    assert failure.value.filename == str(tmp_path / "none" / "out")


def test_a_link_stays_and_what_it_leads_to_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "file")
    write_atomically(tmp_path / "link", "x")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_text() == "x"


def test_what_is_no_file_is_written_as_it_is(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write_atomically(tmp_path / "pipe", "through")
    assert os.read(reader, 100) == b"through"
    os.close(reader)
    assert (tmp_path / "pipe").is_fifo()
    write_atomically(Path(os.devnull), "x")
    assert Path(os.devnull).is_char_device()


def write_half_a_folder(target: Path) -> None:
    with appearing(target) as folder:
        (folder / "one.png").write_text("half")
        raise Full


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "new"
    with pytest.raises(Full):
        write_half_a_folder(target)
    assert list(tmp_path.iterdir()) == []
    target.mkdir()
    with appearing(target) as folder:
        (folder / "one.png").write_text("whole")
        assert list(target.iterdir()) == []
    assert (target / "one.png").read_text() == "whole"
    assert list(tmp_path.iterdir()) == [target]
    with pytest.raises(UserError, match="is there already"), appearing(target):
        pass
    assert (target / "one.png").read_text() == "whole"


def test_nothing_is_written_into_a_run(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "tasks").mkdir(parents=True)
    require_outside_runs(run / "z.npz")
    for name in ("manifest.json", "config.yaml"):
        (run / name).write_text("{}")
    for place in (run, run / "z.npz", run / "tasks" / "new" / "z.npz"):
        with pytest.raises(UserError, match="to which nothing is added"):
            require_outside_runs(place)
    require_outside_runs(tmp_path / "z.npz")


def test_a_run_directory_whose_name_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"r\? has a name that is not UTF-8"):
        RunDirectory(tmp_path / os.fsdecode(b"r\xff")).claim()
    assert not list(tmp_path.iterdir())


def test_a_sentence_writes_no_control_characters_to_the_terminal(tmp_path: Path, capsys: Any) -> None:
    with pytest.raises(SystemExit), explained():
        (tmp_path / "a\x1b[2J\nb").read_text()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.isprintable()
    assert "a\N{REPLACEMENT CHARACTER}[2J b" in line
