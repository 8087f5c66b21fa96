"""Topic models without a network: LDA, online and batch, NMF on tf-idf, and the frequencies of words alone."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.special import digamma, gammaln
from sklearn.decomposition import NMF, LatentDirichletAllocation
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfTransformer

from narrows.tasks.measures.word_perplexity import CHUNK, word_count, word_nats

log = logging.getLogger(__name__)

Matrix = NDArray[np.floating]
ADDED = 1.0
"""Added to the count of every word by the unigram model, so that none has probability 0."""


@dataclass
class TopicModel:
    """A fitted topic model: what it can be asked."""

    topics: Matrix | None = None
    """The worth of every word in each topic, `[K, V]`, of which the greatest are its top words."""
    words: Callable[[csr_matrix], Matrix] | None = None
    """From documents `[D, V]` to the probability of every word of the vocabulary in them, `[D, V]`."""
    bound: Callable[[csr_matrix], Matrix] | None = None
    """From documents `[D, V]` to an upper bound on `-log p(words)` of each, `[D]`, in nats."""


def fit_topic_models(train: csr_matrix, topics: int, names: Sequence[str], passes: int, seed: int) -> dict:
    """The classics of these `names`, fitted to training documents `[D, V]`, by name.

    Args:
        topics: K, of LDA and NMF.
        passes: of LDA over the documents.
    """
    made: dict[str, Callable[[], TopicModel]] = {
        "unigram": lambda: unigram(train),
        "lda": lambda: lda(train, topics, passes, seed, "batch"),
        "lda_online": lambda: lda(train, topics, passes, seed, "online"),
        "nmf": lambda: nmf(train, topics, seed),
    }
    return {name: made[name]() for name in names}


NAMES = ("unigram", "lda", "lda_online", "nmf")


def unigram(train: csr_matrix) -> TopicModel:
    """Every word by its frequency in the training documents, one added to each count, whatever the document."""
    counts = np.asarray(train.sum(0), dtype=np.float64).ravel() + ADDED
    frequencies = counts / counts.sum()
    return TopicModel(
        words=lambda documents: np.broadcast_to(frequencies, documents.shape),
        bound=lambda documents: word_nats(documents, frequencies),
    )


def lda(train: csr_matrix, topics: int, passes: int, seed: int, method: str) -> TopicModel:
    """Latent Dirichlet allocation by variational Bayes, with the priors of scikit-learn (1 / K for both).

    Its words are those of the mean of the topics, mixed by the mean of the document's posterior; its bound is
    `lda_bound`, with that same mean of the topics.

    "Latent Dirichlet Allocation" (Blei et al., 2003); "Online Learning for Latent Dirichlet Allocation" (Hoffman et
    al., 2010).
    """
    model = LatentDirichletAllocation(
        topics, max_iter=passes, learning_method=method, batch_size=256, learning_offset=10, random_state=seed % 2**32
    )
    model.fit(train)
    mean = model.components_ / model.components_.sum(1, keepdims=True)

    def bound(documents: csr_matrix) -> Matrix:
        return lda_bound(documents, model.transform(documents), mean, model.doc_topic_prior_)

    return TopicModel(mean, lambda documents: model.transform(documents) @ mean, bound)


def lda_bound(documents: csr_matrix, mixture: Matrix, topics: Matrix, prior: float) -> Matrix:
    """`-E_q[log p(words, z, theta)] + E_q[log q(z, theta)]` of each document, `[D]`, an upper bound on `-log p(words)`.

    With q(theta) a Dirichlet of mean `mixture` `[D, K]` and total `K prior + words`, as every fixed point of the
    E-step has it, the best q(z) leaves `-sum_w x_w log sum_k exp(E log theta_k) topics_kw + KL(q(theta) || Dir(prior))`
    (Blei et al., 2003, appendix A.3). Unlike scikit-learn's `perplexity`, it does not charge the documents for the
    topics.
    """
    number = topics.shape[0]
    gamma = mixture * (number * prior + word_count(documents))[:, None]
    expected = digamma(gamma) - digamma(gamma.sum(1, keepdims=True))
    divergence = gammaln(gamma.sum(1)) - gammaln(gamma).sum(1) - gammaln(number * prior) + number * gammaln(prior)
    divergence += ((gamma - prior) * expected).sum(1)
    parts = [slice(start, start + CHUNK) for start in range(0, documents.shape[0], CHUNK)]
    nats = [word_nats(documents[part], np.exp(expected[part]) @ topics) for part in parts]
    return np.concatenate(nats) + divergence


def nmf(train: csr_matrix, topics: int, seed: int) -> TopicModel:
    """Non-negative factors of tf-idf rows of length 1; it gives no probabilities, and so no perplexity.

    "Learning the Parts of Objects by Non-negative Matrix Factorization" (Lee and Seung, 1999).
    """
    model = NMF(min(topics, *train.shape), init="nndsvd", max_iter=300, random_state=seed % 2**32)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        model.fit(TfidfTransformer().fit_transform(train))
    if any(issubclass(warning.category, ConvergenceWarning) for warning in caught):
        log.info("NMF has not converged after 300 iterations: its topics are those of the last")
    return TopicModel(model.components_)
