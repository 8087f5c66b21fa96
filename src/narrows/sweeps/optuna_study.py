"""The Optuna study that proposes and prunes trials. Optuna is imported only if a sweep needs it."""

from __future__ import annotations

import math
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from narrows.errors import UserError
from narrows.sweeps.proposals import Proposal, State
from narrows.sweeps.search_space import Parameter, counter_seed
from narrows.sweeps.sweep_plan import SAMPLERS, Plan, make, make_pruner

FILE = "study.db"
NAME = "narrows"
WAIT = 120  # seconds to wait for the transaction of another process


class _Connection(sqlite3.Connection):
    """Waits for the disk only at checkpoints of the write-ahead log, which is safe.

    A power cut may lose the last transactions, but never the file; a trial's figures are also in its run.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.execute("PRAGMA journal_mode").fetchone() == ("wal",):
            self.execute("PRAGMA synchronous=NORMAL")


def open_storage(path: Path | str) -> Any:
    """The Optuna storage in this SQLite file, which many processes may have open."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    options = {"connect_args": {"timeout": WAIT, "factory": _Connection}}
    return optuna.storages.RDBStorage(f"sqlite:///{path}", engine_kwargs=options)


def _create(path: Path, directions: Sequence[Any], journal: str) -> None:
    """Create the SQLite file whole or not at all, so that a killed process leaves nothing to repair."""
    import optuna

    storage = open_storage(":memory:")
    optuna.create_study(storage=storage, study_name=NAME, directions=directions)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with closing(sqlite3.connect(draft)) as connection:
            storage.engine.raw_connection().driver_connection.backup(connection)
            connection.execute(f"PRAGMA journal_mode={journal}")
        storage.engine.dispose()
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def explained_storage(path: Path) -> Iterator[None]:
    """One sentence where the SQLite file cannot be read or written, such as on a full disk.

    Raises:
        UserError: SQLite itself failed, however SQLAlchemy and Optuna wrap it.
    """
    try:
        yield
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, sqlite3.OperationalError):
            cause = cause.__cause__
        if cause is None:
            raise
        raise UserError(f"cannot use {path}: {cause}") from error


