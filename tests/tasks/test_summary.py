"""Sentences, summaries of known overlap, and summarisers whose order is known."""

from __future__ import annotations

import gzip
import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from instances import model as small_model
from tasks.counts import known
from tasks.standins import Rows, context
from torch import Tensor

from narrows.errors import UserError
from narrows.likelihoods.normal import GaussianLikelihood
from narrows.tasks.base import run_tasks
from narrows.tasks.classics.summarisers import SUMMARISERS, read_documents
from narrows.tasks.measures import summary_figures
from narrows.tasks.measures.sentences import sentences, word_number
from narrows.tasks.measures.summary_figures import nearest_first, rouge, shortened
from narrows.tasks.summary import Summary
from narrows.types import Batch, DataSpec

SPLIT = {
    "One ends. Another begins! Does it? It does.": ["One ends.", "Another begins!", "Does it?", "It does."],
    "Mr. J. Smith of Acme Inc. paid $4.3 m. to the U.S. Treasury. He left.": [
        "Mr. J. Smith of Acme Inc. paid $4.3 m. to the U.S. Treasury.",
        "He left.",
    ],
    'He said: "Go." She went (at last.) Then all went.': ['He said: "Go."', "She went (at last.)", "Then all went."],
    "A headline\n\nIts text goes\nover lines. And on": ["A headline", "Its text goes over lines.", "And on"],
    "Yahoo! said it grew 5%. so it did.": ["Yahoo! said it grew 5%. so it did."],
    "small letters alone. they are split too.": ["small letters alone.", "they are split too."],
    "It cost 45 in 2004. 50 came. See No. 7, e.g. the first.": [
        "It cost 45 in 2004.",
        "50 came.",
        "See No. 7, e.g. the first.",
    ],
    "bbc.co.uk reports. It was I. Well...  yes.": ["bbc.co.uk reports.", "It was I.", "Well... yes."],
    " \n ": [],
}


@pytest.mark.parametrize("text", SPLIT, ids=lambda text: text[:12].strip())
def test_a_text_is_split_where_its_sentences_end(text: str) -> None:
    assert sentences(text) == SPLIT[text]
    assert "".join("".join(sentences(text)).split()) == "".join(text.split()), "no letter is lost"


def test_summaries_have_just_the_words_they_may_and_stand_in_the_document_s_order() -> None:
    text = ["a b c", "d e", "f g h i", "j"]
    assert shortened(text, np.array([2, 0, 1, 3]), 6) == ["a b", "f g h i"]
    assert shortened(text, np.array([3, 1, 0, 2]), 3) == ["d e", "j"]
    assert shortened(text, np.array([0, 1, 2, 3]), 99) == text
    for order in itertools.permutations(range(4)):
        assert sum(map(word_number, shortened(text, np.array(order), 5))) == 5


def test_the_whole_document_and_nothing_of_it_have_known_overlap() -> None:
    pytest.importorskip("rouge_score")
    assert rouge("the cats sat down", "the cat sat down") == {"rouge_1": 1, "rouge_2": 1, "rouge_l": 1}
    assert rouge("red blue", "green yellow") == {"rouge_1": 0, "rouge_2": 0, "rouge_l": 0}
    found = rouge("dogs bark loud", "loud dogs bark at night")
    # Three of three and of five words; one of two and of four pairs; two in a row.
    assert found == pytest.approx({"rouge_1": 2 * 3 / 8, "rouge_2": 2 * 1 / 6, "rouge_l": 2 * 2 / 8})


def test_without_the_library_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rouge_score.rouge_scorer", None)
    summary_figures._scorer.cache_clear()
    with pytest.raises(UserError, match=r"pip install 'narrows\[summary\]'"):
        rouge("a", "b")


def test_relevance_is_nearness_and_marginal_relevance_avoids_what_was_said() -> None:
    document = np.array([1.0, 0.3])
    codes = np.array([[1.0, 0.3], [0.0, 1.0], [2.0, 0.65], [-1.0, 0.0]])
    assert nearest_first(codes, document).tolist() == [0, 2, 1, 3]
    # The third repeats the first, and so comes later.
    assert nearest_first(codes, document, worth=0.4).tolist() == [0, 3, 1, 2]
    assert nearest_first(codes, document, cosine=False).tolist() == [0, 2, 1, 3]
    assert nearest_first(10 * codes, document, cosine=False).tolist() != [0, 2, 1, 3]
    greedy = nearest_first(codes, document, worth=0.7)
    near = codes @ document / np.linalg.norm(codes, axis=1) / np.linalg.norm(document)
    alike = codes @ codes.T / np.outer(np.linalg.norm(codes, axis=1), np.linalg.norm(codes, axis=1))
    for place in range(1, 4):
        left = [row for row in range(4) if row not in greedy[:place]]
        values = {row: 0.7 * near[row] - 0.3 * max(alike[row, greedy[:place]]) for row in left}
        assert values[greedy[place]] == max(values.values())


