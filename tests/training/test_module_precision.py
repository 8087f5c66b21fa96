"""Compiled and in mixed precision, the model is the same model."""

from __future__ import annotations

import shutil

import pytest
import torch
from instances import LIKELIHOODS, LOSSES
from training.module_helpers import datamodule, deterministic, fit, module, network, quiet, weights

from narrows.likelihoods.elementwise import Likelihood
from narrows.models.autoencoder import Autoencoder
from narrows.types import Batch, Given

pytestmark = quiet


def compiled_by(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`torch.compile` of the whole model as one graph, in a fraction of the default backend's time."""
    torch.compiler.reset()
    compile = Autoencoder.compile
    monkeypatch.setattr(Autoencoder, "compile", lambda self: compile(self, backend=backend, fullgraph=True))


def test_a_compiled_model_trains_as_the_plain_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """One graph without breaks, through the dataclasses, the sampling and the distributions."""
    compiled_by("aot_eager", monkeypatch)
    plain, compiled = module(), module(compile=True)
    one, first = fit(plain, datamodule(train=46))
    two, second = fit(compiled, datamodule(train=46))
    assert compiled.model._compiled_call_impl is not None
    assert plain.model._compiled_call_impl is None
    expected = [value for _, value in first.series("train/loss")]
    assert [value for _, value in second.series("train/loss")] == pytest.approx(expected, rel=1e-5)
    assert two.callback_metrics["val/elbo"].item() == pytest.approx(one.callback_metrics["val/elbo"].item(), rel=1e-5)
    torch.testing.assert_close(weights(compiled), weights(plain), rtol=1e-4, atol=1e-5)
    assert compiled.state_dict().keys() == plain.state_dict().keys()


@pytest.mark.skipif(shutil.which("g++") is None and shutil.which("clang++") is None, reason="no C++ compiler")
@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_the_default_compiler_gives_the_same_loss_and_gradient() -> None:
    torch.compiler.reset()
    batch, objective = Batch(torch.rand(6, 12)), LOSSES["elbo"]()
    plain, compiled = network(), network()
    compiled.compile()
    totals = []
    # The compiler draws its own noise otherwise, of the same distribution.
    with torch._inductor.config.patch(fallback_random=True):
        for net in (plain, compiled):
            torch.manual_seed(1)
            total = objective(net(batch), net).total
            total.backward()
            totals.append(total.item())
    assert totals[0] == pytest.approx(totals[1], rel=1e-5)
    for one, two in zip(plain.parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(one.grad, two.grad, rtol=1e-4, atol=1e-5)


def test_bfloat16_trains_near_the_full_precision_run() -> None:
    full, mixed = module(deterministic()), module(deterministic())
    one, _ = fit(full, max_epochs=4)
    two, _ = fit(mixed, max_epochs=4, precision="bf16-mixed")
    assert all(p.dtype == torch.float32 for p in mixed.parameters())
    assert not torch.equal(weights(full), weights(mixed))
    figures = [trainer.callback_metrics["val/loss"].item() for trainer in (one, two)]
    assert figures[1] == pytest.approx(figures[0], rel=2e-3)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_the_likelihood_is_computed_in_float32(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums over many values lose their last digits in eight bits of mantissa."""
    seen: list[tuple[torch.dtype, ...]] = []
    cls = LIKELIHOODS[name].func
    original = cls.forward

    def watch(self: Likelihood, params: torch.Tensor, given: Given | None = None) -> torch.distributions.Distribution:
        p_x = original(self, params, given)
        terms = p_x.log_prob(torch.rand(len(params), 12))
        with torch.autocast("cpu", enabled=False):
            seen.append((params.dtype, terms.dtype, p_x.mean.dtype))
        return p_x

    monkeypatch.setattr(cls, "forward", watch)
    fit(module(network("gaussian", name)), max_epochs=1, precision="bf16-mixed")
    # Training and validation both run in mixed precision.
    assert set(seen) == {(torch.bfloat16, torch.float32, torch.float32)}
