"""How much a latent says of its example: known cases, bounds, and the warning where it says nothing."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import instances
import pytest
import torch
from tasks.standins import PPCA, Rows, context
from torch import Tensor
from torch.distributions import Normal

from narrows.bottlenecks.gaussian import Gaussian
from narrows.bottlenecks.hyperspherical import Hyperspherical
from narrows.decoders.gru import AutoregressiveGRUDecoder
from narrows.encoders.gru import GRUEncoder
from narrows.likelihoods.normal import GaussianLikelihood
from narrows.tasks.base import run_tasks
from narrows.tasks.latent import LatentFigures
from narrows.tasks.measures import mutual_information as measure
from narrows.tasks.measures.mutual_information import mutual_information
from narrows.tasks.reconstruction import Reconstruction
from narrows.types import Batch, VariationalLatent, row_sums


def latents_of(mean: Tensor, sigma: float, parts: int = 300) -> list[VariationalLatent]:
    found = []
    for part in mean.split(parts):
        q, p = Normal(part, sigma), Normal(torch.zeros_like(part), 1.0)
        found.append(VariationalLatent(q.sample(), part, q, p))
    return found


@pytest.mark.parametrize(("slope", "sigma"), [(0.0, 1.0), (0.5, 1.0), (1.0, 0.5), (2.0, 0.7)])
def test_of_a_linear_gaussian_it_is_what_is_known(slope: float, sigma: float) -> None:
    """x ~ N(0, I) in two dimensions, z = slope x + sigma e: I = log(1 + slope^2 / sigma^2)."""
    torch.manual_seed(0)
    found = mutual_information(latents_of(slope * torch.randn(1500, 2), sigma))
    assert found == pytest.approx(math.log1p((slope / sigma) ** 2), abs=0.08)


def test_it_is_the_kl_less_that_of_the_aggregate() -> None:
    """Hoffman and Johnson's sum: where the aggregate posterior is the prior, the KL is all information."""
    torch.manual_seed(0)
    latents = latents_of(0.8 * torch.randn(1500, 2), 0.6)
    kl = torch.cat([latent.divergence() for latent in latents]).sum(1).mean()
    assert mutual_information(latents) == pytest.approx(float(kl), abs=0.08)
    shifted = latents_of(0.8 * torch.randn(1500, 2) + 3, 0.6)
    assert mutual_information(shifted) == pytest.approx(float(kl), abs=0.12)


def test_it_is_at_most_the_logarithm_of_the_number_of_rows() -> None:
    found = mutual_information(latents_of(torch.randn(50, 8) * 100, 1e-3, parts=7))
    assert found == pytest.approx(math.log(50), abs=1e-6)


def test_neither_batches_nor_what_is_compared_at_once_change_it(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = latents_of(torch.randn(40, 3), 0.5, parts=40)
    parts = [
        VariationalLatent(z, mean, Normal(mean, 0.5), whole[0].prior)
        for z, mean in zip(whole[0].z.split(9), whole[0].point.split(9), strict=True)
    ]
    expected = mutual_information(whole)
    monkeypatch.setattr(measure, "AT_ONCE", 90)
    assert mutual_information(parts) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("build", [Gaussian, Hyperspherical])
@pytest.mark.parametrize("positions", [(), (3,)])
def test_products_of_matrices_are_the_densities(build: Any, positions: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    bottleneck = build((6, *positions), dim=4).double()
    with torch.no_grad():
        latent = bottleneck(2 * torch.randn(30, 6, *positions).double())
    crossed = [row_sums(latent.posterior.log_prob(z.expand_as(latent.drawn))) for z in latent.drawn]
    aggregate = torch.stack(crossed).logsumexp(1) - math.log(30)
    exact = (row_sums(latent.posterior.log_prob(latent.drawn)) - aggregate).mean()
    assert 0 < float(exact) < math.log(30)
    assert mutual_information([latent]) == pytest.approx(float(exact), rel=1e-6)


def told_of(model: instances.Autoencoder, rows: Tensor, **spec: object) -> tuple[dict[str, float], list[str]]:
    data = Rows({split: Batch(rows) for split in ("train", "validation", "test")}, batch_size=64, **spec)
    asked = context(model, data)
    return run_tasks({"latent": LatentFigures()}, asked), asked.warnings


def test_every_run_with_such_posteriors_reports_it() -> None:
    truth = PPCA(latents=2)
    found, warnings = told_of(truth.model(), truth.evidence.sample((400,)))
    scale = truth.weight.square().sum(0) / truth.sigma**2
    exact = float(0.5 * scale.log1p().sum())
    assert found["test/latent/mutual_information"] == pytest.approx(exact, abs=0.3)
    assert not warnings


def test_free_bits_may_be_paid_for_noise_and_that_is_told() -> None:
    """Every posterior is N(2, 1): the KL is 2 nats for each latent, and says nothing."""
    model = instances.model(instances.TABLE, bottleneck=partial(Gaussian, dim=3), likelihood=GaussianLikelihood)
    with torch.no_grad():
        for parameter in model.bottleneck.parameters():
            parameter.zero_()
        model.bottleneck.projection.bias[:3] = 2.0
    found, (warning,) = told_of(model, torch.randn(150, 8))
    assert found["test/latent/kl"] > 4
    assert found["test/latent/mutual_information"] == pytest.approx(0, abs=1e-6)
    assert "COLLAPSED: KL 6 nats, no active unit, mutual information of x and z" in warning


def test_few_rows_raise_no_false_alarm() -> None:
    truth = PPCA(latents=2)
    _, warnings = told_of(truth.model(), truth.evidence.sample((1,)).repeat(60, 1) + 0.3 * torch.randn(60, 6))
    assert not warnings


def test_a_strong_decoder_has_remedies_of_its_own_and_is_judged_free_running_and_forced() -> None:
    spec = instances.SERIES
    stages = {
        "encoder": partial(GRUEncoder, hidden=4),
        "decoder": partial(AutoregressiveGRUDecoder, hidden=4, latent_every_step=False),
        "likelihood": instances.LIKELIHOODS["gaussian_fixed"],
    }
    model = instances.model(spec, bottleneck=partial(Gaussian, dim=3), **stages)
    with torch.no_grad():
        for parameter in model.bottleneck.parameters():
            parameter.zero_()
    rows = torch.randn(120, *spec.shape).cumsum(2)
    _, (warning,) = told_of(model, rows, kind="series")
    for remedy in ("module.alternate", "decoder.input_dropout", "latent_every_step=true", "cyclical", "hyperspherical"):
        assert remedy in warning
    data = Rows({split: Batch(rows) for split in ("train", "validation", "test")}, batch_size=50, kind="series")
    found = run_tasks({"reconstruction": Reconstruction()}, context(model, data))
    free, forced = found["test/variance_unexplained"], found["test/teacher_forced/variance_unexplained"]
    examples = Batch(rows)
    mean = (rows - rows.mean(0)).square().mean()
    exact = (model.decode(model.encode(rows).point, examples).mean.detach() - rows).square().mean() / mean
    assert forced == pytest.approx(float(exact), rel=1e-4)
    assert free != forced
