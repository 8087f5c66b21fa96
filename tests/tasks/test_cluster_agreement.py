"""Clusters that agree with known types or do not, and counts whose likelihoods are known."""

from __future__ import annotations

import networkx
import numpy as np
import pytest
from scipy.sparse import csr_matrix
from scipy.stats import nbinom, poisson
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from narrows.tasks.classics import count_models
from narrows.tasks.classics.count_models import (
    Means,
    fit_counts,
    fit_dispersions,
    fit_nmf,
    fit_pca,
    frequencies_of,
    log_normalised,
    negative_binomial_nats,
    negative_binomial_nll,
    poisson_nats,
    weights_of,
)
from narrows.tasks.measures.cluster_agreement import agreement, communities, k_means, shared_neighbours, silhouette


def blobs(apart: float, rows: int = 120, kinds: int = 3) -> tuple[np.ndarray, np.ndarray]:
    source = np.random.default_rng(0)
    types = np.arange(rows) % kinds
    return apart * np.eye(kinds, 5)[types] + source.normal(size=(rows, 5)), types


def test_the_same_partition_under_other_names_agrees_wholly() -> None:
    types = np.arange(60) % 3
    assert {k: v for k, v in agreement((types + 7) * 2, types, 0).items() if "stderr" not in k} == {"ari": 1, "nmi": 1}
    one = agreement(np.zeros(60, dtype=int), types, 0)
    assert one["ari"] == pytest.approx(0)
    assert one["nmi"] == pytest.approx(0)


def test_clusters_that_have_nothing_to_do_with_the_types_agree_by_chance() -> None:
    source = np.random.default_rng(1)
    found = agreement(source.integers(0, 4, 2000), source.integers(0, 5, 2000), 0)
    assert found["ari"] == pytest.approx(0, abs=0.01)
    assert found["nmi"] == pytest.approx(0, abs=0.02)


def test_the_adjusted_rand_index_by_its_definition() -> None:
    """Pairs in the same cluster and of the same type, against what is expected of random labels."""
    source = np.random.default_rng(2)
    types = source.integers(0, 3, 40)
    clusters = np.where(source.random(40) < 0.7, types, source.integers(0, 3, 40))
    above = np.triu_indices(40, 1)
    same, alike = (types[:, None] == types)[above], (clusters[:, None] == clusters)[above]
    expected = same.sum() * alike.sum() / len(same)
    index = ((same & alike).sum() - expected) / ((same.sum() + alike.sum()) / 2 - expected)
    found = agreement(clusters + 3, types, 0)
    assert found["ari"] == pytest.approx(index)
    assert found["ari"] == pytest.approx(adjusted_rand_score(types, clusters))
    assert found["nmi"] == pytest.approx(normalized_mutual_info_score(types, clusters))
    assert 0.02 < found["ari_stderr"] < 0.2


def test_separate_blobs_are_found_and_mixed_ones_are_not() -> None:
    for apart, low, high in ((12.0, 0.99, 1.01), (0.0, -0.1, 0.1)):
        codes, types = blobs(apart)
        for clusters in (k_means(codes, 3, 0), communities(codes, 0)):
            assert low < agreement(clusters, types, 0)["ari"] < high
        assert (silhouette(codes, types, 0) > 0.7) == (apart > 0)
    codes, types = blobs(12)
    # k-means is told a number, the communities find it.
    assert len(np.unique(communities(codes, 0))) == 3
    assert len(np.unique(k_means(codes, 5, 0))) == 5
    assert np.isnan(silhouette(codes, np.zeros(len(codes)), 0))


def test_shared_neighbours_are_counted_as_sets() -> None:
    codes = np.random.default_rng(3).normal(size=(30, 3))
    distance = np.linalg.norm(codes[:, None] - codes, axis=2) + 1e9 * np.eye(30)
    near = [set(row.argsort()[:4].tolist()) for row in distance]
    found = shared_neighbours(codes, 4).toarray()
    for i in range(30):
        for j in range(30):
            joined = j in near[i] or i in near[j]
            assert found[i, j] == pytest.approx(len(near[i] & near[j]) / len(near[i] | near[j]) if joined else 0)


def test_communities_have_the_greatest_modularity_of_a_ring_of_cliques() -> None:
    codes = np.concatenate([100 * i + np.random.default_rng(i).normal(size=(20, 2)) for i in range(4)])
    found = communities(codes, 0)
    assert [len(np.unique(found[20 * i : 20 * i + 20])) for i in range(4)] == [1] * 4
    graph = networkx.from_scipy_sparse_array(shared_neighbours(codes))
    parts = [set(np.flatnonzero(found == kind).tolist()) for kind in np.unique(found)]
    assert networkx.community.modularity(graph, parts) == pytest.approx(0.75, abs=0.01)


def cells(rows: int, seed: int, genes: int = 30, dispersion: float = 4.0) -> tuple[csr_matrix, np.ndarray]:
    """Counts of three types of cells, of unequal library sizes."""
    source = np.random.default_rng(seed)
    profile = np.exp(np.random.default_rng(9).normal(size=(3, genes)))
    types = source.integers(0, 3, rows)
    mean = (profile / profile.sum(1, keepdims=True))[types] * source.uniform(100, 300, (rows, 1))
    counts = source.poisson(mean * source.gamma(dispersion, 1 / dispersion, mean.shape))
    return csr_matrix(counts.astype(np.float32)), types


