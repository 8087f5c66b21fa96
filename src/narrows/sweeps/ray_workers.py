"""Workers that run jobs as Ray tasks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from narrows.errors import UserError, require
from narrows.sweeps.remote_job import run, stop_file
from narrows.sweeps.workers import Handle, Task, Watched, lives


class Ray:
    """Runs each job of the sweep as a Ray task, on the cluster at `address` or on this machine.

    When the sweep ends, Ray ends its tasks.
    """

    shared = True

    def __init__(self, jobs: int = 16, address: str | None = None, cpus: float = 1, gpus: float = 0) -> None:
        require(jobs >= 1, f"sweep.workers.jobs must be at least 1, not {jobs}")
        try:
            import ray  # type: ignore[import-not-found, unused-ignore]  # noqa: F401
        except ModuleNotFoundError as error:
            raise UserError("sweep/workers=ray needs Ray: pip install ray") from error
        self.jobs, self.address = jobs, address
        self._resources = {"num_cpus": cpus, "num_gpus": gpus}
        self._remote: Any = None

    def prepare(self, sweep: Path) -> None:
        import ray

        try:
            ray.init(address=self.address, log_to_driver=False, include_dashboard=False)
        except ConnectionError as error:
            raise UserError(f"sweep.workers.address: {' '.join(str(error).split())}") from error
        # The sweep, not Ray, decides whether a failed task is tried again.
        self._remote = ray.remote(max_retries=0, **self._resources)(run)

    def start(self, task: Task) -> Handle:
        stop_file(task.log).unlink(missing_ok=True)
        return Remote(self._remote.remote(task), task)

    def attach(self, task: Task, token: str | None) -> Handle | None:
        return Watched(task) if lives(task) else None

    def close(self) -> None:
        """Do nothing: Ray ends with this process."""


@dataclass
class Remote:
    """A running Ray task."""

    reference: Any
    task: Task
    token: str | None = None
    code: int | None = None

    def done(self) -> bool:
        import ray

        ready, _ = ray.wait([self.reference], timeout=0)
        if not ready:
            return False
        try:
            self.code = ray.get(self.reference)
        except ray.exceptions.RayError:
            # Its node is gone, or it was cancelled; the run's own record shows how far it got.
            self.code = None
        return True

    def stop(self, kill: bool = False) -> None:
        import ray

        stop_file(self.task.log).touch()
        if kill:
            ray.cancel(self.reference, force=True)
