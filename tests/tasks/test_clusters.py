"""Latents that are known types or know nothing of them, and counts whose likelihood is known."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from instances import model as small_model
from PIL import Image
from scipy.stats import poisson
from tasks.counts import Shares, always, known
from tasks.standins import Always, Rows, Same, context
from torch import Tensor

from narrows.bottlenecks.deterministic import Deterministic
from narrows.corruptions import NoCorruption
from narrows.models.conditional import ConditionalAutoencoder
from narrows.models.stages import Stages
from narrows.tasks.base import run_tasks
from narrows.tasks.clusters import Clusters
from narrows.types import Batch, DataSpec

TYPES, GENES = 3, 60


def cells(number: int, seed: int) -> Batch:
    """Each type has twenty genes of its own; library sizes are unequal."""
    source = np.random.default_rng(seed)
    types = source.integers(0, TYPES, number)
    profile = np.full((TYPES, GENES), 0.2) + np.kron(np.eye(TYPES), np.ones((1, 20)))
    mean = (profile / profile.sum(1, keepdims=True))[types] * source.uniform(60, 200, (number, 1))
    counts = source.poisson(mean * source.gamma(3, 1 / 3, mean.shape))
    return Batch(torch.from_numpy(counts.astype(np.float32)), label=torch.from_numpy(types))


def data(**spec: object) -> Rows:
    splits = {"train": cells(120, 0), "validation": cells(40, 1), "test": cells(80, 2)}
    kinds = {"kind": "counts", "num_classes": TYPES, "value_range": (0.0, float("inf"))}
    return Rows(splits, batch_size=33, **kinds | spec)


def of_type(x: Tensor) -> Tensor:
    found = x.unflatten(1, (TYPES, -1)).sum(2)
    return 10 * found / found.sum(1, keepdim=True).clamp_min(1)


def profile(z: Tensor) -> Tensor:
    return (0.2 + (0.5 * z).softmax(1)).repeat_interleave(20, 1)


def blind(x: Tensor) -> Tensor:
    """What has nothing to do with a cell's type."""
    return torch.sin(1e3 * x[:, :2].cumsum(1) + x.sum(1, keepdim=True) ** 2)


def test_latents_that_are_the_types_agree_and_blind_ones_do_not(tmp_path: Path) -> None:
    rows = data(class_names=["B", "T", "NK"])
    judged = context(known(rows.spec, of_type, TYPES, profile), rows)
    judged.directory = tmp_path
    found = run_tasks({"c": Clusters()}, judged)
    assert all(np.isfinite(value) for value in found.values())
    for place in ("", "communities/"):
        assert found[f"test/clusters/{place}ari"] > 0.9
        assert found[f"test/clusters/{place}nmi"] > 0.9
        assert f"test/clusters/{place}ari_stderr" in found
        for name in ("pca_10", "pca_50", "nmf"):
            assert f"test/clusters/{place}{name}/ari" in found
    assert found["test/clusters/silhouette"] > found["test/clusters/pca_50/silhouette"]
    assert found["test/clusters/communities/number"] >= TYPES
    with Image.open(tmp_path / "figures" / "clusters_map.png") as picture:
        assert len(picture.getcolors(2**20)) > 50
    unseeing = run_tasks(
        {"c": Clusters()}, context(known(rows.spec, blind, 2, lambda z: torch.ones(len(z), GENES)), rows)
    )
    assert abs(unseeing["test/clusters/ari"]) < 0.15
    assert unseeing["test/clusters/pca_50/ari"] == pytest.approx(found["test/clusters/pca_50/ari"])


