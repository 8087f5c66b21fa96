"""Perplexity of documents: what a model that spreads each word over the vocabulary pays for a word."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.special import xlogy

from narrows.compare.figure_names import STDERR
from narrows.random import derive
from narrows.tasks.measures.standard_errors import bootstrap

Matrix = NDArray[np.floating]
CHUNK = 500
"""Documents whose words are spread over the vocabulary at once."""


def word_nats(documents: csr_matrix, probabilities: Matrix) -> Matrix:
    """`-sum_w x_w log p(w)` of every document `[D, V]`, `[D]`: the nats of its words, one after another.

    There is no multinomial coefficient: it counts the orders of the same words, and would make a perplexity better the
    longer the documents are.

    Args:
        probabilities: of every word in each document, `[D, V]`, or in all, `[V]`; 0 for a word that a document has
            costs infinitely much.
    """
    entries = documents.tocoo()
    row, column, counts = entries.row, entries.col, entries.data.astype(np.float64)
    chosen = probabilities[row, column] if probabilities.ndim == 2 else probabilities[column]
    with np.errstate(divide="ignore"):
        # A stored zero is no word, and costs nothing even where its probability is 0.
        nats = -xlogy(counts, chosen.astype(np.float64))
    return np.bincount(row, nats, documents.shape[0]).astype(np.float64)


def completion_nats(words: Callable[[csr_matrix], Matrix], read: csr_matrix, judged: csr_matrix) -> Matrix:
    """The nats of each document's `judged` words `[D, V]`, `[D]`, given those that were `read`, `[D, V]`.

    Args:
        words: from documents `[D, V]` to the probability of every word of the vocabulary in them, `[D, V]`.
    """
    parts = [slice(start, start + CHUNK) for start in range(0, read.shape[0], CHUNK)]
    return np.concatenate([word_nats(judged[part], words(read[part])) for part in parts])


def word_count(documents: csr_matrix) -> Matrix:
    """The number of words of every document, `[D]`."""
    return np.asarray(documents.sum(1), dtype=np.float64).ravel()


def perplexities(nats: Matrix, words: Matrix, seed: int, name: str = "perplexity") -> dict[str, float]:
    """Two perplexities of documents that cost `nats` `[D]` for their number of `words` `[D]`, with standard errors by
    resampling documents:

    - `perplexity = exp(sum of nats / sum of words)`, in which every word weighs the same;
    - `document_perplexity = exp(mean of nats / words)`, in which every document weighs the same, as in "Neural
      Variational Inference for Text Processing" (Miao et al., 2016) and in the code of ETM.

    A bound on nats gives a bound on both. Documents without words weigh nothing.
    """
    kept = words > 0
    nats, words = nats[kept], words[kept]

    def by_word(nats: Matrix, words: Matrix) -> float:
        return _exp(float(nats.sum() / words.sum())) if len(words) else math.nan

    def by_document(nats: Matrix, words: Matrix) -> float:
        return _exp(float((nats / words).mean())) if len(words) else math.nan

    found = {}
    for label, figure in ((name, by_word), (f"document_{name}", by_document)):
        found[label] = figure(nats, words)
        found[f"{label}{STDERR}"] = bootstrap(figure, nats, words, seed=seed) if len(words) else math.nan
    return found


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf


def halves(documents: csr_matrix, seed: int) -> tuple[csr_matrix, csr_matrix]:
    """Two halves of every document: its words, each as often as it stands there, dealt out by (seed, row).

    Of n words `ceil(n / 2)` are in the first half, which a model may read; the other half is judged. A document of one
    word has an empty other half.
    """
    counts = documents.data.astype(np.int64)
    first = np.zeros_like(counts)
    for row, (start, end) in enumerate(zip(documents.indptr[:-1], documents.indptr[1:], strict=True)):
        own = counts[start:end]
        total = int(own.sum())
        if total:
            source = np.random.default_rng(derive(seed, "halves", row))
            chosen = source.permutation(np.repeat(np.arange(len(own)), own))[: (total + 1) // 2]
            first[start:end] = np.bincount(chosen, minlength=len(own))
    return _with(documents, first), _with(documents, counts - first)


def _with(documents: csr_matrix, counts: NDArray[np.int64]) -> csr_matrix:
    data = counts.astype(np.float32)
    part = csr_matrix((data, documents.indices.copy(), documents.indptr.copy()), shape=documents.shape)
    part.eliminate_zeros()
    return part
