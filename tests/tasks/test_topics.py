"""Models of documents whose topics and perplexities are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from instances import model as small_model
from tasks.counts import Mean, Shares, always, known
from tasks.standins import Rows, context
from torch import Tensor

from narrows.errors import UserError
from narrows.likelihoods.normal import GaussianLikelihood
from narrows.models.autoencoder import Autoencoder
from narrows.tasks.base import run_tasks
from narrows.tasks.measures.model_topics import topics_of
from narrows.tasks.measures.sparse_splits import read_sparse
from narrows.tasks.topics import Topics
from narrows.types import Batch, DataSpec

THEMES, WORDS = 3, 30
RATES = torch.kron(torch.eye(THEMES), 1 / torch.arange(2.0, 12)[None])
RATES /= RATES.sum(1, keepdim=True)


def texts(number: int, seed: int) -> Batch:
    source = np.random.default_rng(seed)
    rows = [source.multinomial(40, RATES[source.integers(THEMES)].double().numpy()) for _ in range(number)]
    return Batch(torch.from_numpy(np.array(rows, dtype=np.float32)))


def data(**spec: object) -> Rows:
    splits = {"train": texts(120, 0), "validation": texts(10, 1), "test": texts(60, 2)}
    return Rows(splits, batch_size=32, kind="counts", value_range=(0.0, float("inf")), **spec)


def counted(x: Tensor) -> Tensor:
    """How much of each theme is in a document, `[B, THEMES]`."""
    found = x.unflatten(1, (THEMES, -1)).sum(2)
    return found / found.sum(1, keepdim=True).clamp_min(1)


def mixed(z: Tensor) -> Tensor:
    return (20 * z).softmax(1) @ RATES + 1e-9


class Mixing(Mean):
    def topics(self) -> Tensor:
        return RATES


def themed(rows: Rows, decoder: type[Mean] = Mean) -> Autoencoder:
    return known(rows.spec, counted, THEMES, mixed, decoder=decoder)


def test_a_model_that_knows_the_themes_finds_what_lda_finds(tmp_path: Path) -> None:
    rows = data(vocabulary=[f"word{word}" for word in range(WORDS)])
    judged = context(themed(rows), rows)
    judged.directory = tmp_path
    task = Topics(words=5, draws=2)
    found = run_tasks({"t": task}, judged)
    assert set(task.figures) <= set(found)
    assert found["test/topics/npmi"] > 0.8
    # 25 top words are asked for of ten that a topic has.
    assert found["test/topics/diversity"] == pytest.approx(30 / 75)
    entropy = float(-(RATES[0, :10] * RATES[0, :10].log()).sum())
    for figure in ("completion_perplexity", "document_completion_perplexity"):
        assert found[f"test/topics/{figure}"] == pytest.approx(np.exp(entropy), rel=0.05)
        assert found[f"test/topics/unigram/{figure}"] == pytest.approx(3 * np.exp(entropy), rel=0.1)
        assert found[f"test/topics/lda/{figure}"] < found[f"test/topics/unigram/{figure}"]
    assert found["test/topics/completion_perplexity_stderr"] > 0
    assert "test/topics/unigram/npmi" not in found
    assert "test/topics/nmf/perplexity" not in found
    assert found["test/topics/nmf/npmi"] > 0.5
    text = (tmp_path / "figures" / "topics.md").read_text()
    assert text.startswith("### this run: NPMI")
    assert all(title in text for title in ("### LDA:", "### online LDA:", "### NMF:"))
    assert "word0 word1" in text
    assert judged.texts["topics"] + "\n" == text


def test_topics_are_what_a_decoder_mixes_or_what_raising_a_latent_says() -> None:
    rows = data()
    train = read_sparse(context(themed(rows), rows), "train").x
    with torch.no_grad():
        said = topics_of(context(themed(rows, Mixing), rows), train)
        raised = topics_of(context(themed(rows), rows), train)
    np.testing.assert_allclose(said, RATES.numpy())
    for topic in range(THEMES):
        assert set(np.argsort(-raised[topic])[:10]) == set(range(10 * topic, 10 * topic + 10))


def test_of_a_linear_decoder_topics_are_its_weights() -> None:
    rows = data()
    weights = torch.randn(THEMES, WORDS, generator=torch.Generator().manual_seed(0))
    linear = known(rows.spec, lambda x: counted(x) * torch.tensor([1.0, 2, 0.5]), THEMES, lambda z: (z @ weights).exp())
    judged = context(linear, rows)
    with torch.no_grad():
        found = topics_of(judged, read_sparse(judged, "train").x)
    np.testing.assert_array_equal(np.argsort(-found, 1), np.argsort(-weights.numpy(), 1))


def test_a_uniform_model_has_the_vocabulary_s_size_for_perplexity() -> None:
    rows = data()
    uniform = known(rows.spec, counted, THEMES, lambda z: torch.ones(len(z), WORDS))
    found = run_tasks({"t": Topics(classics=[])}, context(uniform, rows))
    # The KL is 0 too, so the bound is exact.
    for figure in ("perplexity", "document_perplexity", "completion_perplexity", "document_completion_perplexity"):
        assert found[f"test/topics/{figure}"] == pytest.approx(WORDS, rel=1e-4)


def test_a_model_without_a_posterior_has_no_bound() -> None:
    rows = data()
    found = run_tasks({"t": Topics(classics=[])}, context(always(rows, torch.ones(WORDS), Shares), rows))
    assert "test/topics/perplexity" not in found
    assert found["test/topics/completion_perplexity"] == pytest.approx(WORDS, rel=1e-4)


def test_a_model_of_real_numbers_gives_words_no_probabilities() -> None:
    rows = data()
    real = known(rows.spec, counted, THEMES, lambda z: z @ torch.ones(THEMES, WORDS) - 1, GaussianLikelihood)
    assert not [name for name in run_tasks({"t": Topics(classics=[])}, context(real, rows)) if "perplexity" in name]


def test_what_it_does_not_fit_and_what_is_no_count() -> None:
    assert Topics().fits(DataSpec((5,), "vector", 9), small_model()) == "it judges data of kind counts, not vector"
    with pytest.raises(UserError, match="no classic 'lsa'"):
        Topics(classics=["lsa"])
    with pytest.raises(UserError, match="words must be at least 2"):
        Topics(words=1)
    for wrong in (-1.0, float("nan"), float("inf")):
        rows = data()
        rows.splits["test"].x[3, 4] = wrong
        judged = context(themed(rows), rows)
        assert run_tasks({"t": Topics(classics=[])}, judged) == {}
        assert "the test split holds a value that is negative or not finite" in judged.warnings[0]


def test_topics_that_are_not_finite_have_no_top_words() -> None:
    rows = data()
    judged = context(known(rows.spec, counted, THEMES, lambda z: torch.full((len(z), WORDS), torch.nan)), rows)
    assert run_tasks({"t": Topics(classics=[])}, judged) == {}
    assert "the model's topics are not finite" in judged.warnings[0]


def test_more_latents_than_words_are_no_more_topics_of_nmf() -> None:
    rows = data()
    wide = known(rows.spec, lambda x: torch.cat([x, x[:, :5]], 1), 35, lambda z: z[:, :30].abs() + 1)
    found = run_tasks({"t": Topics(classics=["nmf"])}, context(wide, rows))
    assert np.isfinite(found["test/topics/nmf/npmi"])


def test_missing_values_are_not_taken_for_zeros() -> None:
    rows = data()
    rows.splits["test"].observed = torch.ones(60, WORDS, dtype=torch.bool)
    assert run_tasks({"t": Topics(classics=[])}, context(themed(rows), rows))
    rows.splits["test"].observed[5, 6] = False
    judged = context(themed(rows), rows)
    assert run_tasks({"t": Topics(classics=[])}, judged) == {}
    assert "the test split has missing values" in judged.warnings[0]
