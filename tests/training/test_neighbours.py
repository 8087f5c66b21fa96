"""Processes that somebody else has started side by side: what they agree on, and how the end of one is told."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import free_port
from omegaconf import OmegaConf
from torch.distributed import TCPStore

from narrows import launching, os_signals
from narrows.config.composition import run_dir
from narrows.errors import ProcessFailed, UserError
from narrows.launching import MeetingPlace, Started, agreed, meeting_place, started
from narrows.training import processes
from narrows.training.failures import Failure
from narrows.training.library_options import as_started
from narrows.training.neighbours import Neighbours

TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "none",
    "MASTER_ADDR": "127.0.0.1",
    "RANK": "0",
    "WORLD_SIZE": "2",
    "LOCAL_RANK": "0",
    "LOCAL_WORLD_SIZE": "2",
    "GROUP_WORLD_SIZE": "1",
}
SLURM = {
    "SLURM_JOB_ID": "12345",
    "SLURM_STEP_ID": "0",
    "SLURM_NTASKS": "4",
    "SLURM_NTASKS_PER_NODE": "2",
    "SLURM_NNODES": "2",
    "SLURM_PROCID": "3",
    "SLURM_NODELIST": "node[7-8]",
}


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As if this process were started by itself."""
    for name in {**TORCHRUN, **SLURM, "NODE_RANK": "", "MASTER_PORT": "", "TORCHELASTIC_USE_AGENT_STORE": ""}:
        monkeypatch.setenv(name, "")  # so that what is set meanwhile, by Lightning too, goes away
        monkeypatch.delenv(name)
    monkeypatch.setattr(launching, "_State", type("_State", (), {"store": None, "found": None}))
    yield
    run_dir.cache_clear()


def given(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def test_alone_nobody_is_asked() -> None:
    assert meeting_place() is None
    assert started() is None
    assert agreed(lambda: "own") == "own"


def test_all_name_the_run_as_the_first_does(monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, TORCHRUN | {"MASTER_PORT": free_port()})
    run_dir.cache_clear()
    first = run_dir("outputs", None, "vae")
    kept = launching._State.store  # of the first process, in whose place this one now is no longer
    monkeypatch.setattr(launching, "_State", type("_State", (), {"store": None, "found": None}))
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("LOCAL_RANK", "1")
    run_dir.cache_clear()
    assert run_dir("outputs", None, "vae") == first
    # What is made later, for another folder, has the same stamp: the others may ask at any time.
    assert agreed(lambda: "another") == first.rpartition("/")[2]
    assert kept.check([f"{launching.KEY}/0"])


def test_a_first_process_that_is_not_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, TORCHRUN | {"MASTER_PORT": free_port(), "RANK": "1"})
    monkeypatch.setattr(launching, "PATIENCE", launching.timedelta(seconds=1))
    with pytest.raises(UserError, match=r"could not reach the first one at MASTER_ADDR=127\.0\.0\.1 MASTER_PORT="):
        agreed(lambda: "own")


def test_where_they_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, SLURM)
    assert meeting_place() == MeetingPlace("node7", 17345, False, "0.0")
    monkeypatch.setenv("SLURM_JOB_NAME", "interactive")
    assert meeting_place() is None
    monkeypatch.delenv("SLURM_JOB_NAME")
    monkeypatch.delenv("SLURM_STEP_ID")  # the script of the job, beside which nobody is
    assert meeting_place() is None


def test_one_a_node_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, {"NODE_RANK": "1", "MASTER_ADDR": "node7"})
    with pytest.raises(UserError, match="MASTER_PORT must be too"):
        meeting_place()
    monkeypatch.setenv("MASTER_PORT", "29500")
    assert meeting_place() == MeetingPlace("node7", 29500, False, "0")
    monkeypatch.setenv("LOCAL_RANK", "1")  # started by the first process of its node, which has told it the directory
    assert meeting_place() is None


