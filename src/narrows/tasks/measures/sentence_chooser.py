"""Choosing the sentences of documents that lie nearest to them in a model's latent space."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import csr_matrix, vstack
from sklearn.feature_extraction.text import CountVectorizer

from narrows.data.vocabulary import Vocabulary
from narrows.errors import require
from narrows.models.autoencoder import Autoencoder
from narrows.tasks.measures.sparse_splits import codes
from narrows.tasks.measures.summary_figures import Order, nearest_first
from narrows.tasks.measures.word_perplexity import word_count

Counter = Callable[[Sequence[str]], csr_matrix]
"""From N texts to how often each of the model's words stands in each, `[N, V]`."""


@dataclass
class SentenceChooser:
    """A model of documents as a summariser: see `orders`. Both the task `summary` and `narrows summarise` ask it.

    Args:
        count: see `Counter`.
        worth, cosine: of `tasks.measures.summary_figures.nearest_first`.
    """

    model: Autoencoder
    device: torch.device
    count: Counter
    worth: float = 1.0
    cosine: bool = True

    def orders(self, documents: Sequence[Sequence[str]]) -> list[Order]:
        """The sentences of each document, nearest to the document first; those without a known word last.

        The code of a document is that of all its words.

        Raises:
            UserError: a latent is not finite.
        """
        counted = [self.count(sentences) for sentences in documents]
        whole = codes(self, csr_matrix(vstack([csr_matrix(rows.sum(0)) for rows in counted])))
        parts = codes(self, vstack(counted, format="csr"))
        ends = np.cumsum([rows.shape[0] for rows in counted])
        found = []
        for rows, end, document in zip(counted, ends, whole, strict=True):
            order = nearest_first(parts[end - rows.shape[0] : end], document, self.worth, self.cosine)
            empty = word_count(rows)[order] == 0
            found.append(np.concatenate([order[~empty], order[empty]]))
        return found


def counter(words: Sequence[str], vocabulary: Vocabulary | None) -> Counter:
    """Counts `words` as the run's documents were counted; of bare counts, whose `vocabulary` is not known, as
    scikit-learn does by default.

    Raises:
        UserError: the vocabulary has other words than the model.
    """
    require(
        vocabulary is None or vocabulary.words == list(words),
        "the vocabulary of the run does not hold the words of its model, in their order: it is of another run",
    )

    def count(texts: Sequence[str]) -> csr_matrix:
        if vocabulary is None:
            counts = CountVectorizer(vocabulary=words).fit_transform(texts)
        else:
            counts, _ = vocabulary.how.count(texts, words)
        return csr_matrix(counts, dtype=np.float32)

    return count
