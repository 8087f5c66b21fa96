"""A trial of an Optuna study, seen from the process that runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from narrows.sweeps.plan import make_pruner
from narrows.sweeps.study import open_storage

DECISION = "pruned_at"


class Judge:
    """A trial in an Optuna study, seen from its own process.

    A step that was reported before the process was killed is not reported again, and a decision that was made is
    kept: judged twice, a run could be given another answer than one that was never stopped.
    """

    def __init__(self, trial: dict[str, Any]) -> None:
        import optuna

        self._study = optuna.load_study(
            study_name=trial["study"], storage=open_storage(Path(trial["storage"])), pruner=make_pruner(trial["pruner"])
        )
        self._trial = optuna.trial.Trial(self._study, trial["id"])

    def hopeless(self, step: int, value: float) -> bool:
        """Report the figure of this step; whether the run should end."""
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
