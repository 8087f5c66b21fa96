"""What every variant promises, whoever adds it: the laws run over all of configs/variant/ on small data.

A variant that cannot keep a law stands in that law's table with the reason, and a reason that is not needed any more
fails.
"""

from __future__ import annotations

import copy
import io
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from noise import SameNoise
from small_variants import VARIANTS, Case, case, trained
from torch import Tensor

from narrows.losses import Term
from narrows.losses.aggregate import DIP, DimensionwiseKL, MutualInformation, TotalCorrelation
from narrows.losses.discrepancy import MMD
from narrows.losses.divergence import KL, Capacity
from narrows.losses.quantisation import LookupFreeEntropy
from narrows.losses.sparsity import SparseKL
from narrows.types import FINAL_STEP, Batch

COUPLED: dict[type[Term], str] = {
    Capacity: "|KL - C| is of the batch's mean KL",
    DIP: "the covariance over the batch",
    MMD: "compares two samples, of which the batch is one",
    TotalCorrelation: "q(z) is estimated from the batch",
    MutualInformation: "q(z) is estimated from the batch",
    DimensionwiseKL: "q(z) is estimated from the batch",
    LookupFreeEntropy: "the entropy of the codes that the batch uses",
    SparseKL: "the target is for a latent's mean over the batch",
}
"""Terms whose value for a batch is not the mean of its examples' values, and why; so are a KL's free bits, and
adaptive weights."""
UNCOMPILED: dict[str, str] = {}
"""Variants that `module.compile=true` cannot have, and why."""
COMPILED_BY_DEFAULT = ("vae", "topk", "vq_vae", "iwae", "sequential")
"""The others compile in the slow suite: each takes seconds."""


@pytest.fixture(autouse=True, scope="module")
def _no_composition_left() -> Iterator[None]:
    yield
    GlobalHydra.instance().clear()


# ── gradients ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("n", [6, 1])
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_parameter_gets_a_finite_gradient(variant: str, n: int) -> None:
    """Critics' too; of a batch of one as of any other."""
    one = trained(variant)
    for parameter in one.parameters().values():
        parameter.grad = None
    loss = one.loss(one.batch(n), step=5)
    loss.backward()
    assert torch.isfinite(loss)
    for name, parameter in one.parameters().items():
        assert parameter.grad is not None, f"{name} gets no gradient"
        assert torch.isfinite(parameter.grad).all(), name


# ── batches ─────────────────────────────────────────────────────────────────────────────────────────────


def is_coupled(term: Any) -> bool:
    return isinstance(term, tuple(COUPLED)) or term.adaptive or (isinstance(term, KL) and term.free_bits > 0)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_batch_s_loss_is_the_mean_of_its_examples_losses(variant: str) -> None:
    one = trained(variant)
    one.model.eval()
    one.objective.eval()
    data = one.batch()

    def terms(rows: slice) -> dict[str, Tensor]:
        part = Batch(x=data.x[rows], label=data.label[rows])
        with torch.no_grad(), SameNoise():
            out = one.model(part)
            out.step = FINAL_STEP
            return one.objective(out, one.model).terms

    whole, alone = terms(slice(None)), [terms(slice(i, i + 1)) for i in range(len(data))]
    for name, value in whole.items():
        if not is_coupled(one.objective[name.removesuffix("_critic")]):
            mean = torch.stack([each[name] for each in alone]).mean()
            torch.testing.assert_close(mean, value, rtol=1e-4, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}")


def test_the_noise_is_the_same_for_all() -> None:
    """Else the law above would hold by luck."""
    with SameNoise():
        drawn = [torch.randn(5), torch.rand(5), torch.zeros(5).exponential_(), torch.randint(0, 9, (5,))]
        drawn.append(torch.distributions.Normal(torch.zeros(5), 1.0).rsample())
    assert all(len(values.unique()) == 1 for values in drawn)


