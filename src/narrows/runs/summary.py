"""What a sweep (`-m`) prints when its last job is done."""

from __future__ import annotations

import statistics
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

SHOWN = 6


class SweepSummary(Callback):
    """One row per job with what it set and its first figures, then their mean and standard deviation."""

    def __init__(self) -> None:
        self.rows: list[tuple[list[str], dict[str, float]]] = []

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        if job_return.status is JobStatus.COMPLETED and isinstance(job_return.return_value, dict):
            self.rows.append((list(job_return.overrides or []), job_return.return_value))

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        if len(self.rows) < 2:
            return
        Console(highlight=False, width=140).print(self.table())

    def table(self) -> Table:
        """Jobs by figures; overrides that all jobs share are left out."""
        shared = set.intersection(*(set(overrides) for overrides, _ in self.rows))
        names = [name for name in self.rows[0][1] if name.startswith(("val/", "test/")) and name.count("/") == 1]
        names = sorted(names, key=lambda name: not name.startswith("test/"))[:SHOWN]
        table = Table("job", *names, header_style="bold")
        for overrides, figures in self.rows:
            varied = " ".join(item for item in overrides if item not in shared)
            table.add_row(varied, *(f"{figures[name]:.4g}" for name in names))
        table.add_section()
        columns = [[figures[name] for _, figures in self.rows] for name in names]
        table.add_row("mean", *(f"{statistics.mean(values):.4g}" for values in columns))
        table.add_row("standard deviation", *(f"{statistics.stdev(values):.2g}" for values in columns))
        return table
