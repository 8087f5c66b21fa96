"""The status that a run records in its manifest, whatever ends it."""

from __future__ import annotations

import calendar
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from narrows import os_signals
from narrows.errors import ProcessFailed, Pruned, UserError
from narrows.runs.job import Job
from narrows.runs.provenance import nondeterministic_operations, surroundings
from narrows.runs.run_directory import RunDirectory

STAMP = "%Y-%m-%dT%H:%M:%SZ"
"""How the manifest writes a time, in UTC."""


@contextmanager
def recorded(directory: RunDirectory, job: Job, seed: int) -> Iterator[None]:
    """Keep the manifest's status up to date, and record the operations that have no deterministic kernel.

    An attempt to resume that ends before the directory's `begin` is not recorded: the earlier status stays true.
    Inside, `directory.fail` records a failure from another thread, where this one can no longer end.
    """
    started = time.time()
    attempt = {"started": _stamp(started), "host": socket.gethostname(), "pid": os.getpid(), "status": "running"}
    before = directory.manifest.get("attempts", [])
    record: dict[str, Any] = {"status": "running"}
    if not before:
        record |= {"started": attempt["started"]} | surroundings(job.overrides, job.choices, seed) | _notes(job)
    elif job.overrides:
        attempt["overrides"] = job.overrides
    directory.start(**record, attempts=[*before, attempt])
    status, cause = "failed", None
    operations: list[str] = []
    ending = threading.Lock()

    def end(status: str, cause: str | None, rank: int | None, wait: bool) -> bool:
        # Never released: the record ends once. Who comes second waits for the end of the process.
        if not ending.acquire(blocking=wait):
            return False
        directory.rank = rank
        if directory.waits:
            directory.release()
        else:
            _end(directory, status, cause, started, operations)
        return True

    def fail(what: str, rank: int | None) -> bool:
        return end("failed", what, rank, wait=False)

    directory.fail = fail
    with os_signals.handled():
        try:
            with nondeterministic_operations() as noted:
                operations = noted
                yield
            status = "completed"
        except Pruned:
            status = "pruned"
            raise
        except (KeyboardInterrupt, SystemExit) as error:
            status, cause = "interrupted", _signal_name(error)
            raise
        except ProcessFailed as error:
            cause = error.what
            raise
        except BaseException as error:
            cause = f"{type(error).__name__}: {error}"
            raise
        finally:
            os_signals.ignore()
            end(status, cause, directory.rank, wait=True)


def _end(directory: RunDirectory, status: str, cause: str | None, started: float, operations: list[str]) -> None:
    ended = time.time()
    # `began_at` has added `step` and `checkpoint`, where this attempt began.
    *before, attempt = directory.manifest["attempts"]
    attempt |= {"status": status, "error": cause, "ended": _stamp(ended)} | _which(directory)
    known = set(directory.manifest.get("nondeterministic", []))
    for tell in directory.at_end:
        tell(status)
    directory.end(
        status=status,
        error=cause,
        **_which(directory),
        ended=attempt["ended"],
        seconds=round(directory.manifest.get("seconds", 0.0) + ended - started, 3),
        nondeterministic=sorted(known | set(operations)),
        attempts=[*before, attempt],
    )


def _which(directory: RunDirectory) -> dict[str, int | None]:
    """The rank of the process that failed; None clears what an earlier attempt has left."""
    known = directory.rank is not None or "rank" in directory.manifest
    return {"rank": directory.rank} if known else {}


def record_killed(path: Path, pid: int, what: str) -> bool:
    """Mark a run as failed whose first process was killed, on behalf of which another one of its processes calls this.

    Args:
        pid: of the first process.
        what: its end.

    Returns:
        Whether it was marked: it is not where that process had recorded its end itself, or another one writes the run.
    """
    directory = RunDirectory(path)
    try:
        directory.reclaim()
    except UserError:  # another one of its processes records it now, or the run goes on already
        return False
    attempt = (directory.manifest.get("attempts") or [{}])[-1]
    own = (attempt.get("pid"), attempt.get("host"), attempt.get("status")) == (pid, socket.gethostname(), "running")
    if not own:
        directory.release()
        return False
    directory.rank = 0
    started = calendar.timegm(time.strptime(attempt["started"], STAMP))
    _end(directory, "failed", what, started, [])
    return True


def began_at(directory: RunDirectory, step: int, checkpoint: str | None) -> None:
    """Record the step and checkpoint from which the present attempt starts."""
    *before, attempt = directory.manifest["attempts"]
    directory.update(attempts=[*before, attempt | {"step": step, "checkpoint": checkpoint}])


def _notes(job: Job) -> dict[str, Any]:
    return job.notes | ({} if job.sweep is None else {"sweep": job.sweep.to_manifest()})


def _signal_name(error: BaseException) -> str:
    code = getattr(error, "code", None)
    if isinstance(code, int) and code > 128:
        return next((number.name for number in os_signals.ENDING if number == code - 128), str(code))
    return type(error).__name__


def _stamp(seconds: float) -> str:
    return time.strftime(STAMP, time.gmtime(seconds))