def test_likelihoods_are_of_test_rows_beside_those_of_the_classics() -> None:
    rows = data()
    found = run_tasks({"c": Clusters()}, context(known(rows.spec, of_type, TYPES, profile), rows))
    test = rows.splits["test"].x
    expected = profile(of_type(test)).double()
    expected *= test.sum(1, keepdim=True) / expected.sum(1, keepdim=True)
    nats = -poisson.logpmf(test.numpy(), expected.numpy()).sum(1)
    assert found["test/clusters/nll_at_point"] == pytest.approx(nats.mean(), rel=1e-4)
    assert found["test/clusters/nll_at_point_stderr"] == pytest.approx(nats.std(ddof=1) / np.sqrt(80), rel=1e-3)
    # A draw of z costs more than the point, and the KL of this posterior is 0.
    assert found["test/clusters/nll"] > found["test/clusters/nll_at_point"]
    # Counts are wider than Poisson's, and the types explain much.
    assert found["test/clusters/nb/nll"] < found["test/clusters/poisson/nll"]
    assert found["test/clusters/nb_pca/nll_at_point"] < found["test/clusters/nb/nll_at_point"]
    assert found["test/clusters/nll_at_point"] < found["test/clusters/poisson/nll_at_point"]
    assert "test/clusters/nb_pca/nll" not in found


def test_every_row_is_clustered_on_demand() -> None:
    rows = data()
    # The first training rows have another type than they seem to have.
    rows.splits["train"].label[:60] = (rows.splits["train"].label[:60] + 1) % TYPES
    model = known(rows.spec, of_type, TYPES, profile)
    alone, whole = (run_tasks({"c": Clusters(every_row=every)}, context(model, rows)) for every in (False, True))
    assert alone["test/clusters/ari"] > 0.9
    assert whole["test/clusters/ari"] < 0.7
    assert whole["test/clusters/nll_at_point"] == pytest.approx(alone["test/clusters/nll_at_point"])


def test_without_labels_or_told_them_there_is_no_agreement(caplog: pytest.LogCaptureFixture) -> None:
    rows = data(num_classes=None)
    with caplog.at_level("INFO"):
        found = run_tasks({"c": Clusters()}, context(known(rows.spec, of_type, TYPES, profile), rows))
    assert found
    assert not [name for name in found if "ari" in name or "silhouette" in name]
    assert "leaves out ARI, NMI and silhouette: the data have no labels" in caplog.text
    rows = data()
    bottleneck, decoder = partial(Deterministic, dim=2), partial(Always, values=torch.ones(GENES))
    told = ConditionalAutoencoder(rows.spec, Stages(Same, bottleneck, decoder, Shares, NoCorruption))
    with caplog.at_level("INFO"):
        found = run_tasks({"c": Clusters()}, context(told, rows))
    assert "its encoder is told the label" in caplog.text
    assert {name.rpartition("/")[2] for name in found} >= {"nll_at_point"}


def test_a_density_is_not_set_beside_probabilities(caplog: pytest.LogCaptureFixture) -> None:
    rows = data()
    with caplog.at_level("INFO"):
        found = run_tasks({"c": Clusters()}, context(always(rows, torch.ones(GENES)), rows))
    assert not [name for name in found if "nll" in name]
    assert "GaussianLikelihood is no probability of counts" in caplog.text


def test_latents_that_are_all_alike_or_few_are_drawn_and_diverged_ones_are_refused(tmp_path: Path) -> None:
    rows = data()
    for dim, read in ((5, lambda x: torch.zeros(len(x), 5)), (1, lambda x: x[:, :1])):
        judged = context(known(rows.spec, read, dim, lambda z: torch.ones(len(z), GENES)), rows)
        judged.directory = tmp_path
        found = run_tasks({"c": Clusters()}, judged)
        assert judged.warnings == []
        assert found["test/clusters/ari"] < 0.3
        assert (tmp_path / "figures" / "clusters_map.png").exists()
        (tmp_path / "figures" / "clusters_map.png").unlink()
    nowhere = known(rows.spec, lambda x: x[:, :2] * torch.nan, 2, lambda z: torch.ones(len(z), GENES))
    judged = context(nowhere, rows)
    assert run_tasks({"c": Clusters()}, judged) == {}
    assert "the model's latents are not finite" in judged.warnings[0]


def test_what_it_does_not_fit() -> None:
    assert Clusters().fits(DataSpec((5,), "vector", 9), small_model()) == "it judges data of kind counts, not vector"
