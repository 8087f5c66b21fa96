"""Running the jobs of a sweep: each one once, even if the sweep is interrupted and resumed."""

from __future__ import annotations

import json
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from narrows import os_signals
from narrows.errors import nearest
from narrows.runs.job import VARIABLE
from narrows.sweeps.job_table import KILLED, Outcome, Row, Table, can_resume, outcome
from narrows.sweeps.jobs_view import Progress
from narrows.sweeps.proposals import ENDED, Proposal, Proposer, State
from narrows.sweeps.sweep_directory import stamp
from narrows.sweeps.workers import Handle, Task, Workers

SIGNALS = os_signals.existing("SIGINT", "SIGTERM", "SIGHUP")
POLL = 0.1

Command = Callable[[Proposal, Path, bool], tuple[str, ...]]
"""Makes the command line of a job in a directory; the flag says whether to resume."""


@dataclass
class Running:
    """A running job, started by this process or (`inherited`) by an earlier process of the sweep."""

    proposal: Proposal
    row: Row
    handle: Handle
    inherited: bool = False


@dataclass
class Scheduler:
    """Runs one sweep from its present state to its end.

    Args:
        table: the job table of a sweep's directory, which this process has locked.
        proposer: proposes jobs.
        workers: run jobs.
        command: gives the command line of a job.
        progress: shows every change.
        varied: the keys in which jobs differ.
        devices: GPUs per job; None if jobs use all that they are given.
        retry_failed: whether to start failed jobs again.
    """

    table: Table
    proposer: Proposer
    workers: Workers
    command: Command
    progress: Progress
    varied: Sequence[str] = ()
    devices: int | None = 1
    retry_failed: bool = False
    poll: float = POLL
    signal: int | None = None
    _pending: list[Proposal] = field(default_factory=list)
    _running: list[Running] = field(default_factory=list)
    _signals_seen: int = 0
    _passed: int = 0

    @property
    def _killed(self) -> bool:
        return self._signals_seen > 1

    def run(self) -> int | None:
        """Run the remaining jobs; returns the signal that stopped the sweep, if one did."""
        with self._signals(), self.progress:
            self._recover()
            self._write()
            while self._fill() or self._running:
                time.sleep(self.poll)
                self._obey()
                self._collect()
        return self.signal

    def _recover(self) -> None:
        """Sort existing jobs into ended, running, and still to be run."""
        for proposal in self.proposer.known():
            row = self.table.add(proposal)
            if proposal.state is None:
                self._recover_by_run(proposal, row)
            else:
                self._settle(row, proposal.state, proposal.values)
            if row.state is State.FAILED and self.retry_failed:
                self.proposer.retry(proposal)
                row.state = State.QUEUED
            if row.state in (State.QUEUED, State.INTERRUPTED):
                self._pending.append(proposal)

    def _recover_by_run(self, proposal: Proposal, row: Row) -> None:
        handle = self.workers.attach(self._task(proposal, row, ()), row.token)
        if handle is not None:
            row.state = State.RUNNING
            self._running.append(Running(proposal, row, handle, inherited=True))
            return
        found = outcome(self.table.path(row), self.table.log(row), None)
        # Only the process that waited for a job saw its exit code; later ones read it from the table.
        known = row.state is State.FAILED and found.state not in ENDED
        self._ended(proposal, row, Outcome(State.FAILED, row.error) if known else found)

    def _settle(self, row: Row, state: State, values: Sequence[float] | None) -> None:
        row.state = state
        if state is State.FAILED and row.error is None:
            row.error = outcome(self.table.path(row), self.table.log(row), None).error or self._unusable(row)
        if values is not None:
            row.values = dict(zip(self.table.objectives, values, strict=True))
        elif state in ENDED:
            self._read_values(row)

    def _fill(self) -> bool:
        """Start jobs while workers are free; returns whether one was started."""
        started = False
        while len(self._running) < self.workers.jobs and (proposal := self._next()) is not None:
            self._start(proposal)
            started = True
        return started

    def _obey(self) -> None:
        """Pass a signal on to the jobs: the first lets them save and end, the second kills them."""
        if self.signal is None or self._passed == self._signals_seen:
            return
        self._passed = self._signals_seen
        for running in self._running:
            running.handle.stop(kill=self._killed)
        if self._killed:
            # Jobs of an earlier process cannot be killed from here and are not waited for.
            self._running = [running for running in self._running if not running.inherited]

    def _next(self) -> Proposal | None:
        if self.signal is not None:
            return None
        if self._pending:
            return self._pending.pop(0)
        # Jobs left running by an earlier process come before new ones, whose proposals may depend on them.
        if any(running.inherited for running in self._running):
            return None
        return self.proposer.propose()

    def _start(self, proposal: Proposal) -> None:
        row = self.table.rows.get(proposal.number) or self.table.add(proposal)
        directory = self.table.path(row)
        resume = can_resume(directory)
        if not resume and directory.exists():
            shutil.rmtree(directory)
        row.state, row.error, row.ended, row.token = State.RUNNING, None, None, None
        row.started = row.started or stamp()
        self._write()
        task = self._task(proposal, row, self.command(proposal, directory, resume))
        handle = self.workers.start(task)
        row.token = handle.token
        self._running.append(Running(proposal, row, handle))
        self._write()
        self.progress.started(row, resume)

    def _task(self, proposal: Proposal, row: Row, command: tuple[str, ...]) -> Task:
        job = {
            "sweep": str(self.table.sweep),
            "number": proposal.number,
            "varied": list(self.varied),
            "trial": self.proposer.report_to(proposal),
        }
        place = (self.table.path(row), self.table.log(row), self.table.lock(row))
        return Task(proposal.number, command, *place, self.devices, {VARIABLE: json.dumps(job)})

    def _collect(self) -> None:
        """Record the jobs that have ended."""
        for running in [item for item in self._running if item.handle.done()]:
            self._running.remove(running)
            row, code = running.row, running.handle.code
            found = outcome(self.table.path(row), self.table.log(row), code)
            if self._killed and found.state is State.FAILED and code in KILLED:
                found = Outcome(State.INTERRUPTED)
            self._ended(running.proposal, row, found)
            if running.inherited and row.state in (State.INTERRUPTED, State.QUEUED) and self.signal is None:
                # It stopped only because the sweep that started it died.
                self._pending.insert(0, running.proposal)
            self._write()
            self.progress.ended(row)

    def _ended(self, proposal: Proposal, row: Row, found: Outcome) -> None:
        row.state, row.error = found.state, found.error
        if row.state is State.COMPLETED:
            self._read_values(row)
        values = [row.values[metric] for metric in self.table.objectives if metric in row.values]
        whole = values if len(values) == len(self.table.objectives) else None
        if not self.proposer.tell(proposal, row.state, whole):
            row.state, row.error = State.FAILED, self._unusable(row)
        if row.state not in (State.QUEUED, State.RUNNING):
            row.ended = row.ended or stamp()

    def _unusable(self, row: Row) -> str:
        for metric in self.table.objectives:
            if metric not in row.values:
                known = [name for name in self.table.figures(row) if name.startswith(metric.partition("/")[0] + "/")]
                return f"sweep.objective: the run has no figure '{metric}': {nearest(metric, known)}"
        return f"its figures cannot be searched by: {row.values}"

    def _read_values(self, row: Row) -> None:
        figures = self.table.figures(row)
        row.values = {metric: float(figures[metric]) for metric in self.table.objectives if metric in figures}

    def _write(self) -> None:
        self.table.write()
        self.progress.show(self.table, [running.row for running in self._running], self.workers.jobs)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        # What `nohup` ignores stays ignored.
        heard = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        previous = {number: signal.signal(number, self._note) for number in heard}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _note(self, number: int, frame: Any) -> None:
        self.signal = self.signal or number
        self._signals_seen += 1
