"""Workers that run jobs as processes of this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

from narrows.errors import require
from narrows.runs.file_names import LOGS
from narrows.sweeps.forked_jobs import ForkServer
from narrows.sweeps.workers import Handle, Task, Watched, end, lives, spawn


class Local:
    """Runs up to `jobs` processes at once on this machine.

    Each gets an equal share of the cores as threads, unless OMP_NUM_THREADS is set, and the least used GPUs, by
    CUDA_VISIBLE_DEVICES.

    Args:
        jobs: most of them at once.
        fork: whether jobs are forks of one process that has imported the libraries, where that can be, instead of
            importing them anew.

    Raises:
        UserError: an argument out of its range.
    """

    shared = False

    def __init__(self, jobs: int = 1, fork: bool = True) -> None:
        require(jobs >= 1, f"sweep.workers.jobs must be at least 1, not {jobs}")
        self.jobs, self.fork = jobs, fork
        self._gpus = Deal(visible_gpus())
        self.server = ForkServer(threads(jobs))

    def prepare(self, sweep: Path) -> None:
        self.server.log = sweep / LOGS / "fork_server.log"

    def start(self, task: Task) -> Handle:
        environment = {**task.environment, **threads(self.jobs)}
        task = task if self._gpus.users else replace(task, devices=0)
        if self.fork and self.server.can_run(task):
            return self.server.start(replace(task, environment=environment))
        gpus = self._gpus.take(task.devices, self.jobs)
        if gpus:
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
        return Process(spawn(replace(task, environment=environment)), self._gpus, gpus)

    def attach(self, task: Task, token: str | None) -> Handle | None:
        return Watched(task) if lives(task) else None

    def close(self) -> None:
        self.server.close()


@dataclass
class Process:
    """A process of this machine."""

    process: subprocess.Popen[bytes]
    deal: Deal
    gpus: list[str]
    token: str | None = None
    code: int | None = None

    def done(self) -> bool:
        if self.code is None and (code := self.process.poll()) is not None:
            self.code = code
            # Child processes that it left behind would go on computing for nothing.
            end(self.process, kill=True)
            self.deal.give_back(self.gpus)
        return self.code is not None

    def stop(self, kill: bool = False) -> None:
        end(self.process, kill)


class Deal:
    """Shares GPUs among jobs: each job gets the least used ones."""

    def __init__(self, gpus: list[str]) -> None:
        self.users = dict.fromkeys(gpus, 0)

    def take(self, devices: int | None, jobs: int) -> list[str]:
        """Reserve `devices` GPUs for a job; an equal share of all if `devices` is None."""
        if not self.users or devices == 0:
            return []
        count = devices or max(1, len(self.users) // jobs)
        chosen = sorted(self.users, key=lambda gpu: self.users[gpu])[:count]
        for gpu in chosen:
            self.users[gpu] += 1
        return chosen

    def give_back(self, gpus: list[str]) -> None:
        for gpu in gpus:
            self.users[gpu] -= 1


def visible_gpus() -> list[str]:
    """The names of the GPUs that this process may use, without importing torch."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [name for name in chosen.split(",") if name.strip() not in ("", "-1", "NoDevFiles")]
    if shutil.which("nvidia-smi") is None:
        return []
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30, check=False)
    return [str(i) for i, line in enumerate(x for x in listed.stdout.splitlines() if x.startswith("GPU "))]


def threads(jobs: int) -> dict[str, str]:
    """The thread settings of one of `jobs` processes; if each used all cores, they would slow each other down."""
    if "OMP_NUM_THREADS" in os.environ:
        return {}
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return {"OMP_NUM_THREADS": str(max(1, cores // jobs))}