class Study:
    """Proposes trials that depend only on the seed, the trial's number and the trials before it.

    A sampler of Optuna draws from one generator that lives as long as its process. Here every parameter of every trial
    gets a new sampler with seed `(seed, number, parameter)`: with one worker, a killed and resumed sweep proposes the
    same trials as one that never stopped. The storage numbers the trials, and a job has the number of its trial.

    Args:
        plan: holds the parameters, the sampler and the pruner.
        path: of the SQLite file, which is created if missing.
        shared: whether processes on other machines report to it; write-ahead logging works on one machine only.
    """

    def __init__(self, plan: Plan, path: Path, shared: bool = False) -> None:
        self.plan, self.path = plan, path
        if not path.exists():
            _create(path, list(plan.objectives.values()), "DELETE" if shared else "WAL")
        elif shared:
            with closing(sqlite3.connect(path, timeout=WAIT)) as connection:
                connection.execute("PRAGMA journal_mode=DELETE")
        self._open()

    def _open(self) -> None:
        import optuna

        self.study = optuna.load_study(study_name=NAME, storage=open_storage(self.path), sampler=self._sampler(0, ""))

    def known(self) -> list[Proposal]:
        """The trials in the storage; one whose drawing of parameters was interrupted is completed first."""
        return [self._proposal(trial) for trial in self.study.get_trials(deepcopy=False)]

    def propose(self) -> Proposal | None:
        if len(self.study.get_trials(deepcopy=False)) >= int(self.plan.trials or 0):
            return None
        trial = self.study.ask()
        return Proposal(trial.number, self._draw(trial), trial=trial._trial_id)

    def tell(self, proposal: Proposal, state: State, values: Sequence[float] | None) -> bool:
        """Record the end of the trial in the storage, once; returns whether its figures can guide the search."""
        from optuna.trial import TrialState

        usable = state is not State.COMPLETED or (values is not None and not any(map(math.isnan, values)))
        if state is State.PRUNED:
            self.study.tell(proposal.number, state=TrialState.PRUNED, skip_if_finished=True)
        elif state is State.FAILED or not usable:
            self.study.tell(proposal.number, state=TrialState.FAIL, skip_if_finished=True)
        elif state is State.COMPLETED and values is not None:
            self.study.tell(proposal.number, list(values), skip_if_finished=True)
        return usable

    def retry(self, proposal: Proposal) -> None:
        """Reopen a failed trial under its own number, for which Optuna has no function."""
        with closing(sqlite3.connect(self.path, timeout=WAIT)) as connection, connection:
            connection.execute(
                "UPDATE trials SET state = 'RUNNING', datetime_complete = NULL WHERE trial_id = ? AND state = 'FAIL'",
                (proposal.trial,),
            )
        # Reopen the storage, because it caches finished trials in memory.
        self._open()

    def report_to(self, proposal: Proposal) -> dict[str, Any] | None:
        if not self.plan.pruner:
            return None
        return {
            "storage": str(self.path.resolve()),
            "study": NAME,
            "id": proposal.trial,
            "metric": next(iter(self.plan.objectives)),
            "pruner": self.plan.pruner,
        }

    def _proposal(self, frozen: Any) -> Proposal:
        from optuna.trial import Trial, TrialState

        states = {TrialState.COMPLETE: State.COMPLETED, TrialState.PRUNED: State.PRUNED, TrialState.FAIL: State.FAILED}
        if len(frozen.params) == len(self.plan.parameters):
            drawn = tuple(item.override(frozen.params[item.name]) for item in self.plan.parameters)
        else:
            self.study.sampler = self._sampler(frozen.number, "")
            drawn = self._draw(Trial(self.study, frozen._trial_id))
        values = tuple(frozen.values) if frozen.state is TrialState.COMPLETE else None
        return Proposal(frozen.number, drawn, states.get(frozen.state), frozen._trial_id, values)

    def _draw(self, trial: Any) -> tuple[str, ...]:
        """Draw a value for every parameter, whichever of them the storage has already."""
        self.study.sampler = self._sampler(trial.number, "")
        _ = trial.relative_params
        overrides = []
        for item in self.plan.parameters:
            self.study.sampler = self._sampler(trial.number, item.name)
            overrides.append(item.override(_suggest(trial, item)))
        return tuple(overrides)

    def _sampler(self, number: int, name: str) -> Any:
        seed = counter_seed(self.plan.seed, "trial", number, name)
        return make(self.plan.method, SAMPLERS, self.plan.sampler, "sweep.sampler", seed=seed)


def _suggest(trial: Any, item: Parameter) -> Any:
    """The value that the trial draws for this parameter."""
    if not item.numeric:
        return trial.suggest_categorical(item.name, list(item.values))
    step = None if item.log else item.step
    if item.whole:
        return trial.suggest_int(item.name, int(item.low), int(item.high), step=int(step or 1), log=item.log)
    return trial.suggest_float(item.name, item.low, item.high, step=step, log=item.log)


DECISION = "pruned_at"
"""The attribute of a trial that holds the step at which it was pruned."""


class TrialReporter:
    """A trial's connection to its Optuna study, from the trial's own process.

    Steps reported before the process was killed are not reported again, and decisions are kept: judged a second time, a
    resumed run could get another decision than one that never stopped.
    """

    def __init__(self, trial: dict[str, Any]) -> None:
        import optuna

        self._study = optuna.load_study(
            study_name=trial["study"], storage=open_storage(Path(trial["storage"])), pruner=make_pruner(trial["pruner"])
        )
        self._trial = optuna.trial.Trial(self._study, trial["id"])

    def is_hopeless(self, step: int, value: float) -> bool:
        """Report the figure of this step; returns whether the run should end."""
        state = self._study._storage.get_trial(self._trial._trial_id)
        last = max(state.intermediate_values, default=-1)
        if state.state.is_finished() or step < last:
            return False
        if DECISION in state.user_attrs:
            return step >= state.user_attrs[DECISION]
        if step > last:
            self._trial.report(value, step)
        if self._trial.should_prune():
            self._trial.set_user_attr(DECISION, step)
            return True
        return False
