"""A decoder that starts at the data's mean: which mean, when, and who can."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from instances import LIKELIHOODS, model
from training.module_helpers import SPEC, SaveAt, adam, datamodule, fit, module, quiet, weights

from narrows.decoders.mlp import MLPDecoder
from narrows.errors import UserError
from narrows.tasks.measures.observed_values import Statistics
from narrows.training.callbacks.start_at_mean import StartAtMean
from narrows.training.lightning_module import AutoencoderModule
from narrows.types import Batch

pytestmark = quiet


def linear(likelihood: str = "bernoulli") -> AutoencoderModule:
    torch.manual_seed(3)
    decoder = partial(MLPDecoder, widths=[])
    return module(model(SPEC, likelihood=LIKELIHOODS[likelihood], decoder=decoder), optimizer=adam)


class First(L.Callback):
    """What a latent of zeros decoded to before the first step of a fit."""

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Batch, batch_idx: int) -> None:
        if not hasattr(self, "decoded"):
            self.decoded = pl_module.model.decode(torch.zeros(1, *pl_module.model.latent_shape)).mean[0].detach()


class Silent(MLPDecoder):
    """Without a last bias."""

    def __init__(self, in_shape: tuple[int, ...], out_shape: tuple[int, ...]) -> None:
        super().__init__(in_shape, out_shape, widths=[])
        self.blocks[0][0] = torch.nn.Linear(in_shape[0], out_shape[0], bias=False)  # type: ignore[operator]


@pytest.mark.parametrize(
    "likelihood", ["bernoulli", "gaussian_fixed", "gaussian_shared", "gaussian_optimal", "laplace"]
)
def test_no_latent_decodes_to_the_training_mean(likelihood: str) -> None:
    data, first = datamodule(), First()
    fit(linear(likelihood), data, callbacks=[StartAtMean(), first], max_epochs=1)
    rows = torch.cat([batch.x for batch in data.ordered_loader("train")])
    torch.testing.assert_close(first.decoded, rows.mean(0))


def test_values_that_are_missing_are_left_out_of_the_mean() -> None:
    x = torch.tensor([[1.0, 9.0, 9.0], [3.0, 4.0, 9.0]])
    observed = torch.tensor([[True, False, False], [True, True, False]])
    statistics = Statistics(3)
    for row in (0, 1):
        statistics.add(Batch(x=x[[row]], observed=observed[[row]]))
    assert statistics.mean.tolist() == [2.0, 4.0, 0.0]


def test_a_resumed_run_goes_on_where_it_was(tmp_path: Path) -> None:
    whole, first, second = linear(), linear(), linear()
    fit(whole, callbacks=[StartAtMean()], max_epochs=4)
    fit(first, callbacks=[StartAtMean(), SaveAt(5, tmp_path / "at.ckpt")], max_epochs=1)
    fit(second, callbacks=[StartAtMean()], max_epochs=4, checkpoint=tmp_path / "last.ckpt")
    assert torch.equal(weights(whole), weights(second))


@pytest.mark.parametrize(
    ("likelihood", "decoder", "sentence"),
    [
        ("gaussian_value", partial(MLPDecoder, widths=[]), "needs a likelihood with one parameter, its mean's"),
        ("bernoulli", Silent, r"needs a decoder whose last layer has a bias for each of the 12 values .*, not Silent"),
    ],
)
def test_refusals(likelihood: str, decoder: Any, sentence: str) -> None:
    refused = module(model(SPEC, likelihood=LIKELIHOODS[likelihood], decoder=decoder))
    with pytest.raises(UserError, match=rf"callbacks\.start {sentence}"):
        fit(refused, callbacks=[StartAtMean()])
