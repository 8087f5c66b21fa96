"""Sweeps over fake runs: killed, resumed, interrupted, with failures, by two parents at once."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from sweep_helpers import (
    figures,
    finish,
    journals,
    kill_and_resume,
    start,
    states,
    table,
    trials,
    wait_for,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="orphans are found in /proc")

GRID = {"params": ["x=0.1,0.2,0.3", "y=0.1,0.01"]}
TPE = {
    "method": "tpe",
    "params": ["x=interval(0,1)", "y=tag(log,interval(1e-4,1))"],
    "trials": 5,
    "sampler": {"n_startup_trials": 2, "multivariate": True},
}
QUICK = {"epochs": 3, "seconds": 0.05}


def ran_once(folder: Path) -> None:
    """No two processes in one run, and no run that was done twice."""
    assert not list(folder.rglob("CONFLICT"))
    for words in journals(folder).values():
        assert [word for word in words if word in ("completed", "pruned")] == words[-1:]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The figures of a grid that nobody killed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    assert finish(folder / "a", GRID, QUICK)[0] == 0
    return figures(folder / "a")


@pytest.mark.parametrize(
    ("jobs", "fork", "seed", "kills"),
    [
        (1, False, 0, 3),
        (3, True, 1, 3),
        *(pytest.param(2, bool(s % 2), s, 12, marks=pytest.mark.slow) for s in range(4)),
    ],
)
def test_a_grid_killed_at_random_moments_ends_complete(
    jobs: int, fork: bool, seed: int, kills: int, undisturbed: Any, tmp_path: Path
) -> None:
    spec = GRID | {"jobs": jobs, "fork": fork}
    code, said = kill_and_resume(tmp_path / "b", spec, QUICK, kills=kills, within=(0.5, 2.0), seed=seed)
    assert code == 0, said
    assert states(tmp_path / "b") == ["completed"] * 6
    assert figures(tmp_path / "b") == undisturbed
    ran_once(tmp_path / "b")


@pytest.mark.parametrize(
    ("seed", "kills"), [(2, 3), *(pytest.param(s, 12, marks=pytest.mark.slow) for s in range(3, 7))]
)
def test_a_search_killed_at_random_moments_loses_and_doubles_no_trial(seed: int, kills: int, tmp_path: Path) -> None:
    assert finish(tmp_path / "a", TPE, QUICK)[0] == 0
    code, said = kill_and_resume(tmp_path / "b", TPE, QUICK, kills=kills, within=(0.8, 3.0), seed=seed)
    assert code == 0, said
    assert trials(tmp_path / "b") == [(number, "COMPLETE") for number in range(5)]
    assert figures(tmp_path / "b") == figures(tmp_path / "a")
    ran_once(tmp_path / "b")


def test_failures_stop_nothing_are_named_and_tried_again_on_request(tmp_path: Path) -> None:
    fake = QUICK | {"fail": {"0": "ValueError: no such thing", "2": "killed", "3": "silent"}}
    code, said = finish(tmp_path / "s", GRID, fake)
    assert code == 1
    assert states(tmp_path / "s") == ["failed", "completed", "failed", "failed", "completed", "completed"]
    assert "000_x=0.1_y=0.1 failed: ValueError: no such thing" in said
    assert "002_x=0.2_y=0.1 failed: killed (exit code 137), probably because the machine was out of memory" in said
    assert "003_x=0.2_y=0.01 failed: exit code 3" in said
    (tmp_path / "s" / "mended").touch()
    assert finish(tmp_path / "s", GRID, fake)[0] == 1
    assert states(tmp_path / "s").count("failed") == 3
    assert table(tmp_path / "s")[2]["error"].startswith("killed (exit code 137)")
    assert finish(tmp_path / "s", GRID | {"retry_failed": True}, fake)[0] == 0
    assert states(tmp_path / "s") == ["completed"] * 6
    ran_once(tmp_path / "s")


def test_a_failed_trial_of_a_search_is_tried_again_under_its_number(tmp_path: Path) -> None:
    fake = QUICK | {"fail": {"1": "ValueError: no"}}
    assert finish(tmp_path / "s", TPE, fake)[0] == 1
    assert trials(tmp_path / "s")[1] == (1, "FAIL")
    (tmp_path / "s" / "mended").touch()
    assert finish(tmp_path / "s", TPE | {"retry_failed": True}, fake)[0] == 0
    assert trials(tmp_path / "s") == [(number, "COMPLETE") for number in range(5)]


def test_more_trials_go_on_with_the_same_study(tmp_path: Path) -> None:
    assert finish(tmp_path / "s", TPE | {"trials": 2}, QUICK)[0] == 0
    assert finish(tmp_path / "s", TPE | {"trials": 3}, QUICK)[0] == 0
    assert len(trials(tmp_path / "s")) == 3
    ran_once(tmp_path / "s")


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, *(pytest.param(n, marks=pytest.mark.slow) for n in (signal.SIGINT, signal.SIGHUP))]
)
def test_a_signal_lets_the_jobs_save_and_says_so(number: signal.Signals, tmp_path: Path) -> None:
    spec, slow = GRID | {"jobs": 2}, {"epochs": 500, "seconds": 0.05}
    process = start(tmp_path / "s", spec, slow)
    wait_for(lambda: len(journals(tmp_path / "s")) == 2)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number, err
    assert states(tmp_path / "s") == ["interrupted"] * 2 + ["queued"] * 4
    assert "6 not done; go on:" in out
    assert all(words[-1] == "interrupted" for words in journals(tmp_path / "s").values())
    assert finish(tmp_path / "s", spec, QUICK)[0] == 0
    assert states(tmp_path / "s") == ["completed"] * 6


@pytest.mark.skipif(sys.platform != "linux", reason="jobs are forks on Linux alone")
def test_jobs_whose_server_is_killed_save_themselves_and_the_next_ones_get_another(tmp_path: Path) -> None:
    process = start(tmp_path / "s", GRID | {"jobs": 2}, {"epochs": 4, "seconds": 1.5})
    wait_for(lambda: len(journals(tmp_path / "s")) == 2)
    job = int(next((tmp_path / "s").glob("*/journal.txt")).read_text().split()[1])
    server = int(Path(f"/proc/{job}/stat").read_text().rpartition(")")[2].split()[1])
    assert server != process.pid
    os.kill(server, signal.SIGKILL)
    wait_for(lambda: len(journals(tmp_path / "s")) == 4)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert states(tmp_path / "s") == ["interrupted"] * 4 + ["queued"] * 2, out + err
    assert finish(tmp_path / "s", GRID, QUICK)[0] == 0
    assert states(tmp_path / "s") == ["completed"] * 6
    ran_once(tmp_path / "s")


def test_an_objective_that_no_run_has_is_named(tmp_path: Path) -> None:
    spec = {"params": ["x=choice(0.1)"], "objectives": {"val/los": "minimize"}}
    code, said = finish(tmp_path / "grid", spec, QUICK)
    assert code == 0
    assert "no run has the figure 'val/los' of sweep.objective: did you mean 'val/loss'?" in said
    code, said = finish(tmp_path / "tpe", TPE | {"trials": 1, "objectives": {"val/los": "minimize"}}, QUICK)
    assert code == 1
    assert "the run has no figure 'val/los': did you mean 'val/loss'?" in said
    assert trials(tmp_path / "tpe") == [(0, "FAIL")]


def test_two_parents_never_run_one_sweep(tmp_path: Path) -> None:
    process = start(tmp_path / "s", GRID, {"epochs": 500, "seconds": 0.05})
    try:
        wait_for(lambda: journals(tmp_path / "s"))
        code, said = finish(tmp_path / "s", GRID, QUICK)
        assert code != 0
        assert f"another process ({process.pid}@" in said
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate()


def test_a_killed_parent_leaves_no_orphan_and_the_table_tells_the_truth(tmp_path: Path) -> None:
    process = start(tmp_path / "s", GRID, {"epochs": 500, "seconds": 0.05})
    wait_for(lambda: journals(tmp_path / "s"))
    process.kill()
    process.communicate()
    (journal,) = (tmp_path / "s").glob("*/journal.txt")
    pid = int(journal.read_text().split()[1])
    wait_for(lambda: not Path(f"/proc/{pid}/cmdline").exists() or not Path(f"/proc/{pid}/cmdline").read_bytes())
    assert states(tmp_path / "s")[0] == "running"
    assert finish(tmp_path / "s", GRID, QUICK)[0] == 0
    assert states(tmp_path / "s") == ["completed"] * 6


def test_a_job_that_outlives_its_sweep_is_waited_for(tmp_path: Path) -> None:
    """A run that ignores its parent's death: stopped processes take no signal but SIGKILL and SIGCONT."""
    process = start(tmp_path / "s", GRID, {"epochs": 30, "seconds": 0.1})
    wait_for(lambda: journals(tmp_path / "s"))
    (journal,) = (tmp_path / "s").glob("*/journal.txt")
    job = int(journal.read_text().split()[1])
    os.kill(job, signal.SIGSTOP)
    process.kill()
    process.communicate()
    again = start(tmp_path / "s", GRID, QUICK)
    time.sleep(2)
    assert again.poll() is None
    assert list(journals(tmp_path / "s").values()) == [["started"]]
    os.kill(job, signal.SIGCONT)
    out, err = again.communicate(timeout=60)
    assert again.returncode == 0, out + err
    assert journals(tmp_path / "s")["000_x=0.1_y=0.1"] == ["started", "interrupted", "started", "completed"]
    ran_once(tmp_path / "s")
