"""Documents become counts of the words that the training documents choose, just as scikit-learn would count them."""

# mypy: disable-error-code="arg-type, union-attr"

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.feature_extraction.text import CountVectorizer

from narrows.data import DataModule, Documents, Format, HeldOutDocuments, Vocabulary, Words
from narrows.errors import UserError
from narrows.loading import recorded_by_the_data

WORDS = [f"word{place:02}" for place in range(40)] + ["the", "and"]


def texts(count: int = 60, seed: int = 0) -> list[str]:
    random = np.random.default_rng(seed)
    weights = 1 / np.arange(1, len(WORDS) + 1)
    return [" ".join(random.choice(WORDS, 12, p=weights / weights.sum())).capitalize() for _ in range(count)]


def kinds(count: int = 60) -> list[str]:
    return [("news", "sport")[number % 2] for number in range(count)]


def folder(path: Path) -> dict[str, Any]:
    path.mkdir()
    for number, text in enumerate(texts()):
        (path / f"{number:03}.txt").write_text(text)
    return {}


def tree(path: Path) -> dict[str, Any]:
    for number, (text, kind) in enumerate(zip(texts(), kinds(), strict=True)):
        (path / kind).mkdir(parents=True, exist_ok=True)
        (path / kind / f"{number:03}.txt").write_text(text)
    return {"labelled": True}


def lines(path: Path) -> dict[str, Any]:
    path.write_bytes(gzip.compress("\n".join(texts()).encode()))
    return {}


def frame() -> pd.DataFrame:
    return pd.DataFrame({"kind": kinds(), "Text": texts(), "number": range(60)})


def csv(path: Path) -> dict[str, Any]:
    frame().to_csv(path, index=False, sep=";")
    return {"label": "kind", "text": Format(separator="semicolon")}


def parquet(path: Path) -> dict[str, Any]:
    frame().rename(columns={"Text": "mine"}).to_parquet(path)
    return {"label": "kind", "column": "mine"}


def jsonl(path: Path) -> dict[str, Any]:
    rows = frame().rename(columns={"Text": "document"}).to_dict("records")
    path.write_bytes(gzip.compress("\n".join(json.dumps(row) for row in rows).encode()))
    return {"label": "kind"}


WRITERS: dict[str, Callable[[Path], dict[str, Any]]] = {
    **{"folder": folder, "tree": tree, "lines.txt.gz": lines},
    **{"table.csv": csv, "table.parquet": parquet, "rows.jsonl.gz": jsonl},
}


@pytest.mark.parametrize("name", sorted(WRITERS))
def test_every_kind_of_file_holds_the_same_documents(name: str, tmp_path: Path) -> None:
    options = WRITERS[name](tmp_path / name)
    labelled = bool(options.pop("labelled", False) or "label" in options)
    contents = Documents(str(tmp_path / name), **options).load()
    counter = CountVectorizer()
    wanted = counter.fit_transform(texts()).toarray()
    found = contents.train.x.matrix.toarray()
    if name == "tree":  # in the order of its folders
        found = found[np.argsort([int(name.split("/")[1][:3]) for name in contents.train.names])]
    assert np.array_equal(found, wanted)
    assert contents.feature_names == counter.get_feature_names_out().tolist()
    assert contents.class_names == (["news", "sport"] if labelled else None)
    if labelled and name != "tree":
        assert contents.train.label.tolist() == [number % 2 for number in range(60)]


@pytest.mark.parametrize(
    "words",
    [
        Words(),
        Words(min_df=3, max_df=0.5),
        Words(min_df=0.1, max_df=30, stop_words="english"),
        Words(stop_words=["word00", "word03"], lowercase=False, pattern=r"\w+"),
    ],
)
def test_words_are_chosen_by_the_training_documents_as_scikit_learn_does(words: Words, tmp_path: Path) -> None:
    lines(tmp_path / "x.txt")
    source = Documents(str(tmp_path / "x.txt"), words=words)
    for folds in (None, 4):
        data = DataModule(source, folds=folds)
        data.setup()
        rows = {name: data._split(name).rows.tolist() for name in ("train", "validation", "test")}
        counter = CountVectorizer(
            min_df=words.min_df,
            max_df=words.max_df,
            stop_words=words.stop_words,
            lowercase=words.lowercase,
            token_pattern=words.pattern,
        )
        counter.fit([texts()[row] for row in rows["train"]])
        assert data.spec.feature_names == counter.get_feature_names_out().tolist()
        for name, chosen in rows.items():
            wanted = counter.transform([texts()[row] for row in chosen]).toarray()
            assert np.array_equal(data.part(name).x.matrix.toarray(), wanted)
        assert data.vocabulary.words == data.spec.feature_names
        assert any(line.startswith("vocabulary: ") for line in data.reading)


def test_the_most_frequent_words_are_kept(tmp_path: Path) -> None:
    lines(tmp_path / "x.txt")
    data = DataModule(Documents(str(tmp_path / "x.txt"), words=Words(max_features=7)))
    data.setup()
    counts = CountVectorizer(vocabulary=sorted({*WORDS})).transform(texts()).toarray()
    train = counts[data._split("train").rows].sum(0)
    kept = {word: total for word, total in zip(sorted({*WORDS}), train, strict=True) if word in data.spec.feature_names}
    assert len(kept) == 7
    assert min(kept.values()) >= np.sort(train)[-8]


