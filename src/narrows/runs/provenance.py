"""The provenance of a run: git state, versions, hardware and environment, recorded in its manifest."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import platform
import re
import shlex
import subprocess
import warnings
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import narrows
from narrows.config.composition import config_dir

PACKAGE = Path(narrows.__file__).resolve().parent
ENVIRONMENT = (
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OMP_WAIT_POLICY", "MKL_CBWR", "KMP_AFFINITY"),
    *("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS"),
    *("CUBLAS_WORKSPACE_CONFIG", "CUDA_VISIBLE_DEVICES", "CUDA_LAUNCH_BLOCKING", "NVIDIA_TF32_OVERRIDE"),
    *("TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "PYTORCH_CUDA_ALLOC_CONF", "PYTHONHASHSEED", "PYTHONPATH", "NARROWS_DATA"),
)
"""Environment variables on which figures or imports may depend; others may be secrets and are not recorded."""
LARGEST_UNTRACKED = 200_000
NONDETERMINISTIC = (
    re.compile(r"^\s*(\S.*?) does not have a deterministic implementation"),
    re.compile(r"^\s*(.{1,60}?) defaults to a non-deterministic algorithm"),
    re.compile(r"this operation is not deterministic because it uses (CuBLAS)"),
)
"""Torch's warnings about operations without a deterministic kernel; the group captures the operation."""
_FIELD = re.compile(r"^(Name|Version): *(.*?) *$", re.MULTILINE)


def surroundings(overrides: list[str], choices: dict[str, str], seed: int) -> dict[str, Any]:
    """The part of the manifest that is known before the run starts."""
    return {
        "narrows": narrows.__version__,
        "command": shlex.join(["narrows", "train", *overrides]),
        "overrides": overrides,
        "choices": choices,
        "seed": seed,
        "git": git_state(PACKAGE),
        "source": source_digest(),
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "versions": versions(),
        "hardware": hardware(),
        "environment": {name: os.environ[name] for name in ENVIRONMENT if name in os.environ},
        "directory": os.getcwd(),
    }


@functools.cache
def versions() -> dict[str, str]:
    """The version of every installed distribution; read once per process."""
    return dict(sorted(found for found in map(_name_and_version, metadata.distributions()) if found))


def _name_and_version(distribution: metadata.Distribution) -> tuple[str, str] | None:
    """What its metadata begin with. Parsing them whole, as `distribution.metadata` does, took a fifth of the time from
    the imports to the first step."""
    head = distribution.read_text("METADATA") or distribution.read_text("PKG-INFO") or ""
    fields = dict(_FIELD.findall(head.partition("\n\n")[0]))
    return (fields["Name"], fields["Version"]) if len(fields) == 2 else None


def source_digest() -> str:
    """SHA-256 over names and contents of the package's *.py and the configs' *.yaml. It is the same for a checkout and
    the wheel built from it, and changes with every edited line, with or without git."""
    digest = hashlib.sha256()
    for root, pattern in ((PACKAGE, "*.py"), (config_dir(), "*.yaml")):
        for name, path in sorted((path.relative_to(root).as_posix(), path) for path in root.rglob(pattern)):
            content = path.read_bytes()
            digest.update(f"{pattern} {name} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def hardware() -> dict[str, Any]:
    """Operating system, processor, threads, and the GPUs with their driver."""
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "os": platform.platform(),
        "host": platform.node(),
        "cpu": _cpu_name(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpus": gpus,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version() if gpus else None,
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
    """The commit and the uncommitted changes, new files included, of the checkout that holds `folder`; None outside a
    checkout. Both together restore the source: `git checkout COMMIT && git apply DIFF`."""
    commit = _git(folder, "rev-parse", "HEAD")
    root = _git(folder, "rev-parse", "--show-toplevel")
    if commit is None or root is None:
        return None
    top = Path(root.strip())
    places = [str(folder), str(folder.parents[1] / "configs")]
    changed = _git(top, "diff", *PATCH, "HEAD", "--", *places) or ""
    listed = _git(top, "ls-files", "--others", "--exclude-standard", "-z", "--", *places) or ""
    new = [_new_file(top, name) for name in sorted(filter(None, listed.split("\0")))]
    return {"commit": commit.strip(), "diff": "".join([changed, *new])}


PATCH = ("--no-ext-diff", "--no-textconv", "--no-color", "--binary")


def _new_file(top: Path, name: str) -> str:
    """A patch that creates a file unknown to git; only the file's hash if it is too large."""
    path = top / name
    try:
        if path.stat().st_size <= LARGEST_UNTRACKED:
            # Exit code 1 means that the files differ, as every file does from /dev/null.
            return _git(top, "diff", *PATCH, "--no-index", "--", os.devnull, name, codes=(0, 1)) or ""
        return f"# new file {name}: sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}\n"
    except OSError as error:  # removed meanwhile or unreadable: recorded instead of hidden
        return f"# new file {name}: {error.strerror}\n"


def _git(folder: Path, *arguments: str, codes: Sequence[int] = (0,)) -> str | None:
    return _output(["git", "-C", str(folder), *arguments], codes)


def _run(*command: str) -> str | None:
    text = _output(list(command), (0,))
    return None if text is None else text.strip()


def _output(command: list[str], codes: Sequence[int]) -> str | None:
    """The output of a command; None if it fails, because recording must not stop a run."""
    try:
        done = subprocess.run(command, capture_output=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode(errors="replace") if done.returncode in codes else None


@contextlib.contextmanager
def nondeterministic_operations() -> Iterator[list[str]]:
    """The names of operations without a deterministic kernel on this device, as torch warns of them in this context.

    Each warning is still shown once, and all other warnings as before. The list grows while the context is active.
    """
    names: list[str] = []
    with warnings.catch_warnings():
        warnings.filterwarnings("always", message=r"(?s).*(deterministic implementation|non-?deterministic)")
        show = warnings.showwarning

        def note(message: Warning | str, *place: Any, **more: Any) -> None:
            name = nondeterministic_operation(str(message))
            if name is None or name not in names:
                show(message, *place, **more)
            if name is not None and name not in names:
                names.append(name)

        warnings.showwarning = note
        yield names


def nondeterministic_operation(message: str) -> str | None:
    """The operation that a warning of torch calls nondeterministic; None for any other warning."""
    found = (pattern.search(message) for pattern in NONDETERMINISTIC)
    return next((match[1] for match in found if match), None)
