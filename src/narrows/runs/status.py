"""The status that a run records in its manifest, whatever ends it."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from narrows import os_signals
from narrows.errors import Pruned
from narrows.runs.job import Job
from narrows.runs.provenance import nondeterministic_operations, surroundings
from narrows.runs.run_directory import RunDirectory


@contextmanager
def recorded(directory: RunDirectory, job: Job, seed: int) -> Iterator[None]:
    """Keep the manifest's status up to date, and record the operations that have no deterministic kernel.

    An attempt to resume that ends before the directory's `begin` is not recorded: the earlier status stays true.
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
    try:
        with os_signals.handled(), nondeterministic_operations() as operations:
            yield
        status = "completed"
    except Pruned:
        status = "pruned"
        raise
    except (KeyboardInterrupt, SystemExit) as error:
        status, cause = "interrupted", _signal_name(error)
        raise
    except BaseException as error:
        cause = f"{type(error).__name__}: {error}"
        raise
    finally:
        if directory.waits:
            directory.release()
        else:
            _end(directory, status, cause, started, operations)


def _end(directory: RunDirectory, status: str, cause: str | None, started: float, operations: list[str]) -> None:
    ended = time.time()
    # `began_at` has added `step` and `checkpoint`, where this attempt began.
    *before, attempt = directory.manifest["attempts"]
    attempt |= {"status": status, "error": cause, "ended": _stamp(ended)}
    known = set(directory.manifest.get("nondeterministic", []))
    for tell in directory.at_end:
        tell(status)
    directory.end(
        status=status,
        error=cause,
        ended=attempt["ended"],
        seconds=round(directory.manifest.get("seconds", 0.0) + ended - started, 3),
        nondeterministic=sorted(known | set(operations)),
        attempts=[*before, attempt],
    )


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
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
