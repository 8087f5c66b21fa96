"""Mistakes by the thousand, each met by a command in a forked process: `python tests/fuzzer.py --count 2000`.

A case fails if it ends in a traceback, with an exit code that the command does not document, after its time limit, or
if a finished run has changed although the command refused.
"""

from __future__ import annotations

import argparse
import collections
import pkgutil
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import fuzz_values
from forks import Limits, Server
from fuzz_cases import Case, Workshop, draw_cases

import narrows

LIMITS = Limits(seconds=60, memory=6 << 30)
AT_ONCE = 2
LONGEST = 900
"""Most letters of a refusal."""


WARM = {
    *(module.name for module in pkgutil.walk_packages(narrows.__path__, "narrows.") if "sweeps" not in module.name),
    *("matplotlib.pyplot", "matplotlib.backends.backend_agg", "pandas", "pyarrow.parquet", "hydra.main", "scipy.stats"),
    *("sklearn.datasets", "sklearn.decomposition", "sklearn.linear_model", "sklearn.neighbors", "tensorboard.summary"),
    *("tensorboard.plugins.hparams.summary_v2", "joblib", "cloudpickle", "torch.utils.tensorboard", "torchmetrics"),
    *("hydra._internal.core_plugins.basic_launcher", "PIL.PngImagePlugin", "PIL.JpegImagePlugin", "fuzz_api"),
} - {"narrows.sklearn"}
"""What cases import: once, before the processes are forked."""


@dataclass
class Found:
    """A case that failed."""

    case: Case
    fault: str
    out: str

    def __str__(self) -> str:
        tail = "\n".join(self.out.rstrip().splitlines()[-9:])[-1200:]
        return f"{self.fault}: {self.case.name}\n    {' '.join(self.case.arguments)}\n{tail}"


def fuzz(root: Path, count: int, seed: int, everything: bool, at_once: int = AT_ONCE) -> Iterator[Found | Case]:
    """Run the cases; what failed is `Found`, its folder is kept."""
    server = Server(*sorted(WARM))
    try:
        workshop = Workshop(root, server)
        waiting: collections.deque[tuple[Case, int, dict[str, bytes | None]]] = collections.deque()
        for case in draw_cases(workshop, count, seed, everything):
            before = {} if case.finished is None else fuzz_values.content_of(case.finished)
            waiting.append(
                (case, server.start(*case.arguments, cwd=case.folder, main=case.main, limits=LIMITS), before)
            )
            if len(waiting) >= at_once:
                yield _ended(server, *waiting.popleft())
        while waiting:
            yield _ended(server, *waiting.popleft())
    finally:
        server.close()


def _ended(server: Server, case: Case, pid: int, before: dict[str, bytes | None]) -> Found | Case:
    ended = server.wait(pid)
    changed = []
    if case.finished is not None and ended.code != 0 and ended.code not in (3, 4):
        after = fuzz_values.content_of(case.finished)
        changed = sorted(name for name in {*before, *after} if before.get(name, 0) != after.get(name, 0))
    fault = judge(case, ended.code, ended.out, changed)
    if fault is not None:
        return Found(case, fault, ended.out)
    shutil.rmtree(case.folder)
    return case


def judge(case: Case, code: int, out: str, changed: list[str]) -> str | None:
    """What is wrong with how a command has ended; None if nothing is."""
    lines = out.rstrip().splitlines() or [""]
    if code == 142:
        return "no end"
    if "Traceback (most recent call last)" in out:
        return f"traceback {lines[-1][:150]}"
    if code not in case.codes:
        return f"exit code {code}"
    if code == 2 and "narrows" not in lines[-1]:
        return "no sentence"
    if code == 2 and len(lines[-1]) > LONGEST:
        return f"a sentence of {len(lines[-1])} letters"
    if code == 0 and case.nonsense:
        return "accepted"
    return f"changed {', '.join(changed)}" if changed else None


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("--count", type=int, default=100)
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--at-once", type=int, default=AT_ONCE)
    made.add_argument("--few", action="store_true", help="keys of a few compositions only")
    options = made.parse_args()
    root = Path(tempfile.mkdtemp(prefix="fuzz-"))
    done = failed = 0
    for found in fuzz(root, options.count, options.seed, not options.few, options.at_once):
        done += 1
        if isinstance(found, Found):
            failed += 1
            print(f"--- {done} {found}", flush=True)
    print(f"{done} cases, {failed} failed, in {root}")
    sys.exit(min(failed, 1))


if __name__ == "__main__":
    main()
