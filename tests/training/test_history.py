"""The buffer of the steps' losses."""

from __future__ import annotations

import math

import pytest
import torch

from narrows.errors import NonFiniteError
from narrows.losses import Losses
from narrows.training.step_history import StepHistory, as_row, names_of, refuse_non_finite


def losses(reconstruction: float, kl: float) -> Losses:
    terms = {"reconstruction": torch.tensor(reconstruction, requires_grad=True), "kl": torch.tensor(kl)}
    total = terms["reconstruction"] + 2 * terms["kl"]
    return Losses(total=total, monitored=total.detach(), terms=terms)


def test_a_row_is_the_total_and_every_unweighted_term() -> None:
    assert names_of(losses(3.0, 1.0)) == ["loss", "reconstruction", "kl"]
    row = as_row(losses(3.0, 1.0).total, losses(3.0, 1.0))
    assert row.tolist() == [5.0, 3.0, 1.0]
    assert not row.requires_grad


def test_low_precision_losses_are_kept_in_full() -> None:
    terms = {"reconstruction": torch.tensor(3.0, dtype=torch.bfloat16)}
    low = Losses(total=terms["reconstruction"], monitored=terms["reconstruction"], terms=terms)
    assert as_row(low.total, low).dtype == torch.float32


def test_take_gives_the_mean_and_forgets() -> None:
    history = StepHistory(interval=3)
    assert history.take() is None
    for step, value in enumerate((1.0, 2.0, 6.0)):
        assert not history.full
        history.record(step, losses(value, 0.0))
    assert history.full
    assert history.take().tolist() == [3.0, 3.0, 0.0]
    assert history.take() is None
    history.record(3, losses(8.0, 1.0))
    assert history.take().tolist() == [10.0, 8.0, 1.0]


def test_a_share_weighs_a_row() -> None:
    history = StepHistory(interval=2)
    history.record(0, losses(4.0, 2.0), share=0.5)
    assert history.take().tolist() == [4.0, 2.0, 1.0]


def test_rows_are_averaged_over_processes_before_they_are_judged() -> None:
    """Otherwise the process with the bad row would stop and the others wait for it."""
    history = StepHistory(interval=2)
    history.record(4, losses(1.0, 1.0))
    with pytest.raises(NonFiniteError, match="'kl' became nan at step 4"):
        history.take(lambda rows: rows + torch.tensor([[0.0, 0.0, math.nan]]))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_the_first_bad_row_names_step_and_term(bad: float) -> None:
    history = StepHistory(interval=5)
    for step, values in enumerate([(1.0, 1.0), (1.0, 1.0), (1.0, bad), (bad, bad)]):
        history.record(10 + step, losses(*values))
    with pytest.raises(NonFiniteError, match=rf"the term 'kl' became {bad} at step 12;"):
        history.take()


def test_a_total_that_overflows_alone_is_named_itself() -> None:
    rows = torch.tensor([[math.inf, 3e38, 3e38]])
    with pytest.raises(NonFiniteError, match="the term 'loss' became inf somewhere"):
        refuse_non_finite(rows, ["loss", "reconstruction", "kl"], ["somewhere"])


def test_finite_rows_pass() -> None:
    refuse_non_finite(torch.zeros(3, 2), ["loss", "kl"], ["a", "b", "c"])
