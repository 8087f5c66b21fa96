"""How a process finds out which other one has failed, and what is divided between them."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest
from torch import nn

from narrows.errors import ProcessFailed, sentence
from narrows.training import processes
from narrows.training.failures import Failure, is_lost
from narrows.training.fully_sharded import large_blocks

GLOO = "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:25520"


def started(*codes: str) -> processes._Started:
    """Processes that run these lines."""
    return processes._Started([subprocess.Popen([sys.executable, "-c", code]) for code in codes])


def ended(found: processes._Started) -> None:
    for process in found.processes:
        process.wait(60)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (-signal.SIGKILL, "killed by SIGKILL"),
        (128 + signal.SIGTERM, "ended by SIGTERM"),
        (2, "ended with exit code 2, for the reason that it has printed"),
    ],
)
def test_an_exit_code_in_words(code: int, said: str) -> None:
    assert processes._ended(code) == said


def test_the_one_that_died_of_itself_is_named_not_those_that_lost_it() -> None:
    found = started(f"raise SystemExit({processes.LOST})", "import os; os.kill(os.getpid(), 9)", "raise SystemExit(0)")
    ended(found)
    assert found.failure() == Failure(2, "killed by SIGKILL")
    agreed = started("raise SystemExit(143)", "pass")
    ended(agreed)
    assert agreed.failure() is None
    assert agreed.failure(also_agreed=True) == Failure(1, "ended by SIGTERM")


def test_those_that_do_not_end_are_killed() -> None:
    found = started("import time; time.sleep(600)", "pass")
    found.processes[1].wait(60)
    before = time.monotonic()
    found.end(0.1)
    assert [process.returncode for process in found.processes] == [-signal.SIGKILL, 0]
    assert time.monotonic() - before < 300


def test_an_error_of_a_lost_connection_is_told_from_others_however_it_was_wrapped() -> None:
    wrapped = ValueError("training cannot go on")
    wrapped.__cause__ = RuntimeError(GLOO)
    assert is_lost(wrapped)
    assert is_lost(RuntimeError(GLOO))
    assert not is_lost(RuntimeError("mat1 and mat2 must have the same dtype"))
    assert not is_lost(ValueError("an igloo of gloom: gloo"))


def test_an_error_that_is_the_context_of_its_own_cause_is_looked_through_once() -> None:
    mistake, cause = ValueError("a mistake"), ValueError("its cause")
    mistake.__cause__, cause.__context__ = cause, mistake
    assert not is_lost(mistake)
    mistake.__cause__ = RuntimeError(GLOO)
    assert is_lost(cause)


def test_a_rank_that_nobody_knows_is_not_made_up() -> None:
    assert sentence(ProcessFailed(None, 4, "lost")) == "one of 4 processes failed, and the run with it: lost"
    assert sentence(ProcessFailed(3, 4, "x")) == "rank 3 of 4 processes failed, and the run with it: x"


class Model(nn.Module):
    """Two stages of blocks, which have a layer in common, and one a weight of the other."""

    def __init__(self) -> None:
        super().__init__()
        common, source, tied = (nn.Linear(10, 10) for _ in range(3))
        tied.weight = source.weight
        inner = nn.Sequential(nn.Linear(10, 10), nn.Linear(10, 10))
        self.encoder = nn.Sequential(common, inner, source, nn.Linear(10, 1))
        self.decoder = nn.ModuleList([nn.ModuleList([nn.Linear(10, 10)]), common, tied])


def test_large_blocks_are_disjoint_compute_and_share_nothing() -> None:
    model = Model()
    (common, inner, *_), ((last,), *_) = model.encoder, model.decoder  # type: ignore[misc]
    assert list(large_blocks(model, 100)) == [*inner, common, last]
    assert list(large_blocks(model, 200)) == [inner]
    assert list(large_blocks(model, 1000)) == []