STORY = [
    "the bank raised its rate",
    "cows eat grass",
    "the bank said the rate of the bank will stay",
    "rate and bank were much discussed",
    "um",
]


def test_classics_put_the_central_sentences_first_and_the_odd_ones_last() -> None:
    story, other = read_documents([STORY, ["cows eat hay", "um um", "the hay"]])
    order = {name: choose(story, 0).tolist() for name, choose in SUMMARISERS.items()}
    assert all(sorted(found) == [0, 1, 2, 3, 4] for found in order.values())
    assert order["lead"] == [0, 1, 2, 3, 4]
    for name in ("centroid", "text_rank", "lsa"):
        assert order[name][0] in (0, 2), name
        assert set(order[name][3:]) == {1, 4}, name
    assert SUMMARISERS["random"](story, 0).tolist() == order["random"]
    draws = {tuple(SUMMARISERS["random"](story, seed)) for seed in range(20)}
    assert len(draws) > 10
    assert sorted(SUMMARISERS["text_rank"](other, 0).tolist()) == [0, 1, 2]


def test_text_rank_is_the_stationary_walk() -> None:
    (story,) = read_documents([STORY[:4]])
    words = [set(sentence.split()) for sentence in STORY[:4]]
    sizes = [len(sentence.split()) for sentence in STORY[:4]]
    weights = np.zeros((4, 4))
    for i, j in itertools.permutations(range(4), 2):
        weights[i, j] = len(words[i] & words[j]) / (np.log(sizes[i]) + np.log(sizes[j]))
    out = weights.sum(1, keepdims=True)
    steps = np.where(out > 0, weights / np.where(out > 0, out, 1), 1 / 4)
    rank = np.linalg.solve(np.eye(4) - 0.85 * steps.T, np.full(4, 0.15 / 4))
    assert SUMMARISERS["text_rank"](story, 0).tolist() == np.argsort(-rank, kind="stable").tolist()


VOCABULARY = ["bank", "rate", "cows", "grass", "hay", "eat"]


def data() -> Rows:
    split = Batch(torch.rand(20, len(VOCABULARY)).round() + 1)
    splits = dict.fromkeys(("train", "validation", "test"), split)
    return Rows(splits, kind="counts", vocabulary=VOCABULARY, value_range=(0.0, float("inf")))


def money_or_cows(x: Tensor) -> Tensor:
    return torch.stack([x[:, :2].sum(1), x[:, 2:].sum(1)], 1)


def shares(z: Tensor) -> Tensor:
    kept = z.clamp_min(0) + 0.01
    return torch.cat([kept[:, :1].expand(-1, 2) / 2, kept[:, 1:].expand(-1, 4) / 4], 1)


def test_a_model_that_knows_the_subject_chooses_its_sentences(tmp_path: Path) -> None:
    pytest.importorskip("rouge_score")
    rows, file = data(), tmp_path / "texts.jsonl.gz"
    documents = [
        {"document": STORY, "summary": [STORY[2], STORY[3]]},
        {"document": "Cows eat hay. The bank is shut.\n\nGrass is what cows eat.", "summary": "cows eat hay."},
        {"document": "", "summary": ""},
    ]
    with gzip.open(file, "wt") as lines:
        lines.write("\n".join(json.dumps(document) for document in documents))
    judged = context(known(rows.spec, money_or_cows, 2, shares), rows)
    judged.directory = tmp_path
    found = run_tasks({"s": Summary(file=str(file))}, judged)
    assert judged.warnings == []
    methods = {name.split("/")[2] for name in found if name.count("/") == 3}
    assert methods == {"lead", "random", "centroid", "text_rank", "lsa"}
    assert all(np.isfinite(value) for value in found.values())
    assert found["test/summary/rouge_1"] > found["test/summary/lead/rouge_1"] - 1e-9
    text = (tmp_path / "figures" / "summaries.md").read_text()
    assert "- the bank said the rate of the bank will stay" in text
    assert "cows eat grass" not in text
    assert "- Cows eat hay." in text


