"""Averaged weights: the recursion, what training sees of it, what is judged and saved, and going on."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from instances import BOTTLENECKS, LOSSES, model
from torch import Tensor
from training.module_helpers import SPEC, SaveAt, adam, datamodule, fit, module, quiet, weights

from narrows.errors import UserError
from narrows.runs import checkpoint_files
from narrows.training.callbacks.averaged_weights import AveragedWeights
from narrows.training.lightning_module import AutoencoderModule

pytestmark = quiet
State = dict[str, Tensor]


class EachStep(L.Callback):
    """The model's weights before the first step and after every one."""

    def __init__(self) -> None:
        self.states: list[State] = []

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        self._note(pl_module)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, *_: Any) -> None:
        self._note(pl_module)

    def _note(self, pl_module: Any) -> None:
        self.states.append({name: values.clone() for name, values in pl_module.state_dict().items()})


def trained_module(name: str = "gaussian", **options: Any) -> AutoencoderModule:
    torch.manual_seed(3)
    built = model(SPEC, bottleneck=BOTTLENECKS[name])
    return module(built, LOSSES["elbo" if name == "gaussian" else name](), optimizer=adam, **options)


def assert_close(found: State, wanted: State) -> None:
    assert found.keys() == wanted.keys()
    for name, values in wanted.items():
        torch.testing.assert_close(found[name], values, atol=1e-6, rtol=1e-5, msg=lambda text, at=name: f"{at}: {text}")


@pytest.mark.parametrize("start", [0, 4])
def test_the_average_is_the_recursion_and_training_does_not_see_it(start: int, tmp_path: Path) -> None:
    seen, alone = EachStep(), EachStep()
    own, other = trained_module(), trained_module()
    fit(other, callbacks=[alone], max_epochs=2)
    saved = tmp_path / "last.ckpt"
    fit(own, callbacks=[AveragedWeights(0.8, start), seen, SaveAt(10, saved)], max_epochs=2)
    assert len(seen.states) == len(alone.states) == 11
    for one, two in zip(seen.states, alone.states, strict=True):
        assert all(torch.equal(one[name], two[name]) for name in one)
    average = seen.states[start]
    for state in seen.states[start + 1 :]:
        average = {name: 0.8 * average[name] + 0.2 * values for name, values in state.items()}
    checkpoint = checkpoint_files.read(saved)
    assert_close(checkpoint["state_dict"], average)
    assert_close(checkpoint["raw_weights"], {k: v for k, v in seen.states[-1].items() if k.startswith("model.")})
    assert_close(own.state_dict(), average)  # what is tested and drawn after training


def test_what_is_validated_is_the_average() -> None:
    own, callback = trained_module(), AveragedWeights(0.9)
    trainer, recorder = fit(own, callbacks=[callback], max_epochs=2)
    logged = [figures["val/loss"] for _, figures in recorder.rows if "val/loss" in figures]
    trainer.validate(own, datamodule=datamodule(), verbose=False)
    assert float(trainer.callback_metrics["val/loss"]) == pytest.approx(logged[-1], rel=1e-6)
    raw, _ = fit(trained_module(), max_epochs=2)
    assert float(raw.callback_metrics["val/loss"]) != pytest.approx(logged[-1], rel=1e-6)


def test_only_steps_of_the_optimiser_count() -> None:
    seen = EachStep()
    own = trained_module(accumulate=3)
    fit(own, callbacks=[AveragedWeights(0.5), seen], max_epochs=1)
    steps = [seen.states[0], seen.states[3], seen.states[5]]
    average = steps[0]
    for state in steps[1:]:
        average = {name: 0.5 * average[name] + 0.5 * values for name, values in state.items()}
    assert_close(own.state_dict(), average)


def test_stopped_and_gone_on_is_never_stopped(tmp_path: Path) -> None:
    whole, first, second = trained_module(), trained_module(), trained_module()
    average = partial(AveragedWeights, 0.7, 2)
    fit(whole, callbacks=[average(), SaveAt(20, tmp_path / "whole" / "last.ckpt")], max_epochs=4)
    fit(first, callbacks=[average(), SaveAt(7, tmp_path / "last.ckpt")], max_epochs=2)
    (tmp_path / "last.ckpt").rename(tmp_path / "at.ckpt")
    options = {"max_epochs": 4, "checkpoint": tmp_path / "at.ckpt"}
    fit(second, callbacks=[average(), SaveAt(20, tmp_path / "second" / "last.ckpt")], **options)
    assert torch.equal(weights(whole), weights(second))
    ends = [checkpoint_files.read(tmp_path / name / "last.ckpt") for name in ("whole", "second")]
    for key in ("state_dict", "raw_weights"):
        assert all(torch.equal(ends[0][key][name], ends[1][key][name]) for name in ends[0][key]), key


def test_a_codebook_is_averaged_and_counters_are_copied(tmp_path: Path) -> None:
    seen, saved = EachStep(), tmp_path / "last.ckpt"
    own = trained_module("vq")
    fit(own, callbacks=[AveragedWeights(0.5), seen, SaveAt(5, saved)], max_epochs=1)
    found = checkpoint_files.read(saved)["state_dict"]
    average = seen.states[0]
    for state in seen.states[1:]:
        average = {k: (average[k] + v) / 2 if v.is_floating_point() else v for k, v in state.items()}
    assert any(not values.is_floating_point() or "codebook" in name for name, values in found.items())
    assert_close(found, average)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"decay": 1.0}, "decay must be at least 0 and below 1"), ({"start": -1}, "start must not")],
)
def test_values_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        AveragedWeights(**options)
