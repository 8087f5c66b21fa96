"""Runs on counts, documents and interactions, by the command that a newcomer types."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from command import NARROW, NO_TASKS, TINY, manifest, only_run, run_in_process
from scipy import sparse

from narrows.loading import OpenRun, recorded_by_the_data

ROWS, WIDTH = 120, 45
PLAIN = ("likelihood=gaussian", "input=identity", "variant=undercomplete", *NARROW)
PLAIN += tuple(f"{stage}.{option}" for stage in ("encoder", "decoder") for option in ("dropout=0", "shortcut=false"))
WHOLE = ("trainer.limit_val_batches=null", "trainer.limit_test_batches=null")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("counts")
    random = np.random.default_rng(0)
    counts = random.poisson(0.3, (ROWS, WIDTH)).astype(np.float32)
    counts[:, 0] += 1
    np.savez(folder / "dense.npz", x=counts)
    sparse.save_npz(folder / "sparse.npz", sparse.csr_matrix(counts))
    words = np.array([f"word{number}" for number in range(WIDTH)])
    for number, row in enumerate(counts.astype(int)):
        text = folder / "texts" / ("odd" if number % 2 else "even") / f"{number}.txt"
        text.parent.mkdir(parents=True, exist_ok=True)
        text.write_text(" ".join(np.repeat(words, row)))
    rated = [(f"u{user}", f"film {item}", 1 + (user + item) % 5) for user, item in zip(*counts.nonzero(), strict=True)]
    pd.DataFrame(rated, columns=["user", "item", "rating"]).to_csv(folder / "ratings.csv", index=False)
    return folder


def fitted(name: str, place: Path, *arguments: str) -> tuple[Path, dict[str, Any]]:
    done = run_in_process(*TINY, *PLAIN, *WHOLE, *arguments, f"output_dir={name}", cwd=place)
    assert done.code == 0, done.err
    run = only_run(place / name)
    return run, json.loads((run / "metrics.json").read_text())


def opened(run: Path) -> OpenRun:
    found = OpenRun(run)
    found.find_data()
    return found


def test_counts_train_to_the_losses_and_figures_of_the_dense_rows(place: Path) -> None:
    dense = ("datamodule=arrays", "datamodule.source.path=dense.npz", "datamodule.source.test.fraction=0.2")
    held = ("datamodule=counts", "datamodule.source.path=sparse.npz", "datamodule.source.test.fraction=0.2")
    first, plain = fitted("dense", place, *dense)
    second, found = fitted("sparse", place, *held)
    assert found == pytest.approx({name: value for name, value in plain.items() if "psnr" not in name}, rel=1e-4)
    assert {"test/mse", "test/pca/mse", "test/mean/mse", "val/loss"} <= set(found)
    histories = [pd.read_csv(run / "metrics.csv") for run in (first, second)]
    losses = [history[history.metric == "train/loss"].value.to_numpy() for history in histories]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)
    data = opened(second).data
    assert manifest(second)["data"]["totals"] == list(data.spec.totals)
    assert (data.spec.kind, manifest(second)["data"]["value_range"]) == ("counts", [0.0, None])


def test_a_folder_of_texts_trains_with_one_command_and_keeps_its_words(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, found = fitted("documents", place, "datamodule=documents", "datamodule.source.path=texts")
    assert found["test/mse"] > 0
    record = manifest(run)
    assert record["reading"][0].startswith("documents: 120 documents (files of texts), 2 labels (even, odd)")
    assert record["reading"][1].startswith("vocabulary: ")
    monkeypatch.chdir(tmp_path)  # as from anywhere else
    found_again = opened(run)
    vocabulary = recorded_by_the_data.load_vocabulary(run)
    assert vocabulary.words == found_again.data.spec.feature_names == record["data"]["feature_names"]
    counts, unknown = vocabulary.count(["word1 word1 unheard"])
    assert unknown == 1
    codes = found_again.model.embed(torch.from_numpy(counts.toarray().astype(np.float32)))
    assert torch.isfinite(codes).all()


@pytest.mark.parametrize("split", ["users", "interactions"])
def test_a_table_of_ratings_trains_and_what_is_held_out_is_judged(split: str, place: Path) -> None:
    chosen = ("datamodule=interactions", "datamodule.source.path=ratings.csv", f"datamodule.source.test.split={split}")
    run, found = fitted(split, place, *chosen, "datamodule.source.min_rating=2")
    assert np.isfinite(list(found.values())).all()
    data = opened(run).data
    part = data.part("test")
    assert part.target is not None
    assert all(name.startswith("u") for name in part.names)
    assert data.spec.feature_names[0].startswith("film ")
    assert not any("/pca/" in name for name in found)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("datamodule=counts datamodule.source.path=texts", "is no file of counts"),
        ("datamodule=counts datamodule.source.path=sparse.npz datamodule.binarise=static", "set binarise=none"),
        (
            "datamodule=documents datamodule.source.path=texts datamodule.source.words.min_df=99",
            "no word is in at least",
        ),
        (
            "datamodule=interactions datamodule.source.path=dense.npz",
            "has no column whose name says that it holds",
        ),
    ],
)
def test_a_mistake_is_one_sentence(arguments: str, sentence: str, place: Path) -> None:
    done = run_in_process(*TINY, *PLAIN, *NO_TASKS, *arguments.split(), "output_dir=refused", cwd=place)
    assert (done.code, len(done.complaints)) == (2, 1), done.err
    assert sentence in done.complaints[0]
    assert "Traceback" not in done.err
