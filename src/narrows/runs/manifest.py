"""What a run must know of its surroundings to be judged and repeated."""

from __future__ import annotations

import functools
import os
import platform
import shlex
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import narrows

PACKAGE = Path(narrows.__file__).resolve().parent


def surroundings(overrides: list[str], choices: dict[str, str], seed: int) -> dict[str, Any]:
    """The part of the manifest that is known before the run starts."""
    return {
        "narrows": narrows.__version__,
        "command": shlex.join(["narrows", "train", *overrides]),
        "overrides": overrides,
        "choices": choices,
        "seed": seed,
        "git": git_state(PACKAGE),
        "python": platform.python_version(),
        "versions": versions(),
        "hardware": hardware(),
        "directory": os.getcwd(),
    }


@functools.cache
def versions() -> dict[str, str]:
    """Every installed distribution; read once, however many jobs a sweep has."""
    return dict(sorted((d.metadata["Name"], d.version) for d in metadata.distributions() if d.metadata["Name"]))


def hardware() -> dict[str, Any]:
    """Operating system, processor, threads, and the GPUs with their driver."""
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "os": platform.platform(),
        "host": platform.node(),
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpus": gpus,
        "cuda": torch.version.cuda,
        "driver": _run("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader") if gpus else None,
    }


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def git_state(folder: Path) -> dict[str, Any] | None:
    """Commit and uncommitted difference of the checkout that holds `folder`; None outside one."""
    commit = _run("git", "-C", str(folder), "rev-parse", "HEAD")
    if commit is None:
        return None
    difference = _run("git", "-C", str(folder), "diff", "HEAD", "--", str(folder), str(folder.parents[1] / "configs"))
    return {"commit": commit, "diff": difference or ""}


def _run(*command: str) -> str | None:
    """The command's output, or None where it cannot be had: a manifest must not stop a run."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def is_main_process() -> bool:
    """Whether this process writes: rank zero of a job, before and after Lightning knows its ranks."""
    return all(os.environ.get(name, "0") == "0" for name in ("LOCAL_RANK", "NODE_RANK", "RANK", "SLURM_PROCID"))