def test_a_summary_that_is_the_document_leaves_nothing_to_tell(tmp_path: Path) -> None:
    pytest.importorskip("rouge_score")
    rows, file = data(), tmp_path / "texts.jsonl"
    file.write_text(json.dumps({"body": STORY, "short": STORY}))
    judged = context(known(rows.spec, money_or_cows, 2, shares), rows)
    found = run_tasks({"s": Summary(file=str(file), text="body", reference="short")}, judged)
    for name in ("", "lead/", "random/", "lsa/"):
        assert found[f"test/summary/{name}rouge_1"] == found[f"test/summary/{name}rouge_l"] == 1
        assert np.isnan(found[f"test/summary/{name}rest_nll"])


def test_without_references_the_rest_is_told_from_the_summary(tmp_path: Path) -> None:
    rows, file = data(), tmp_path / "texts.jsonl"
    file.write_text("\n".join(json.dumps({"document": ["bank rate", "cows", "rate bank"]}) for _ in range(3)))
    judged = context(known(rows.spec, money_or_cows, 2, shares), rows)
    found = run_tasks({"s": Summary(file=str(file), share=0.4, classics=["lead"])}, judged)
    assert not [name for name in found if "rouge" in name]
    # Two words, of the bank: shares 2.01 / 2.02 for its two words, 0.01 / 2.02 for the other four.
    cost = -(2 * np.log(2.01 / 2.02 / 2) + np.log(0.01 / 2.02 / 4)) / 3
    assert found["test/summary/rest_nll"] == pytest.approx(cost, rel=1e-5)
    assert found["test/summary/lead/rest_nll"] == pytest.approx(cost, rel=1e-5)


def test_a_model_of_real_numbers_gives_words_no_probabilities(tmp_path: Path) -> None:
    pytest.importorskip("rouge_score")
    rows, file = data(), tmp_path / "texts.jsonl"
    file.write_text(json.dumps({"document": STORY, "summary": STORY[:2]}))
    judged = context(known(rows.spec, money_or_cows, 2, lambda z: shares(z) - 0.3, GaussianLikelihood), rows)
    found = run_tasks({"s": Summary(file=str(file), classics=["lead"])}, judged)
    assert {name.split("/")[-1] for name in found if "stderr" not in name} == {"rouge_1", "rouge_2", "rouge_l"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[1]", "line 1: a JSON object is wanted"),
        ('{"document": "a"}\n{nonsense', "line 2: no JSON object"),
        ('{"documents": "a"}', "no key 'document': did you mean 'documents'"),
        ('{"document": 7}', "'document' is neither a text nor a list of texts"),
        ('{"document": ["a", 7]}', "'document' is neither a text nor a list of texts"),
        ('{"document": " "}', "holds no text under the key 'document'"),
        ('{"document": "a", "summary": "a"}\n{"document": "b"}', "only some lines have a 'summary'"),
        (b"\xff\xfe", "is no file of texts"),
    ],
)
def test_a_file_that_has_no_texts_is_refused(tmp_path: Path, content: str | bytes, said: str) -> None:
    rows, file = data(), tmp_path / "texts.jsonl"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    judged = context(known(rows.spec, money_or_cows, 2, shares), rows)
    assert run_tasks({"s": Summary(file=str(file))}, judged) == {}
    assert said in judged.warnings[0]
    assert "texts.jsonl" in judged.warnings[0]


def test_what_it_does_not_fit_and_options_out_of_range() -> None:
    spec = DataSpec((6,), "counts", 9, vocabulary=VOCABULARY)
    assert Summary().fits(spec, small_model()) == "task.file names no texts to be summarised"
    assert "no names" in str(Summary(file="a").fits(DataSpec((6,), "counts", 9), small_model()))
    assert Summary(file="a").fits(spec, small_model()) is None
    with pytest.raises(UserError, match="worth must be above 0 and at most 1, not 2"):
        Summary(worth=2)
    with pytest.raises(UserError, match="no classic 'textrank': did you mean 'text_rank'"):
        Summary(classics=["textrank"])


CLOSED = """
import contextlib
import io
import logging.config

from narrows.tasks.measures.summary_figures import rouge

captured = io.StringIO()
with contextlib.redirect_stderr(captured):
    rouge("a cat", "a dog")
logging.config.dictConfig({"version": 1})
print(captured.closed)
"""


def test_scoring_closes_no_stream_that_stood_for_standard_error() -> None:
    """Hydra configures logging anew for every run of a process."""
    pytest.importorskip("rouge_score")
    done = subprocess.run([sys.executable, "-c", CLOSED], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
