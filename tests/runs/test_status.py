"""The status of a run that several processes train, where its main thread cannot record it."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from narrows.errors import ProcessFailed
from narrows.runs import directory_lock
from narrows.runs.job import Job
from narrows.runs.run_directory import RunDirectory
from narrows.runs.status import record_killed, recorded


def manifest(path: Path) -> dict[str, Any]:
    return json.loads((path / "manifest.json").read_text())


@pytest.fixture
def claimed(tmp_path: Path) -> RunDirectory:
    directory = RunDirectory(tmp_path / "run")
    directory.claim()
    return directory


def test_the_rank_that_failed_is_recorded_with_its_error(claimed: RunDirectory) -> None:
    claimed.rank = 2
    with pytest.raises(ProcessFailed), recorded(claimed, Job(claimed.path), 0):
        raise ProcessFailed(2, 4, "killed by SIGKILL")
    record = manifest(claimed.path)
    for entry in (record, record["attempts"][0]):
        assert (entry["status"], entry["error"], entry["rank"]) == ("failed", "killed by SIGKILL", 2)


def test_a_run_of_one_process_names_no_rank(claimed: RunDirectory) -> None:
    with pytest.raises(ArithmeticError), recorded(claimed, Job(claimed.path), 0):
        raise ArithmeticError("no")
    assert "rank" not in manifest(claimed.path)


def test_another_thread_records_once_what_a_stuck_main_thread_cannot(claimed: RunDirectory) -> None:
    inside, over = threading.Event(), threading.Event()

    def main() -> None:
        with recorded(claimed, Job(claimed.path), 0):
            inside.set()
            over.wait()

    # Its end waits for that of the process, which never comes here.
    stuck = threading.Thread(target=main, daemon=True)
    # Python lets the main thread alone set signals.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("narrows.os_signals.install", lambda: None)
        patch.setattr("signal.signal", lambda *_: None)
        stuck.start()
        assert inside.wait(60)
        assert claimed.fail is not None
        assert claimed.fail("killed by SIGKILL", 1)
        assert not claimed.fail("something else", 3)
        over.set()
        stuck.join(0.2)
    assert stuck.is_alive()
    record = manifest(claimed.path)
    assert (record["status"], record["error"], record["rank"]) == ("failed", "killed by SIGKILL", 1)
    assert not directory_lock.is_held(claimed.path)


def test_a_signal_does_not_cut_the_record_of_the_end(claimed: RunDirectory) -> None:
    claimed.at_end.append(lambda _: os.kill(os.getpid(), signal.SIGTERM))
    with recorded(claimed, Job(claimed.path), 0):
        pass
    assert manifest(claimed.path)["status"] == "completed"
    assert not directory_lock.is_held(claimed.path)


def begun(claimed: RunDirectory) -> Path:
    """A run whose process was killed: its record says `running`, and nobody holds it."""
    with recorded(claimed, Job(claimed.path), 0):
        running = (claimed.path / "manifest.json").read_bytes()
    (claimed.path / "manifest.json").write_bytes(running)
    return claimed.path


def test_a_survivor_marks_the_run_of_a_killed_process(claimed: RunDirectory) -> None:
    run = begun(claimed)
    assert record_killed(run, os.getpid(), "process 7 was killed")
    record = manifest(run)
    assert (record["status"], record["error"], record["rank"]) == ("failed", "process 7 was killed", 0)
    assert record["attempts"][0]["status"] == "failed"
    assert 0 <= record["seconds"] < 3600
    assert not record_killed(run, os.getpid(), "once more")
    assert manifest(run) == record


def test_nobody_marks_the_run_of_another_process_or_one_that_goes_on(claimed: RunDirectory) -> None:
    run = begun(claimed)
    before = (run / "manifest.json").read_bytes()
    assert not record_killed(run, os.getpid() + 1, "not its process")
    directory_lock.hold(run, "is writing")
    try:
        assert not record_killed(run, os.getpid(), "it goes on already")
    finally:
        directory_lock.release(run)
    assert (run / "manifest.json").read_bytes() == before
