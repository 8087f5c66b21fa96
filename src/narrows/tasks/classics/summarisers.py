"""Summarisers that choose sentences without a network: lead, random, tf-idf centroid, TextRank and LSA.

Each puts the sentences of one document in order, the one that should be in the summary first of all at the front.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer
from sklearn.preprocessing import normalize

from narrows.random import derive
from narrows.tasks.measures.summary_figures import Order

Matrix = NDArray[np.floating]
DAMPING, ROUNDS = 0.85, 100
"""Of TextRank: the share of the weight that follows the edges, and how often it does."""


@dataclass
class Sentences:
    """The sentences of a document, as the classics read them."""

    counts: csr_matrix
    """How often each word stands in each sentence, `[S, V]`."""
    weights: csr_matrix
    """tf-idf of each word in each sentence, `[S, V]`."""
    row: int = 0
    """Of the document, which seeds its random order."""


def read_documents(documents: Sequence[Sequence[str]]) -> list[Sentences]:
    """Documents, each a list of sentences, as the classics read them; a word is as rare as these documents have it."""
    counter = CountVectorizer(token_pattern=r"(?u)\b\w+\b")
    whole = counter.fit_transform([" ".join(document) for document in documents])
    rarity = TfidfTransformer(norm=None).fit(whole)
    counts = [csr_matrix(counter.transform(document)) for document in documents]
    return [Sentences(rows, csr_matrix(rarity.transform(rows)), row) for row, rows in enumerate(counts)]


def lead(document: Sentences, seed: int) -> Order:
    """As they stand: the first sentences are the summary."""
    return np.arange(document.counts.shape[0])


def at_random(document: Sentences, seed: int) -> Order:
    """In an order drawn by (seed, document)."""
    source = np.random.default_rng(derive(seed, "random summary", document.row))
    return source.permutation(document.counts.shape[0])


def centroid(document: Sentences, seed: int) -> Order:
    """By the cosine of a sentence's tf-idf with the sum of all of the document.

    "Centroid-based summarization of multiple documents" (Radev et al., 2004).
    """
    middle = np.asarray(document.weights.sum(0)).ravel()
    return _best_first(normalize(document.weights) @ middle)


def text_rank(document: Sentences, seed: int) -> Order:
    """By PageRank in the graph of sentences, which are joined by the number of words that they share over the sum of
    the logarithms of their lengths.

    "TextRank: Bringing Order into Texts" (Mihalcea and Tarau, 2004).
    """
    stands = (document.counts > 0).astype(np.float64)
    shared = np.asarray((stands @ stands.T).todense())
    np.fill_diagonal(shared, 0)
    logs = np.log(np.maximum(np.asarray(document.counts.sum(1), dtype=np.float64).ravel(), 1))
    # Two sentences of a word each have lengths whose logarithms are 0.
    weights = shared / np.maximum(logs[:, None] + logs, np.log(2))
    out = weights.sum(1, keepdims=True)
    steps = np.divide(weights, out, out=np.full_like(weights, 1 / len(weights)), where=out > 0)
    rank = np.full(len(weights), 1 / len(weights))
    for _ in range(ROUNDS):
        rank = (1 - DAMPING) / len(weights) + DAMPING * rank @ steps
    return _best_first(rank)


def lsa(document: Sentences, seed: int) -> Order:
    """By the length of a sentence in the space of the document's topics, the singular vectors of its tf-idf matrix,
    each weighed by its singular value; those count whose value is above half of the greatest.

    "Using Latent Semantic Analysis in Text Summarization and Summary Evaluation" (Steinberger and Jezek, 2004).
    """
    of_sentences, values, _ = np.linalg.svd(document.weights.toarray(), full_matrices=False)
    kept = values > values[0] / 2
    return _best_first(np.linalg.norm(of_sentences[:, kept] * values[kept], axis=1))


def _best_first(worth: Matrix) -> Order:
    """Positions by their worth, sentences of equal worth as they stand."""
    return np.argsort(-np.round(worth, 12), kind="stable")


SUMMARISERS: dict[str, Callable[[Sentences, int], Order]] = {
    "lead": lead,
    "random": at_random,
    "centroid": centroid,
    "text_rank": text_rank,
    "lsa": lsa,
}
"""The classics by the names of their figures."""
