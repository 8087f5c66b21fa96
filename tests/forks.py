"""Whole runs in processes of their own, at the cost of a fork: to be killed at any point.

One server process imports everything once and forks a child per run. A child can be told to kill itself with
SIGKILL at the n-th call of some function, which hits moments that a timer seldom does.

Started as a program this file is the server: it reads one JSON object a line and answers with one.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass
class KillAt:
    """The `count`-th call of `module:owner.name` sends its own process a signal."""

    place: str
    count: int = 1
    number: int = signal.SIGKILL


@dataclass
class Limits:
    """What a process may use before it ends."""

    seconds: int
    """Of the wall clock; the end is SIGALRM, code 142."""
    memory: int
    """Bytes that it may allocate beyond what was imported; more is refused by the system."""


@dataclass
class Ended:
    code: int
    """As a shell says it: 137 after SIGKILL."""
    out: str


class Server:
    """Forks `narrows train` runs.

    Args:
        imports: further modules that it imports before it forks.
    """

    def __init__(self, *imports: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, *imports],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def start(
        self,
        *arguments: str,
        cwd: Path,
        kill: KillAt | None = None,
        without: str | None = None,
        unread: str | None = None,
        main: str = "narrows.commands.train:main",
        limits: Limits | None = None,
    ) -> int:
        """Start `narrows train ARGUMENTS`; its process id.

        Args:
            without: a function (`module:name`) that does nothing in this process.
            unread: `closed` or `pipe`: its outputs are closed, or pipes that nobody reads any more.
            main: the function (`module:name`) that reads the arguments from `sys.argv`; by default that of `train`.
            limits: what the process may use.
        """
        order = None if kill is None else vars(kill)
        allowed = None if limits is None else vars(limits)
        asked = {"arguments": arguments, "cwd": str(cwd), "kill": order, "without": without, "unread": unread}
        return self._ask(asked | {"main": main, "limits": allowed})["pid"]

    def wait(self, pid: int) -> Ended:
        """What became of it."""
        answer = self._ask({"wait": pid})
        return Ended(answer["code"], answer["out"])

    def run(self, *arguments: str, cwd: Path, **how: Any) -> Ended:
        return self.wait(self.start(*arguments, cwd=cwd, **how))

    def close(self) -> None:
        # In words: a process that was forked meanwhile (a loader's worker) may hold the pipe open for ever.
        assert self._process.stdin is not None
        self._process.stdin.write('{"end": true}\n')
        with self._process:  # closes its pipes and waits
            pass


def _found(place: str) -> tuple[Any, str]:
    """The owner of `module:owner.name`, and the name."""
    module, _, names = place.partition(":")
    *owners, name = names.split(".")
    owner: Any = importlib.import_module(module)
    for part in owners:
        owner = getattr(owner, part)
    return owner, name


def _arm(kill: dict[str, Any]) -> None:
    """Replace the function by one that counts its calls and sends the signal at the right one."""
    owner, name = _found(kill["place"])
    original, calls = getattr(owner, name), [0]

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls[0] += 1
        if calls[0] == kill["count"]:
            os.kill(os.getpid(), kill["number"])
        return original(*args, **kwargs)

    setattr(owner, name, counted)


def _unread(how: str) -> None:
    """Outputs as a shell's `>&-` or a pipe to `true` leave them."""
    if how == "closed":
        os.close(1)
        os.close(2)
        sys.stdout = sys.stderr = None  # type: ignore[assignment]
        return
    reader, writer = os.pipe()
    os.close(reader)
    os.dup2(writer, 1)
    os.dup2(writer, 2)
    os.close(writer)


def _limit(seconds: int, memory: int) -> None:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + memory, used + memory))
    signal.alarm(seconds)


def _child(request: dict[str, Any], output: Path) -> None:
    handle = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    if request["unread"] is not None:
        _unread(request["unread"])
    os.setsid()
    os.chdir(request["cwd"])
    sys.argv = ["narrows.commands.train", *request["arguments"]]
    if request["kill"] is not None:
        _arm(request["kill"])
    if request["without"] is not None:
        setattr(*_found(request["without"]), lambda *_: None)
    if request["limits"] is not None:
        _limit(**request["limits"])
    from command import call

    code = call(getattr(*_found(request["main"])))
    if request["unread"] is None:
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def _serve() -> None:

    # isort: split
    import command  # noqa: F401

    for name in sys.argv[1:]:
        importlib.import_module(name)
    outputs: dict[int, Path] = {}
    for line in sys.stdin:
        request = json.loads(line)
        if "end" in request:
            return
        if "wait" in request:
            pid = request["wait"]
            _, status = os.waitpid(pid, 0)
            code = os.waitstatus_to_exitcode(status)
            answer = {"code": code if code >= 0 else 128 - code, "out": outputs[pid].read_text()}
        else:
            output = Path(request["cwd"]) / f"output-{time.monotonic_ns()}.txt"
            pid = os.fork()
            if pid == 0:
                _child(request, output)
            outputs[pid] = output
            answer = {"pid": pid}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    _serve()
