"""What can be refused without torch is refused before torch is imported, which takes seconds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from command import NARROW, NO_TASKS, TINY, run_in_process

PROGRAM = """
import sys
from narrows.commands import train

sys.argv[:] = ["narrows.commands.train", *sys.argv[1:]]
code = 0
try:
    train.main()
except SystemExit as end:
    code = end.code
print([code, [name for name in ("torch", "lightning", "sklearn", "pandas") if name in sys.modules]])
"""
REFUSALS = {
    "sed=3": "did you mean 'seed'",
    "encoder=mpl": "did you mean 'mlp'",
    "lr=0.1": "optimizer.lr=",
    "bottleneck.dim=wide": "bottleneck.dim must be a whole number, not 'wide'",
    "encoder.widths=3": "encoder.widths must be a list of whole numbers",
    "corruption=masking corruption.p=often": "corruption.p must be a number",
    "seed=x": "seed must be a whole number",
    "checkpoint=bst": "did you mean 'best'",
    "trainer.log_every_n_steps=0": "at least 1",
    "+trainer.gradient_clip_val=1": "module.clip_norm=",
    "hydra.run.dir=run": "already holds a run",
    "resume=nowhere": "No such file",
    "resume=run": "is completed",
    "resume=run trainer.max_epoch=3": "trainer.max_epochs=",
    "resume=run encoder.widths=[3]": "cannot be changed",
    "replay=run/config.yaml into=run": "already holds a run",
    "from=nowhere": "no such run",
    "-m seed=0,1 sed=3": "did you mean 'seed'",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("early")
    done = run_in_process(*TINY, *NARROW, *NO_TASKS, "hydra.run.dir=run", cwd=folder)
    assert done.code == 0, done.err
    return folder


def ended(arguments: str, folder: Path) -> tuple[Any, str]:
    """The exit code and the modules that were imported, and stderr."""
    called = [sys.executable, "-c", PROGRAM, *arguments.split()]
    done = subprocess.run(called, cwd=folder, env=os.environ | {"PYTHONSAFEPATH": "1"}, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1].replace("'", '"')), done.stderr


@pytest.mark.parametrize("arguments", REFUSALS)
def test_refused_before_torch_is_imported(arguments: str, folder: Path) -> None:
    found, told = ended(arguments, folder)
    assert REFUSALS[arguments] in told
    assert found == [2, []]


def test_the_test_above_would_notice(folder: Path) -> None:
    found, _ = ended("bottleneck.dim=-1", folder)
    assert found[0] == 2
    assert "torch" in found[1]
