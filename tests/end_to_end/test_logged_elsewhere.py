"""`logger=mlflow` and `logger=wandb` against the real clients: a store on this disk, and files for `wandb sync`."""

from __future__ import annotations

import csv
import importlib.util
import json
import signal
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from command import manifest, run_command, run_directories
from forks import KillAt, Server

from narrows.training import wandb_logger

# The clients warn of their own dependencies.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]

RUN = (
    *("variant=vae", "encoder.widths=[16]", "decoder.widths=[16]", "~tasks.latent", "trainer.log_every_n_steps=5"),
    *("tags=[tried]", "notes=a note", "callbacks.checkpoint.every_n_steps=20"),
)
CHOICES = {"mlflow": ("logger=mlflow",), "wandb": ("logger=wandb", "logger.wandb.offline=true")}
PICTURES = {"views/reconstruction", "views/samples", "views/latent_map", "views/traversal"}

Points = Counter[tuple[str, int, float]]


@dataclass
class Seen:
    """A run as its service has it."""

    id: str
    name: str
    status: str
    parameters: dict[str, Any]
    points: Points
    pictures: set[str]
    above: str | None


def in_mlflow(directory: Path) -> Seen:
    from mlflow import MlflowClient

    known = manifest(directory)["logged"]["mlflow"]
    client = MlflowClient(known["tracking_uri"])
    run = client.get_run(known["run_id"])
    histories = {name: client.get_metric_history(run.info.run_id, name) for name in run.data.metrics}
    for points in histories.values():
        by_time = [point.step for point in sorted(points, key=lambda point: point.timestamp)]
        assert by_time == sorted(by_time)
    found = Counter((name, point.step, point.value) for name, points in histories.items() for point in points)
    pictures = {
        f"views/{folder.path.rpartition('/')[2]}"
        for folder in client.list_artifacts(run.info.run_id, "views")
        if any(file.path.endswith(".png") for file in client.list_artifacts(run.info.run_id, folder.path))
    }
    above = run.data.tags.get("mlflow.parentRunId")
    return Seen(run.info.run_id, run.info.run_name, run.info.status, run.data.params, found, pictures, above)


def in_wandb(directory: Path) -> Seen:
    from wandb.proto.wandb_internal_pb2 import Record

    seen = Seen("", "", "RUNNING", {}, Counter(), set(), None)
    steps: dict[str, int] = {}
    number = -1
    for file in sorted(directory.glob("wandb/offline-run-*/run-*.wandb")):
        for payload in wandb_logger._records(file.read_bytes()):
            record = Record.FromString(payload)
            if record.HasField("run"):
                assert seen.id in ("", record.run.run_id)
                seen.id, seen.name, seen.above = record.run.run_id, record.run.display_name, record.run.run_group
            for record_of in (record.run.config, record.config):
                values = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record_of.update}
                seen.parameters |= {key: value for key, value in values.items() if key != "_wandb"}
            seen.pictures |= {item.nested_key[0] for item in record.history.item if len(item.nested_key) > 1}
            items = [item for item in record.history.item if len(item.nested_key) <= 1]
            row = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in items}
            step = row.pop("trainer/global_step", None)
            if items:
                assert row["_step"] > number
                number = row["_step"]
            for name, value in row.items():
                if not name.startswith("_"):
                    assert steps.get(name, -1) <= step
                    steps[name] = step
                    seen.points[name, step, float(value)] += 1
            if record.HasField("exit"):
                seen.status = {0: "FINISHED", 255: "KILLED"}.get(record.exit.exit_code, "FAILED")
    return seen


LOOK = {"mlflow": in_mlflow, "wandb": in_wandb}
SERVICES = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(
            importlib.util.find_spec(name) is None, reason=f"{name} is not installed: pip install 'narrows[{name}]'"
        ),
    )
    for name in CHOICES
]


def history(directory: Path) -> Points:
    """What `metrics.csv` holds."""
    with open(directory / "metrics.csv", newline="") as file:
        return Counter((row["metric"], int(row["step"]), float(row["value"])) for row in csv.DictReader(file))


STEP = "narrows.training.lightning_module:AutoencoderModule.training_step"


