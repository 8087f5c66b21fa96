"""Jobs that are forks of one process of this machine; see `narrows.sweeps.fork_server`."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from narrows.sweeps.workers import Task, guard, lives, opened_log, taken

LARGEST = 1 << 20
"""Bytes of a message."""
PATIENCE = 20.0
"""Seconds for the server to end in; it may still be importing."""
SERVER = (sys.executable, "-m", "narrows.sweeps.fork_server")
MODULE = "narrows.commands.train"
IMPORTED = ("narrows.training.experiment", "narrows.training.callbacks", "narrows.training.loggers")
"""What every run imports, with all that these import in turn."""


@dataclass
class ForkServer:
    """The process that forks, started anew if it has died.

    Args:
        environment: of the process, beside this one's.
        log: what the process itself prints, such as a failed import; None: nowhere.
        module: what a job runs, with its arguments.
        imported: modules that it imports once.
    """

    environment: dict[str, str]
    log: Path | None = None
    module: str = MODULE
    imported: tuple[str, ...] = IMPORTED
    ended: dict[int, int] = field(default_factory=dict)
    """Exit codes of ended jobs that nobody has asked for yet."""
    _connection: socket.socket | None = None
    _process: subprocess.Popen[bytes] | None = None

    def can_run(self, task: Task) -> bool:
        """Whether a fork can run this task: its module, without a GPU, because CUDA does not survive a fork after its
        first use, and importing may be one; and on Linux, whose kernel ends forks with their parent."""
        return sys.platform == "linux" and task.command[:3] == self._start and task.devices == 0

    @property
    def _start(self) -> tuple[str, ...]:
        return (sys.executable, "-m", self.module)

    def start(self, task: Task) -> Forked:
        """Fork the task's process in its own session, holding the task's lock.

        Raises:
            UserError: a process of this job is already running.
        """
        process = self._connect()
        with taken(task) as lock, opened_log(task) as log:
            self._send(
                {"start": task.number, "arguments": task.command[3:], "environment": task.environment},
                [log.fileno(), lock],
            )
        return Forked(task, self, process)

    def stop(self, number: int, kill: bool) -> None:
        if self._connection is not None:
            self._send({"stop": number, "kill": kill})

    def runs(self, process: subprocess.Popen[bytes]) -> bool:
        """Whether this is the process that forks now; it is another one once it has died."""
        return self.listen() and self._process is process

    def listen(self) -> bool:
        """Hear which jobs have ended; returns whether the process still lives."""
        while self._connection is not None:
            try:
                text = self._connection.recv(LARGEST, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return True
            except ConnectionError:
                text = b""
            if not text:
                self.close()
                return False
            message = json.loads(text)
            self.ended[message["ended"]] = message["code"]
        return False

    def close(self) -> None:
        """End the process; jobs that still run are asked to save and end."""
        if self._connection is not None and self._process is not None:
            self._connection.close()
            try:
                self._process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._connection = self._process = None

    def _connect(self) -> subprocess.Popen[bytes]:
        if self.listen() and self._process is not None:
            return self._process
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (here, there):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LARGEST)
        target = Path(os.devnull) if self.log is None else self.log
        with there, target.open("ab") as log:
            self._process = subprocess.Popen(
                [*guard(), *SERVER, str(there.fileno()), self.module, *self.imported],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | self.environment,
                start_new_session=True,
                pass_fds=[there.fileno()],
            )
        self._connection = here
        return self._process

    def _send(self, message: dict[str, Any], descriptors: list[int] | None = None) -> None:
        assert self._connection is not None
        try:
            socket.send_fds(self._connection, [json.dumps(message).encode()], descriptors or [])
        except (BrokenPipeError, ConnectionResetError):
            self.close()


@dataclass
class Forked:
    """A job that the fork server has been asked to start.

    Args:
        process: the server's at that time, which alone will tell the exit code.
    """

    task: Task
    server: ForkServer
    process: subprocess.Popen[bytes]
    token: str | None = None
    code: int | None = None

    def done(self) -> bool:
        if self.code is None:
            alive = self.server.runs(self.process)
            self.code = self.server.ended.pop(self.task.number, None)
            # Without the server nobody knows the code; the run's own record shows how far it got.
            return self.code is not None or (not alive and not lives(self.task))
        return True

    def stop(self, kill: bool = False) -> None:
        self.server.stop(self.task.number, kill)