def test_log_normalised_rows_do_not_know_their_library_size() -> None:
    rows = csr_matrix(np.array([[1, 3, 0], [10, 30, 0], [0, 0, 0]], dtype=np.float32))
    found = log_normalised(rows).toarray()
    np.testing.assert_allclose(found[0], np.log1p([2500, 7500, 0]))
    np.testing.assert_allclose(found[1], found[0])
    assert not found[2].any()


def test_components_of_sparse_rows_are_those_of_dense_ones() -> None:
    train, test = cells(80, 0)[0], cells(10, 1)[0]
    dense = PCA(3, svd_solver="full").fit(log_normalised(train).toarray())
    found = fit_pca(train, 3, 0)
    np.testing.assert_allclose(
        np.abs(found.encode(test)), np.abs(dense.transform(log_normalised(test).toarray())), rtol=1e-5
    )
    np.testing.assert_allclose(
        found.decode(found.encode(test)),
        dense.inverse_transform(dense.transform(log_normalised(test).toarray())),
        rtol=1e-5,
    )
    assert fit_nmf(train, 3, 0).encode(test).min() >= 0


def test_components_find_types_of_cells() -> None:
    (train, _), (test, types) = cells(150, 0), cells(90, 1)
    for found in (fit_pca(train, 2, 0), fit_nmf(train, 3, 0)):
        assert agreement(k_means(found.encode(test), 3, 0), types, 0)["ari"] > 0.95


def test_likelihoods_are_scipy_s() -> None:
    counts, mean = np.array([0.0, 1, 7, 1e5]), np.array([0.3, 2.0, 5.0, 9e4])
    np.testing.assert_allclose(poisson_nats(counts, mean), -poisson.logpmf(counts, mean), rtol=1e-9)
    for r in (0.1, 3.0):
        expected = -nbinom.logpmf(counts, r, r / (r + mean))
        np.testing.assert_allclose(negative_binomial_nats(counts, mean, np.float64(r)), expected, rtol=1e-6)
    wide = negative_binomial_nats(counts[:3], mean[:3], np.float64(1e9))
    np.testing.assert_allclose(wide, poisson_nats(counts[:3], mean[:3]), rtol=1e-5)


def test_the_dispersion_is_that_of_the_counts() -> None:
    source = np.random.default_rng(0)
    for truth in (0.3, 5.0):
        counts = source.poisson(20 * source.gamma(truth, 1 / truth, size=(500, 20)))
        rows = csr_matrix(np.hstack([counts, 20 * 20 - counts.sum(1, keepdims=True) + 4000]).astype(np.float32))
        known = Means(np.array([20 / 4400] * 20 + [4000 / 4400]))
        found = fit_dispersions(rows, known)[:20]
        assert np.median(found) == pytest.approx(truth, rel=0.6)
        chosen = negative_binomial_nll(rows, known, fit_dispersions(rows, known)).sum()
        for other in count_models.DISPERSIONS[::4]:
            assert chosen <= negative_binomial_nll(rows, known, np.full(21, other)).sum() + 1e-6


def test_means_keep_the_library_size_and_weights_the_frequencies() -> None:
    train, test = cells(200, 0)[0], cells(20, 1)[0]
    components = fit_pca(train, 2, 0)
    weights = weights_of(components, train)
    for share in (0.0, 0.3, 1.0):
        mean = Means(frequencies_of(train), components, share, weights).of(test)
        np.testing.assert_allclose(mean.sum(1), np.asarray(test.sum(1)).ravel(), rtol=1e-5)
    np.testing.assert_allclose(mean / mean.sum(1, keepdims=True), np.broadcast_to(frequencies_of(train), mean.shape))
    rebuilt = count_models.shares(components, train).mean(0) * weights
    np.testing.assert_allclose(rebuilt, frequencies_of(train), rtol=1e-6)


def test_better_models_of_counts_are_likelier(caplog: pytest.LogCaptureFixture) -> None:
    train, held, test = (cells(rows, seed)[0] for rows, seed in ((300, 0), (60, 1), (60, 2)))
    components = {"pca_2": fit_pca(train, 2, 0), "pca_20": fit_pca(train, 20, 0)}
    with caplog.at_level("INFO"):
        nats = {name: float(nll(test).mean()) for name, nll in fit_counts(train, held, components).items()}
    assert nats["nb_pca"] < nats["nb"] < nats["poisson"]
    assert nats["nb_pca"] < nats["poisson_pca"] < nats["poisson"]
    assert "nb_pca: pca_" in caplog.text


def test_parts_of_the_rows_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    train, test = cells(50, 0)[0], cells(9, 1)[0]
    known = Means(frequencies_of(train))
    once = negative_binomial_nll(test, known, dispersions := fit_dispersions(train, known))
    monkeypatch.setattr(count_models, "CHUNK", 4)
    np.testing.assert_array_equal(fit_dispersions(train, known), dispersions)
    np.testing.assert_allclose(negative_binomial_nll(test, known, dispersions), once)
