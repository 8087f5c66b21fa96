"""What judges counts never holds as many values as the rows have places."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from scipy.sparse import csr_matrix, random_array

from narrows.tasks.classics import count_models
from narrows.tasks.classics.count_models import Means, fit_dispersions, fit_pca, frequencies_of, negative_binomial_nll
from narrows.tasks.classics.recommenders import fit_recommenders
from narrows.tasks.classics.topic_models import unigram
from narrows.tasks.measures import ranking_figures
from narrows.tasks.measures.ranking_figures import fold_in, rank
from narrows.tasks.measures.topic_figures import npmi
from narrows.tasks.measures.word_perplexity import completion_nats, halves, word_count

ROWS, FEATURES = 2000, 20_000


def wide() -> csr_matrix:
    found = random_array((ROWS, FEATURES), density=5e-4, format="csr", random_state=0, dtype=np.float32)
    found.data = np.ceil(3 * found.data)
    return csr_matrix(found)


def test_wide_counts_are_judged_in_less_than_half_of_their_dense_size(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (ranking_figures, count_models):
        monkeypatch.setattr(module, "CHUNK", 50)
    rows = wide()
    topics = np.random.default_rng(0).random((5, FEATURES))
    tracemalloc.start()
    try:
        read, judged = halves(rows, seed=0)
        words = unigram(rows).words
        assert words is not None
        assert np.isfinite(completion_nats(words, read, judged)).all()
        assert word_count(read).sum() + word_count(judged).sum() == rows.sum()
        assert npmi(topics, rows).shape == (5,)
        few, test = rows[:200], fold_in(rows[200:260], 0)
        for candidate in fit_recommenders(few, *test, ["popularity", "pure_svd"], seed=0).values():
            assert len(rank(candidate.scores, *test)["ndcg_100"]) > 50
        known = Means(frequencies_of(rows), fit_pca(rows, 5, 0), 0.5)
        assert negative_binomial_nll(few, known, fit_dispersions(few, known)).shape == (200,)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # What is dense at once is a chunk of rows; the whole would be 160 MB in single precision.
    assert peak < 4 * ROWS * FEATURES / 2
