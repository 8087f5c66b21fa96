"""Runs a sweep over fake runs: `python fake_sweep.py DIR SPEC`, SPEC as JSON; goes on where DIR holds a sweep."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from narrows.sweeps import sweep_directory as directories
from narrows.sweeps.forked_jobs import ForkServer
from narrows.sweeps.local_workers import Local
from narrows.sweeps.proposals import Proposal
from narrows.sweeps.search_space import parameter, parse
from narrows.sweeps.sweep_command import conduct
from narrows.sweeps.sweep_plan import Plan

FAKE = "fake_run"


def make_plan(spec: dict[str, Any]) -> Plan:
    return Plan(
        method=spec.get("method", "grid"),
        parameters=tuple(parameter(override) for override in parse(spec["params"])),
        fixed=(),
        objectives=spec.get("objectives", {"val/loss": "minimize"}),
        trials=spec.get("trials"),
        sampler=spec.get("sampler", {}),
        pruner=spec.get("pruner", {}),
    )


def command(proposal: Proposal, directory: Path, resume: bool) -> tuple[str, ...]:
    if resume:
        return (sys.executable, "-m", FAKE, f"resume={directory}")
    return (sys.executable, "-m", FAKE, *proposal.overrides, f"hydra.run.dir='{directory}'")


def workers(spec: dict[str, Any]) -> Local:
    os.environ["PYTHONPATH"] = str(Path(__file__).parent)
    found = Local(spec.get("jobs", 1), spec.get("fork", True))
    found.server = ForkServer({}, module=FAKE, imported=())
    return found


def main() -> None:
    path, spec = Path(sys.argv[1]), json.loads(sys.argv[2])
    plan = make_plan(spec)
    if (path / directories.SWEEP).exists():
        held = directories.SweepDirectory(path)
        held.hold()
    else:
        held = directories.create(path)
        held.write(plan, spec["params"], [])
    raise SystemExit(conduct(plan, held.path, workers(spec), command, retry_failed=spec.get("retry_failed", False)))


if __name__ == "__main__":
    main()
