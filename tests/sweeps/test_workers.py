"""Where jobs run: shares of the machine, Slurm and Ray."""

from __future__ import annotations

import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from narrows.errors import UserError
from narrows.sweeps.forked_jobs import ForkServer
from narrows.sweeps.local_workers import Deal, Local, threads, visible_gpus
from narrows.sweeps.remote_job import stop_file
from narrows.sweeps.workers import Handle, Task, lives, take


def task(folder: Path, code: str, number: int = 0) -> Task:
    (folder / "logs").mkdir(exist_ok=True)
    names = (folder / "run", folder / "logs" / f"{number}.log", folder / "logs" / f"{number}.lock")
    return Task(number, (sys.executable, "-c", code), *names, environment={"GREETING": "hello"})


def wait(handle: Handle) -> int | None:
    deadline = time.monotonic() + 60
    while not handle.done():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return handle.code


def test_gpus_go_to_those_who_share_them_least() -> None:
    deal = Deal(["0", "1", "2"])
    assert deal.take(1, 2) == ["0"]
    assert deal.take(2, 2) == ["1", "2"]
    assert deal.take(1, 2) == ["0"]
    deal.give_back(["1", "2"])
    assert deal.take(1, 2) == ["1"]
    assert deal.take(0, 2) == []
    assert Deal(["0", "1", "2", "3"]).take(None, 2) == ["0", "1"]
    assert Deal([]).take(1, 2) == []


def test_visible_gpus_are_those_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert visible_gpus() == ["3", "5"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert visible_gpus() == []


def test_cores_are_divided_unless_the_user_said_how(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert threads(3) == {"OMP_NUM_THREADS": "2"}
    assert threads(99) == {"OMP_NUM_THREADS": "1"}
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert threads(2) == {}


def test_a_local_job_gives_its_exit_code_and_holds_its_lock_as_long_as_it_lives(tmp_path: Path) -> None:
    workers = Local()
    job = task(
        tmp_path, "import os, time; print(os.environ['GREETING'], flush=True); time.sleep(1); raise SystemExit(7)"
    )
    handle = workers.start(job)
    assert lives(job)
    assert workers.attach(job, None) is not None
    with pytest.raises(UserError, match="job 0 of the sweep runs already"):
        workers.start(job)
    assert wait(handle) == 7
    assert not lives(job)
    assert workers.attach(job, None) is None
    assert "hello" in job.log.read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="jobs are forks on Linux alone")
def test_a_job_whose_server_died_is_done_though_another_one_forks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nap.py").write_text("import time; time.sleep(600)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    server = ForkServer({}, module="nap", imported=())
    jobs = [replace(task(tmp_path, "", number), command=(sys.executable, "-m", "nap"), devices=0) for number in (0, 1)]
    first = server.start(jobs[0])
    first.process.kill()
    first.process.wait()
    second = server.start(jobs[1])
    assert second.process is not first.process
    assert wait(first) is None
    assert not second.done()
    second.stop()
    assert wait(second) == -signal.SIGTERM
    server.close()


def test_a_lock_is_taken_once(tmp_path: Path) -> None:
    assert take(tmp_path / "lock") is not None
    assert take(tmp_path / "lock") is None


def test_slurm_runs_stops_and_finds_jobs(tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    from narrows.sweeps.slurm_workers import Slurm

    workers = Slurm(cluster="local", gpus=0, cpus=1, memory=1)
    workers.prepare(tmp_path)
    ended = workers.start(task(tmp_path, "raise SystemExit(3)"))
    endless = task(tmp_path, "import time; time.sleep(600)", number=1)
    running = workers.start(endless)
    assert ended.token != running.token
    assert wait(ended) == 3
    while not lives(endless):
        time.sleep(0.05)
    assert workers.attach(endless, None) is not None
    running.stop()
    assert stop_file(endless.log).exists()
    assert wait(running) == -15


def test_slurm_options_are_checked(tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    from narrows.sweeps.slurm_workers import Slurm

    with pytest.raises(UserError, match=r"sweep\.workers"):
        Slurm(cluster="local", options={"nonsense": 1}).prepare(tmp_path)
    with pytest.raises(UserError, match="slurm or local, not condor"):
        Slurm(cluster="condor")


@pytest.mark.slow
def test_ray_runs_and_stops_jobs(tmp_path: Path) -> None:
    ray: Any = pytest.importorskip("ray")
    from narrows.sweeps.ray_workers import Ray

    workers = Ray(jobs=2)
    workers.prepare(tmp_path)
    try:
        assert wait(workers.start(task(tmp_path, "raise SystemExit(3)"))) == 3
        endless = task(tmp_path, "import time; time.sleep(600)", number=1)
        running = workers.start(endless)
        while not lives(endless):
            time.sleep(0.05)
        running.stop()
        assert wait(running) == -15
    finally:
        ray.shutdown()
