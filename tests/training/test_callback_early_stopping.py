"""An end by patience, which a warm-up does not use up."""

from __future__ import annotations

import pytest
from instances import model
from training.module_helpers import SPEC, adam, datamodule, fit, module, quiet

from narrows.errors import UserError
from narrows.training.callbacks.early_stopping import EarlyStopping

pytestmark = quiet


@pytest.mark.parametrize(("start", "epochs"), [(1, 3), (2, 4), (5, 7)])
def test_patience_counts_from_the_start(start: int, epochs: int) -> None:
    # Nothing improves by so much: the first validation that counts is the best, and two more use up the patience.
    stopping = EarlyStopping(patience=2, min_delta=1e9, start=start)
    trainer, _ = fit(module(model(SPEC), optimizer=adam), datamodule(), callbacks=[stopping], max_epochs=20)
    assert trainer.current_epoch == epochs
    assert stopping.stopped_epoch == epochs - 1


def test_an_unknown_figure_is_refused_with_the_nearest() -> None:
    stopping = EarlyStopping(monitor="val/los")
    with pytest.raises(UserError, match=r"there is no figure 'val/los': did you mean 'val/loss'\?"):
        fit(module(model(SPEC), optimizer=adam), datamodule(), callbacks=[stopping], max_epochs=1)


def test_a_change_below_0_is_refused() -> None:
    with pytest.raises(UserError, match="min_delta must not be negative, but is -1"):
        EarlyStopping(min_delta=-1)


def test_an_epoch_below_1_is_refused() -> None:
    with pytest.raises(UserError, match="start must be an epoch, at least 1, not 0"):
        EarlyStopping(start=0)


def test_a_negative_patience_is_refused() -> None:
    with pytest.raises(UserError, match="patience must not be negative, but is -1"):
        EarlyStopping(patience=-1)
