"""Task topics: what a model of documents writes about, and how well it tells words, beside classic topic models."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.sparse import csr_matrix

from narrows.compare.figure_names import CLASSICS, MODEL
from narrows.errors import nearest, require, require_at_least
from narrows.models.autoencoder import Autoencoder
from narrows.random import derive
from narrows.tasks.base import Task, TaskContext
from narrows.tasks.classics.topic_models import NAMES, TopicModel, fit_topic_models
from narrows.tasks.figure_table import FigureTable, declared
from narrows.tasks.measures.model_topics import bound_nats, topics_of
from narrows.tasks.measures.sparse_splits import gives_shares, read_sparse, shares_at_the_point, unfit_for_rows
from narrows.tasks.measures.standard_errors import with_error
from narrows.tasks.measures.topic_figures import DIVERSE, diversity, npmi, top_words
from narrows.tasks.measures.word_perplexity import completion_nats, halves, perplexities, word_count
from narrows.types import DataSpec

log = logging.getLogger(__name__)


class Topics(Task):
    """Judges the topics of a model of documents, one for each latent, and the probabilities that it gives to words.

    - `test/topics/npmi`: coherence, the mean over topics of the NPMI of pairs of their ten top words, by the *test*
      documents in which both stand (the window is the whole document), and `.../diversity`, the share of different
      words among the 25 top words of all topics (`tasks.measures.topic_figures`). The standard error is over topics.
      How a model's topics are read is said at `tasks.measures.model_topics.topics_of`.
    - `.../perplexity`: of whole test documents, from the bound; variational models alone have one.
    - `.../completion_perplexity`: of one half of each test document's words, given the other half, at the noise-free
      latent. Each is also given as `document_...`, in which every document weighs the same
      (`tasks.measures.word_perplexity`). Models of real numbers (likelihood=gaussian) give words no probabilities, and
      have neither.

    Beside it stand, fitted on the training documents, the classics of `tasks.classics.topic_models` with as many
    topics: LDA (batch and online), NMF of tf-idf rows, which gives no probabilities, and the unigram model, which has
    no topics. Writes `topics`, the topics of all in words, the most coherent first.

    Args:
        classics: which of them: unigram, lda, lda_online, nmf.
        words: top words of a topic that are compared in pairs.
        passes: of LDA over the training documents.
        draws: of z for the bound.

    Raises:
        UserError: an unknown classic, or a number that is too small.
    """

    name = "topics"
    figures = declared(("npmi", "diversity", "completion_perplexity"), heading="topics")

    def __init__(
        self,
        *,
        classics: Sequence[str] = NAMES,
        words: int = 10,
        passes: int = 10,
        draws: int = 10,
    ) -> None:
        for name in classics:
            require(name in NAMES, f"task topics: no classic '{name}': {nearest(name, NAMES)}")
        require_at_least(2, "task topics:", words=words)
        require_at_least(1, "task topics:", passes=passes, draws=draws)
        self.classics, self.words, self.passes, self.draws = list(classics), words, passes, draws

    def fits(self, spec: DataSpec, model: Autoencoder) -> str | None:
        if len(model.latent_shape) > 1:
            return f"a topic is a latent, and these are maps of shape {list(model.latent_shape)}"
        return unfit_for_rows(spec, model, ("counts",))

    def run(self, context: TaskContext) -> FigureTable:
        train, test = read_sparse(context, "train").x, read_sparse(context, "test").x
        documents = _Documents(test, *halves(test, context.seed), context.seed)
        seed = derive(context.seed, "topic models") % 2**32
        number = context.model.latent_shape[0]
        methods = {MODEL: self._model(context, train)}
        methods |= fit_topic_models(train, number, self.classics, self.passes, seed)
        found = FigureTable(self.name)
        for name, method in methods.items():
            found.add(self._figures(method, documents), name)
        self._write(context, methods, test)
        return found

    def _model(self, context: TaskContext, train: csr_matrix) -> TopicModel:
        topics, model = topics_of(context, train), context.model
        if not gives_shares(model):
            return TopicModel(topics, None, None)
        bound = partial(bound_nats, context, draws=self.draws) if model.bounds_evidence else None
        return TopicModel(topics, partial(shares_at_the_point, context), bound)

    def _figures(self, method: TopicModel, documents: _Documents) -> dict[str, float]:
        found: dict[str, float] = {}
        if method.topics is not None:
            found |= with_error("npmi", npmi(method.topics, documents.whole, self.words))
            found["diversity"] = diversity(method.topics, DIVERSE)
        if method.bound is not None:
            nats = method.bound(documents.whole)
            found |= perplexities(nats, word_count(documents.whole), documents.seed)
        if method.words is not None:
            nats, words = completion_nats(method.words, documents.read, documents.judged), word_count(documents.judged)
            found |= perplexities(nats, words, documents.seed, "completion_perplexity")
        return found

    def _write(self, context: TaskContext, methods: Mapping[str, TopicModel], test: csr_matrix) -> None:
        names = context.spec.vocabulary or context.spec.feature_names
        names = names or [f"word {word}" for word in range(test.shape[1])]
        parts = []
        for name, method in methods.items():
            if method.topics is not None:
                values = npmi(method.topics, test, self.words)
                label = "this run" if name == MODEL else CLASSICS[name]
                title = f"{label}: NPMI {values.mean():.3f}, diversity {diversity(method.topics, DIVERSE):.2f}"
                parts.append(f"### {title}\n\n{table(method.topics, values, names, self.words)}")
        context.write("topics", "\n\n".join(parts))


@dataclass
class _Documents:
    """Test documents `[D, V]`, whole and in halves."""

    whole: csr_matrix
    read: csr_matrix
    judged: csr_matrix
    seed: int


def table(topics: np.ndarray, coherence: np.ndarray, names: Sequence[str], number: int) -> str:
    """Topics `[K, V]` in words, as a Markdown table, the most coherent first."""
    rows = ["| topic | NPMI | top words |", "|---|---|---|"]
    top = top_words(topics, number)
    for topic in np.argsort(-coherence, kind="stable").tolist():
        words = " ".join(names[word] for word in top[topic]).replace("|", "/")
        rows.append(f"| {topic} | {coherence[topic]:.3f} | {words} |")
    return "\n".join(rows)
