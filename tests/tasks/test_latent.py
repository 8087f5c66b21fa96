"""KL, active units and sparsity."""

from __future__ import annotations

import instances
import pytest
import torch
from tasks.standins import PPCA, Rows, context
from torch.distributions import kl_divergence

from narrows.errors import UserError
from narrows.tasks.base import run_tasks
from narrows.tasks.latent import CodeHistogram, LatentFigures, Moments
from narrows.types import Batch


def _data(x: torch.Tensor, **spec: object) -> Rows:
    return Rows({"train": Batch(x), "validation": Batch(x), "test": Batch(x)}, batch_size=7, **spec)


def test_moments_merge_to_the_variance_of_all_rows() -> None:
    rows = torch.randn(23, 5) * 3 + 100
    moments = Moments()
    for part in rows.split(6):
        moments.add(part)
    torch.testing.assert_close(moments.variance, rows.double().var(0, unbiased=False))


def test_kl_and_active_units() -> None:
    truth = PPCA(latents=2)
    truth.weight[:, 1] *= 1e-3
    x = truth.evidence.sample((30,))
    found = run_tasks({"l": LatentFigures()}, context(truth.model(), _data(x)))
    latent = truth.model().encode(x)
    exact = kl_divergence(latent.posterior, latent.prior).sum(1).mean()
    assert found["test/latent/kl"] == pytest.approx(float(exact), rel=1e-5)
    assert found["test/active_units"] == 1
    assert found["test/l0"] == 2


def test_a_latent_that_has_collapsed_is_named_with_its_remedies() -> None:
    truth = PPCA(latents=2)
    x = truth.evidence.sample((30,))
    told = context(truth.model(), _data(x))
    run_tasks({"l": LatentFigures()}, told)
    assert not told.warnings
    truth.weight.mul_(1e-3)
    collapsed = context(truth.model(), _data(x))
    run_tasks({"l": LatentFigures()}, collapsed)
    (warning,) = collapsed.warnings
    for remedy in ("gaussian_optimal", "schedule@loss.kl.weight", "free_bits"):
        assert remedy in warning
    assert "COLLAPSED" in warning


def test_the_discrepancy_is_nought_where_the_latents_are_the_prior_s_and_not_elsewhere() -> None:
    truth = PPCA(latents=2)
    x = truth.evidence.sample((600,))
    task = LatentFigures(mmd_rows=500)
    found = run_tasks({"l": task}, context(truth.model(), _data(x)))
    # Data of the model's own evidence: their posteriors add up to the prior.
    assert abs(found["test/latent/mmd"]) < 0.15
    apart = run_tasks({"l": task}, context(truth.model(), _data(x + 3.0)))
    assert apart["test/latent/mmd"] > 0.5
    plain = run_tasks({"l": LatentFigures()}, context(truth.model(), _data(x)))
    assert "test/latent/mmd" not in plain
    assert plain.items() <= found.items()


@pytest.mark.parametrize("name", ["deterministic", "vq"])
def test_without_a_prior_the_discrepancy_is_from_the_standard_normal(name: str) -> None:
    model = instances.model(bottleneck=instances.BOTTLENECKS[name])
    data = _data(torch.rand(30, 1, 8, 8), kind="image", value_range=(0.0, 1.0))
    found = run_tasks({"l": LatentFigures(mmd_rows=30)}, context(model, data))
    # An untrained encoder's latents lie close together, a standard normal's do not.
    assert found["test/latent/mmd"] > 0.5


def test_mmd_rows_of_one_say_nothing() -> None:
    with pytest.raises(UserError, match="mmd_rows must be at least 2, or 0"):
        LatentFigures(mmd_rows=1)


def test_topk_keeps_exactly_k_and_a_latent_that_never_fires_is_dead() -> None:
    model = instances.model(bottleneck=instances.BOTTLENECKS["topk"])
    with torch.no_grad():
        model.bottleneck.projection.bias[0] = -1e6
    data = _data(torch.rand(40, 1, 8, 8), kind="image", value_range=(0.0, 1.0))
    found = run_tasks({"l": LatentFigures()}, context(model, data))
    codes = model.embed(data.splits["test"].x)
    assert found["test/l0"] == 3
    assert found["test/l0_fraction"] == pytest.approx(3 / 9)
    assert found["test/dead_fraction"] == pytest.approx(float((codes == 0).all(0).float().mean()))
    assert found["test/dead_fraction"] >= 1 / 9
    assert "test/latent/kl" not in found


def test_usage_and_perplexity_are_those_of_the_whole_split_and_not_of_its_batches() -> None:
    histogram = CodeHistogram(size=8)
    for codes in ([0, 0, 5], [0, 5, 5], [7, 7]):
        histogram.add(torch.tensor(codes))
    assert histogram.usage == 3 / 8
    shares = torch.tensor([3.0, 3.0, 2.0]) / 8
    assert histogram.perplexity == pytest.approx(float((-shares * shares.log()).sum().exp()))
    uniform = CodeHistogram(size=4)
    uniform.add(torch.arange(4).repeat(5))
    assert (uniform.usage, uniform.perplexity) == (1.0, pytest.approx(4.0))


@pytest.mark.parametrize("name", ["vq", "product_vq", "residual_vq", "fsq", "lfq", "gumbel_vq"])
def test_codes_are_counted_by_codebook(name: str) -> None:
    model = instances.model(bottleneck=instances.BOTTLENECKS[name])
    x = torch.rand(40, 1, 8, 8)
    found = run_tasks({"l": LatentFigures()}, context(model, _data(x, kind="image", value_range=(0.0, 1.0))))
    latent = model.eval().encode(x)
    used = [codes.unique().numel() / size for codes, size in zip(latent.codes.unbind(1), latent.sizes, strict=True)]
    assert found["test/codebook_usage"] == pytest.approx(sum(used) / len(used))
    assert 1 <= found["test/perplexity"] <= max(used) * max(latent.sizes) + 1e-6
