"""Texts become tokens of a vocabulary that the training texts choose, and come back as text."""

# mypy: disable-error-code="union-attr, arg-type, attr-defined"

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from narrows.data.datamodule import DataModule
from narrows.data.sources.documents import HeldOutDocuments
from narrows.data.sources.text import Text
from narrows.data.tokenisers import Tokeniser, Tokens
from narrows.errors import UserError
from narrows.loading.recorded_by_the_data import load_tokeniser

LINES = ["The cat sat.", "a dog <end> barked!", "Ünïcode: 日本語 😀", "the cat, the dog", "tabs\tand  blanks"]
LEVELS = ["characters", "bytes", "words", "subwords"]


def module(path: Path, rows: int = 40, /, **settings: Any) -> DataModule:
    """Of a file whose line says its row."""
    if not path.exists():
        path.write_text("".join(f"line {row} is of {'cats' if row % 2 else 'dogs'}\n" for row in range(rows)))
    tokens = Tokens(**{"level": "words", "min_count": 1} | settings.pop("tokens", {}))
    settings = {"test": HeldOutDocuments(0.2)} | settings
    return DataModule(Text(str(path), tokens=tokens, **settings), batch_size=8, validation=0.2)


# ── tokenisers ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("windows", [None, 4])
@pytest.mark.parametrize("level", LEVELS)
def test_a_text_comes_back_and_so_does_the_tokeniser(level: Any, windows: int | None) -> None:
    tokeniser = Tokens(level, most=400, min_count=1, windows=windows).fit(LINES)
    again = Tokeniser.from_dict(json.loads(json.dumps(tokeniser.to_dict())))
    assert again == tokeniser
    for line in LINES:
        ids = tokeniser.encode(line)
        assert again.encode(line) == ids
        assert all(0 <= number < len(tokeniser.vocabulary) for number in ids)
        assert (ids[-1] == tokeniser.end == 0) if windows is None else (tokeniser.end is None)
        assert ids.count(0) == 1 or windows is not None, "the end mark's own text in a line is no end mark"
        if level == "words":
            assert tokeniser.decode(ids).replace(" ", "") == "".join(line.split())
        else:
            assert tokeniser.decode(ids) == line
        if windows is None:
            assert tokeniser.decode([*ids, 5, 6]) == tokeniser.decode(ids), "nothing is read behind the end mark"


