"""`narrows pack`: one file that is the run for whoever uses the model, and holds nothing that runs or is private."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from command import NARROW, TINY, Finished, manifest, run_in_process

import narrows
from narrows.commands import pack as command
from narrows.commands import sample
from narrows.errors import UserError
from narrows.loading.open_run import OpenRun
from narrows.runs import weight_files

SETTINGS = (*TINY, *NARROW, "density=mixture", "density.components=2", "~tasks.latent", "decoder.tied=false")


def train(place: Path, *arguments: str) -> Finished:
    done = run_in_process(*arguments, cwd=place)
    assert done.code == 0, done.err
    return done


def packed(run: Path, out: Path) -> Path:
    command.pack(command.parser().parse_args([str(run), "-o", str(out)]))
    return out


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run `digits` and the file `digits.narrows`."""
    folder = tmp_path_factory.mktemp("packed")
    train(folder, *SETTINGS, "hydra.run.dir=digits")
    packed(folder / "digits", folder / "digits.narrows")
    return folder


def test_model_density_and_samples_are_those_of_the_run(place: Path, tmp_path: Path) -> None:
    ours, theirs = narrows.load(place / "digits.narrows"), narrows.load(place / "digits")
    x = torch.rand(3, 1, 8, 8)
    assert ours.density is not None
    assert all(torch.equal(a, theirs.state_dict()[name]) for name, a in ours.state_dict().items())
    assert torch.equal(ours.reconstruct(x), theirs.reconstruct(x))
    drawn = []
    for i, run in enumerate(("digits", "digits.narrows")):
        sample.sample(sample.parser().parse_args([str(place / run), "-n", "5", "--out", str(tmp_path / str(i))]))
        drawn.append(np.load(tmp_path / str(i) / "samples.npy"))
    assert np.array_equal(*drawn)


def test_it_holds_no_pickle_and_nothing_of_this_machine(place: Path) -> None:
    with zipfile.ZipFile(place / "digits.narrows") as archive:
        names = set(archive.namelist())
        told = json.loads(archive.read("manifest.json"))
        card = archive.read("README.md").decode()
        text = b"".join(archive.read(name) for name in names if not name.endswith((".safetensors", ".png"))).decode()
    assert {"config.yaml", "manifest.json", "metrics.json", "README.md", "checkpoints/best.safetensors"} <= names
    assert "checkpoints/density.safetensors" in names
    assert not [name for name in names if name.endswith((".ckpt", ".pt", ".pkl")) or "events" in name]
    assert not {"attempts", "environment", "directory", "git", "hardware"} & told.keys()
    assert str(Path.home()) not in text
    assert str(place) not in text.replace("output_dir", "")
    front = yaml.safe_load(card.split("---\n")[1])
    figures = {row["type"]: row["value"] for row in front["model-index"][0]["results"][0]["metrics"]}
    recorded = json.loads((place / "digits" / "metrics.json").read_text())
    assert figures["test/elbo"] == pytest.approx(recorded["test/elbo"], abs=1e-5)
    assert 'narrows.load("digits.narrows")' in card


def test_the_same_run_gives_the_same_bytes(place: Path, tmp_path: Path) -> None:
    again = packed(place / "digits", tmp_path / "digits.narrows")
    assert again.read_bytes() == (place / "digits.narrows").read_bytes()


def test_unzipped_it_is_a_run_directory(place: Path, tmp_path: Path) -> None:
    shutil.unpack_archive(place / "digits.narrows", tmp_path / "run", "zip")
    x = torch.rand(2, 1, 8, 8)
    assert torch.equal(narrows.load(tmp_path / "run").embed(x), narrows.load(place / "digits").embed(x))


def test_training_starts_from_its_weights(place: Path, tmp_path: Path) -> None:
    kept = [text for text in SETTINGS if not text.startswith("density")]
    train(tmp_path, *kept, "optimizer.lr=0", f"init_from={place}/digits.narrows", "hydra.run.dir=tuned")
    assert manifest(tmp_path / "tuned")["init_from"]["path"] == str((place / "digits.narrows").resolve())
    train(tmp_path, "replay=tuned/config.yaml", "into=again")
    x = torch.rand(2, 1, 8, 8)
    assert torch.equal(narrows.load(tmp_path / "again").embed(x), narrows.load(place / "digits").embed(x))


def test_what_would_be_lost_is_refused(place: Path) -> None:
    with pytest.raises(UserError, match=r"is a packed run: say where samples go with --out"):
        sample.sample(sample.parser().parse_args([str(place / "digits.narrows")]))
    with (
        pytest.raises(UserError, match="packed run, which nothing is added to"),
        OpenRun(place / "digits.narrows").writing(),
    ):
        pass


def test_another_ending_and_a_run_of_this_name_are_refused(place: Path) -> None:
    with pytest.raises(UserError, match=r"a packed run ends in \.narrows"):
        packed(place / "digits", place / "digits.zip")
    with pytest.raises(UserError, match="there is no run directory"):
        packed(place / "nowhere", place / "x.narrows")


@pytest.mark.parametrize("entry", ["../evil.json", "/tmp/evil.json", "checkpoints/best.ckpt", "a/b.json", "run.py"])
def test_a_strange_entry_is_refused_and_nothing_of_it_is_written(entry: str, place: Path, tmp_path: Path) -> None:
    strange = tmp_path / "strange.narrows"
    shutil.copy(place / "digits.narrows", strange)
    with zipfile.ZipFile(strange, "a") as archive:
        archive.writestr(entry, "{}")
    with pytest.raises(UserError, match="is no run that narrows pack has written: it holds"):
        narrows.load(strange)
    assert not (tmp_path / "evil.json").exists()


def test_a_link_in_it_is_refused(place: Path, tmp_path: Path) -> None:
    strange = tmp_path / "strange.narrows"
    shutil.copy(place / "digits.narrows", strange)
    link = zipfile.ZipInfo("calibration.json")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(strange, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(UserError, match=r"it holds 'calibration\.json'"):
        narrows.load(strange)


def test_every_flipped_bit_is_noticed(place: Path, tmp_path: Path) -> None:
    whole = (place / "digits.narrows").read_bytes()
    broken = tmp_path / "broken.narrows"
    with zipfile.ZipFile(place / "digits.narrows") as archive:
        starts = [entry.header_offset + 60 for entry in archive.infolist()]
    for start in starts:
        broken.write_bytes(whole[:start] + bytes([whole[start] ^ 4]) + whole[start + 1 :])
        with pytest.raises(UserError, match=r"broken\.narrows|is damaged"):
            narrows.load(broken)
    broken.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="or is damaged"):
        narrows.load(broken)


def test_weights_have_a_checksum_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "best.safetensors"
    content = weight_files.save({"state_dict": {"a": torch.arange(5.0), "b": torch.tensor(3)}, "k": 1}, "abc")
    path.write_bytes(content)
    found = weight_files.read(path)
    assert torch.equal(found["state_dict"]["a"], torch.arange(5.0))
    assert (found["k"], weight_files.origin(path)) == (1, "abc")
    path.write_bytes(content[:-3] + b"\x01" + content[-2:])
    with pytest.raises(UserError, match="its checksum does not fit"):
        weight_files.read(path)
