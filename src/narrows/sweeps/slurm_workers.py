"""Workers that run jobs as Slurm jobs, through submitit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from narrows.errors import UserError, first_line, require
from narrows.runs.file_names import LOGS
from narrows.sweeps.remote_job import run, stop_file
from narrows.sweeps.workers import Handle, Task, Watched, lives

CLUSTERS = ("slurm", "local")


class Slurm:
    """Runs each job of the sweep as a Slurm job.

    Slurm jobs outlive the sweep that submitted them; a resumed sweep finds them by their numbers and waits for them.

    Args:
        jobs: most jobs in the queue at once.
        timeout: in minutes; the run is asked to save itself before it is over.
        partition, gpus, cpus, memory: of each job; memory in GB.
        options: further parameters of submitit, under its names.
        cluster: `slurm`, or `local` for processes of this machine under submitit.
    """

    def __init__(
        self,
        jobs: int = 16,
        timeout: int = 60,
        partition: str | None = None,
        gpus: int = 1,
        cpus: int = 4,
        memory: float = 16,
        options: dict[str, Any] | None = None,
        cluster: str = "slurm",
    ) -> None:
        require(jobs >= 1, f"sweep.workers.jobs must be at least 1, not {jobs}")
        try:
            import submitit  # noqa: F401
        except ModuleNotFoundError as error:
            raise UserError("sweep/workers=slurm needs submitit: pip install submitit") from error
        require(cluster in CLUSTERS, f"sweep.workers.cluster must be slurm or local, not {cluster}")
        self.jobs, self.cluster = jobs, cluster
        self.shared = cluster == "slurm"
        self._parameters: dict[str, Any] = {"timeout_min": timeout, "gpus_per_node": gpus}
        self._parameters |= {"cpus_per_task": cpus, "mem_gb": memory}
        if partition is not None:
            self._parameters["slurm_partition"] = partition
        self._parameters |= dict(options or {})
        self._executor: Any = None

    def prepare(self, sweep: Path) -> None:
        import submitit

        try:
            self._executor = submitit.AutoExecutor(folder=sweep / LOGS / "slurm", cluster=self.cluster)
            self._executor.update_parameters(name=f"narrows-{sweep.name}", **self._parameters)
        except (RuntimeError, NameError, TypeError, ValueError) as error:
            raise UserError(f"sweep.workers: {' '.join(str(error).split())}") from error

    def start(self, task: Task) -> Handle:
        from submitit.core.utils import FailedJobError

        stop_file(task.log).unlink(missing_ok=True)
        try:
            job = self._executor.submit(run, task)
        except FailedJobError as error:
            raise UserError(
                f"Slurm has not taken job {task.number} ({first_line(error) or 'what it said stands above'}): "
                "sweep.workers.partition, timeout, gpus, cpus and memory say what each job asks for"
            ) from error
        return Submitted(job, task, job.job_id)

    def attach(self, task: Task, token: str | None) -> Handle | None:
        if token is not None and self.cluster == "slurm":
            import submitit

            job: Any = submitit.SlurmJob(folder=self._executor.folder, job_id=token)
            return Submitted(job, task, token)
        return Watched(task) if lives(task) else None

    def close(self) -> None:
        """Do nothing: jobs outlive the sweep."""


@dataclass
class Submitted:
    """A job in the queue or on a node."""

    job: Any
    task: Task
    token: str | None
    code: int | None = None

    def done(self) -> bool:
        if not self.job.done() or lives(self.task):
            return False
        error = self.job.exception()
        # Without a result, it was cancelled or its node is gone; the run's own record shows how far it got.
        self.code = self.job.result() if error is None else None
        return True

    def stop(self, kill: bool = False) -> None:
        stop_file(self.task.log).touch()
        if kill:
            self.job.cancel()
