"""Commands as the fuzzer runs them: the use of a run from Python, and `reproduce` without a new process."""

from __future__ import annotations

import os
import sys
from typing import Any

import torch
from command import call

import narrows
from narrows.commands import reproduce as command
from narrows.commands import train
from narrows.errors import explained
from narrows.runs.provenance import versions


def main() -> None:
    """Load the run that the command line names, and use it."""
    run, checkpoint = sys.argv[1:]
    with explained():
        model = narrows.load(run, checkpoint)
        x = torch.zeros(2, *model.spec.shape)
        assert model.embed(x).ndim == 2
        assert model.reconstruct(x).shape == x.shape


def reproduce() -> None:
    """`narrows reproduce`, whose training is a fork of this process: a new process would import for seconds."""
    command.train = _train
    command.main()


def _train(asked: Any) -> int:
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    adapted = [f"{key}={value}" for key, value in asked.adapted.items()]
    sys.argv[1:] = [f"replay={asked.file}", f"into={asked.into}", *adapted, *asked.overrides]
    code = call(train.main)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


versions()  # which every run records: read before the fork
