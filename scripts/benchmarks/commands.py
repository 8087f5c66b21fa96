"""What commands take, each in a process of its own: from typing to the end, sweeps, and memory over the data's size."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

NARROWS = [sys.executable, "-c", "import sys; from narrows.cli import main; sys.exit(main())"]
SMALL = ["encoder.widths=[16]", "decoder.widths=[16]", "datamodule=digits"]
STARTS: dict[str, tuple[list[str], int]] = {
    "import torch, lightning": ([sys.executable, "-c", "import narrows, torch, lightning"], 0),
    "narrows --help": ([*NARROWS, "--help"], 0),
    "a refusal: variant=nonsense": ([*NARROWS, "train", "variant=nonsense"], 2),
    "a run of one step": ([*NARROWS, "train", *SMALL, "trainer.max_steps=1"], 0),
}


def starts(rounds: int) -> dict[str, float]:
    """Seconds, the median of `rounds`, taken in turns."""
    found: dict[str, list[float]] = {name: [] for name in STARTS}
    for _ in range(rounds):
        for name, (command, code) in STARTS.items():
            found[name].append(_seconds(command, code))
    return {name: statistics.median(values) for name, values in found.items()}


def sweeps(jobs: int, epochs: int = 3) -> dict[str, float]:
    """Runs a minute of a sweep on two workers, whose jobs are forks of one process or processes of their own."""
    options = [f"trainer.max_epochs={epochs}", f"seed=range({jobs})", "sweep.workers.jobs=2"]
    sweep = [*NARROWS, "train", "-m", *SMALL, *options]
    return {
        name: 60 * jobs / _seconds([*sweep, f"sweep.workers.fork={fork}"], 0)
        for name, fork in {"forks": "true", "processes": "false"}.items()
    }


def memory(sizes: list[int]) -> dict[str, float]:
    """The largest memory of a run of one step on so many pictures of 28 x 28 in one file, in MB."""
    found = {}
    for rows in sizes:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "pictures.npy"
            np.save(path, np.random.default_rng(0).integers(0, 256, (rows, 28, 28), dtype=np.uint8))
            options = [
                "datamodule=arrays",
                f"datamodule.source.path={path}",
                "trainer.max_steps=1",
                "~task@tasks.latent",
            ]
            command = [*NARROWS, "train", *SMALL[:2], *options]
            found[f"{rows:,} pictures, {rows * 784 / 1e6:.0f} MB"] = _peak(command, folder)
    return found


def finish(command: list[str], folder: Path | str, code: int = 0) -> float:
    """Seconds of a command in this folder.

    Raises:
        RuntimeError: it ended with another exit code; with what it said.
    """
    start = time.perf_counter()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    if done.returncode != code:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
    return seconds


def _seconds(command: list[str], code: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        return finish(command, folder, code)


def _peak(command: list[str], folder: str) -> float:
    """Megabytes: a process of its own asks what its only child took, because the largest of all children is kept."""
    ask = "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=2, cwd='.'); "
    ask += "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    done = subprocess.run([sys.executable, "-c", ask, *command], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return int(done.stdout.split()[-1]) * (1 if sys.platform == "darwin" else 1024) / 1e6
