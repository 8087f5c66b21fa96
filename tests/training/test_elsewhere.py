"""Loggers of services: what is sent, once each, whatever fails; and the files of wandb."""

from __future__ import annotations

import logging
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf

from narrows.errors import UserError
from narrows.runs.job import Job, SweepJob
from narrows.runs.run_directory import RunDirectory
from narrows.training import CSVHistory, Described, Elsewhere
from narrows.training.wandb_logger import BLOCK, HEADER, _records

DESCRIBED = Described(Path("run"), "run", {"encoder": {"widths": [16]}, "seed": 0}, {"variant": "vae"}, [], None)


class Service(Elsewhere):
    """A service in memory."""

    name, version = "service", ""

    def __init__(self, save_dir: Path, held: Mapping[tuple[str, int], float] | None = None, down: int = 0) -> None:
        super().__init__(save_dir)
        self.points: list[tuple[str, int, float]] = [
            (name, step, value) for (name, step), value in (held or {}).items()
        ]
        self.down, self.views, self.ended = down, [], []

    def known_as(self, name: str) -> str:
        return name.replace(":", "_")

    def _open(self, described: Described, known: Mapping[str, str] | None) -> dict[str, str]:
        if self.down < 0:
            raise ConnectionError("nobody\nanswers")
        return {"id": "a"} if known is None else dict(known)

    def _points(self) -> set[tuple[str, int]]:
        return {(name, step) for name, step, _ in self.points}

    def _write(self, values: dict[str, Any], step: int) -> None:
        if self.down > 0:
            self.down -= 1
            raise ConnectionError("down")
        self.points += [(name, step, value) for name, value in values.items()]

    def _write_image(self, name: str, picture: Any, step: int) -> None:
        self.views.append((name, step))

    def _write_text(self, name: str, text: str, step: int) -> None:
        raise ConnectionError("too long")

    def _close(self, status: str) -> None:
        self.ended.append(status)


@pytest.fixture
def record(tmp_path: Path) -> RunDirectory:
    record = RunDirectory(tmp_path / "run")
    record.claim()
    return record


def test_parameters_are_the_choices_and_every_value_by_its_key() -> None:
    assert DESCRIBED.parameters == {"variant": "vae", "encoder.widths": "[16]", "seed": "0"}


def test_a_job_is_named_by_its_sweep() -> None:
    job = Job(
        Path("outputs/sweeps/s/3"), choices={"density": "None", "variant": "ae"}, sweep=SweepJob("/o/sweeps/s", 3)
    )
    described = Described.of(OmegaConf.create({"seed": 1}), job)
    assert (described.name, described.choices) == ("s/3", {"variant": "ae"})


def test_a_new_run_is_noted_and_ends_as_the_record_does(record: RunDirectory) -> None:
    service = Service(record.path)
    service.open(DESCRIBED, record)
    service.log_metrics({"train/loss": 1.0, "a:b": 2.0}, 3)
    service.finalize("success")
    assert record.manifest["logged"] == {"service": {"id": "a"}}
    assert service.points == [("train/loss", 3, 1.0), ("a_b", 3, 2.0)]
    assert service.ended == []
    record.update(attempts=[{}])
    for tell in record.at_end:
        tell("failed")
    assert service.ended == ["failed"]


def test_a_resumed_run_sends_what_is_missing_and_nothing_twice(record: RunDirectory) -> None:
    record.update(logged={"service": {"id": "b"}})
    history = CSVHistory(record.path)
    for step in (1, 2, 3):
        history.log_metrics({"loss": float(step), "a:b": 0.0}, step)
    # It lacks step 2, which it was never sent, and has step 4, which the record was cut back before.
    service = Service(record.path, {("loss", 1): 1.0, ("a_b", 1): 0.0, ("loss", 3): 3.0, ("loss", 4): 4.0})
    service.wait()
    service.open(DESCRIBED, record)
    service.add_image("view", np.zeros((1, 1, 3), np.uint8), 4)
    service.log_metrics({"loss": 4.0, "a:b": 0.0}, 4)
    assert len(service.points) == 4
    service.begin()
    service.log_metrics({"loss": 5.0}, 5)
    assert record.manifest["logged"] == {"service": {"id": "b"}}
    assert sorted(service.points) == sorted(
        [("loss", step, float(step)) for step in range(1, 6)] + [("a_b", step, 0.0) for step in range(1, 5)]
    )
    assert service.views == [("view", 4)]


def test_what_fails_is_told_of_once_and_sent_later(record: RunDirectory, caplog: pytest.LogCaptureFixture) -> None:
    service = Service(record.path, down=2)
    service.open(DESCRIBED, record)
    with caplog.at_level(logging.WARNING):
        for step in range(4):
            service.log_metrics({"loss": 0.5}, step)
    assert service.points == [("loss", step, 0.5) for step in range(4)]
    assert [line.getMessage() for line in caplog.records] == [
        "logger=service: figures cannot be sent (down); training goes on, and they are sent with later ones"
    ]
    service.down = 9
    service.log_metrics({"loss": 0.5}, 4)
    service.add_text("table", "text", 4)
    service.end("completed")
    told = [line.getMessage() for line in caplog.records][-2:]
    assert told == [
        "logger=service: the text table could not be sent (too long)",
        "logger=service: 1 points are missing there; metrics.csv has them",
    ]


def test_a_service_that_does_not_answer_is_refused(record: RunDirectory) -> None:
    with pytest.raises(UserError, match=r"^logger=service: nobody answers$"):
        Service(record.path, down=-1).open(DESCRIBED, record)
    assert record.at_end == []


def test_records_of_wandb_are_read_up_to_where_they_were_cut() -> None:
    payloads = [bytes([number]) * size for number, size in enumerate((5, 70_000, BLOCK - 20, 1, 40_000))]
    data, ends = b":W&B\xe1\xbe\x00", []
    for payload in payloads:
        left, first = payload, True
        while first or left:
            room = BLOCK - len(data) % BLOCK
            if room < HEADER:
                data += bytes(room)
                room = BLOCK
            part, left = left[: room - HEADER], left[room - HEADER :]
            kind = (1 if not left else 2) if first else (4 if not left else 3)
            data += struct.pack("<IHB", 0, len(part), kind) + part
            first = False
        ends.append(len(data))
    assert list(_records(data)) == payloads
    for cut in (0, 3, *(end + shift for end in ends for shift in (-1, 0, 3)), BLOCK, 2 * BLOCK):
        assert list(_records(data[:cut])) == payloads[: sum(end <= cut for end in ends)]
