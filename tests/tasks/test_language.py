"""Task language: its figures by definition, its classics, its page; and every other task on tokens."""

# mypy: disable-error-code="arg-type, union-attr, attr-defined"

from __future__ import annotations

import logging
import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from instances import BOTTLENECKS, TOKEN_INPUTS, model

from narrows.config.building import build
from narrows.config.composition import choice_files, config_dir
from narrows.data.datamodule import DataModule
from narrows.data.sources.documents import HeldOutDocuments
from narrows.data.sources.text import Text
from narrows.data.tokenisers import Tokens
from narrows.decoders import AutoregressiveLSTMDecoder
from narrows.encoders import LSTMEncoder
from narrows.errors import UserError
from narrows.likelihoods import CategoricalLikelihood
from narrows.models.autoencoder import Autoencoder
from narrows.tasks import language
from narrows.tasks.base import TaskContext, run_tasks
from narrows.tasks.classics.plain_language_model import PlainLanguageModel
from narrows.tasks.language import Language, rows_of
from narrows.tasks.measures.token_figures import agreement, bleu, ended, per_token
from narrows.types import Batch


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataModule:
    """Sentences of a noun and a verb that goes with it, of different lengths."""
    source = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("text") / "a.txt"
    pairs = [("cat", "sleeps"), ("dog", "barks"), ("bird", "sings")]
    lines = []
    for _ in range(120):
        noun, verb = pairs[source.integers(3)]
        lines.append(" ".join([*["the"] * int(source.integers(1, 4)), noun, verb]))
    path.write_text("\n".join(lines))
    found = DataModule(Text(str(path), tokens=Tokens(), test=HeldOutDocuments(0.2)), batch_size=16, validation=0.2)
    found.setup()
    return found


def network(data: DataModule, bottleneck: str = "gaussian") -> Autoencoder:
    torch.manual_seed(0)
    return model(
        data.spec,
        bottleneck=BOTTLENECKS[bottleneck],
        likelihood=CategoricalLikelihood,
        input=TOKEN_INPUTS["embedding"],
        encoder=partial(LSTMEncoder, hidden=12),
        decoder=partial(AutoregressiveLSTMDecoder, hidden=12, embedding=8),
    ).eval()


def context(data: DataModule, of: Autoencoder, directory: Path | None = None, **told: Any) -> TaskContext:
    return TaskContext(of, data, directory, seed=0, device=torch.device("cpu"), **told)


# ── figures by definition ───────────────────────────────────────────────────────────────────────────────


def test_costs_are_one_sum_by_texts_tokens_and_characters() -> None:
    found = per_token(np.array([10.0, 30.0]), tokens=8, characters=20)
    assert found["nll"] == 20
    assert found["nll_stderr"] == pytest.approx(math.sqrt(200) / math.sqrt(2))
    assert found["nats_per_token"] == 5
    assert found["perplexity"] == pytest.approx(math.exp(5))
    assert found["bits_per_character"] == pytest.approx(40 / math.log(2) / 20)


def test_agreement_is_by_place_and_counts_the_end_mark() -> None:
    truth = [np.array([3, 4, 5, 0]), np.array([6, 0])]
    told = [np.array([3, 9, 5, 7, 0]), np.array([6, 0])]
    assert agreement(truth, told) == {"token_accuracy": 4 / 6, "exact_match": 0.5}
    assert ended(np.array([4, 0, 5, 0]), 0).tolist() == [4, 0]
    assert ended(np.array([4, 0]), None).tolist() == [4, 0]


