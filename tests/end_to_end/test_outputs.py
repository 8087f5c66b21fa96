"""What is printed and written: no reader that stops ends a run, and no full disk ends one with a traceback."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command import NARROW, NO_TASKS, TINY, manifest, run_in_process
from forks import Server
from tensorboard.summary.writer.record_writer import RecordWriter

from narrows import os_signals
from narrows.commands import command_line, compare, compress, decompress, evaluate
from narrows.commands.score import default_target
from narrows.data.dataset_files import existing, read_arrays
from narrows.data.image_files import open_image
from narrows.data.table_files import Format, read_chunks
from narrows.errors import UserError
from narrows.files import read_json, replacing
from narrows.runs import RunDirectory, TrainLog
from narrows.runs.file_names import LOCK
from narrows.training import loggers

SMALL = (*TINY, *NARROW, *NO_TASKS, "hydra.run.dir=run")
PRINTING = """
import sys
from narrows.standard_streams import make_dependable
make_dependable()
print("größe \\u2605")
sys.stdout.flush()
print("größe", file=sys.stderr)
"""


def full(*_: Any, **__: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


# ── outputs that nobody reads ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("unread", ["closed", "pipe"])
def test_a_run_whose_output_nobody_reads_completes(server: Server, tmp_path: Path, unread: str) -> None:
    bar = "+callbacks.progress={_target_:narrows.training.callbacks.Progress}"
    assert server.run(*SMALL, bar, cwd=tmp_path, unread=unread).code == 0
    assert manifest(tmp_path / "run")["status"] == "completed"
    assert "val/loss" in (tmp_path / "run" / "metrics.csv").read_text()


def printed(redirection: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    command = f"\"{sys.executable}\" -c '{PRINTING}' {redirection}"
    return subprocess.run(["bash", "-c", command], env=os.environ | environment, capture_output=True)


@pytest.mark.parametrize("redirection", [">&-", "2>&-", ">&- 2>&-", "| true", "2>&1 | true", "2> /dev/full"])
@pytest.mark.parametrize("buffered", ["", "1"])
def test_printing_to_nobody_is_no_error(redirection: str, buffered: str) -> None:
    done = printed(f"{redirection}; exit ${{PIPESTATUS[0]}}", PYTHONUNBUFFERED=buffered)
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr


def test_what_an_encoding_lacks_is_printed_as_its_escape_sequence() -> None:
    done = printed("", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stdout) == (0, b"gr\\xf6\\xdfe \\u2605\n")


def test_a_full_disk_under_the_output_is_an_error() -> None:
    done = printed("> /dev/full")
    assert done.returncode == 1
    assert b"No space left on device: 'standard output'" in done.stderr


def test_a_signal_that_is_ignored_from_outside_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as `nohup` starts a process
    try:
        with os_signals.handled():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_signal_leaves_no_temporary_file_of_a_command(tmp_path: Path) -> None:
    def work(_: Any) -> None:
        with replacing(tmp_path / "out") as file:
            file.write(b"half")
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(SystemExit) as end:
        command_line.run(command_line.new_parser("nothing", ""), work, [])
    assert end.value.code == 128 + signal.SIGTERM
    assert list(tmp_path.iterdir()) == []


# ── full disks ──────────────────────────────────────────────────────────────────────────────────────────

DISKS = {
    "history": (loggers, "open"),
    "TensorBoard": (RecordWriter, "flush"),
    "log": (TrainLog, "_open"),
    "figures": (RunDirectory, "write_metrics"),
}
"""What fails on a full disk."""


@pytest.mark.parametrize("place", DISKS)
def test_a_full_disk_is_one_sentence_and_the_run_goes_on_afterwards(
    tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(*DISKS[place], full, raising=False)
        ended = run_in_process(*SMALL, cwd=tmp_path)
    assert ended.code == 2, ended.err
    assert len(ended.complaints) == 1
    assert "No space left on device" in ended.complaints[0]
    assert str(tmp_path / "run") in ended.complaints[0]
    assert "Traceback" not in ended.err
    record = manifest(tmp_path / "run")
    assert (record["status"], "No space left" in record["error"]) == ("failed", True)
    ended = run_in_process(f"resume={tmp_path / 'run'}", cwd=tmp_path)
    assert (ended.code, manifest(tmp_path / "run")["status"]) == (0, "completed"), ended.err


def test_the_status_of_a_run_finds_room_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = RunDirectory(tmp_path / "run")
    record.claim()
    record.start(status="running")
    lock = record.path / LOCK
    room = lock.stat().st_size
    assert room > 1 << 16
    synchronise = os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: full() if lock.stat().st_size == room else synchronise(file))
    with pytest.raises(OSError, match="No space left"):
        record.update(status="running still")
    record.end(status="failed")
    assert manifest(record.path)["status"] == "failed"
    assert lock.stat().st_size < 200
    assert not list(record.path.rglob("*.tmp"))


def test_a_run_that_has_no_room_for_its_status_does_not_begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("narrows.runs.directory_lock.keep_room", full)
    ended = run_in_process(*SMALL, cwd=tmp_path)
    assert ended.complaints == [f"narrows: cannot use {tmp_path / 'run'}: No space left on device"]
    assert not (tmp_path / "run" / "manifest.json").exists()


# ── what is written over ────────────────────────────────────────────────────────────────────────────────


def refusal(main: Any, *arguments: Any, capsys: Any) -> str:
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    assert end.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("link", [None, os.link, os.symlink])
@pytest.mark.parametrize("command", [compress, decompress])
def test_no_command_writes_over_its_input(tmp_path: Path, command: Any, link: Any, capsys: Any) -> None:
    source = target = tmp_path / "x.npy"
    source.write_bytes(b"mine")
    if link is not None:
        target = tmp_path / "also.npy"
        link(source, target)
    assert "would be overwritten" in refusal(command.main, source, target, "--run", tmp_path, capsys=capsys)
    assert source.read_bytes() == b"mine"


def test_no_command_writes_over_a_file_of_the_run(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    best = tmp_path / "run" / "checkpoints" / "best.ckpt"
    best.write_bytes(b"weights")
    (tmp_path / "x.npy").touch()
    told = refusal(compress.main, tmp_path / "x.npy", best, "--run", tmp_path / "run", capsys=capsys)
    assert "is a part of the run" in told
    assert best.read_bytes() == b"weights"


@pytest.mark.parametrize(
    ("new", "target"),
    {
        "log.2026-11-27.csv": "log.2026-11-27.scored.csv",
        "log.2026-11-28.csv": "log.2026-11-28.scored.csv",
        "new.csv": "new.scored.csv",
        "a.b.CSV.gz": "a.b.scored.csv",
        "v1.5.parquet": "v1.5.scored.csv",
        "v1.5": "v1.5.scored.csv",
        ".csv": ".csv.scored.csv",
    }.items(),
)
def test_scores_of_two_files_have_two_names(new: str, target: str) -> None:
    assert default_target(Path("in") / new) == Path("in") / target


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path, capsys: Any) -> None:
    os.mkfifo(pipe := tmp_path / "x.npy")
    assert "is a pipe" in refusal(decompress.main, pipe, tmp_path / "y.npy", "--run", tmp_path, capsys=capsys)
    readers: list[Callable[[Path], Any]] = [
        *(read_json, lambda path: existing(path, "source.path"), lambda path: read_arrays(path, ["x"])),
        *(lambda path: read_chunks(path, Format()), lambda path: open_image(str(path))),
    ]
    for read in readers:
        with pytest.raises(UserError, match="is a pipe"):
            read(pipe)


# ── data without a test split ───────────────────────────────────────────────────────────────────────────


def test_a_run_without_a_test_split_is_judged_on_validation(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    without = [a for a in SMALL if a not in NO_TASKS] + ["datamodule.source.test=null", "logger=csv"]
    ended = run_in_process(*without, cwd=tmp_path)
    assert ended.code == 0, ended.err
    assert "these data have no test split" in ended.err
    assert "on the validation split" in ended.out
    assert "these data have no test split" in ended.out
    assert manifest(tmp_path / "run")["status"] == "completed"
    figures = (tmp_path / "run" / "metrics.json").read_text()
    assert "val/loss" in figures
    assert "test/" not in figures
    monkeypatch.chdir(tmp_path)
    told = refusal(evaluate.main, "run", "task=reconstruction", capsys=capsys)
    assert "tasks judge the test split, and the data of run have none" in told
    compare.main(["run"])


def test_a_task_that_needs_a_test_split_says_so_before_the_first_step(tmp_path: Path) -> None:
    ended = run_in_process(*SMALL, "datamodule.source.test=null", "+task@tasks.knn=anomaly", cwd=tmp_path)
    (told,) = ended.complaints
    assert "task knn judges the test split, and these data have none" in told
    assert "datamodule.source.test=0.1" in told
    assert "~tasks.knn" in told
    assert not (tmp_path / "run" / "metrics.csv").exists()
