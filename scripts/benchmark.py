"""What narrows costs: steps, whole fits, Pythae, data, growth, starts, sweeps, records and memory, in one run.

    python scripts/benchmark.py                          # all of it, some twenty minutes
    python scripts/benchmark.py steps --rounds 7         # a part of it
    python scripts/benchmark.py --toy --json figures.json

`steps` and `fits` are ratios to a bare loop within one run, the others are times of this machine. No test times.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import narrows  # noqa: F401 (before torchvision, which Lightning imports)

# isort: split

import torch
from benchmarks import commands, fits, growth, many_runs, peers, steps, stores

from narrows.training.freed_memory import keep_freed_memory
from narrows.training.lightning_trainer import quieten


def _steps(rounds: int, toy: bool) -> dict[str, Any]:
    cases = {name: case.smaller(2 * case.batch) for name, case in steps.CASES.items()} if toy else steps.CASES
    found = {}
    print(f"steps: time over the bare loop's, median (least to largest) of {rounds} rounds")
    for name, ratios in steps.ratios(cases, rounds):
        found[name] = ratios
        told = (f"{r['median']:.3f} ({r['min']:.3f} to {r['max']:.3f}) {setting}" for setting, r in ratios.items())
        print(f"  {name:<46} {', '.join(told)}", flush=True)
    return found


def _fits(rounds: int, toy: bool) -> dict[str, Any]:
    found = fits.ratios(rounds, ["trainer.max_epochs=1"] if toy else [])
    print(f"fits: time of the default run's fit over the bare loop's, median (least to largest) of {rounds} rounds")
    for name, row in found.items():
        print(f"  beside {name:<39} {row['median']:.3f} ({row['min']:.3f} to {row['max']:.3f})", flush=True)
    return found


def _peers(rounds: int, toy: bool) -> dict[str, Any]:
    found = peers.ratios(rounds, 1_000 if toy else 20_000)
    if found is None:
        print("peers: Pythae is not installed (pip install pythae)")
        return {}
    print("peers: images a second of a VAE as its users have it, and the ratio, median (least to largest)")
    for name, row in found.items():
        print(f"  {name:<46} {row['median']:,.2f} ({row['min']:,.2f} to {row['max']:,.2f})", flush=True)
    return found


def _data(rounds: int, toy: bool) -> dict[str, Any]:
    found = stores.rates(512 if toy else 20_000, 1 if toy else 4 * rounds)
    print("data: examples a second, and of slicing one tensor")
    for name, rates in found.items():
        print(f"  {name:<46} {rates['narrows']:>12,.0f} {rates['sliced']:>12,.0f}")
    return found


def _growth(rounds: int, toy: bool) -> dict[str, Any]:
    found = growth.exponents(1 if toy else 4 * rounds, smallest=toy)
    print("growth: milliseconds of a step at the smallest and largest size, and the exponent")
    for name, row in found.items():
        print(f"  {name:<46} {row['first ms']:>8.1f} {row['last ms']:>8.1f} {row['exponent']:>6.2f}")
    return found


def _starts(rounds: int, toy: bool) -> dict[str, Any]:
    return _told("starts: seconds", commands.starts(1 if toy else rounds), ".2f")


def _sweeps(rounds: int, toy: bool) -> dict[str, Any]:
    return _told("sweeps: runs a minute", commands.sweeps(*((2, 1) if toy else (32, 3))), ".1f")


def _records(rounds: int, toy: bool) -> dict[str, Any]:
    return _told("records: seconds", many_runs.seconds(*((3, 1) if toy else (1_000, rounds))), ".2f")


def _memory(rounds: int, toy: bool) -> dict[str, Any]:
    sizes = [1_000, 2_000] if toy else [20_000, 100_000, 500_000]
    return _told("memory: the largest in use, in MB", commands.memory(sizes), ",.0f")


def _told(title: str, found: dict[str, float], form: str) -> dict[str, float]:
    print(title)
    for name, value in found.items():
        print(f"  {name:<46} {value:{form}}", flush=True)
    return found


PARTS: dict[str, Callable[[int, bool], dict[str, Any]]] = {
    **{"steps": _steps, "fits": _fits, "peers": _peers, "data": _data, "growth": _growth},
    **{"starts": _starts, "sweeps": _sweeps, "records": _records, "memory": _memory},
}


@contextmanager
def _threads(n: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    yield
    torch.set_num_threads(before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)} (default: all)")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved repetitions (default 5)")
    parser.add_argument("--threads", type=int, default=1, help="torch threads (default 1)")
    parser.add_argument("--toy", action="store_true", help="the smallest sizes, once: does it run?")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    options = parser.parse_args()
    unknown = sorted(set(options.parts) - set(PARTS))
    if unknown:
        parser.error(f"there is no part {', '.join(unknown)}: {', '.join(PARTS)} are known")
    quieten()
    keep_freed_memory()  # as `narrows train` does, and here for the bare loop too
    torch.utils.deterministic.fill_uninitialized_memory = False
    machine = {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()}
    figures: dict[str, Any] = {"machine": machine, "torch": torch.__version__, "threads": options.threads}
    with _threads(options.threads):
        for name in options.parts or PARTS:
            figures[name] = PARTS[name](1 if options.toy else options.rounds, options.toy)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
