"""The live view of all jobs of a running sweep."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from types import TracebackType
from typing import IO

from rich.live import Live
from rich.text import Text

from narrows.compare.table_formats import PrintableConsole, number
from narrows.sweeps.job_table import Row, Table
from narrows.sweeps.proposals import ENDED, State, ranked

SHOWN = 8  # most running jobs that are listed


class Progress:
    """Shows jobs done, running and failed, the best so far and the time left: live on a terminal, else line by line."""

    def __init__(self, total: int, directions: Sequence[str], stream: IO[str] | None = None) -> None:
        self.total, self.directions = total, list(directions)
        self._console = PrintableConsole(file=stream or sys.stderr, highlight=False, soft_wrap=True)
        self._live = Live(console=self._console, auto_refresh=False, transient=True) if self._is_terminal() else None
        self._state = Text()
        self._since: dict[int, float] = {}
        self._seconds: list[float] = []

    def _is_terminal(self) -> bool:
        return self._console.is_terminal and not self._console.is_dumb_terminal

    def __enter__(self) -> Progress:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def started(self, row: Row, resume: bool) -> None:
        self._since[row.number] = time.monotonic()
        self._say(f"{row.directory}: {'goes on' if resume else 'started'}")

    def ended(self, row: Row) -> None:
        """Show that a job ended, possibly one that an earlier process of this sweep started."""
        seconds = time.monotonic() - self._since.pop(row.number, time.monotonic())
        if row.state in ENDED and seconds > 0:
            self._seconds.append(seconds)
        figures = "  ".join(f"{metric} {number(value)}" for metric, value in row.values.items())
        parts = [f"{row.directory}: {row.state}", figures, row.error or "", f"({seconds:.0f} s)" if seconds else ""]
        self._say("  ".join(filter(None, parts)))
        if self._live is None:
            self._say(self._state.plain)

    def _say(self, line: str) -> None:
        self._console.print(Text(line))

    def show(self, table: Table, running: Sequence[Row], jobs: int) -> None:
        """Redraw the view from the current table."""
        done = table.count(*ENDED)
        parts = [f"{done}/{self.total} done"]
        states = (State.RUNNING, State.PRUNED, State.FAILED, State.INTERRUPTED)
        parts += [f"{count} {state}" for state in states if (count := table.count(state))]
        left = self.total - done - table.count(State.FAILED)
        parts += [text for text in (self._best(table), self._left(left, jobs)) if text]
        self._state = Text("  ·  ".join(parts))
        if self._live is not None:
            names = [Text(f"  {row.directory}  since {_clock(row.started)}", style="dim") for row in running[:SHOWN]]
            self._live.update(Text("\n").join([self._state, *names]), refresh=True)

    def _best(self, table: Table) -> str:
        values = {
            row.number: list(row.values.values())
            for row in table.rows.values()
            if row.state is State.COMPLETED and len(row.values) == len(self.directions)
        }
        best = next(ranked(values, self.directions), None)
        if best is None:
            return ""
        metric = table.objectives[0]
        return f"best {metric} {number(values[best][0])} ({table.rows[best].directory})"

    def _left(self, jobs_left: int, at_once: int) -> str:
        if not self._seconds or jobs_left <= 0:
            return ""
        seconds = statistics.mean(self._seconds) * jobs_left / min(at_once, jobs_left)
        return f"about {_duration(seconds)} left"


def _clock(stamp: str | None) -> str:
    return datetime.fromisoformat(stamp).astimezone().strftime("%H:%M:%S") if stamp else ""


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min" if minutes else f"{rest} s"
