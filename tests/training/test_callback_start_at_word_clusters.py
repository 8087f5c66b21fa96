"""Embedded topics that start at clusters of words: the embeddings, which topics they give, when, and who can."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from instances import COUNT_LIKELIHOODS, COUNTS, model
from scipy.sparse import csr_matrix
from training.module_helpers import SPEC, SaveAt, adam, fit, module, quiet, weights

from narrows.bottlenecks import LogisticNormal
from narrows.data.contents import Contents, Part
from narrows.data.datamodule import DataModule
from narrows.data.sparse_rows import Sparse
from narrows.decoders.topics import EmbeddedTopicDecoder
from narrows.errors import UserError
from narrows.training.callbacks.start_at_word_clusters import StartAtWordClusters, embeddings, positive_information
from narrows.training.lightning_module import AutoencoderModule

pytestmark = quiet
TOPICS, OWN = 3, 4
WORDS = TOPICS * OWN + 1


class Planted:
    """Documents of one of three vocabularies each, and a last word that every document has."""

    def load(self) -> Contents:
        source, parts = np.random.default_rng(3), []
        for documents in (60, 12, 12):
            x = np.zeros((documents, WORDS), np.float32)
            for row in range(documents):
                x[row, row % TOPICS * OWN + source.choice(OWN, 3, replace=False)] = source.integers(1, 4, 3)
            x[:, -1] = 5
            parts.append(Part(Sparse(csr_matrix(x))))
        return Contents("counts", parts[0], validation=parts[1], test=parts[2])


def data() -> DataModule:
    found = DataModule(Planted(), batch_size=10, validation="official")
    found.setup()
    return found


def topic_model(topics: int = TOPICS) -> AutoencoderModule:
    torch.manual_seed(3)
    built = model(
        replace(COUNTS, shape=(WORDS,)),
        bottleneck=partial(LogisticNormal, dim=topics),
        decoder=partial(EmbeddedTopicDecoder, width=4, background=True, learn_words=False),
        likelihood=COUNT_LIKELIHOODS["multinomial_without"],
    )
    return module(built, optimizer=adam)


def test_information_is_that_of_pairs_counted_one_by_one_and_embeddings_factorise_it() -> None:
    x = np.random.default_rng(0).poisson(0.4, (50, 6))
    found = positive_information(csr_matrix(x), 0.05).toarray()
    for v in range(6):
        for w in range(6):
            first, second = x[:, v] > 0, x[:, w] > 0
            ratio = (first & second).mean() / (first.mean() * second.mean())
            expected = 0.0 if v == w or ratio == 0 else max(0.0, math.log(ratio) - 0.05)
            assert found[v, w] == pytest.approx(expected, abs=1e-9), (v, w)
    rows = embeddings(csr_matrix(x), 9, 0.05, seed=0)
    assert rows.shape == (6, 9)
    lengths = np.linalg.norm(rows, axis=1)
    np.testing.assert_allclose(lengths, np.where(found.any(1), 1.0, 0.0), atol=1e-6)
    vectors, values, _ = np.linalg.svd(found)
    expected_rows = vectors * np.sqrt(values)
    expected_rows /= np.maximum(np.linalg.norm(expected_rows, axis=1, keepdims=True), 1e-12)
    np.testing.assert_allclose(rows @ rows.T, expected_rows @ expected_rows.T * np.outer(lengths, lengths), atol=1e-4)


def test_planted_vocabularies_are_the_topics_before_the_first_step_and_the_common_word_is_in_the_background() -> None:
    started = topic_model()
    fit(started, data(), callbacks=[StartAtWordClusters(shift=0.5)], max_epochs=0)
    decoder = started.model.decoder
    top = decoder.topics().argsort(1, descending=True)[:, :OWN]
    assert sorted(sorted((row // OWN).tolist()) for row in top) == [[k] * OWN for k in range(TOPICS)]
    assert decoder.frequencies.sum().item() == pytest.approx(1, abs=1e-5)
    assert decoder.frequencies.argmax() == WORDS - 1
    before = decoder.rho.weight.clone()
    fit(started, data(), max_epochs=2)
    assert torch.equal(decoder.rho.weight, before)


def test_a_resumed_run_goes_on_where_it_was(tmp_path: Path) -> None:
    whole, first, second = topic_model(), topic_model(), topic_model()
    fit(whole, data(), callbacks=[StartAtWordClusters()], max_epochs=3)
    fit(first, data(), callbacks=[StartAtWordClusters(), SaveAt(5, tmp_path / "at.ckpt")], max_epochs=1)
    fit(second, data(), callbacks=[StartAtWordClusters()], max_epochs=3, checkpoint=tmp_path / "last.ckpt")
    assert torch.equal(weights(whole), weights(second))


def test_refusals() -> None:
    with pytest.raises(UserError, match=r"callbacks\.start needs decoder=embedded_topics, not MLPDecoder"):
        fit(module(model(SPEC)), callbacks=[StartAtWordClusters()])
    wide = topic_model(14)
    with pytest.raises(UserError, match=r"cannot put 14 topics among 13 words: lower bottleneck\.dim"):
        fit(wide, data(), callbacks=[StartAtWordClusters()])
    with pytest.raises(UserError, match="shift must be at least 0, not -1"):
        StartAtWordClusters(shift=-1)
    with pytest.raises(UserError, match="scale must be above 0, not 0"):
        StartAtWordClusters(scale=0)
