"""Stands for `narrows train` in tests of sweeps: a run's files, lock, signals and exit codes, no torch.

It takes `KEY=VALUE... hydra.run.dir=DIR` or `resume=DIR`, counts epochs with a checkpoint after each, and reports to
its study when it is told to. `FAKE` in the environment is JSON: {"epochs", "seconds" (of an epoch), "fail": {NUMBER:
how}}. In the run's directory `journal.txt` says who ran it when, and the file CONFLICT appears if two did at once.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, NoReturn


def write(path: Path, content: Any) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(json.dumps(content))
    os.replace(draft, path)


def read(path: Path) -> Any:
    return json.loads(path.read_text())


class Run:
    def __init__(self, arguments: list[str]) -> None:
        self.given = dict(argument.lstrip("+").split("=", 1) for argument in arguments if "=" in argument)
        self.job = json.loads(os.environ["NARROWS_JOB"])
        self.how = json.loads(os.environ.get("FAKE", "{}"))
        resumed = "resume" in self.given
        self.directory = Path(self.given.pop("resume", None) or self.given.pop("hydra.run.dir").strip("'"))
        if resumed and not (self.directory / "config.yaml").exists():
            self.refuse(f"{self.directory} has no config.yaml")
        if resumed and self.status() == "completed":
            self.refuse(f"{self.directory} is completed")
        self.directory.mkdir(parents=True, exist_ok=True)
        self.claim(fresh=not resumed)
        if resumed:
            self.given = read(self.directory / "config.yaml")
        write(self.directory / "config.yaml", self.given)

    def refuse(self, sentence: str) -> NoReturn:
        print(f"narrows: {sentence}", file=sys.stderr)
        raise SystemExit(2)

    def status(self) -> str | None:
        path = self.directory / "manifest.json"
        return read(path)["status"] if path.exists() else None

    def claim(self, fresh: bool) -> None:
        flags = os.O_CREAT | os.O_RDWR | (os.O_EXCL if fresh else 0)
        try:
            self.lock = os.open(self.directory / ".lock", flags)
            fcntl.lockf(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            (self.directory / "CONFLICT").touch()
            self.refuse(f"{self.directory} already holds a run")

    def note(self, word: str) -> None:
        with open(self.directory / "journal.txt", "a") as file:
            file.write(f"{word} {os.getpid()}\n")

    def record(self, status: str, error: str | None = None) -> None:
        sweep = {"directory": self.job["sweep"], "number": self.job["number"], "varied": self.job["varied"]}
        write(self.directory / "manifest.json", {"status": status, "error": error, "sweep": sweep})

    def value(self, epoch: int) -> float:
        """A figure that falls with the epochs to what the parameters are worth."""
        x, y = float(self.given.get("x", 0)), float(self.given.get("y", 0))
        return (x - 0.3) ** 2 + abs(math.log10(y) + 2 if y else 0) + 1 / epoch

    def fail(self, epoch: int) -> None:
        how = self.how.get("fail", {}).get(str(self.job["number"]))
        if how is None or epoch < 2 or (self.directory.parent / "mended").exists():
            return
        if how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "silent":
            raise SystemExit(3)
        self.record("failed", how)
        raise SystemExit(1)

    def train(self) -> None:
        checkpoint = self.directory / "checkpoint.json"
        begin = read(checkpoint) + 1 if checkpoint.exists() else 1
        reporter = None
        for epoch in range(begin, self.how.get("epochs", 4) + 1):
            time.sleep(self.how.get("seconds", 0.05))
            self.fail(epoch)
            if self.job["trial"] is not None:
                from narrows.sweeps.optuna_study import TrialReporter

                reporter = reporter or TrialReporter(self.job["trial"])
                if reporter.is_hopeless(epoch, self.value(epoch)):
                    self.conclude("pruned", epoch)
                    return
            write(checkpoint, epoch)
        self.conclude("completed", self.how.get("epochs", 4))

    def conclude(self, status: str, epoch: int) -> None:
        x = float(self.given.get("x", 0))
        figures = {"val/loss": self.value(epoch), "test/rate": x, "test/distortion": (1 - x) ** 2}
        write(self.directory / "metrics.json", figures)
        self.note(status)
        self.record(status)


def main() -> None:
    run = Run(sys.argv[1:])

    def leave(number: int, frame: Any) -> NoReturn:
        run.record("interrupted")
        run.note("interrupted")
        os._exit(128 + number)

    signal.signal(signal.SIGTERM, leave)
    run.record("running")
    run.note("started")
    run.train()


if __name__ == "__main__":
    main()
