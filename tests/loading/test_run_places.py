"""Runs that are no path: those that ship with narrows, and those of the Hugging Face hub, of which a server here stands
in."""

from __future__ import annotations

import json
import logging
import shutil
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hub_stand_in import serving

import narrows
from narrows.commands import embed, pack, sample
from narrows.errors import UserError
from narrows.loading import hub
from narrows.loading.open_run import OpenRun
from narrows.loading.run_places import shipped

DIGITS = ("digits-sae", "digits-vae", "digits-vq")
X = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))


# ── what ships with narrows ─────────────────────────────────────────────────────────────────────────────


def test_small_models_ship_and_their_cards_say_what_they_are() -> None:
    found = shipped()
    assert tuple(found) == DIGITS
    assert sum(path.stat().st_size for path in found.values()) < 3e6
    for name, path in found.items():
        with zipfile.ZipFile(path) as archive:
            card = archive.read("README.md").decode()
            figures = json.loads(archive.read("metrics.json"))
        assert f"python scripts/make_pretrained.py {name}" in card
        assert "seed 0" in card
        assert "CC BY 4.0" in card
        error = OpenRun(name).model.reconstruct(X).sub(X).square().mean()
        assert error < 0.2
        assert figures["test/mse"] < 0.25 * figures["test/mean/mse"]
    assert narrows.load("digits-vae").embed(X).shape == (2, 8)


def test_samples_are_drawn_right_after_installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("digits-vae", "digits-vq"):
        sample.sample(sample.parser().parse_args([name, "-n", "3"]))
        drawn = np.load(tmp_path / f"{name}-samples" / "samples.npy")
        assert drawn.shape == (3, 1, 8, 8)
        assert drawn.std() > 0.1


def test_a_directory_of_that_name_wins_and_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.unpack_archive(shipped()["digits-sae"], tmp_path / "digits-vae", "zip")
    monkeypatch.chdir(tmp_path)
    with caplog.at_level(logging.INFO):
        assert narrows.load("digits-vae").embed(X).shape == (2, 128)
    assert "digits-vae is the one in this directory" in caplog.text


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(
        UserError, match="there is no run directory digits-gan; models that ship with narrows are digits-"
    ):
        narrows.load("digits-gan")


# ── the hub ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def repositories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, dict[str, bytes]]]:
    """Files of repositories, by `OWNER/NAME` and name, which a server on this machine gives as the hub does."""
    pytest.importorskip("huggingface_hub")
    kept: dict[str, dict[str, bytes]] = {}
    with serving(kept) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
        yield kept


@pytest.mark.parametrize("place", ["hf://me/small", "hf:/me/small", "hf://me/small@v1", "hf://me/small/small.narrows"])
def test_a_packed_run_of_the_hub_is_the_run(place: str, repositories: dict[str, dict[str, bytes]]) -> None:
    repositories["me/small"] = {"small.narrows": shipped()["digits-sae"].read_bytes(), "README.md": b"a card"}
    assert torch.equal(narrows.load(place).embed(X), narrows.load("digits-sae").embed(X))


def test_it_is_cached_and_a_run_s_files_do_too(
    repositories: dict[str, dict[str, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(shipped()["digits-sae"]) as archive:
        repositories["me/files"] = {name: archive.read(name) for name in archive.namelist()} | {"setup.py": b"evil()"}
    expected = narrows.load("digits-sae").embed(X)
    assert torch.equal(narrows.load("hf://me/files").embed(X), expected)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert torch.equal(narrows.load("hf://me/files").embed(X), expected)
    with pytest.raises(UserError, match="not in the local cache, and the hub cannot be reached"):
        narrows.load("hf://me/other")


def test_what_the_hub_does_not_have_is_one_sentence(repositories: dict[str, dict[str, bytes]]) -> None:
    content = shipped()["digits-sae"].read_bytes()
    repositories["me/two"] = {"a.narrows": content, "b.narrows": content}
    repositories["me/none"] = {"README.md": b""}
    for place, said in {
        "hf://me/nobody": "no such repository, or it is private",
        "hf://me/two@v7": "the repository has no revision v7",
        "hf://me/two": "holds 2 runs: name one, such as hf://me/two/a.narrows",
        "hf://me/two/c.narrows": "the repository has no file c.narrows",
        "hf://me/none": "holds no run: neither a file that ends in .narrows nor a config.yaml",
        "hf://me": "is no run of the hub: write hf://OWNER/NAME",
    }.items():
        with pytest.raises(UserError, match=said):
            narrows.load(place)


def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r"needs huggingface_hub, which is not installed: pip install 'narrows\[hub\]'"):
        narrows.load("hf://me/small")


def test_pack_uploads_the_file_and_its_card(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Against a stand-in of the hub's client: what it is asked to make and to commit."""
    huggingface_hub = pytest.importorskip("huggingface_hub")
    asked: dict[str, object] = {}

    class Client:
        def __init__(self, endpoint: str | None) -> None:
            pass

        def create_repo(self, name: str, *, private: bool, exist_ok: bool) -> None:
            asked.update(name=name, private=private, exist_ok=exist_ok)

        def create_commit(self, name: str, operations: list, **_: object) -> SimpleNamespace:
            contents = {}
            for each in operations:
                with each.as_file() as file:
                    contents[each.path_in_repo] = file.read()
            asked["files"] = contents
            return SimpleNamespace(commit_url=f"https://hub/{name}/commit/1")

    monkeypatch.setattr(huggingface_hub, "HfApi", Client)
    monkeypatch.chdir(tmp_path)
    pack.pack(pack.parser().parse_args(["digits-sae", "--to", "hf://me/mine"]))
    assert asked["name"] == "me/mine"
    assert asked["private"]
    files = asked["files"]
    assert set(files) == {"mine.narrows", "README.md"}
    assert b'narrows.load("mine.narrows")' in files["README.md"]
    (tmp_path / "mine.narrows").write_bytes(files["mine.narrows"])
    assert torch.equal(narrows.load("mine.narrows").embed(X), narrows.load("digits-sae").embed(X))
    with pytest.raises(UserError, match="is no run of the hub"):
        hub.reference("hf://me")


def test_values_of_another_scale_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Floating-point numbers are read as they are: 0 to 255 is not what a run on 0 to 1 has seen."""
    pixels = np.random.default_rng(0).integers(0, 256, (5, 1, 8, 8), dtype=np.uint8)
    pixels[0, 0, 0, :2] = 0, 255
    for name, x in {"bytes": pixels, "unit": pixels / 255, "scaled": pixels.astype(np.float32)}.items():
        caplog.clear()
        np.save(tmp_path / "x.npy", x)
        embed.main(["digits-vae", str(tmp_path / "x.npy"), "-o", str(tmp_path / "z.npz")])
        told = "5 examples of" in caplog.text and "hold values from 0 to 255, and those of training lay" in caplog.text
        assert told == (name == "scaled")
