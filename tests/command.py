"""Run `narrows train` from a test: in this process where possible, because starting one costs seconds."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from narrows.commands import reproduce, train
from narrows.config.composition import config_dir, register_resolvers, run_dir
from narrows.config.hydra_versions import VERSION_BASE

COMMAND = Path(sys.executable).with_name("narrows")

# Two optimiser steps on few examples, checkpoints as the only callback.
TINY = (
    "callbacks=none",
    "trainer.limit_train_batches=2",
    "trainer.max_epochs=1",
    "trainer.limit_val_batches=1",
    "trainer.limit_test_batches=1",
    "datamodule.batch_size=16",
    "datamodule.loading.eval_batch_size=16",
)
# Small networks, for compositions of fully connected stages.
NARROW = ("encoder.widths=[16]", "decoder.widths=[16]")
# The figures of every task cost more than two steps do.
NO_TASKS = ("~tasks.reconstruction", "~tasks.latent")


@dataclass
class Finished:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def complaints(self) -> list[str]:
        """The lines on stderr in which narrows refuses something."""
        return [line for line in self.err.splitlines() if line.startswith("narrows: ")]


def run_in_process(*arguments: str, cwd: Path) -> Finished:
    """`narrows train ARGUMENTS` in `cwd`, without a new process; a traceback stands in `err`, as in a shell."""
    out, err = io.StringIO(), io.StringIO()
    streams = contextlib.redirect_stdout(out), contextlib.redirect_stderr(err)
    with _as_new_process(cwd, ["narrows.commands.train", *arguments]), streams[0], streams[1]:
        code = call()
    return Finished(code, out.getvalue(), err.getvalue())


def replayed(plan: reproduce.Plan) -> int:
    """What `narrows reproduce` trains, in this process: its exit code."""
    adapted = [f"{key}={value}" for key, value in plan.adapted.items()]
    allow = [f"allow={','.join(plan.allow)}"] if plan.allow else []
    start = [f"replay={plan.file.resolve()}", f"into={plan.into}"]
    done = run_in_process(*start, *allow, *adapted, *plan.overrides, cwd=Path.cwd())
    sys.stderr.write(done.err)
    return done.code


def reproduce_in_process(*arguments: str, cwd: Path) -> Finished:
    """`narrows reproduce ARGUMENTS` in `cwd`, and what it trains, without a new process."""
    out, err = io.StringIO(), io.StringIO()
    streams = contextlib.redirect_stdout(out), contextlib.redirect_stderr(err)
    alone = patch.object(reproduce, "train", replayed)
    with _as_new_process(cwd, ["narrows.commands.reproduce", *arguments]), streams[0], streams[1], alone:
        code = call(reproduce.main)
    return Finished(code, out.getvalue(), err.getvalue())


def call(main: Callable[[], Any] = train.main) -> int:
    """A command's `main()` on `sys.argv`; the exit code as a shell sees it."""
    try:
        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except Exception:
        traceback.print_exc(file=sys.stderr)
        return 1
    return 0


@contextlib.contextmanager
def _as_new_process(cwd: Path, argv: list[str]) -> Iterator[None]:
    """What a run changes for good in its process is put back afterwards."""
    before = os.getcwd(), sys.argv, dict(os.environ), list(sys.path)
    signals = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)}
    deterministic = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    _forget_hydra()
    try:
        os.chdir(cwd)
        sys.argv = argv
        with warnings.catch_warnings(), _loggers_kept(), torch.random.fork_rng(devices=[]):
            yield
    finally:
        _forget_hydra()
        os.chdir(before[0])
        sys.argv = before[1]
        os.environ.clear()
        os.environ.update(before[2])
        sys.path[:] = before[3]
        for number, handler in signals.items():
            signal.signal(number, handler)
        torch.use_deterministic_algorithms(deterministic[0], warn_only=deterministic[1])


def _forget_hydra() -> None:
    GlobalHydra.instance().clear()
    HydraConfig.instance().cfg = None
    run_dir.cache_clear()


@contextlib.contextmanager
def _loggers_kept() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        yield
    finally:
        for handler in set(root.handlers) - set(handlers):
            handler.close()
        root.handlers[:] = handlers
        root.setLevel(level)


def composed(*overrides: str, return_hydra_config: bool = False) -> DictConfig:
    """What `narrows train OVERRIDES` composes."""
    register_resolvers()
    _forget_hydra()
    with initialize_config_dir(str(config_dir()), **VERSION_BASE):
        return compose("train", list(overrides), return_hydra_config=return_hydra_config)


def run_command(*arguments: str, cwd: Path, env: dict[str, str] | None = None, timeout: float = 120) -> Finished:
    """`narrows ARGUMENTS` in `cwd` as a user's shell starts it."""
    surroundings = os.environ | {"OMP_NUM_THREADS": "1"} | (env or {})
    done = subprocess.run(
        [str(COMMAND), *arguments], cwd=cwd, env=surroundings, capture_output=True, text=True, timeout=timeout
    )
    return Finished(done.returncode, done.stdout, done.stderr)


def free_port() -> str:
    """A port that no other job of two processes has, as `MASTER_PORT`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def run_directories(root: Path) -> list[Path]:
    """Every run directory below `root`, in the order of their names."""
    return sorted(path.parent for path in root.rglob("manifest.json"))


def only_run(root: Path) -> Path:
    """The one run directory below `root`."""
    (found,) = run_directories(root)
    return found


def manifest(run: Path) -> dict[str, Any]:
    return json.loads((run / "manifest.json").read_text())


def recorded_config(run: Path) -> Any:
    return OmegaConf.load(run / "config.yaml")