# ── evaluation ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("variant", VARIANTS)
def test_evaluation_repeats_and_weights_are_all_there_is(variant: str) -> None:
    one = trained(variant)
    one.model.eval(), one.objective.eval()
    data = one.batch()
    state = copy.deepcopy(whole_state(one))
    embedded, rebuilt = one.model.embed(data), one.model.reconstruct(data)
    assert torch.equal(one.model.embed(data), embedded)
    assert embedded.shape == (len(data), embedded.shape[1])
    assert rebuilt.shape == data.x.shape
    with torch.no_grad():
        loss = one.loss(data)
    now = whole_state(one)
    same = [torch.equal(now[part][name], value) for part in state for name, value in state[part].items()]
    assert all(same), "nothing learns"

    file = io.BytesIO()
    torch.save(now, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    again = case(variant)
    again.model.load_state_dict(saved["model"])
    again.objective.load_state_dict(saved["objective"])
    again.model.eval(), again.objective.eval()
    assert torch.equal(again.model.embed(data), embedded)
    assert torch.equal(again.model.reconstruct(data), rebuilt)
    with torch.no_grad():
        assert torch.equal(again.loss(data), loss)


def whole_state(one: Case) -> dict[str, dict[str, Tensor]]:
    return {"model": one.model.state_dict(), "objective": one.objective.state_dict()}


# ── compilation ─────────────────────────────────────────────────────────────────────────────────────────


def gradients(one: Case) -> tuple[Tensor, dict[str, Tensor]]:
    for parameter in one.parameters().values():
        parameter.grad = None
    loss = one.loss(one.batch(), seed=7)
    loss.backward()
    return loss.detach(), {name: p.grad for name, p in one.parameters().items() if p.grad is not None}


def compilable() -> list[Any]:
    return [v if v in COMPILED_BY_DEFAULT else pytest.param(v, marks=pytest.mark.slow) for v in VARIANTS]


@pytest.mark.filterwarnings("ignore")  # torch's own notices on how it compiles
@pytest.mark.parametrize("variant", compilable())
def test_it_compiles_to_the_same(variant: str) -> None:
    """What `module.compile=true` does, with the backend that needs no compiler."""
    torch._dynamo.reset()
    plain, compiled = trained(variant), trained(variant)
    compiled.model.compile(backend="aot_eager")
    loss, expected = gradients(plain)
    if variant in UNCOMPILED:
        with pytest.raises(Exception, match=r"."):
            gradients(compiled)
        return
    found, got = gradients(compiled)
    torch.testing.assert_close(found, loss, rtol=1e-4, atol=1e-5)
    assert got.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(got[name], gradient, rtol=1e-3, atol=1e-4, msg=lambda t, name=name: f"{name}: {t}")


def test_excuses_are_of_variants_that_exist() -> None:
    assert set(UNCOMPILED) <= set(VARIANTS)
    assert set(COMPILED_BY_DEFAULT) <= set(VARIANTS)


# ── bounds ──────────────────────────────────────────────────────────────────────────────────────────────

TOLD_BY_A_DRAW = {"scale_hyperprior": "a draw of s tells the scales of p(z|s); its own log q(s|x) - log p(s) counts"}
"""Variants whose prior is another for another x all the same, and why."""


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_prior_has_read_x_where_the_model_says_so_and_nowhere_else(variant: str) -> None:
    """Else its ELBO and its NLL would bound no p(x)."""
    one = case(variant)
    one.model.eval()
    if not one.model.variational:
        assert not one.model.bounds_evidence
        return
    data = one.batch()
    others = Batch(x=data.x.flip(0) * 0.5, label=data.label)
    with torch.no_grad():
        own, other = (one.model.encode(batch) for batch in (data, others))
        z = own.drawn
        same = torch.allclose(own.prior.log_prob(z), other.prior.log_prob(z), rtol=1e-5, atol=1e-5)
    assert same != (one.model.prior_reads_input or variant in TOLD_BY_A_DRAW)
    assert one.model.bounds_evidence != one.model.prior_reads_input
