"""A process that imports modules once and then forks for each job, which runs one module: `python -m
narrows.sweeps.fork_server SOCKET MODULE IMPORTED...`.

Most of a short run is spent importing; a fork begins where that is done. A job is a process of its own all the same,
with its own session, log, lock and exit code, so that a crash, a signal or a leak in one touches no other. The server
itself computes nothing, because threads of a computation would be missing in its forks.

Messages over the socket are JSON. In: `{"start": NUMBER, "arguments", "environment"}` with the descriptors of the log
and of the lock, `{"stop": NUMBER, "kill"}`. Out: `{"ended": NUMBER, "code"}`. Its end is the server's end.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
from dataclasses import dataclass, field
from typing import Any

from narrows.sweeps.end_with_parent import end_with
from narrows.sweeps.forked_jobs import LARGEST

PR_SET_NAME = 15


@dataclass
class _Server:
    """Forks jobs until the socket closes."""

    connection: socket.socket
    wakeup: int
    """A descriptor that can be read when a child has ended."""
    numbers: dict[int, int] = field(default_factory=dict)
    """The number of the job of each living child, by process."""

    def serve(self) -> list[str] | None:
        """Returns in each fork the arguments of its job, and None in the server when it is no longer needed."""
        heard: list[Any] = [self.connection, self.wakeup]
        while True:
            ready, _, _ = select.select(heard, [], [])
            if self.wakeup in ready:
                os.read(self.wakeup, LARGEST)
                self._report()
            if self.connection in ready:
                text, descriptors, _, _ = socket.recv_fds(self.connection, LARGEST, 2)
                if not text:
                    return None
                message = json.loads(text)
                if "stop" in message:
                    self._stop(message["stop"], message["kill"])
                elif self._fork(message, descriptors):
                    return list(message["arguments"])

    def _fork(self, message: dict[str, Any], descriptors: list[int]) -> bool:
        """Whether this is the new process."""
        server = os.getpid()
        try:
            child = os.fork()
        except OSError as error:
            os.write(descriptors[0], f"no process could be started: {error}\n".encode())
            self._tell(message["start"], 1)
        else:
            if child == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                self.connection.close()
                os.close(self.wakeup)
                _become_job(server, message, *descriptors)
                return True
            self.numbers[child] = message["start"]
        for descriptor in descriptors:
            os.close(descriptor)
        return False

    def _report(self) -> None:
        """Tell of the children that have ended."""
        while self.numbers:
            process, status = os.waitpid(-1, os.WNOHANG)
            if process == 0:
                return
            # Processes that it left behind would go on computing for nothing.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process, signal.SIGKILL)
            self._tell(self.numbers.pop(process), os.waitstatus_to_exitcode(status))

    def _tell(self, number: int, code: int) -> None:
        self.connection.send(json.dumps({"ended": number, "code": code}).encode())

    def _stop(self, number: int, kill: bool) -> None:
        for process in [process for process, job in self.numbers.items() if job == number]:
            with contextlib.suppress(ProcessLookupError):
                # A job without a group of its own yet has only just been forked.
                (os.killpg if kill and os.getpgid(process) == process else os.kill)(
                    process, signal.SIGKILL if kill else signal.SIGTERM
                )


def _become_job(server: int, message: dict[str, Any], log: int, lock: int) -> None:
    os.setsid()
    end_with(server)
    # What `top` and `ps -o comm` show of it; its command line is the server's.
    ctypes.CDLL(None).prctl(PR_SET_NAME, f"narrows {message['start']}".encode())
    os.environ.update(message["environment"])
    for stream in (1, 2):
        os.dup2(log, stream)
    os.close(log)
    os.set_inheritable(lock, True)


def _listen(descriptor: int) -> list[str] | None:
    readable, writable = os.pipe()
    for end in (readable, writable):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    arguments = _Server(socket.socket(fileno=descriptor), readable).serve()
    if arguments is not None:
        os.close(writable)
    return arguments


def main() -> None:
    """Serve; in a fork, run the module with the job's arguments, as `python -m MODULE` would."""
    descriptor, module, *imported = sys.argv[1:]
    gc.disable()  # next to nothing of what imports make is garbage, and looking through it takes a second
    for name in imported:
        importlib.import_module(name)
    # What was imported then stays in memory that the forks share.
    gc.freeze()
    gc.enable()
    arguments = _listen(int(descriptor))
    if arguments is not None:
        sys.argv[1:] = arguments
        # As `__main__`, where Lightning finds the module that it starts anew for further devices.
        runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