@pytest.mark.parametrize(
    ("variables", "expected"), [(TORCHRUN, Started("torchrun", 2, 1, 0)), (SLURM, Started("srun", 2, 2, 3))]
)
def test_devices_are_the_processes_that_were_started(
    variables: dict[str, str], expected: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    given(monkeypatch, variables)
    assert started() == expected
    assert expected.world == expected.each * expected.nodes
    node = OmegaConf.create({"devices": "auto", "num_nodes": 1})
    assert as_started(node) == {"devices": expected.each, "num_nodes": expected.nodes}
    node.devices = [0, 1]
    assert as_started(node) == {"num_nodes": expected.nodes}
    node.devices = 1
    with pytest.raises(UserError, match=rf"^{expected.by} has started 2 processes .* trainer\.devices=1 is another"):
        as_started(node)
    node.devices, node.num_nodes = 2, 3
    with pytest.raises(UserError, match=r"trainer\.num_nodes=3 is another number"):
        as_started(node)


class Other:
    """A process that sleeps, introduced as one of three."""

    def __init__(self, store: TCPStore, rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        with monkeypatch.context() as patched:
            patched.setattr("os.getpid", lambda: self.process.pid)
            self.seen = Neighbours(Started("torchrun", 3, 1, rank), store.clone(), "0")

    def is_gone(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def store() -> TCPStore:
    return TCPStore("127.0.0.1", int(free_port()), is_master=True, wait_for_workers=False)


@pytest.mark.parametrize(
    ("left", "told"),
    [
        (False, "process {number} was killed"),
        (None, None),
        ("ArithmeticError: unlucky", "ArithmeticError: unlucky"),
    ],
)
def test_the_end_of_another(
    left: bool | str | None, told: str | None, store: TCPStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = Neighbours(Started("torchrun", 3, 1, 0), store.clone(), "0")
    assert here.failure() is None  # nobody else is there yet
    other = Other(store, 2, monkeypatch)
    assert here.failure() is None
    assert here.first is None
    if left is not False:
        other.seen.leave(None if left is None else Failure(2, str(left)))
    other.is_gone()
    expected = None if told is None else Failure(2, told.format(number=other.process.pid))
    assert here.failure() == expected


def test_the_end_of_the_first(store: TCPStore, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Other(store, 0, monkeypatch)
    here = Neighbours(Started("torchrun", 3, 1, 1), store.clone(), "0")
    assert here.first == first.process.pid
    assert not here.first_is_gone()
    first.is_gone()
    assert here.first_is_gone()
    assert here.failure() is None


def test_processes_of_another_host_are_not_watched(store: TCPStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "node8")
    other = Other(store, 1, monkeypatch)
    monkeypatch.undo()
    here = Neighbours(Started("torchrun", 3, 1, 0), store.clone(), "0")
    other.is_gone()
    assert here.failure() is None


def test_a_restart_is_not_mistaken_for_the_start_before(store: TCPStore) -> None:
    Neighbours(Started("torchrun", 2, 1, 0), store.clone(), "0")
    assert Neighbours(Started("torchrun", 2, 1, 1), store.clone(), "1").first is None


class Record:
    """As much of a run's record as the watch over the processes asks for."""

    rank: int | None = None
    fail = None


def end_behind(other: Other, error: BaseException, record: Record) -> None:
    """A run in which another process is killed, and then this error is raised."""
    with os_signals.handled(), processes.together(record, Path("run")):  # type: ignore[arg-type]
        other.is_gone()
        raise error


@pytest.mark.parametrize("error", [SystemExit(143), RuntimeError("[gloo/pair.cc] Connection closed by peer")])
def test_what_follows_from_the_death_of_another_is_told_as_that(
    error: BaseException, store: TCPStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = Neighbours(Started("torchrun", 3, 1, 0), store.clone(), "0")
    monkeypatch.setattr(processes, "neighbours", lambda: here)
    record = Record()
    with pytest.raises(ProcessFailed, match="was killed"):
        end_behind(Other(store, 2, monkeypatch), error, record)
    assert record.rank == 2


def test_a_signal_that_all_obey_is_no_failure(store: TCPStore, monkeypatch: pytest.MonkeyPatch) -> None:
    here = Neighbours(Started("torchrun", 3, 1, 0), store.clone(), "0")
    monkeypatch.setattr(processes, "neighbours", lambda: here)
    other = Other(store, 2, monkeypatch)
    other.seen.leave(None)
    with pytest.raises(SystemExit):
        end_behind(other, SystemExit(143), Record())
