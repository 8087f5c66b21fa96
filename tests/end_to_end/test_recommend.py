"""`narrows recommend` on real runs: what it writes is what the model says, and what it cannot answer is refused."""

from __future__ import annotations

import csv
import io
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from command import NARROW, NO_TASKS, TINY, Finished, run_command, run_in_process

import narrows
from narrows.commands import recommend

USERS, FILMS = 60, 30
SMALL = (*TINY, *NARROW, *NO_TASKS, "variant=mult_dae")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`run`, trained on films by their names of which ratings from 3 count, and `titled`, by numbers with titles."""
    folder: Path = tmp_path_factory.mktemp("films")
    random = np.random.default_rng(0)
    rated = [(f"u{user}", film, int(random.integers(1, 6))) for user in range(USERS) for film in range(FILMS)]
    kept = pd.DataFrame([row for row in rated if random.random() < 0.7], columns=["user", "item", "rating"])
    kept.to_csv(folder / "numbers.csv", index=False)
    kept.assign(item=[f"film, {film}" for film in kept.item]).to_csv(folder / "ratings.csv", index=False)
    titles = [(film, "=same" if film < 2 else f"title {film}") for film in range(FILMS)]
    pd.DataFrame(titles, columns=["film", "title"]).to_csv(folder / "titles.csv", index=False)
    source = "datamodule.source"
    train(folder, "run", f"{source}.path=ratings.csv", f"{source}.min_rating=3")
    train(folder, "titled", f"{source}.path=numbers.csv", f"{source}.titles.path=titles.csv")
    os.remove(folder / "ratings.csv")  # which is not needed any more
    return folder


def train(folder: Path, name: str, *arguments: str) -> None:
    done = run_in_process(*SMALL, "datamodule=interactions", *arguments, f"hydra.run.dir={name}", cwd=folder)
    assert done.code == 0, done.err


def asked(capsys: pytest.CaptureFixture[str], *arguments: Any) -> Finished:
    capsys.readouterr()
    code: Any = 0
    try:
        recommend.main([str(argument) for argument in arguments])
    except SystemExit as end:
        code = end.code
    out, err = capsys.readouterr()
    return Finished(code, out, err)


def refusal(capsys: pytest.CaptureFixture[str], *arguments: Any) -> str:
    done = asked(capsys, *arguments)
    assert (done.code, done.out, len(done.complaints)) == (2, "", 1), done.err
    return done.complaints[0]


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def users(folder: Path, *lines: str, header: str = "user,item,rating") -> Path:
    path = folder / "users.csv"
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


def test_the_items_are_those_of_the_models_highest_scores(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = users(tmp_path, 'b,"film, 3",5', 'b,"film, 4",3', 'b,"film, 5",2', 'a,"film, 7",4', 'a,"film, 7",5')
    found = rows(asked(capsys, place / "run", new, "-n", "4").out)
    assert list(found[0]) == ["user", "rank", "item", "score"]
    assert [(row["user"], row["rank"]) for row in found] == [(user, str(rank)) for user in "ba" for rank in range(1, 5)]
    model = narrows.load(place / "run")
    names = model.spec.feature_names or []
    x = torch.zeros(2, len(names))
    for user, film in ((0, 3), (0, 4), (1, 7)):
        x[user, names.index(f"film, {film}")] = 1
    scores = model.reconstruct(x)
    # A film that was rated too low does not go in, and is not recommended either.
    for user, film in ((0, 3), (0, 4), (0, 5), (1, 7)):
        scores[user, names.index(f"film, {film}")] = -1
    best = scores.topk(4)
    assert [row["item"] for row in found] == [names[item] for item in best.indices.flatten().tolist()]
    np.testing.assert_allclose([float(row["score"]) for row in found], best.values.flatten(), rtol=1e-4)


def test_what_is_unknown_is_counted_and_all_items_are_the_most(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    new = users(tmp_path, 'a,"film, 1",5', "a,new,5", "b,newer,5", 'c,"film, 1",1')
    done = asked(capsys, place / "run", new, "-n", "999", "-o", tmp_path / "made" / "out.csv")
    assert (done.code, done.out.strip()) == (0, str(tmp_path / "made" / "out.csv"))
    found = rows((tmp_path / "made" / "out.csv").read_text())
    assert [row["user"] for row in found] == ["a"] * (FILMS - 1)
    assert len({row["item"] for row in found} - {"film, 1"}) == FILMS - 1
    assert "2 items are not among those trained on, and left out: new, newer" in caplog.text
    assert "2 users have no known item with a rating of at least 3, and are left out: b, c" in caplog.text
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["out.csv"]


def test_items_are_known_by_their_numbers_and_called_by_their_titles(
    place: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)  # as from anywhere else
    numbers = asked(capsys, place / "titled", users(tmp_path, "a,1,", "a,5,", header="user,item,note"), "-n", "99").out
    items = [row["item"] for row in rows(numbers)]
    assert "'=same [0]" in items  # no text is a formula
    assert set(items) & {"'=same [1]", "title 5"} == set()
    titles = users(tmp_path, "a,=same [1],", "a,title 5,", header="user,item,note")
    assert asked(capsys, place / "titled", titles, "-n", "99").out == numbers
    moved = shutil.copytree(place / "titled", tmp_path / "moved")
    (moved / "manifest.json").write_text((moved / "manifest.json").read_text().replace(str(place), "/nowhere"))
    config = (moved / "config.yaml").read_text().replace(str(place), "/nowhere")
    (moved / "config.yaml").write_text(config)
    done = asked(capsys, moved, titles, "-n", "99")
    assert (done.code, done.out) == (0, numbers)
    assert "items are known by their titles alone, as " in caplog.text


def test_standard_input_and_parquet_are_read_as_the_file_is(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    new = users(tmp_path, "a,2,", "b,3,", header="user,item,note")
    expected = asked(capsys, place / "titled", new).out
    assert len(rows(expected)) == 40
    pd.DataFrame({"item": [2, 3], "user": ["a", "b"]}).to_parquet(tmp_path / "users.parquet")
    assert asked(capsys, place / "titled", tmp_path / "users.parquet").out == expected
    for content, code in ((new.read_bytes(), 0), (b"", 2), (b"user,item\na,99\n", 2)):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        done = asked(capsys, place / "titled", "-")
        assert (done.code, done.out) == (code, "" if code else expected)
        assert not code or "standard input" in done.complaints[0]


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        (["user,item", "a,film"], "has no column of ratings, which source.min_rating needs"),
        (["user,item,rating", "a,film,5"], "no item of"),
        (["user,item,rating", 'a,"film, 1",1'], "no rating of"),
        (["user,item,rating", 'a,"film, 1",1', "b,film,5"], "has a known item with a rating of at least 3"),
        (["user,item,rating", 'a,"film, 1",much'], "where a rating is due"),
        (["user,item,rating", ',"film, 1",4'], "has no user"),
        (["user,item,rating", "a,4"], "2 cells in place of 3"),
        (["user,what,rating", "a,4,4"], "no column whose name says that it holds items"),
        (["user,item,rating"], "holds no rows"),
        ([], "holds no rows"),
    ],
)
def test_a_file_that_cannot_be_answered_is_one_sentence(
    lines: list[str], sentence: str, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "users.csv").write_text("\n".join(lines))
    assert sentence in refusal(capsys, place / "run", tmp_path / "users.csv", "-o", tmp_path / "out.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["users.csv"]


def test_mistakes_on_the_command_line_are_one_sentence(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, new = place / "run", users(tmp_path, 'a,"film, 1",5')
    config = (run / "config.yaml").read_bytes()
    for arguments, sentence in (
        ((run,), "name the run and one file"),
        ((run, new, new), "name the run and one file"),
        ((tmp_path / "none", new), "there is no run directory"),
        ((run, tmp_path / "none.csv"), "there is no file"),
        ((run, tmp_path), "there is no file"),
        ((run, new, "-n", "0"), "-n must be at least 1"),
        ((run, new, "-o", new), "would be overwritten"),
        ((run, new, "-o", run / "config.yaml"), "is a part of the run"),
        ((run, new, "bottleneck.dim=3"), "changes nothing in a trained run"),
        ((run, new, "datamodule.source.form.columns.item=film"), "has no such column"),
    ):
        assert sentence in refusal(capsys, *arguments), sentence
    assert (run / "config.yaml").read_bytes() == config
    without = users(tmp_path, 'a,"film, 1"', header="user,item")
    assert asked(capsys, run, without, "datamodule.source.min_rating=null").code == 0


def test_a_run_of_other_data_is_refused(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = run_in_process(*TINY, *NARROW, *NO_TASKS, "hydra.run.dir=digits", cwd=tmp_path)
    assert done.code == 0, done.err
    new = users(tmp_path, 'a,"film, 1",5')
    assert "data of kind image" in refusal(capsys, tmp_path / "digits", new)
    assert "only a run of users and items recommends" in refusal(capsys, tmp_path / "digits", new)


def test_a_newcomers_ratings_train_and_recommend_with_the_commands_of_the_readme(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = " ".join((Path(__file__).resolve().parents[2] / "README.md").read_text().split())
    (command,) = re.findall(r"`narrows train (variant=mult_dae datamodule=interactions [^`]+)`", text)
    random = np.random.default_rng(1)
    rated = [f"u{user},film {film},{random.integers(1, 6)}" for user in range(80) for film in range(25)]
    kept = [line for line in rated if random.random() < 0.5]
    (tmp_path / "ratings.csv").write_text("\n".join(["user,item,rating", *kept]))
    one = ("trainer.max_epochs=1", "callbacks=none", "tasks.recommendation.classics=[popularity]", "hydra.run.dir=run")
    done = run_in_process(*command.split(), *one, cwd=tmp_path)
    assert done.code == 0, done.err
    assert "recommendation: NDCG@100" in done.out
    assert "narrows recommend RUN USERS.csv -n 20" in text
    found = rows(asked(capsys, tmp_path / "run", tmp_path / "ratings.csv", "-n", "20").out)
    had = {tuple(line.split(",")[:2]) for line in kept}
    assert len({row["user"] for row in found}) == 80
    assert not had & {(row["user"], row["item"]) for row in found}


def test_the_command_itself(tmp_path: Path) -> None:
    done = run_command("recommend", "--help", cwd=tmp_path)
    assert done.code == 0, done.err
    assert "RUN - < users.csv" in done.out
