"""Figures of topics: their top words, how coherent these are in documents, and how many of them are different."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

Matrix = NDArray[np.floating]
Words = NDArray[np.int64]
COHERENT, DIVERSE = 10, 25
"""The top words of each topic whose coherence and whose diversity is measured."""


def top_words(topics: Matrix, number: int) -> Words:
    """Columns of the `number` greatest values of each topic `[K, V]`, greatest first, `[K, number]` (all V if fewer);
    words of equal value in the vocabulary's order."""
    return np.argsort(-topics, axis=1, kind="stable")[:, :number]


def npmi(topics: Matrix, documents: csr_matrix, number: int = COHERENT) -> Matrix:
    """Coherence of each topic `[K, V]`: the mean NPMI of all pairs of its `number` top words, `[K]`, in [-1, 1].

    `NPMI(v, w) = log(P(v, w) / (P(v) P(w))) / -log P(v, w)`, where `P` is the share of the `documents` `[D, V]` in
    which the words stand, anywhere and however often: the window is the whole document. It is 1 where two words only
    stand together, 0 where they are independent, and -1, its limit, where they never do so or one stands nowhere.

    "Normalized (Pointwise) Mutual Information in Collocation Extraction" (Bouma, 2009), averaged over ten top words as
    in "Topic Modeling in Embedding Spaces" (Dieng et al., 2020), section 6.
    """
    top = top_words(topics, number)
    used, place = np.unique(top, return_inverse=True)
    pairs = pair_npmi(documents[:, used])
    place = place.reshape(top.shape)
    first, second = np.triu_indices(top.shape[1], 1)
    return pairs[place[:, first], place[:, second]].mean(1)


def pair_npmi(documents: csr_matrix) -> Matrix:
    """NPMI of every pair of words in documents `[D, V]`, `[V, V]`; see `npmi`."""
    stands = (documents > 0).astype(np.float64)
    together = np.asarray((stands.T @ stands).todense()) / documents.shape[0]
    alone = np.diag(together)
    never = together == 0
    always = together == 1
    joint = np.log(np.where(never | always, 0.5, together))
    apart = np.log(np.where(alone == 0, 1.0, alone))
    found = (joint - apart[:, None] - apart) / -joint
    return np.where(never, -1.0, np.where(always, 1.0, found))


def diversity(topics: Matrix, number: int = DIVERSE) -> float:
    """Share of different words among the `number` top words of all topics `[K, V]`: 1 where no topic shares one.

    "Topic Modeling in Embedding Spaces" (Dieng et al., 2020), section 6.
    """
    top = top_words(topics, number)
    return len(np.unique(top)) / top.size
