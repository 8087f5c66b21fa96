"""What can be refused without torch is refused before torch is imported, which takes seconds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest
from command import NARROW, NO_TASKS, TINY, run_in_process

PROGRAM = """
import json, os, sys
from narrows.commands import train

for place, arguments in enumerate(json.loads(sys.argv[1])):
    if os.fork() == 0:
        code = 0
        try:
            os.dup2(os.open(f"told-{place}.txt", os.O_CREAT | os.O_WRONLY), 2)
            sys.argv[:] = ["narrows.commands.train", *arguments]
            train.main()
        except SystemExit as end:
            code = end.code
        finally:
            slow = [name for name in ("torch", "lightning", "sklearn", "pandas") if name in sys.modules]
            print("ended", json.dumps([code, slow]), flush=True)
            os._exit(0)
    os.wait()
"""
"""A fork for each command: the interpreter starts once."""
NOTICED = "bottleneck.dim=-1"
"""Which only the model can refuse."""
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
def ended(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[list[Any], str]]:
    """By arguments: the exit code with the modules that were imported, and stderr."""
    folder = tmp_path_factory.mktemp("early")
    done = run_in_process(*TINY, *NARROW, *NO_TASKS, "hydra.run.dir=run", cwd=folder)
    assert done.code == 0, done.err
    asked = [*REFUSALS, NOTICED]
    called = [sys.executable, "-c", PROGRAM, json.dumps([arguments.split() for arguments in asked])]
    settings = os.environ | {"PYTHONSAFEPATH": "1"}
    out = subprocess.run(called, cwd=folder, env=settings, capture_output=True, text=True, check=True).stdout
    found = [json.loads(line.removeprefix("ended ")) for line in out.splitlines() if line.startswith("ended ")]
    told = [(folder / f"told-{place}.txt").read_text() for place in range(len(asked))]
    return dict(zip(asked, zip(found, told, strict=True), strict=True))


@pytest.mark.parametrize("arguments", REFUSALS)
def test_refused_before_torch_is_imported(arguments: str, ended: dict[str, tuple[list[Any], str]]) -> None:
    found, told = ended[arguments]
    assert REFUSALS[arguments] in told
    assert found == [2, []]


def test_the_test_above_would_notice(ended: dict[str, tuple[list[Any], str]]) -> None:
    found, _ = ended[NOTICED]
    assert found[0] == 2
    assert "torch" in found[1]
