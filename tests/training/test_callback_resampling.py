"""Dead latents get a second chance; living ones and the run's exactness are left alone."""

from __future__ import annotations

from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from instances import LIKELIHOODS, batch, model
from training.module_helpers import SPEC, SaveAt, adam, fit, module, quiet, weights

from narrows.bottlenecks.sparse import BatchTopK
from narrows.decoders.mlp import MLPDecoder
from narrows.errors import UserError
from narrows.training.callbacks.resample_dead import ResampleDead
from narrows.training.lightning_module import AutoencoderModule

pytestmark = quiet
DEAD = [1, 4, 7]


def sparse(**options: Any) -> AutoencoderModule:
    torch.manual_seed(3)
    net = model(
        SPEC,
        bottleneck=partial(BatchTopK, dim=9, k=3),
        likelihood=LIKELIHOODS["gaussian_fixed"],
        decoder=partial(MLPDecoder, widths=[]),
    )
    with torch.no_grad():
        net.bottleneck.projection.bias[DEAD] = -50.0
    return module(net, optimizer=adam, **options)


def test_the_dead_and_nothing_else_are_renewed_and_the_optimiser_forgets_them() -> None:
    trained = sparse()
    fit(trained)
    bottleneck, linear = trained.model.bottleneck, trained.model.decoder.blocks[0][0]
    assert (bottleneck.idle >= 10)[DEAD].all()
    before = deepcopy(trained.state_dict())
    optimizer = type("Holder", (), {"optimizer": torch.optim.Adam(trained.parameters())})()
    trained.model(batch(SPEC)).log_likelihood.mean().backward()
    optimizer.optimizer.step()  # now it remembers something
    for name, value in before.items():
        trained.state_dict()[name].copy_(value)
    trained.optimizers = lambda: optimizer  # type: ignore[method-assign]
    ResampleDead(dead_after=10)._renew(trained, batch(SPEC), torch.tensor(DEAD))
    alive = [i for i in range(9) if i not in DEAD]
    weight, old = bottleneck.projection.weight, before["model.bottleneck.projection.weight"]
    assert torch.equal(weight[alive], old[alive])
    torch.testing.assert_close(weight[DEAD].norm(dim=1), (0.2 * old[alive].norm(dim=1).mean()).expand(3))
    assert not bottleneck.projection.bias[DEAD].any()
    columns, were = linear.weight, before["model.decoder.blocks.0.0.weight"]
    assert torch.equal(columns[:, alive], were[:, alive])
    torch.testing.assert_close(columns[:, DEAD].norm(dim=0), were[:, alive].norm(dim=0).mean().expand(3))
    assert not bottleneck.idle[DEAD].any()
    for name in ("exp_avg", "exp_avg_sq"):
        state = optimizer.optimizer.state
        assert not state[weight][name][DEAD].any()
        assert state[weight][name][alive].any()
        assert not state[columns][name][:, DEAD].any()


def test_resampled_latents_fire_again() -> None:
    resampled, left = sparse(), sparse()
    fit(resampled, callbacks=[ResampleDead(every_n_steps=5, dead_after=5, scale=1.0)], max_epochs=4)
    fit(left, max_epochs=4)
    assert (left.model.bottleneck.idle[DEAD] == 20).all()
    assert (resampled.model.bottleneck.idle[DEAD] < 15).all()


def test_a_resumed_run_resamples_as_one_that_never_stopped(tmp_path: Path) -> None:
    resample = ResampleDead(every_n_steps=5, dead_after=5)
    whole, first, second = sparse(), sparse(), sparse()
    fit(whole, callbacks=[resample], max_epochs=4)
    fit(first, callbacks=[resample, SaveAt(5, tmp_path / "at.ckpt")], max_epochs=1)
    fit(second, callbacks=[resample], max_epochs=4, checkpoint=tmp_path / "last.ckpt")
    assert torch.equal(weights(whole), weights(second))


@pytest.mark.parametrize(
    ("options", "name"),
    [({"every_n_steps": 0}, "every_n_steps"), ({"dead_after": 0}, "dead_after"), ({"scale": 0.0}, "scale")],
)
def test_refusals(options: dict[str, float], name: str) -> None:
    with pytest.raises(UserError, match=rf"callbacks\.resample\.{name} must be"):
        ResampleDead(**options)


def test_a_bottleneck_without_dead_latents_is_refused() -> None:
    with pytest.raises(UserError, match=r"callbacks\.resample needs a bottleneck that counts idle passes"):
        fit(module(), callbacks=[ResampleDead()])
