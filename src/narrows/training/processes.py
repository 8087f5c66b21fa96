"""The processes that train one model together: when one of them dies, all end, and the record says which one and why.

Lightning's own watch kills the first process five seconds after another one has died, so that it could record nothing,
and a process that waits in a collective of NCCL for one that is gone would wait for ten minutes. Here

- a process that fails tells the others through the store by which they met, whose server is in the first process;
- the first process watches those that it has started, and they watch it;
- whoever fails because the connection to another process is lost looks for the one that died, and names that;
- whoever cannot end by itself within seconds, because it waits for a dead one, is ended by its watch, behind which the
  record is complete: the first process', or, where the first one was killed, one of the others'.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher

from narrows import os_signals
from narrows.distributed import is_distributed
from narrows.errors import Pruned, first_line, printable, sentence
from narrows.runs.run_directory import RunDirectory
from narrows.runs.status import record_killed
from narrows.training.failures import Failure, is_lost, own_rank, tell, told

PARENT = "NARROWS_FIRST_PROCESS"
"""The environment variable that tells a process who started it and is rank 0."""
GRACE = 8.0
"""Seconds in which a process is to end by itself once another one has died."""
SAVING = 60.0
"""Seconds for the same after a signal that all have agreed to obey: they save a checkpoint first."""
POLL = 0.2
LOST = 75
"""The exit code of a process that has failed only because another one did."""
AGREED = tuple(128 + number for number in os_signals.ENDING)


@dataclass
class _Started:
    """The processes that this one has started, in the order of their ranks."""

    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    first: int = 1
    """The rank of the first of them."""

    def failure(self, also_agreed: bool = False) -> Failure | None:
        """The end of one that has died for a reason of its own."""
        for rank, process in enumerate(self.processes, self.first):
            code = process.poll()
            if code not in (None, 0, LOST) and (also_agreed or code not in AGREED):
                return Failure(rank, _ended(int(code)))
        return None

    def end(self, patience: float) -> None:
        """Wait so many seconds for them, then kill those that are left."""
        until = time.monotonic() + patience
        for process in self.processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, until - time.monotonic()))
        for process in self.processes:
            if process.poll() is None:
                process.kill()
                process.wait()


class _State:
    started = _Started()


class WatchedLauncher(_SubprocessScriptLauncher):
    """Starts the processes as Lightning does, and leaves the watch over them to this module."""

    def _call_children_scripts(self) -> None:
        os.environ[PARENT] = str(os.getpid())
        super()._call_children_scripts()
        # Lightning's own watch is then over none.
        processes, self.procs = self.procs, []
        _State.started = _Started(processes, self.cluster_environment.node_rank() * self.num_processes + 1)

    def kill(self, signum: Any) -> None:
        for process in _State.started.processes:
            process.send_signal(signum)


def watch(strategy: Any) -> None:
    """Have a strategy of Lightning that starts processes by the command start them by `WatchedLauncher`."""
    launcher = strategy.launcher
    if type(launcher) is _SubprocessScriptLauncher:
        own = WatchedLauncher(launcher.cluster_environment, launcher.num_processes, launcher.num_nodes)
        strategy._launcher = own


@contextmanager
def together(record: RunDirectory | None, directory: Path) -> Iterator[None]:
    """Inside, this process ends within seconds of any other one; whoever writes the record says why in it.

    Args:
        record: of the run, in the first process; None in the others.

    Raises:
        ProcessFailed: in the first process, another one failed.
    """
    _State.started = _Started()
    ending = threading.Event()  # set once the main thread of this process is on its way out
    parent = _parent() if record is None else None
    threading.Thread(
        target=_watch, args=(record, directory, parent, ending), daemon=True, name="watch-processes"
    ).start()
    patience = SAVING
    try:
        yield
    except Pruned:
        raise
    except Exception as error:
        ending.set()
        patience = 0.0
        if record is None:
            _tell_or_leave(error, directory, parent)
            raise
        found = _cause(error)
        if found is not None:
            record.rank, patience = found.rank, POLL
            raise found.error() from error
        record.rank = 0 if is_distributed() else None
        raise
    finally:
        ending.set()
        _State.started.end(patience)


def _tell_or_leave(error: Exception, directory: Path, parent: int | None) -> None:
    """Tell the first process of an error of this one; leave at once where it is the error of another process.

    Raises:
        SystemExit: it is another's.
    """
    found = _State.started.failure() if is_lost(error) else Failure(own_rank(), f"{type(error).__name__}: {error}")
    if found is not None:
        tell(found)
        return
    if not is_lost(error):
        return
    _wait_for(lambda: _is_gone(parent), GRACE)
    if parent is not None and _is_gone(parent):
        _record_for(directory, parent)
    raise SystemExit(LOST) from error


def _cause(error: Exception) -> Failure | None:
    """The failure of another process because of which this one has failed; None where the error is its own."""
    if not is_lost(error):
        return None
    found: list[Failure | None] = [None]

    def look() -> bool:
        found[0] = told() or _State.started.failure(also_agreed=True)
        return found[0] is not None

    _wait_for(look, GRACE)
    # Of processes that others have started, nobody here sees the end.
    return found[0] or Failure(None, f"the connection to it is lost ({first_line(error)})")


def _watch(record: RunDirectory | None, directory: Path, parent: int | None, ending: threading.Event) -> None:
    while not ending.wait(POLL):
        found = _State.started.failure(also_agreed=True)
        if found is None and not _is_gone(parent):
            continue
        agreed = found is not None and _State.started.failure() is None
        if ending.wait(SAVING if agreed else GRACE):
            return
        _give_up(record, directory, parent, found)
        return


def _give_up(record: RunDirectory | None, directory: Path, parent: int | None, found: Failure | None) -> None:
    """Record the end and end this process, whose main thread waits for one that is dead."""
    if record is not None:
        found = told() or found
        if found is None or record.fail is None or not record.fail(found.what, found.rank):
            return  # the main thread is recording its end
    try:
        if record is not None and found is not None:
            _print(found)
        elif found is not None:
            tell(found)
        elif parent is not None:
            _record_for(directory, parent)
        _State.started.end(0.0)
        sys.stderr.flush()
    finally:
        os._exit(2 if record is not None else LOST)


def _record_for(directory: Path, parent: int) -> None:
    found = Failure(0, f"process {parent} was killed")
    if record_killed(directory, parent, found.what):
        _print(found)


def _print(found: Failure) -> None:
    print(f"narrows: {printable(str(sentence(found.error())))}", file=sys.stderr)


def _wait_for(happened: Callable[[], bool], seconds: float) -> None:
    until = time.monotonic() + seconds
    while not happened() and time.monotonic() < until:
        time.sleep(POLL / 4)


def _parent() -> int | None:
    """The process that started this one, if that is rank 0."""
    text = os.environ.get(PARENT)
    started_here = text is not None and int(text) != os.getpid() and os.environ.get("NODE_RANK", "0") == "0"
    return int(text) if text is not None and started_here else None


def _is_gone(parent: int | None) -> bool:
    return parent is not None and os.getppid() != parent


def _ended(code: int) -> str:
    """A process' exit code in words."""
    if code < 0:
        with suppress(ValueError):
            return f"killed by {signal.Signals(-code).name}"
    if code in AGREED:
        return f"ended by {signal.Signals(code - 128).name}"
    return f"ended with exit code {code}, for the reason that it has printed"