def test_bleu_by_hand() -> None:
    """1 to 4 words: 5 of 6, 3 of 5, 2 of 4 and 1 of 3 are in the truth; no text is shorter."""
    truth, told = [np.array([1, 2, 3, 4, 5, 6])], [np.array([1, 2, 3, 4, 9, 6])]
    assert bleu(truth, told) == pytest.approx(100 * (5 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** 0.25, abs=1e-6)
    assert bleu(truth, truth) == pytest.approx(100)
    assert bleu(truth, [np.array([9, 9, 9, 9, 9, 9])]) < 10
    ended_too = [[np.append(row, 0) for row in rows] for rows in (truth, told)]
    assert bleu(*ended_too, end=0) == pytest.approx(bleu(truth, told)), "an end mark is no word that was told"
    assert bleu(truth, told, end=7) == pytest.approx(bleu(truth, told)), "a last token that is no end mark counts"


# ── the task ────────────────────────────────────────────────────────────────────────────────────────────


def test_the_task_gives_figures_and_a_page_and_an_untrained_model_is_told_by_the_ngrams(
    data: DataModule, tmp_path: Path
) -> None:
    net, told = network(data), context(data, network(data), tmp_path)
    found = run_tasks({"language": Language(samples=20, order=3, shown=3)}, told)
    words = data.spec.vocabulary
    test = [row for batch in data.ordered_loader("test") for row in rows_of(batch)]
    tokens = sum(map(len, test))
    characters = sum(len(data.tokeniser.decode(row.tolist())) + 1 for row in test)
    nll, per = found["test/language/nll"], found["test/language/nats_per_token"]
    assert per == pytest.approx(math.log(len(words)), rel=0.15), "an untrained model knows nothing"
    assert nll == pytest.approx(per * tokens / len(test))
    assert found["test/language/bits_per_character"] == pytest.approx(per * tokens / math.log(2) / characters)
    assert found["test/language/kneser_ney/perplexity"] < 4 < found["test/language/perplexity"]
    assert 0 <= found["test/language/exact_match"] <= found["test/language/token_accuracy"] <= 1
    assert 0 <= found["test/language/bleu"] <= 100
    page = (tmp_path / "figures" / "language.md").read_text()
    assert page == told.texts["language"] + "\n"
    assert data.tokeniser.decode(test[0].tolist()) in page
    for said in ("told again", "Samples: the latent drawn", "every token drawn", "From the first text", "nearest"):
        assert said in page
    again = run_tasks({"language": Language(samples=20, order=3, classics=[])}, context(data, net))
    assert again["test/language/nll"] == pytest.approx(nll)


def test_a_model_that_knows_the_text_costs_less_than_the_ngrams_and_tells_it_again(data: DataModule) -> None:
    net = network(data, "deterministic").train()
    optimizer = torch.optim.Adam(net.parameters(), 0.02)
    for _ in range(30):
        for batch in data.train_dataloader():
            optimizer.zero_grad()
            (-net(batch).log_likelihood.mean()).backward()
            optimizer.step()
    found = run_tasks({"language": Language(classics=[])}, context(data, net.eval()))
    assert found["test/language/exact_match"] > 0.75
    assert found["test/language/bleu"] > 60
    assert "test/language/nll" not in found, "it has no posterior, and so no likelihood"


def test_the_same_decoder_without_a_latent_learns_the_text(data: DataModule) -> None:
    net = network(data)
    found = run_tasks(
        {"language": Language(classics=["no_latent", "kneser_ney"], epochs=25, order=3)},
        context(data, net, untrained=lambda seed: network(data)),
    )
    assert found["test/language/no_latent/perplexity"] < 3
    plain, test = PlainLanguageModel(network(data), epochs=1), Batch.cat(data.ordered_loader("test"))
    # A latent of 0 says nothing: the cost of a text does not depend on the others, nor on padding.
    alone = [plain.nats(Batch(test.x[i : i + 1, : test.length[i]], length=test.length[i : i + 1])) for i in range(5)]
    torch.testing.assert_close(torch.cat(alone), plain.nats(test)[:5], rtol=1e-4, atol=1e-4)


def test_without_sacrebleu_the_other_figures_are_there(data: DataModule, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*_: Any) -> float:
        raise UserError("BLEU needs the sacrebleu package")

    monkeypatch.setattr(language, "bleu", absent)
    told = context(data, network(data))
    found = run_tasks({"language": Language(samples=2, classics=[])}, told)
    assert "test/language/bleu" not in found
    assert "test/language/nll" in found
    assert any("sacrebleu" in warning for warning in told.warnings)


def test_refusals() -> None:
    with pytest.raises(UserError, match="no classic 'ngram'"):
        Language(classics=["ngram"])
    with pytest.raises(UserError, match="samples"):
        Language(samples=0)
    assert Language().fits(model().spec, model()) == "data of kind image are no tokens of a vocabulary"


@pytest.mark.parametrize("choice", choice_files("task"))
def test_every_task_gives_figures_of_tokens_or_says_why_not(
    choice: str, data: DataModule, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    from omegaconf import OmegaConf

    config = OmegaConf.load(config_dir() / "task" / f"{choice}.yaml")
    small = {"samples": 4, "max_examples": 10} if choice in ("likelihood", "language") else {}
    told = context(data, network(data), tmp_path)
    with caplog.at_level(logging.INFO):
        found = run_tasks({choice: build(OmegaConf.merge(config, small), choice)}, told)
    reasons = [record.message for record in caplog.records if f"task {choice} is left out" in record.message]
    assert (len(reasons) == 1) != bool(found), caplog.text
    assert not [warning for warning in told.warnings if "gave no figures" in warning]
    assert all(math.isfinite(value) or "stderr" in name for name, value in found.items())
