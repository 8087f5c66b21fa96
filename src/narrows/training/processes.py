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
from narrows.training.neighbours import Neighbours, neighbours

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
    lowest: int = 1
    """The rank of the first of them."""

    def failure(self, also_agreed: bool = False) -> Failure | None:
        """The end of one that has died for a reason of its own."""
        for rank, process in enumerate(self.processes, self.lowest):
            code = process.poll()
            if code not in (None, 0, LOST) and (also_agreed or code not in AGREED):
                return Failure(rank, _ended(int(code)))
        return None

    @property
    def first(self) -> int | None:
        """The number of the process that started this one, if that is rank 0."""
        text = os.environ.get(PARENT)
        started_here = text is not None and int(text) != os.getpid() and os.environ.get("NODE_RANK", "0") == "0"
        return int(text) if text is not None and started_here else None

    def first_is_gone(self) -> bool:
        return self.first is not None and os.getppid() != self.first

    def leave(self, failure: Failure | None) -> None:
        """Do nothing: whoever started this process sees how it ends."""

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
    others: _Started | Neighbours = _Started()


class WatchedLauncher(_SubprocessScriptLauncher):
    """Starts the processes as Lightning does, and leaves the watch over them to this module."""

    def _call_children_scripts(self) -> None:
        os.environ[PARENT] = str(os.getpid())
        super()._call_children_scripts()
        # Lightning's own watch is then over none.
        processes, self.procs = self.procs, []
        _State.others = _Started(processes, self.cluster_environment.node_rank() * self.num_processes + 1)

    def kill(self, signum: Any) -> None:
        if isinstance(_State.others, _Started):
            for process in _State.others.processes:
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
    _State.others = neighbours() or _Started()
    ending = threading.Event()  # set once the main thread of this process is on its way out
    threading.Thread(target=_watch, args=(record, directory, ending), daemon=True, name="watch-processes").start()
    patience, own = SAVING, None
    try:
        yield
    except Pruned:
        raise
    except Exception as error:
        ending.set()
        patience = 0.0
        # Whoever started these processes ends them all now; what is said of the end is to be complete before.
        os_signals.ignore()
        own = None if is_lost(error) else Failure(own_rank(), f"{type(error).__name__}: {error}")
        if record is None:
            _tell_or_leave(error, own, directory)
            raise
        found = _cause(error) if own is None else None
        if found is not None:
            record.rank, patience = found.rank, POLL
            raise found.error() from error
        record.rank = 0 if is_distributed() else None
        raise
    except SystemExit as error:
        os_signals.ignore()
        found = _State.others.failure()
        if record is not None and found is not None:
            record.rank = found.rank
            raise found.error() from error
        raise
    finally:
        ending.set()
        _State.others.leave(own)
        _State.others.end(patience)


def _tell_or_leave(error: Exception, own: Failure | None, directory: Path) -> None:
    """Tell the first process of an error of this one; leave at once where it is the error of another process.

    Raises:
        SystemExit: it is another's.
    """
    found = own or _State.others.failure()
    if found is not None:
        tell(found)
        return
    _wait_for(_State.others.first_is_gone, GRACE)
    if _State.others.first_is_gone():
        _record_for(directory)
    raise SystemExit(LOST) from error


def _cause(error: Exception) -> Failure:
    """The failure of another process because of which this one has failed."""
    found: list[Failure | None] = [None]

    def look() -> bool:
        found[0] = told() or _State.others.failure(also_agreed=True)
        return found[0] is not None

    _wait_for(look, GRACE)
    # Of processes of other hosts, nobody here sees the end.
    return found[0] or Failure(None, f"the connection to it is lost ({first_line(error)})")


def _watch(record: RunDirectory | None, directory: Path, ending: threading.Event) -> None:
    while not ending.wait(POLL):
        found = _State.others.failure(also_agreed=True)
        if found is None and not _State.others.first_is_gone():
            continue
        agreed = found is not None and _State.others.failure() is None
        if ending.wait(SAVING if agreed else GRACE):
            return
        _give_up(record, directory, found)
        return


def _give_up(record: RunDirectory | None, directory: Path, found: Failure | None) -> None:
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
        else:
            _record_for(directory)
        _State.others.leave(None)
        _State.others.end(0.0)
        sys.stderr.flush()
    finally:
        os._exit(2 if record is not None else LOST)


def _record_for(directory: Path) -> None:
    """Record on behalf of the first process that it was killed, if it has not recorded its end itself."""
    number = _State.others.first
    assert number is not None
    found = Failure(0, f"process {number} was killed")
    if record_killed(directory, number, found.what):
        _print(found)


def _print(found: Failure) -> None:
    print(f"narrows: {printable(str(sentence(found.error())))}", file=sys.stderr)


def _wait_for(happened: Callable[[], bool], seconds: float) -> None:
    until = time.monotonic() + seconds
    while not happened() and time.monotonic() < until:
        time.sleep(POLL / 4)


def _ended(code: int) -> str:
    """A process' exit code in words."""
    if code < 0:
        with suppress(ValueError):
            return f"killed by {signal.Signals(-code).name}"
    if code in AGREED:
        return f"ended by {signal.Signals(code - 128).name}"
    return f"ended with exit code {code}, for the reason that it has printed"
