"""`narrows summarise` through the real command: its sentences are those that the model's codes name."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from command import COMMAND, NARROW, NO_TASKS, run_in_process

import narrows
from narrows.commands import summarise
from narrows.loading.recorded_by_the_data import load_vocabulary

SUBJECTS = {
    "money": "The bank raised the rate again. Shares fell on the market! Owners of shares sold them to the bank.",
    "farm": "Cows eat grass and hay. The farmer feeds cows hay in winter. Grass grows in the meadow.",
}
STORY = (
    "The bank said its rate stays. Um. A farmer sold cows to the market.\n\n"
    "Shares of the bank rose, and owners of shares bought more shares. Xyzzy plugh. The meadow is green."
)
DOCUMENTS = ("datamodule=documents", "datamodule.source.path=texts", "datamodule.source.words.max_df=1.0")
BUDGET = ("variant=undercomplete", "bottleneck.dim=2", "trainer.max_epochs=3", "callbacks=none", "optimizer.lr=0.01")
SETTINGS = ("+task@tasks.summary=summary", "tasks.summary.worth=0.6", "tasks.summary.cosine=false")
# A word may have a dash, and only capitals are another word: neither is what a plain vectoriser does.
WORDS = (r"datamodule.source.words.pattern='(?u)\b[\w-]{2,}\b'", "datamodule.source.words.lowercase=false")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("texts")
    for number in range(40):
        subject = "farm" if number % 2 else "money"
        text = folder / "texts" / f"{number}.txt"
        text.parent.mkdir(exist_ok=True)
        text.write_text(f"{SUBJECTS[subject]} {SUBJECTS[subject].split('.')[number % 3]}. well-fed")
    for name, further in {"run": (), "settings": (*SETTINGS, *WORDS)}.items():
        done = run_in_process(*DOCUMENTS, *BUDGET, *NARROW, *NO_TASKS, *further, f"hydra.run.dir={name}", cwd=folder)
        assert done.code == 0, done.err
    return folder


@pytest.fixture
def place(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("run", "settings"):
        shutil.copytree(trained / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    Path("story.txt").write_text(STORY)
    return tmp_path


def lines(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    summarise.main(arguments)
    return capsys.readouterr().out.splitlines()


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as end:
        summarise.main(arguments)
    said = capsys.readouterr()
    assert end.value.code == 2
    assert said.out == ""
    assert said.err.startswith("narrows: "), said.err
    return said.err


SENTENCES = [
    "The bank said its rate stays.",
    "Um.",
    "A farmer sold cows to the market.",
    "Shares of the bank rose, and owners of shares bought more shares.",
    "Xyzzy plugh.",
    "The meadow is green.",
]


def by_codes(run: str, cosine: bool = True) -> list[int]:
    """Places of the sentences with a known word, nearest first, in four slow lines."""
    model, vocabulary = narrows.load(run), load_vocabulary(Path(run))
    counts = vocabulary.count(SENTENCES)[0].toarray()
    rows = torch.from_numpy(np.concatenate([counts, counts.sum(0, keepdims=True)]).astype(np.float32))
    *parts, whole = model.embed(rows).double()
    far = [float(-torch.cosine_similarity(part, whole, 0) if cosine else (part - whole).norm()) for part in parts]
    return [place for place in np.argsort(far) if counts[place].sum()]


def test_the_nearest_sentences_are_printed_in_the_text_s_order(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nearest = by_codes("run")
    assert len(nearest) == 4, "two sentences have no known word"
    for number in (1, 2, 4):
        wanted = [SENTENCES[found] for found in sorted(nearest[:number])]
        assert lines(capsys, "run", "story.txt", "-n", str(number)) == wanted
    assert lines(capsys, "run", "story.txt") == [SENTENCES[found] for found in sorted(nearest[:3])]
    assert lines(capsys, "run", "story.txt", "-n", "99") == SENTENCES, "what says nothing comes last, and is not lost"


def test_a_summary_of_so_many_words_has_whole_sentences_and_at_least_one(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, *_ = by_codes("run")
    sizes = [len(sentence.split()) for sentence in SENTENCES]
    assert lines(capsys, "run", "story.txt", "--words", "1") == [SENTENCES[first]]
    assert lines(capsys, "run", "story.txt", "--words", str(sizes[first] + sizes[second] - 1)) == [SENTENCES[first]]
    both = lines(capsys, "run", "story.txt", "--words", str(sizes[first] + sizes[second]))
    assert both == [SENTENCES[found] for found in sorted((first, second))]


def test_the_run_s_own_words_and_options_are_used(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "well-fed" in load_vocabulary(Path("settings")).words
    assert lines(capsys, "settings", "story.txt", "-n", "1") == [SENTENCES[by_codes("settings", cosine=False)[0]]]
    Path("new.txt").write_text("BANK MARKET COWS. The well-fed went home.")
    assert lines(capsys, "settings", "new.txt", "-n", "1") == ["The well-fed went home."], "capitals are other words"


def test_several_texts_and_standard_input_through_a_shell(place: Path) -> None:
    Path("other.txt").write_text("Cows eat \x1b[31mgrass.")
    arguments = [str(COMMAND), "summarise", "run", "other.txt", "-", "-n", "1"]
    settings = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(arguments, input=STORY, capture_output=True, text=True, cwd=place, env=settings)
    assert done.returncode == 0, done.stderr
    chosen = SENTENCES[by_codes("run")[0]]
    assert done.stdout.splitlines() == [
        "==> other.txt <==",
        "Cows eat \N{REPLACEMENT CHARACTER}[31mgrass.",
        "",
        "==> - <==",
        chosen,
    ]


def test_a_file_is_written_whole_and_nothing_that_is_read(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    printed = lines(capsys, "run", "story.txt")
    assert lines(capsys, "run", "story.txt", "-o", "made/short.txt") == ["made/short.txt"]
    assert Path("made/short.txt").read_text().splitlines() == printed
    for target in ("story.txt", "run/vocabulary.json"):
        before = Path(target).read_bytes()
        assert "would be overwritten" in refusal(capsys, "run", "story.txt", "-o", target)
        assert Path(target).read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("run empty.txt", "empty.txt holds no text"),
        ("run story.txt empty.txt", "empty.txt holds no text"),
        ("run latin.txt", "latin.txt is no text in UTF-8"),
        ("run strange.txt", "strange.txt has none of the words that run knows"),
        ("run missing.txt", "there is no file missing.txt"),
        ("run run", "there is no file run"),
        ("run story.txt -n 0", "--sentences must be at least 1, not 0"),
        ("run story.txt --words -3", "--words must be at least 1, not -3"),
        ("run story.txt story.txt", "story.txt is named twice"),
        ("missing story.txt", "there is no run directory missing"),
    ],
)
def test_a_mistake_is_one_sentence(
    arguments: str, sentence: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("empty.txt").write_text(" \n\n ")
    Path("latin.txt").write_bytes("Käse.".encode("latin-1"))
    Path("strange.txt").write_text("Xyzzy plugh. Frotz!")
    said = refusal(capsys, *arguments.split())
    assert sentence in said
    assert len(said.splitlines()) == 1


def test_a_run_of_no_documents_and_a_vocabulary_of_another_run_are_refused(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("settings/vocabulary.json").replace("run/vocabulary.json")
    assert "it is of another run" in refusal(capsys, "run", "story.txt")
    assert "settings has no vocabulary: runs of datamodule=documents have one" in refusal(
        capsys, "settings", "story.txt"
    )