def test_the_most_frequent_words_are_kept_and_ties_go_by_text() -> None:
    fit = Tokens("words", most=3, min_count=1, pattern=r"\S+").fit(["b b b a a c d", "d <unk> <unk> <unk>"])
    assert fit.vocabulary == ["<end>", "<unk>", "b", "a", "d"]
    assert fit.encode("a e d <unk>") == [3, 1, 4, 1, 0]
    assert Tokens("words", most=None).fit(["b b a"]).vocabulary == ["<end>", "<unk>", "b"]
    assert Tokens("characters", min_count=1, lowercase=True).fit(["Ab"]).encode("aB") == [2, 3, 0]
    assert Tokens("characters", min_count=1, windows=2).fit(["ba"]).vocabulary == ["<unk>", "a", "b"]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Tokens("letters"), "unknown tokens.level='letters'"),
        (lambda: Tokens(pattern="("), "is no regular expression"),
        (lambda: Tokens(pattern=r"(\w)+"), "has groups"),
        (lambda: Tokens(windows=1), "tokens.windows=1 must be at least 2"),
        (lambda: Tokens("subwords", most=None), "says how many sub-words there are"),
        (lambda: Tokens(min_count=0), "tokens.min_count=0 must be at least 1"),
        (lambda: Tokens("words").fit([" ", "\t"]), "none of the 2 training texts holds a word"),
        (lambda: Tokens("words").fit(["a b"]), "no token stands tokens.min_count=2 times"),
        (lambda: Tokeniser("words", ["a", "a"]), "holds a token twice"),
        (lambda: Tokeniser("characters", ["a"]).encode("ab"), "the vocabulary of 1 characters does not hold 'b'"),
        (lambda: Tokeniser.from_dict({"level": "words"}), "not the values of a tokeniser"),
        (lambda: Tokeniser("subwords", ["a"], merges="{}").encode("a"), "the recorded sub-words cannot be read"),
    ],
)
def test_refusals(make: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        make()


# ── what the datamodule serves ──────────────────────────────────────────────────────────────────────────


def test_the_vocabulary_is_of_training_texts_alone_and_lengths_count_the_end_mark(tmp_path: Path) -> None:
    data = module(tmp_path / "a.txt")
    batches = {name: list(data.ordered_loader(name)) for name in ("train", "validation", "test")}
    lines = (tmp_path / "a.txt").read_text().splitlines()
    known = set(data.tokeniser.vocabulary)
    rows = {name: [row for batch in of for row in batch.index.tolist()] for name, of in batches.items()}
    assert {word for row in rows["train"] for word in lines[row].split()} == known - {"<end>", "<unk>"}
    for name, of in batches.items():
        for batch in of:
            for x, length, row in zip(batch.x, batch.length.tolist(), batch.index.tolist(), strict=True):
                words = lines[row].split()
                assert length == len(words) + 1
                expected = " ".join(word if word in known else "<unk>" for word in words)
                assert data.tokeniser.decode(x.tolist()) == expected
                assert name == "train" or "<unk>" in expected, "its number is in no training line"
    (line,) = [line for line in data.reading if line.startswith("tokens: ")]
    assert f"words, {len(known) - 2} in the vocabulary of the training texts, beside <end> and <unk>" in line
    assert "an end mark counted in each text; 6 the longest" in line
    assert "<unk> is 0.00% of train, 16." in line
    assert "no training text teaches what it costs: raise tokens.min_count" in line


def test_what_is_cut_blank_or_left_over_is_said(tmp_path: Path) -> None:
    texts = ["one two three four five six", "", "a b c", " ", *(f"x{row} y" for row in range(30))]
    (tmp_path / "b.txt").write_text("\n".join(texts))
    data = module(tmp_path / "b.txt", tokens={"longest": 4}, test=HeldOutDocuments(None))
    data.setup()
    assert "32 (lines of b.txt; 2 blank ones left out)" in data.reading[0]
    assert "1 of 26 train texts were cut to 4 tokens, the longest of 7 (tokens.longest)" in data.reading[1]
    found = {data.tokeniser.decode(x.tolist()) for batch in data.train_dataloader() for x in batch.x}
    assert "one two three" in found
    assert data.spec.shape == (4,)


@pytest.mark.parametrize("level", ["characters", "bytes", "words"])
def test_running_text_is_cut_in_order_into_windows_of_one_length(level: Any, tmp_path: Path) -> None:
    text = "".join(f"{row} lines of a play,\n" for row in range(1500))
    (tmp_path / "play.txt.gz").write_bytes(gzip.compress(text.encode()))
    data = module(tmp_path / "play.txt.gz", tokens={"level": level, "windows": 7, "most": None})
    data.setup()
    assert (data.spec.variable, data.spec.end, data.spec.shape) == (False, None, (7,))
    read = {
        name: torch.cat([batch.x for batch in data.ordered_loader(name)]).flatten().tolist()
        for name in ("train", "validation", "test")
    }
    train, validation, test = (data.tokeniser.decode(ids) for ids in read.values())
    assert train.startswith("0 lines of a play")
    if level != "words":
        assert text.startswith(train)
        assert validation in text[len(train) - 7 :]
        assert text.find(test[:50]) > text.find(validation[:50]) > 0
    assert any("make no window of 7, and are left out" in line for line in data.reading)
    assert data.reading[0] == f"running text: {len(text):,} characters (play.txt.gz)"
    with pytest.raises(UserError, match=r"fewer than tokens.windows=1000000: bring more text"):
        module(tmp_path / "play.txt.gz", tokens={"windows": 10**6}).setup()


def test_a_folder_and_a_column_are_read_with_their_labels(tmp_path: Path) -> None:
    for row in range(12):
        folder = tmp_path / "texts" / ("sad" if row % 2 else "glad")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{row}.txt").write_text(f"text {row}\non two lines")
    (tmp_path / "rows.jsonl").write_text(
        "".join(
            json.dumps({"sentence": f"text {row}", "mood": "sad" if row % 2 else "glad"}) + "\n" for row in range(12)
        )
    )
    for source in (tmp_path / "texts", tmp_path / "rows.jsonl"):
        data = module(source, label="mood" if source.suffix else None)
        data.setup()
        assert data.spec.class_names == ["glad", "sad"]
        assert data.spec.num_classes == 2
        for batch in data.ordered_loader("train"):
            assert {"text"} <= {data.tokeniser.decode(x.tolist()).split()[0] for x in batch.x}


@pytest.mark.parametrize(
    ("content", "settings", "said"),
    [
        (" \n\t\n", {}, "all texts .lines of c.txt. are blank"),
        ("a\nb\n", {"column": "text"}, "has a document a line, and no columns"),
        ("a\nb\n", {"label": "x", "tokens": {"windows": 4}}, "has no columns or labels"),
        ("", {"tokens": {"windows": 4}}, "holds no text"),
    ],
)
def test_refusals_of_files(content: str, settings: dict[str, Any], said: str, tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_text(content)
    with pytest.raises(UserError, match=said):
        module(tmp_path / "c.txt", **settings).setup()


@pytest.mark.parametrize(
    "damage",
    [
        "{",
        "[]",
        '{"level": "words"}',
        '{"level": "words", "vocabulary": [], "pattern": "a", "joiner": "", "lowercase": false, "merges": null}',
        '{"level": "words", "vocabulary": [1], "pattern": "a", "joiner": "", "lowercase": false, "merges": null}',
        '{"level": "words", "vocabulary": ["a"], "pattern": "(", "joiner": "", "lowercase": false, "merges": null}',
        '{"level": "subwords", "vocabulary": ["a"], "pattern": "a", "joiner": "", "lowercase": false, "merges": "{"}',
    ],
)
def test_a_damaged_tokeniser_is_one_sentence(damage: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no tokeniser: runs on text, such as datamodule=text, have one"):
        load_tokeniser(tmp_path)
    (tmp_path / "tokeniser.json").write_text(damage)
    with pytest.raises(UserError, match=r"tokeniser\.json"):
        load_tokeniser(tmp_path)
