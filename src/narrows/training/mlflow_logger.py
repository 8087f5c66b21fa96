"""The logger of MLflow: a run per run, and one above those of a sweep."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import time
from typing import Any

from narrows.drawing.labels import Picture
from narrows.files import wait_for_lock
from narrows.training.elsewhere import Described, Elsewhere

STORE = "mlflow.db"
ARTIFACTS = "mlflow_artifacts"
URI = "MLFLOW_TRACKING_URI"
RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
STATUS = {"completed": "FINISHED", "pruned": "KILLED", "interrupted": "KILLED", "failed": "FAILED"}
NAME, PARENT, NOTE = "mlflow.runName", "mlflow.parentRunId", "mlflow.note.content"
SWEEP = "narrows.sweep"
MOST = 100
"""Parameters of one request."""


class MLflow(Elsewhere):
    """Sends a run to an MLflow server, or to the store `<output_dir>/mlflow.db` that all runs share.

    Jobs of a sweep are runs below one run of the sweep, which is running for as long as one of them is.

    Args:
        save_dir: the run directory.
        experiment_name: the experiment that the run is one of.
        tracking_uri: the store or server; null: what `MLFLOW_TRACKING_URI` says, else the store in `output_dir`.
    """

    def __init__(self, save_dir: str | Path, *, experiment_name: str, tracking_uri: str | None) -> None:
        super().__init__(save_dir)
        self.experiment_name, self.tracking_uri = experiment_name, tracking_uri or os.environ.get(URI)
        self.run_id = ""
        self._client: Any = None
        self._lock = Path()
        self._parent: str | None = None

    @property
    def name(self) -> str:
        return "mlflow"

    @property
    def version(self) -> str:
        return self.run_id

    @property
    def experiment(self) -> Any:
        """The `MlflowClient`; None before the run has begun, and in processes that write nothing."""
        return self._client

    def known_as(self, name: str) -> str:
        return re.sub(r"[^\w/. -]", "_", name, flags=re.ASCII)

    def _open(self, described: Described, known: Mapping[str, str] | None) -> dict[str, str]:
        os.environ.setdefault(RETRIES, "2")  # MLflow's own 7 wait four minutes for each request
        from mlflow import MlflowClient  # here, because it takes seconds

        outputs = Path(described.config["output_dir"]).resolve()
        self._lock = outputs / ".mlflow.lock"
        own = f"sqlite:///{outputs / STORE}"
        uri = known["tracking_uri"] if known is not None else self.tracking_uri or own
        with self._alone():
            self._client = MlflowClient(uri)
            if known is not None:
                self.run_id = known["run_id"]
                self._go_on(described)
            else:
                self._begin(described, (outputs / ARTIFACTS).as_uri() if uri == own else None)
        return {"tracking_uri": uri, "run_id": self.run_id}

    def _begin(self, described: Described, artifacts: str | None) -> None:
        found = self._client.get_experiment_by_name(self.experiment_name)
        experiment = found.experiment_id if found else self._client.create_experiment(self.experiment_name, artifacts)
        tags = {NAME: described.name, "narrows.directory": str(described.directory)}
        tags |= {f"narrows.tag.{self.known_as(tag)}": "true" for tag in described.config.get("tags") or ()}
        if described.config.get("notes"):
            tags[NOTE] = str(described.config["notes"])
        if described.sweep is not None:
            self._parent = self._run_of_sweep(experiment, described.sweep)
            tags[PARENT] = self._parent
        tags["narrows.overrides"] = " ".join(described.overrides)
        self.run_id = self._client.create_run(experiment, tags=tags).info.run_id
        self._write_parameters(described.parameters)

    def _run_of_sweep(self, experiment: str, sweep: Path) -> str:
        of_sweep = f"tags.`{SWEEP}` = {json.dumps(str(sweep))}"
        for run in self._client.search_runs([experiment], of_sweep):
            self._client.update_run(run.info.run_id, status="RUNNING")
            return str(run.info.run_id)
        made = self._client.create_run(experiment, tags={NAME: sweep.name, SWEEP: str(sweep)})
        return str(made.info.run_id)

    def _go_on(self, described: Described) -> None:
        run = self._client.get_run(self.run_id)
        self._parent = run.data.tags.get(PARENT)
        for name in filter(None, (self.run_id, self._parent)):
            self._client.update_run(name, status="RUNNING")
        # A parameter once logged stays as it is: what a later attempt changed stands in the tag.
        self._write_parameters(
            {k: v for k, v in described.parameters.items() if self.known_as(k) not in run.data.params}
        )
        if described.overrides:
            self._client.set_tag(self.run_id, "narrows.resumed_with", " ".join(described.overrides))

    def _write_parameters(self, parameters: Mapping[str, str]) -> None:
        from mlflow.entities import Param

        found = [Param(self.known_as(key), value) for key, value in parameters.items()]
        for first in range(0, len(found), MOST):
            self._client.log_batch(self.run_id, params=found[first : first + MOST])

    def _points(self) -> set[tuple[str, int]]:
        names = self._client.get_run(self.run_id).data.metrics
        histories = {name: self._client.get_metric_history(self.run_id, name) for name in names}
        return {(name, point.step) for name, history in histories.items() for point in history}

    def _write(self, values: dict[str, Any], step: int) -> None:
        from mlflow.entities import Metric

        now = int(time() * 1000)
        self._client.log_batch(self.run_id, metrics=[Metric(name, value, now, step) for name, value in values.items()])

    def _write_image(self, name: str, picture: Picture, step: int) -> None:
        self._client.log_image(self.run_id, picture, f"{name}/step_{step:08d}.png")

    def _write_text(self, name: str, text: str, step: int) -> None:
        self._client.log_text(self.run_id, text, f"{name}/step_{step:08d}.md")

    def _close(self, status: str) -> None:
        self._client.set_tag(self.run_id, "narrows.status", status)
        with self._alone():
            self._client.set_terminated(self.run_id, STATUS[status])
            if self._parent is not None:
                below = f"tags.`{PARENT}` = '{self._parent}' and attributes.status = 'RUNNING'"
                experiment = self._client.get_run(self._parent).info.experiment_id
                if not self._client.search_runs([experiment], below, max_results=1):
                    self._client.set_terminated(self._parent, "FINISHED")

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """While no other run of this `output_dir` makes a store, an experiment or the run of a sweep."""
        self._lock.parent.mkdir(parents=True, exist_ok=True)
        with open(self._lock, "w") as file:
            wait_for_lock(file.fileno())
            yield
