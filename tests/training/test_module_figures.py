"""Figures mean what their names say."""

from __future__ import annotations

import math
from pathlib import Path

import lightning as L
import pytest
import torch
from training.module_helpers import (
    QUIET,
    SaveAt,
    datamodule,
    deterministic,
    fit,
    module,
    network,
    quiet,
    weights,
)

from narrows.errors import NonFiniteError
from narrows.loading.model_from_config import read_weights
from narrows.losses import Objective, Term
from narrows.losses.divergence import KL
from narrows.losses.reconstruction import NegativeLogLikelihood
from narrows.models.autoencoder import Autoencoder
from narrows.schedules import Linear
from narrows.training.callbacks.write_checkpoints import Checkpoint
from narrows.types import Batch, Output

pytestmark = quiet


def elbo(weight: float | Linear) -> Objective:
    return Objective({"reconstruction": NegativeLogLikelihood(), "kl": KL(weight)})


@pytest.mark.parametrize("eval_batch_size", [1, 7, 22])
def test_held_out_figures_do_not_depend_on_the_batch_size(eval_batch_size: int) -> None:
    trained, data = module(deterministic()), datamodule(held_out=23, eval_batch_size=eval_batch_size)
    trainer, _ = fit(trained, data, max_epochs=1)
    net = trained.model.eval()
    with torch.no_grad():
        x = torch.cat([batch.x for batch in data.ordered_loader("validation")])
        by_hand = -net(Batch(x)).p_x.log_prob(x).sum(1).mean()
    assert trainer.callback_metrics["val/loss"].item() == pytest.approx(by_hand.item(), rel=1e-5)
    trainer.test(trained, datamodule=data, verbose=False)
    x = torch.cat([batch.x for batch in data.ordered_loader("test")])
    with torch.no_grad():
        by_hand = -net(Batch(x)).p_x.log_prob(x).sum(1).mean()
    assert trainer.callback_metrics["test/loss"].item() == pytest.approx(by_hand.item(), rel=1e-5)


def test_two_validations_differ_by_the_weights_alone() -> None:
    trained, data = module(), datamodule()
    trainer, _ = fit(trained, data, max_epochs=1)
    first = dict(trainer.callback_metrics)
    torch.manual_seed(99)
    trainer.validate(trained, datamodule=data, verbose=False)
    assert trainer.callback_metrics["val/elbo"] == first["val/elbo"]


def test_validation_judges_with_the_end_of_the_schedules() -> None:
    trainer, _ = fit(module(objective=elbo(Linear(0.0, 4.0, steps=1000))), max_epochs=1)
    figures = {name: float(value) for name, value in trainer.callback_metrics.items()}
    assert figures["val/loss"] == pytest.approx(figures["val/reconstruction"] + 4 * figures["val/kl"], rel=1e-5)
    assert figures["val/elbo"] == pytest.approx(-figures["val/reconstruction"] - figures["val/kl"], rel=1e-5)


def test_training_is_judged_with_the_weight_of_its_step() -> None:
    schedule = Linear(0.0, 4.0, steps=8)
    _, recorder = fit(module(objective=elbo(schedule)))
    total, reconstruction, kl = (recorder.series(f"train/{name}") for name in ("loss", "reconstruction", "kl"))
    assert [step for step, _ in total] == list(range(1, 11))
    for step in range(10):
        expected = reconstruction[step][1] + schedule(step) * kl[step][1]
        assert total[step][1] == pytest.approx(expected, rel=1e-5)
    assert recorder.series("weight/kl") == [(step, schedule(step)) for step in range(1, 11)]


def test_a_constant_weight_is_not_a_series() -> None:
    _, recorder = fit(module(), max_epochs=1)
    assert not [name for _, row in recorder.rows for name in row if name.startswith("weight/")]


def test_an_interval_is_logged_as_the_mean_of_its_steps() -> None:
    _, each = fit(module())
    _, pooled = fit(module(), log_every_n_steps=3)
    steps = [value for _, value in each.series("train/loss")]
    # Five steps an epoch: three, the two that are left at its end, and so on.
    groups = [steps[0:3], steps[3:5], steps[5:8], steps[8:10]]
    expected = [(step, sum(g) / len(g)) for step, g in zip((3, 5, 8, 10), groups, strict=True)]
    found = pooled.series("train/loss")
    assert [step for step, _ in found] == [step for step, _ in expected]
    assert [value for _, value in found] == pytest.approx([value for _, value in expected], rel=1e-5)


def test_training_figures_are_complete_and_current() -> None:
    trained = module()
    _, recorder = fit(trained, log_every_n_steps=1000)
    (first, row), (second, last) = [entry for entry in recorder.rows if "train/loss" in entry[1]]
    names = {"train/loss", "train/reconstruction", "train/kl", "lr", "throughput/examples_per_s"}
    assert (first, second) == (5, 10)
    assert set(row) == set(last) == names
    assert trained.latest == last
    assert row["throughput/examples_per_s"] > 0


class Sour(Term):
    """Turns into NaN at one step of training."""

    def __init__(self, at: int, value: float = math.nan) -> None:
        super().__init__()
        self.at, self.value = at, value

    def forward(self, out: Output, model: Autoencoder) -> torch.Tensor:
        return out.latent.point.sum(1) * (self.value if out.step == self.at else 0.0)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("settings", [{"log_every_n_steps": 1000}, {"log_every_n_steps": 3}], ids=str)
def test_a_loss_that_leaves_the_numbers_stops_before_it_is_saved(
    settings: dict[str, int], value: float, tmp_path: Path
) -> None:
    objective = Objective({"reconstruction": NegativeLogLikelihood(), "sour": Sour(7, value)})
    settings = settings | {"enable_checkpointing": True, "callbacks": [Checkpoint()], "default_root_dir": tmp_path}
    with pytest.raises(
        NonFiniteError, match=r"the term 'sour' became -?(nan|inf) at step 7; checkpoints already written are"
    ) as stopped:
        fit(module(objective=objective), max_epochs=5, **settings)
    assert "clip_norm" in str(stopped.value)
    for name in ("last", "best"):
        path = tmp_path / "checkpoints" / f"{name}.ckpt"
        assert torch.load(path, weights_only=True)["global_step"] == 5
        assert all(tensor.isfinite().all() for tensor in read_weights(path).values())


def test_a_validation_that_leaves_the_numbers_is_named() -> None:
    class Late(Sour):
        def forward(self, out: Output, model: Autoencoder) -> torch.Tensor:
            return out.latent.point.sum(1) * (0.0 if model.training else math.nan)

    objective = Objective({"reconstruction": NegativeLogLikelihood(), "late": Late(0)})
    with pytest.raises(NonFiniteError, match=r"the term 'late' became nan in val after step 5"):
        fit(module(objective=objective))


def test_weights_load_without_unpickling_anything_else(tmp_path: Path) -> None:
    path, trained = tmp_path / "last.ckpt", module()
    fit(trained, max_epochs=1, callbacks=[SaveAt(5, path)])
    other = module(network())
    other.load_state_dict(read_weights(path))
    assert torch.equal(weights(other), weights(trained))


def test_the_module_can_be_judged_without_having_been_trained() -> None:
    trainer = L.Trainer(**QUIET, logger=False)
    trainer.validate(module(), datamodule=datamodule(), verbose=False)
    figures = {name: value.item() for name, value in trainer.callback_metrics.items()}
    assert figures["val/loss"] == pytest.approx(figures["val/reconstruction"] + figures["val/kl"], rel=1e-5)
