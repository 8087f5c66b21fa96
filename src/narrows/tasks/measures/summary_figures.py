"""Summaries of equal length made of a document's sentences, and their overlap with reference summaries."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from narrows.errors import UserError
from narrows.tasks.measures.sentences import word_number

Matrix = NDArray[np.floating]
Order = NDArray[np.int64]
"""Positions of a document's sentences, `[S]`, the one that should be in the summary first of all at the front."""
ROUGE = {"rouge_1": "rouge1", "rouge_2": "rouge2", "rouge_l": "rougeL"}
"""The figures, and what the library calls them."""
EXTRA = "pip install 'narrows[summary]'"


def shortened(sentences: Sequence[str], order: Order, budget: int) -> list[str]:
    """The first sentences in `order` that together have `budget` words, in the document's order.

    The last that is taken is cut, so that the summaries of all methods have just the same length; a document with fewer
    words is taken whole.
    """
    taken: dict[int, str] = {}
    for place in order.tolist():
        if budget <= 0:
            break
        taken[place] = " ".join(sentences[place].split()[:budget])
        budget -= word_number(taken[place])
    return [taken[place] for place in sorted(taken)]


def rouge(summary: str, reference: str) -> dict[str, float]:
    """F-measures of the words (`rouge_1`), pairs of words (`rouge_2`) and longest common subsequence (`rouge_l`) that a
    summary shares with a reference, of stems (Porter), by the library rouge-score.

    "ROUGE: A Package for Automatic Evaluation of Summaries" (Lin, 2004).

    Raises:
        UserError: rouge-score is not installed.
    """
    scores = _scorer().score(reference, summary)
    return {name: float(scores[theirs].fmeasure) for name, theirs in ROUGE.items()}


@cache
def _scorer() -> Any:
    try:
        # An extra, which only these figures need.
        from absl.logging import get_absl_handler
        from rouge_score.rouge_scorer import RougeScorer
        from rouge_score.tokenizers import DefaultTokenizer
    except ImportError as error:
        raise UserError(f"ROUGE needs the package rouge-score: {EXTRA}") from error
    # Otherwise what stands in the place of standard error now is closed when logging is configured anew.
    get_absl_handler().python_handler.setStream(sys.__stderr__)
    # Without a tokenizer it logs that it takes this one.
    return RougeScorer(list(ROUGE.values()), tokenizer=DefaultTokenizer(use_stemmer=True))


def nearest_first(sentences: Matrix, document: Matrix, worth: float = 1.0, cosine: bool = True) -> Order:
    """Sentences by maximal marginal relevance of their codes `[S, K]` to the document's, `[K]`: each next one has the
    greatest `worth sim(sentence, document) - (1 - worth) max sim(sentence, one that is chosen already)`.

    Args:
        worth: of nearness to the document; at 1 the order is by that alone.
        cosine: whether the similarity is the cosine of codes; else it is their negative distance.

    "The Use of MMR, Diversity-Based Reranking for Reordering Documents and Producing Summaries" (Carbonell and
    Goldstein, 1998).
    """
    near = similarity(sentences, document[None], cosine)[:, 0]
    alike = similarity(sentences, sentences, cosine)
    left = list(range(len(sentences)))
    order: list[int] = []
    closest = np.full(len(sentences), -np.inf)
    while left:
        repeated = closest[left] if order else np.zeros(len(left))
        best = left[int(np.argmax(worth * near[left] - (1 - worth) * repeated))]
        order.append(best)
        left.remove(best)
        closest = np.maximum(closest, alike[best])
    return np.array(order, dtype=np.int64)


def similarity(first: Matrix, second: Matrix, cosine: bool) -> Matrix:
    """The cosine of every pair of rows `[N, K]` and `[M, K]`, `[N, M]`, 0 with a row of zeros; else their negative
    distance."""
    if not cosine:
        return -np.linalg.norm(first[:, None] - second[None], axis=2)
    lengths = [np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12) for rows in (first, second)]
    return (first / lengths[0]) @ (second / lengths[1]).T