def train(server: Server, *arguments: str, cwd: Path, kill: KillAt | None = None) -> None:
    """`narrows train`, to its end or until it is killed."""
    ended = server.run(*arguments, cwd=cwd, kill=kill)
    assert ended.code == (0 if kill is None else 128 + kill.number), ended.out


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_has_a_killed_and_resumed_run_whole(service: str, server: Server, tmp_path: Path) -> None:
    again, directory = ("resume=run", "keep_loggers=true"), tmp_path / "run"
    begin = (*RUN, *CHOICES[service], "trainer.max_epochs=4", "hydra.run.dir=run")
    train(server, *begin, cwd=tmp_path, kill=KillAt(STEP, 38))
    known = manifest(directory)["logged"]
    assert LOOK[service](directory).status == "RUNNING"
    train(server, *again, cwd=tmp_path, kill=KillAt(STEP, 13))
    train(server, *again, cwd=tmp_path, kill=KillAt(STEP, 25, signal.SIGTERM))
    assert LOOK[service](directory).status == "KILLED"
    train(server, *again, "trainer.max_epochs=5", cwd=tmp_path)

    seen = LOOK[service](directory)
    assert manifest(directory)["logged"] == known
    assert seen.id in known[service].values()
    assert (seen.name, seen.status) == ("run", "FINISHED")
    # What a clock measured of steps that were trained again is what the service was given first.
    ours, theirs = (
        Counter({point: count for point, count in points.items() if not point[0].startswith("throughput/")})
        for points in (history(directory), seen.points)
    )
    assert set(theirs.values()) == {1}
    assert theirs == ours
    assert {name for name, *_ in seen.points} >= {"train/loss", "val/loss", "test/loss", "test/mse"}
    assert seen.pictures >= PICTURES
    if service == "mlflow":
        assert (seen.parameters["variant"], seen.parameters["encoder.widths"]) == ("vae", "[16]")
    else:
        assert (seen.parameters["choices"]["variant"], seen.parameters["encoder"]["widths"]) == ("vae", [16])


@pytest.mark.parametrize("service", SERVICES)
def test_a_run_that_fails_has_failed_there(service: str, server: Server, tmp_path: Path) -> None:
    ended = server.run(*RUN, *CHOICES[service], "optimizer.lr=1e30", "hydra.run.dir=run", cwd=tmp_path)
    assert ended.code not in (0, 128 + signal.SIGKILL)
    assert (manifest(tmp_path / "run")["status"], LOOK[service](tmp_path / "run").status) == ("failed", "FAILED")


@pytest.mark.parametrize("service", SERVICES)
def test_a_sweep_is_one_group(service: str, tmp_path: Path) -> None:
    sweep = (*RUN, *CHOICES[service], "trainer.max_epochs=1", "hydra.sweep.dir=outputs/sweep", "-m", "seed=0,1")
    done = run_command("train", *sweep, cwd=tmp_path, timeout=1200)
    assert done.code == 0, done.err
    runs = run_directories(tmp_path)
    found = [LOOK[service](run) for run in runs]
    assert [(run.name, run.status) for run in found] == [(f"sweep/{run.name}", "FINISHED") for run in runs]
    assert len({run.id for run in found}) == len(runs) == 2
    if service == "wandb":
        assert {run.above for run in found} == {"sweep"}
        return
    from mlflow import MlflowClient

    (above,) = {str(run.above) for run in found}
    info = MlflowClient(f"sqlite:///{tmp_path}/outputs/mlflow.db").get_run(above).info
    assert (info.run_name, info.status) == ("sweep", "FINISHED")


@pytest.mark.parametrize("service", SERVICES)
def test_a_repeated_run_is_one_of_its_own_where_loggers_are_kept(service: str, server: Server, tmp_path: Path) -> None:
    train(server, *RUN, *CHOICES[service], "trainer.max_epochs=1", "hydra.run.dir=run", cwd=tmp_path)
    done = run_command("reproduce", "run", "--into", "left_out", cwd=tmp_path, timeout=600)
    assert done.code == 0, done.err
    assert f"left out: logger '{service}' writes elsewhere" in done.out
    assert "logged" not in manifest(tmp_path / "left_out")
    train(server, "replay=run/config.yaml", "into=kept", "keep_loggers=true", cwd=tmp_path)
    run, kept = (LOOK[service](tmp_path / name) for name in ("run", "kept"))
    assert run.id != kept.id
    same = [{point for point in each.points if "throughput" not in point[0]} for each in (run, kept)]
    assert same[0] == same[1]


@pytest.mark.parametrize("service", SERVICES)
def test_what_cannot_be_reached_is_refused_before_the_first_step(service: str, server: Server, tmp_path: Path) -> None:
    far = {"mlflow": "logger.mlflow.tracking_uri=http://127.0.0.1:9", "wandb": "logger.wandb.offline=false"}
    ended = server.run(*RUN, CHOICES[service][0], far[service], "hydra.run.dir=run", cwd=tmp_path)
    assert ended.code == 2, ended.out
    (told,) = [line for line in ended.out.splitlines() if line.startswith("narrows: ")]
    assert f"logger={service}: " in told
    assert not (tmp_path / "run" / "metrics.csv").exists()
