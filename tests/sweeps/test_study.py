"""Optuna's bookkeeping: no trial lost, none doubled, and the same proposals whatever was killed in between."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_sweep import make_plan

from narrows.sweeps import optuna_study as module
from narrows.sweeps.optuna_study import Study, TrialReporter
from narrows.sweeps.proposals import Proposal, State
from narrows.sweeps.sweep_plan import Plan

SPACE = ["x=interval(0,1)", "y=tag(log,interval(1e-4,1))", "z=a,b,c", "n=int(interval(1,9))", "m=range(0,1,0.25)"]
TPE = {"method": "tpe", "params": SPACE, "trials": 5, "sampler": {"n_startup_trials": 2, "multivariate": True}}
ALONE = TPE | {"sampler": {"n_startup_trials": 2, "multivariate": False}}
NSGA2 = {
    "method": "nsga2",
    "params": SPACE,
    "trials": 5,
    "sampler": {"population_size": 3},
    "objectives": {"a": "minimize", "b": "minimize"},
}
RANDOM = {"method": "random", "params": SPACE, "trials": 5}
SPECS = {"tpe": TPE, "tpe, each alone": ALONE, "nsga2": NSGA2, "random": RANDOM}


def figures(proposal: Proposal, plan: Plan) -> list[float]:
    """What a run of this proposal would give."""
    x = float(proposal.overrides[0].partition("=")[2])
    return [(x - 0.3) ** 2, (1 - x) ** 2][: len(plan.objectives)]


def work(study: Study) -> list[tuple[str, ...]]:
    """Run what is unfinished, then everything else; all proposals in order."""
    for proposal in study.known():
        if proposal.state is None:
            study.tell(proposal, State.COMPLETED, figures(proposal, study.plan))
    while (proposal := study.propose()) is not None:
        study.tell(proposal, State.COMPLETED, figures(proposal, study.plan))
    return [proposal.overrides for proposal in study.known()]


class Killed(BaseException):
    pass


def killing(after: int, real: Callable[..., Any]) -> Callable[..., Any]:
    """`real`, until it was called `after` times."""
    calls = iter(range(after))

    def suggest(*args: Any) -> Any:
        if next(calls, None) is None:
            raise Killed
        return real(*args)

    return suggest


@pytest.mark.parametrize("kind", SPECS)
def test_killed_between_any_two_parameters_it_proposes_the_same(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan(SPECS[kind])
    never_stopped = work(Study(plan, tmp_path / "a.db"))
    assert len(set(never_stopped)) == 5
    real = module._suggest
    for after in (0, 3, 7, 11):
        monkeypatch.setattr(module, "_suggest", killing(after, real))
        try:
            work(Study(plan, tmp_path / "b.db"))
        except Killed:
            continue
    monkeypatch.setattr(module, "_suggest", real)
    resumed = Study(plan, tmp_path / "b.db")
    assert work(resumed) == never_stopped
    assert [proposal.number for proposal in resumed.known()] == list(range(5))
    assert resumed.propose() is None


def test_a_trial_is_told_once(tmp_path: Path) -> None:
    study = Study(make_plan(RANDOM), tmp_path / "s.db")
    proposal = study.propose()
    assert proposal is not None
    assert study.tell(proposal, State.COMPLETED, [1.0])
    assert study.tell(proposal, State.COMPLETED, [2.0])
    assert study.tell(proposal, State.FAILED, None)
    (known,) = study.known()
    assert (known.state, known.values) == (State.COMPLETED, (1.0,))


def test_figures_that_cannot_be_searched_by_fail_the_trial(tmp_path: Path) -> None:
    study = Study(make_plan(RANDOM), tmp_path / "s.db")
    for values in ([math.nan], None):
        proposal = study.propose()
        assert proposal is not None
        assert not study.tell(proposal, State.COMPLETED, values)
    assert [known.state for known in study.known()] == [State.FAILED, State.FAILED]


def test_a_failed_trial_is_tried_again_under_its_number(tmp_path: Path) -> None:
    study = Study(make_plan(RANDOM), tmp_path / "s.db")
    proposal = study.propose()
    assert proposal is not None
    study.tell(proposal, State.FAILED, None)
    study.retry(proposal)
    (again,) = study.known()
    assert (again.number, again.overrides, again.state) == (proposal.number, proposal.overrides, None)
    study.tell(again, State.COMPLETED, [1.0])
    assert study.known()[0].state is State.COMPLETED


def test_the_study_is_in_write_ahead_mode_and_whole_from_its_first_moment(tmp_path: Path) -> None:
    import sqlite3

    Study(make_plan(RANDOM), tmp_path / "s.db")
    with sqlite3.connect(tmp_path / "s.db") as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()
    assert {path.name.partition("-")[0] for path in tmp_path.iterdir()} == {"s.db"}


# ── pruning ─────────────────────────────────────────────────────────────────────────────────────────────

MEDIAN = {"method": "median", "n_startup_trials": 2, "n_warmup_steps": 1}
HALVING = {"method": "successive_halving", "min_resource": 1, "reduction_factor": 2}


def pruned_at(study: Study, curve: Callable[[int], float], restart: tuple[int, ...] = ()) -> int | None:
    """Run one trial of 4 epochs, killed after each epoch of `restart`, when it goes on an epoch earlier."""
    proposal = study.propose()
    assert proposal is not None
    report_to = study.report_to(proposal)
    assert report_to is not None
    reporter, epoch, left = TrialReporter(report_to), 1, list(restart)
    while epoch <= 4:
        hopeless = reporter.is_hopeless(epoch, curve(epoch))
        if left and epoch == left[0]:
            # Killed after it had asked and before it could act.
            reporter, epoch = TrialReporter(report_to), max(1, left.pop(0) - 1)
            continue
        if hopeless:
            study.tell(proposal, State.PRUNED, None)
            return epoch
        epoch += 1
    study.tell(proposal, State.COMPLETED, [curve(4)])
    return None


@pytest.mark.parametrize("pruner", [MEDIAN, HALVING], ids=["median", "halving"])
def test_a_resumed_run_gets_the_answer_of_one_that_never_stopped(pruner: dict[str, Any], tmp_path: Path) -> None:
    plan = make_plan(TPE | {"pruner": pruner})
    worth = (1.0, 2.0, 0.5, 3.0, 5.0)
    answers = []
    for name, restart in (("a", ()), ("b", (2, 4, 4))):
        study = Study(plan, tmp_path / f"{name}.db")
        answers.append([pruned_at(study, lambda epoch, w=w: w + 1 / epoch, restart) for w in worth])  # type: ignore[misc]
    assert answers[0] == answers[1]
    assert None in answers[0]
    assert any(epoch is not None for epoch in answers[0])


def test_a_pruned_trial_counts_and_reporting_it_again_is_harmless(tmp_path: Path) -> None:
    study = Study(make_plan(TPE | {"pruner": MEDIAN, "trials": 4}), tmp_path / "s.db")
    for worth in (1.0, 1.0, 9.0, 9.0):
        pruned_at(study, lambda epoch, w=worth: w)  # type: ignore[misc]
    assert study.propose() is None
    assert [known.state for known in study.known()][2:] == [State.PRUNED, State.PRUNED]
    report_to = study.report_to(study.known()[3])
    assert report_to is not None
    assert not TrialReporter(report_to).is_hopeless(1, 0.0)