def test_documents_without_words_are_dropped_and_another_file_is_tested_on(tmp_path: Path) -> None:
    lines(tmp_path / "x.txt")
    (tmp_path / "new.txt").write_text("\n".join(["word00 word01 unknown", "nothing known", *texts(5, 1)]))
    held = HeldOutDocuments(path=str(tmp_path / "new.txt"))
    data = DataModule(Documents(str(tmp_path / "x.txt"), test=held))
    data.setup()
    assert data._split("test").rows.tolist() == [0, 2, 3, 4, 5, 6]
    assert "row 1 of the test split has no counts; left out" in data.reading
    assert "unknown" not in data.spec.feature_names
    with pytest.raises(UserError, match=r"row 1 of the test split has no counts: set source\.empty=drop"):
        DataModule(Documents(str(tmp_path / "x.txt"), empty="refuse", test=held)).setup()


def test_a_kept_vocabulary_counts_new_texts_and_the_words_it_does_not_know(tmp_path: Path) -> None:
    lines(tmp_path / "x.txt")
    data = DataModule(Documents(str(tmp_path / "x.txt"), words=Words(stop_words=["the"], min_df=2)))
    data.setup()
    recorded_by_the_data.save(data, tmp_path)
    found = recorded_by_the_data.load_vocabulary(tmp_path)
    assert found == data.vocabulary
    counts, unknown = found.count(["Word00 the zebra word00 yak", "word01", "Zebra the"])
    assert unknown == 2
    places = [found.words.index(word) for word in ("word00", "word01")]
    assert counts.toarray()[:, places].tolist() == [[2, 0], [0, 1], [0, 0]]
    assert found.count(["?", ""])[1] == 0
    chosen = data.part("train").x.matrix.toarray()
    again = found.count([texts()[row] for row in data._split("train").rows.tolist()])[0].toarray()
    assert np.array_equal(again, chosen)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "has no vocabulary: runs of datamodule=documents have one"),
        ("{", "vocabulary.json"),
        ("[]", "is damaged"),
        ('{"words": "abc", "how": {}}', "words, is damaged"),
        ('{"words": [], "how": {}}', "is damaged: its words must differ"),
        ('{"words": ["a", "a"], "how": {}}', "is damaged: its words must differ"),
        ('{"words": ["a"], "how": {"min_df": "two"}}', "is damaged"),
        ('{"words": ["a"], "how": {"lowercase": "no"}}', "how, is damaged: lowercase must be"),
        ('{"words": ["a"], "how": {"depth": 3}}', "is damaged"),
    ],
)
def test_a_damaged_vocabulary_is_refused(text: str | None, sentence: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "vocabulary.json").write_text(text)
    with pytest.raises(UserError, match=sentence) as found:
        recorded_by_the_data.load_vocabulary(tmp_path)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    ("name", "text", "options", "sentence"),
    [
        ("x.pdf", "a", {}, "is no file of documents: a folder of .txt, or a .txt, .csv"),
        ("x.txt", "? !\n.", {}, "none of the 2 documents holds a word"),
        ("x.txt", "one two", {"label": "kind"}, "has a document a line, and no columns"),
        ("x.csv", "a,b\n1,2\n", {}, r"holds documents \(a, b\): set source.column to one of them"),
        ("x.csv", "text,b\none,2\n", {"label": "c"}, "line 2 of .* has no 'c'"),
        ("x.csv", "text,b\none,2\ntwo,\n", {"label": "b"}, "line 3 of .* has no label in 'b'"),
        ("x.csv", "text,b\none,2\n", {"column": "txt"}, "has no 'txt': did you mean 'text'"),
        ("x.jsonl", '{"text": "one"}\n{"text": 3}', {}, "line 2 of .* holds no text in 'text' but 3"),
        ("x.jsonl", '{"text": "one"}\n{"txt": "two"}', {}, "line 2 of .* has no 'text'"),
        ("x.jsonl", "one", {}, "line 1 of .* is no JSON "),
        ("x.jsonl", "[1]", {}, "line 1 of .* is no JSON object"),
        ("x.jsonl", "", {}, "holds no documents"),
        ("x.txt", "one two\n" * 20, {"words": Words(max_df=3)}, "no word is in at least words.min_df=1 and at most"),
        ("x.txt", b"\xff\xfe\xfa", {}, "cannot be read as lines of text"),
    ],
)
def test_what_holds_no_documents_is_refused(
    name: str, text: str | bytes, options: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=sentence) as found:
        DataModule(Documents(str(tmp_path / name), **options)).setup()
    assert "\n" not in str(found.value)


def test_folders_of_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no \.txt: a folder of documents"):
        Documents(str(tmp_path)).load()
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "one.txt").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(UserError, match=r"one\.txt is no text in UTF-8"):
        Documents(str(tmp_path)).load()
    (tmp_path / "two.txt").write_text("two words")
    with pytest.raises(UserError, match=r"holds \.txt at several depths \(1, 2\)"):
        Documents(str(tmp_path)).load()


def test_options_that_choose_no_words_are_refused() -> None:
    for options, sentence in (
        ({"stop_words": "german"}, "is neither english nor a list"),
        ({"max_features": 0}, "must be at least 1"),
        ({"min_df": 1.5}, "is neither a number of documents nor a share"),
        ({"max_df": True}, "is neither a number of documents nor a share"),
        ({"pattern": "("}, "is no regular expression"),
        ({"pattern": "(a)(b)"}, "has 2 groups"),
    ):
        with pytest.raises(UserError, match=sentence):
            Words(**options)
    assert Vocabulary.from_dict(Vocabulary(["a"], Words(stop_words=("b",))).to_dict()).how.stop_words == ["b"]


def test_real_documents_are_read_by_their_yaml(real_data: Path) -> None:
    from command import composed

    from narrows.config.hydra_versions import instantiate

    data = instantiate(composed("datamodule=bbc", f"data_dir={real_data}").datamodule)
    data.setup()
    assert (data.spec.num_classes, len(data.part("test")), data.spec.size) == (5, 445, 401)
    assert 3000 < data.spec.shape[0] < 10000
    assert {"government", "film", "match"} <= {*data.spec.feature_names}
