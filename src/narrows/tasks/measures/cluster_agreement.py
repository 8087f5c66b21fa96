"""Clusters of codes, and how well they agree with known types."""

from __future__ import annotations

import warnings

import networkx
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, triu
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import silhouette_score
from sklearn.neighbors import NearestNeighbors

from narrows.compare.figure_names import STDERR
from narrows.random import derive
from narrows.tasks.measures.standard_errors import bootstrap

Matrix = NDArray[np.floating]
Labels = NDArray[np.integer]
NEIGHBOURS, STARTS = 15, 10
MOST_PAIRS = 5000
"""Rows whose distances to each other a silhouette reads."""


def agreement(clusters: Labels, types: Labels, seed: int) -> dict[str, float]:
    """`ari` and `nmi` of clusters `[N]` and known types `[N]`, 1 where they are the same partition and near 0 where
    they have nothing to do with each other, with standard errors by resampling rows.

    The adjusted Rand index of "Comparing partitions" (Hubert and Arabie, 1985), and mutual information over the mean of
    the two entropies, "Information Theoretic Measures for Clusterings Comparison" (Vinh et al., 2010).
    """
    first, second = (np.unique(labels, return_inverse=True)[1] for labels in (types, clusters))
    found: dict[str, float] = {}
    for name, measure in {"ari": adjusted_rand, "nmi": normalised_information}.items():
        found[name] = measure(first, second)
        found[f"{name}{STDERR}"] = bootstrap(measure, first, second, seed=seed)
    return found


def adjusted_rand(first: Labels, second: Labels) -> float:
    """The share of pairs of rows on which two partitions agree, from 0 by chance to 1; labels are small whole numbers.

    It is `(J - E) / (M - E)`: J pairs are together in both, `E = A B / all pairs` of them by chance if A and B are
    together in the one and in the other, and M is the mean of A and B. Two that put all rows together agree.
    """
    counts = contingency(first, second)
    joint, a, b = (float((part * (part - 1) / 2).sum()) for part in (counts, counts.sum(1), counts.sum(0)))
    pairs = len(first) * (len(first) - 1) / 2
    chance, most = a * b / max(pairs, 1), (a + b) / 2
    return 1.0 if most == chance else (joint - chance) / (most - chance)


def normalised_information(first: Labels, second: Labels) -> float:
    """Mutual information of two partitions divided by the mean of their entropies, from 0 to 1."""
    counts = contingency(first, second)
    joint, a, b = (_entropy(part / len(first)) for part in (counts, counts.sum(1), counts.sum(0)))
    return 1.0 if a + b == 0 else max(0.0, 2 * (a + b - joint) / (a + b))


def contingency(first: Labels, second: Labels) -> NDArray[np.int64]:
    """The number of rows that have each pair of labels, whole numbers from 0, `[labels, labels]`."""
    width = int(second.max()) + 1
    cells = np.bincount(first * width + second, minlength=(int(first.max()) + 1) * width)
    return cells.reshape(-1, width)


def _entropy(shares: Matrix) -> float:
    kept = shares[shares > 0]
    return float(-(kept * np.log(kept)).sum())


def silhouette(codes: Matrix, types: Labels, seed: int) -> float:
    """How much nearer codes `[N, D]` lie to their own known type than to the next, in [-1, 1]; the mean over at most
    `MOST_PAIRS` rows. NaN where there is one type, or as many as rows.

    "Silhouettes: A Graphical Aid to the Interpretation and Validation of Cluster Analysis" (Rousseeuw, 1987).
    """
    if not 1 < len(np.unique(types)) < len(types):
        return float("nan")
    size = MOST_PAIRS if len(codes) > MOST_PAIRS else None
    return float(silhouette_score(codes, types, sample_size=size, random_state=derive(seed, "silhouette") % 2**32))


def k_means(codes: Matrix, number: int, seed: int) -> Labels:
    """Clusters of codes `[N, D]`, `[N]`: the best of ten starts of k-means++."""
    fitted = KMeans(min(number, len(codes)), n_init=STARTS, random_state=derive(seed, "k-means") % 2**32)
    with warnings.catch_warnings():
        # Of codes that are all alike there are fewer clusters, which their agreement shows.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return fitted.fit_predict(np.asarray(codes, dtype=np.float64))


def communities(codes: Matrix, seed: int, neighbours: int = NEIGHBOURS) -> Labels:
    """Communities of the graph of nearest neighbours of codes `[N, D]`, `[N]`; their number is found, not given.

    Each row is joined to its nearest neighbours, by the share of neighbours that the two have in common (Jaccard), and
    the graph is divided so that its modularity is great, by the method of Louvain.

    "Data-Driven Phenotypic Dissection of AML" (Levine et al., 2015), PhenoGraph; "Fast unfolding of communities in
    large networks" (Blondel et al., 2008).
    """
    graph = networkx.Graph()
    graph.add_nodes_from(range(len(codes)))
    weights = triu(shared_neighbours(codes, neighbours), 1).tocoo()
    graph.add_weighted_edges_from(zip(weights.row.tolist(), weights.col.tolist(), weights.data.tolist(), strict=True))
    found = np.zeros(len(codes), dtype=np.int64)
    divided = networkx.community.louvain_communities(graph, seed=derive(seed, "communities") % 2**32)
    for number, members in enumerate(divided):
        found[list(members)] = number
    return found


def shared_neighbours(codes: Matrix, neighbours: int = NEIGHBOURS) -> csr_matrix:
    """For each pair of rows of which one is among the nearest of the other, the number of neighbours that both have
    divided by the number that either has, `[N, N]`. No row is its own neighbour."""
    k = min(neighbours, len(codes) - 1)
    if k < 1:
        return csr_matrix((len(codes), len(codes)))
    near = NearestNeighbors(n_neighbors=k).fit(codes).kneighbors_graph().tocsr()
    joined = ((near + near.T) > 0).astype(np.float64)
    shared = (near @ near.T).multiply(joined).tocsr()
    shared.data = shared.data / (2 * k - shared.data)
    return shared
