"""`narrows embed` and `narrows reconstruct`: new data are read as the run's own were."""

from __future__ import annotations

import io
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import new_data_runs as runs
import numpy as np
import pandas as pd
import pytest
import torch
from command import run_in_process
from omegaconf import OmegaConf
from PIL import Image

import narrows
from narrows.coding.eight_bits import eight_bits
from narrows.commands import embed, pack, reconstruct, sample, score
from narrows.data import ImageFolder, ImageReader, Pictures
from narrows.data.midi_files import write_midi
from narrows.errors import UserError
from narrows.loading import OpenRun, recorded_by_the_data
from narrows.models import Autoencoder
from narrows.new_data import Known, NewArrays, examples
from narrows.new_data.pictures import NewPictures
from narrows.types import Batch, DataSpec, log_prob_of, row_sums

MADE: dict[str, Callable[[Path], None]] = {
    "pictures": runs.picture_run,
    "features": runs.feature_run,
    "arrays": runs.array_run,
    "table": runs.table_run,
    "texts": runs.text_run,
    "documents": runs.document_run,
    "counts": runs.count_run,
    "signals": runs.signal_run,
    "series": runs.whole_series_run,
    "music": runs.music_run,
    "molecules": runs.molecule_run,
    "sound": runs.sound_run,
}
OWN_TEST = {
    "pictures": ("test",),
    "features": ("test",),
    "arrays": ("own.npz", "datamodule.source.x_key=x_test"),
    "table": ("test.csv",),
    "texts": ("test.txt",),
    "documents": ("test",),
    "counts": ("test.csv",),
    "signals": ("test.csv",),
    "series": ("test",),
    "music": ("test.json",),
    "molecules": ("test.csv",),
    "sound": ("own/test",),
}
"""The run's own test split as new data."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def folder_of(form: str) -> Path:
        if form not in made:
            made[form] = tmp_path_factory.mktemp(form)
            MADE[form](made[form])
        return made[form]

    return folder_of


@pytest.fixture
def place(trained: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    def copied(form: str) -> Path:
        folder = Path(shutil.copytree(trained(form), tmp_path / form))
        monkeypatch.chdir(folder)
        return folder

    return copied


def pixels_of(path: Path) -> np.ndarray[Any, Any]:
    with Image.open(path) as image:
        return np.array(image)


def refused(main: Callable[..., None], *arguments: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    assert end.value.code == 2
    return capsys.readouterr().err


SELDOM = ("documents", "molecules", "music", "signals")
"""Forms that share their reader with another, compared in the slow suite."""


@pytest.mark.parametrize("form", [pytest.param(form, marks=[pytest.mark.slow] * (form in SELDOM)) for form in MADE])
def test_latents_are_those_of_the_runs_own_batches_whatever_is_read_at_once(
    form: str, place: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = place(form)
    own = runs.own_latents(folder / "run")
    embed.main(["run", *OWN_TEST[form], "-o", "z.npz"])
    with np.load("z.npz") as found:
        np.testing.assert_allclose(found["latents"].reshape(len(own), -1), own, rtol=1e-4, atol=1e-5)
        assert len(found["names"]) == len(own)
        assert not any(found["problem"])
    monkeypatch.setattr(examples, "MOST_ROWS", 2)
    embed.main(["run", *OWN_TEST[form], "-o", "z.csv"])
    embed.main(["run", *OWN_TEST[form], "-o", "z.parquet"])
    for table in (pd.read_csv("z.csv"), pd.read_parquet("z.parquet")):
        assert list(table) == ["name", *(f"z_{place}" for place in range(own.shape[1])), "problem"]
        np.testing.assert_allclose(table.filter(like="z_").to_numpy(), own, rtol=1e-4, atol=1e-5)
        assert table["problem"].isna().all()


def test_a_folder_of_pictures_comes_back_as_one_and_bad_ones_are_told(
    place: Callable[[str], Path], caplog: pytest.LogCaptureFixture
) -> None:
    folder = place("pictures")
    own = eight_bits(runs.own_reconstructions(folder / "run"))
    names = sorted(path.relative_to(folder / "test").as_posix() for path in (folder / "test").rglob("*.*"))
    reconstruct.main(["run", "test"])
    back = sorted(path.relative_to("test.reconstructed").as_posix() for path in Path("test.reconstructed").rglob("*.*"))
    assert back == sorted(f"{name.rpartition('.')[0]}.png" for name in names)
    for name, pixels in zip(names, own, strict=True):
        image = pixels_of(Path("test.reconstructed", name).with_suffix(".png")).transpose(2, 0, 1)
        assert np.abs(image.astype(int) - pixels).max() <= 1

    (folder / "test" / names[2]).write_text("no picture")
    shutil.copy(folder / "test" / names[0], folder / "test" / names[0].replace(".png", ".bmp"))
    caplog.set_level("INFO")
    embed.main(["run", "test"])
    with np.load("test.latents.npz") as found:
        latents, told = found["latents"], found["problem"]
        assert found["names"].tolist() == sorted([*names, names[0].replace(".png", ".bmp")])
    assert np.isnan(latents[3]).all()
    assert np.isfinite(np.delete(latents, 3, axis=0)).all()
    assert "is no image that can be read" in told[3]
    assert [bool(text) for text in told] == [row == 3 for row in range(8)]
    assert f"{names[2]} of test: " in caplog.text
    assert "8 examples, 1 with problems, 1 of them left empty" in caplog.text
    reconstruct.main(["run", "test", "-o", "again"])
    twins = {names[0], names[0].replace(".png", ".bmp") + ".png"}
    back = {path.relative_to("again").as_posix() for path in Path("again").rglob("*.png")}
    assert len(back) == 7
    listed = pd.read_csv("again/problems.csv")
    assert listed["name"].tolist() == [names[2]]
    assert "is no image that can be read" in listed["problem"][0]
    assert twins < back

    shutil.copy(folder / "test" / names[0], folder / "test" / names[0].replace(".png", ".bmp.png"))
    reconstruct.main(["run", "test", "-o", "thirds"])
    assert len(list(Path("thirds").rglob("*.png"))) == 8  # 00.png, 00.bmp and 00.bmp.png are three


def test_frames_and_pictures_have_places_of_their_own(tmp_path: Path) -> None:
    frames = [Image.fromarray(np.full((8, 10, 3), grey, np.uint8)) for grey in (0, 250)]
    frames[0].save(tmp_path / "a.tif", save_all=True, append_images=frames[1:])
    frames[1].save(tmp_path / "a_1.png")
    frames[0].save(tmp_path / "b#1.png")
    spec = DataSpec(shape=(3, 8, 10), kind="image", size=3, value_range=(0.0, 1.0))
    reader = ImageReader((8, 10), pictures=Pictures(frames="each"))
    data = NewPictures(SimpleNamespace(reader=reader), Known(spec), tmp_path)
    (chunk,) = data.chunks()
    place = data.places(tmp_path / "out")
    found = {name: place(name).relative_to(tmp_path / "out").as_posix() for name in chunk.names}
    assert found == {"a.tif#0": "a_0.png", "a.tif#1": "a.tif#1.png", "a_1.png": "a_1.png", "b#1.png": "b#1.png"}


def test_one_picture_and_a_packed_run(place: Callable[[str], Path]) -> None:
    folder = place("pictures")
    own = runs.own_latents(folder / "run")
    pack.main(["run", "-o", "small.narrows"])
    shutil.rmtree("run")
    shutil.rmtree("pics")
    embed.main(["small.narrows", "test/a/00.png", "-o", "one.csv"])
    table = pd.read_csv("one.csv")
    assert table["name"].tolist() == ["00.png"]
    np.testing.assert_allclose(table.filter(like="z_").to_numpy(), own[:1], rtol=1e-4, atol=1e-5)
    reconstruct.main(["small.narrows", "test/a/00.png"])
    assert pixels_of(Path("test/a/00.reconstructed.png")).shape == (8, 10, 3)


def test_arrays_come_back_in_their_own_units_and_axes(place: Callable[[str], Path], capsys: Any) -> None:
    folder = place("arrays")
    own = runs.own_reconstructions(folder / "run").numpy()
    with np.load("own.npz") as arrays:
        new = arrays["x_test"]
    np.save("new.npy", new)
    reconstruct.main(["run", "new.npy"])
    found = np.load("new.reconstructed.npy")
    assert found.shape == new.shape
    assert abs(found[..., 0].mean() - 100) < 5
    assert abs(found[..., 1].mean() + 3) < 0.5
    scaling = np.moveaxis(found, -1, 1)
    slope, shift = np.polyfit(own[:, 0].ravel(), scaling[:, 0].ravel(), 1)
    np.testing.assert_allclose([slope, shift], [5, 100], rtol=0.2)
    new[4, 2, 1] = np.nan
    np.savez("new.npz", images=new)
    reconstruct.main(["run", "new.npz", "-o", "back.npz"])
    with np.load("back.npz") as back:
        assert np.isnan(back["images"][4]).all()
        np.testing.assert_allclose(np.delete(back["images"], 4, 0), np.delete(found, 4, 0), rtol=1e-4)
        assert back["problem"][4] == "it holds values that are NaN or infinite"
    np.save("wrong.npy", new[:, :5])
    err = refused(embed.main, "run", "wrong.npy", capsys=capsys)
    assert "wrong.npy holds examples of shape [2, 5], and the run's are [2, 6]" in err
    # A run of an earlier version scales by its own data, while they are there.
    Path("run/scaling.json").unlink()
    reconstruct.main(["run", "new.npy", "-o", "refitted.npy"])
    np.testing.assert_allclose(np.load("refitted.npy"), found, rtol=1e-5)
    config = OmegaConf.load("run/config.yaml")
    config.datamodule.source.path = "gone.npz"
    OmegaConf.save(config, "run/config.yaml")
    err = refused(reconstruct.main, "run", "new.npy", "-o", "lost.npy", capsys=capsys)
    assert "does not say how its data were standardised" in err
    assert not Path("lost.npy").exists()


def test_rows_of_a_table_come_back_in_its_units(place: Callable[[str], Path]) -> None:
    place("table")
    new = pd.read_csv("test.csv", dtype=str)
    new.loc[1, "width"] = "wide"
    new.to_csv("new.csv", index=False)
    for out in ("out.csv", "out.parquet"):
        reconstruct.main(["run", "new.csv", "-o", out])
    found = pd.read_csv("out.csv")
    assert list(found) == [*new, "problem"]
    assert found["id"].tolist() == list(range(9))
    assert found["width"].drop(1).between(900, 1100).all()
    assert set(found["colour"].dropna()) <= {"red", "green"}
    assert found.loc[1, ["width", "colour", "paid"]].isna().all()
    assert found["problem"].notna().tolist() == [row == 1 for row in range(9)]
    # A packed run that was asked once needs no data of its own.
    score.main(["run", "new.csv", "-o", "scored.csv"])
    pack.main(["run", "-o", "small.narrows"])
    shutil.rmtree("run")
    Path("own.csv").unlink()
    Path("test.csv").unlink()
    for main, out in ((score.main, "scored.csv"), (reconstruct.main, "out.csv")):
        main(["small.narrows", "new.csv", "-o", "again.csv"])
        pd.testing.assert_frame_equal(pd.read_csv("again.csv"), pd.read_csv(out), rtol=1e-4)
    packed = pd.read_parquet("out.parquet")
    np.testing.assert_allclose(packed["width"], found["width"])
    assert packed["problem"][1] == "'wide' in column 'width' is no finite number"


def test_texts_come_back_as_lines(place: Callable[[str], Path], caplog: pytest.LogCaptureFixture) -> None:
    folder = place("texts")
    opened = OpenRun(folder / "run")
    tokeniser = recorded_by_the_data.load_tokeniser(folder / "run")
    own = [tokeniser.decode(row) for row in runs.own_reconstructions(folder / "run").tolist()]
    reconstruct.main(["run", "test.txt"])
    assert Path("test.reconstructed.txt").read_text().splitlines() == own
    lines = Path("test.txt").read_text().splitlines()
    Path("new.txt").write_bytes(b"\n".join([lines[0].encode(), b"", b"\xff\xfe", b"rose " * 40, lines[1].encode()]))
    caplog.set_level("INFO")
    embed.main(["run", "new.txt", "-o", "z.csv"])
    found = pd.read_csv("z.csv")
    assert found["z_0"].isna().tolist() == [False, True, True, False, False]
    assert found["problem"][1] == "it is blank"
    assert found["problem"][2].startswith("it is no text in UTF-8")
    longest = opened.model.spec.shape[0]
    assert found["problem"][3] == (
        f"it has 41 tokens, and was cut to {longest}, the longest that the run was trained on"
    )
    np.testing.assert_allclose(
        found.filter(like="z_").loc[[0, 4]].to_numpy(), runs.own_latents(folder / "run")[:2], rtol=1e-4, atol=1e-5
    )
    assert "5 examples, 3 with problems, 2 of them left empty" in caplog.text
    score.main(["run", "new.txt"])
    scored = pd.read_csv("new.scored.csv")
    assert scored["score"].isna().tolist() == [False, True, True, False, False]
    (batch,) = opened.data.ordered_loader("test")
    p_x = opened.model.decode(opened.model.encode(batch).point, batch)
    nats = -row_sums(log_prob_of(p_x, batch.truth, batch.judged)) / batch.length
    np.testing.assert_allclose(scored["score"][[0, 4]], nats[:2].detach().numpy(), rtol=1e-3)


def test_features_of_new_pictures_are_those_of_training(
    place: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = place("features")
    own = runs.own_reconstructions(folder / "run").numpy()
    shutil.copytree("test", "new")
    Path("new/broken.png").write_bytes(b"no picture")
    reconstruct.main(["run", "new"])
    with np.load("new.reconstructed.npz") as found:
        assert found["names"].tolist()[-1] == "broken.png"
        np.testing.assert_allclose(found["x"][:-1], own, rtol=1e-3, atol=1e-4)
        assert np.isnan(found["x"][-1]).all()
    score.main(["run", "new", "--maps", "odd"])
    scored = pd.read_csv("new.scored.csv")
    x = torch.cat([batch.x for batch in OpenRun(folder / "run").data.ordered_loader("test")]).numpy()
    np.testing.assert_allclose(scored["score"][:-1], np.square(own - x).mean((1, 2, 3)), rtol=1e-3)
    assert np.isnan(scored["score"].iloc[-1])
    assert len(list(Path("odd").rglob("*.png"))) == len(own)
    assert pixels_of(next(Path("odd").rglob("*.png"))).shape == (128, 2 * 160 + 4, 3)
    model = narrows.load("run")
    assert model.embed("pics").shape == (30, 32)
    assert "written as .npz" in refused(reconstruct.main, "run", "test", "-o", "out.png", capsys=capsys)
    kept = Path("run/features.json").read_text()
    for key, value, words in (
        ("fingerprint", "0" * 64, "are of other weights, layers or sizes"),
        ("scale", [1.0], "features.json is damaged: shift and scale must hold 32 numbers each"),
        ("shape", [3, 0, 9], "features.json is damaged: shape must be"),
    ):
        Path("run/features.json").write_text(json.dumps(json.loads(kept) | {key: value}))
        assert words in refused(embed.main, "run", "test", capsys=capsys)
    # A run that did not record it is read by its own pictures, where they are at hand.
    Path("run/features.json").unlink()
    embed.main(["run", "test", "-o", "z.npz"])
    with np.load("z.npz") as found:
        np.testing.assert_allclose(found["latents"], runs.own_latents(folder / "run"), rtol=1e-4, atol=1e-5)
    gone = ("run", "test", "datamodule.source.path=nowhere")
    assert "does not say how its features were scaled" in refused(embed.main, *gone, capsys=capsys)


def test_counts_and_documents_come_back_with_the_names_of_their_features(place: Callable[[str], Path]) -> None:
    folder = place("counts")
    own = runs.own_reconstructions(folder / "run").numpy()
    reconstruct.main(["run", "test.csv"])
    with np.load("test.reconstructed.npz") as found:
        np.testing.assert_allclose(found["x"], own, rtol=1e-3)
        assert found["features"].tolist() == [f"g{number}" for number in range(7)]
        assert found["names"][0] == "test-0"
    score.main(["run", "test.csv"])
    assert pd.read_csv("test.scored.csv")["score"].between(0, 100).all()
    folder = place("documents")
    own = runs.own_reconstructions(folder / "run").numpy()
    Path("test/03.txt").write_text("nothing that it knows")
    reconstruct.main(["run", "test"])
    with np.load("test.reconstructed.npz") as found:
        np.testing.assert_allclose(np.delete(found["x"], 3, 0), np.delete(own, 3, 0), rtol=1e-3)
        assert np.isnan(found["x"][3]).all()
        assert found["problem"][3] == "it has none of the features that the run knows"
        assert found["names"][3] == "03.txt"


@pytest.mark.parametrize("kind", ["arrays", "signals"])
def test_samples_lie_where_the_data_do(place: Callable[[str], Path], kind: str) -> None:
    """Files of samples held standardised values, which the commands that read files standardised once more."""
    place(kind)
    sample.main(["run", "-n", "200", "--density", "gaussian", "-o", "drawn.npy"])
    drawn = np.load("drawn.npy")
    own = np.load("own.npz")["x_train"] if kind == "arrays" else pd.read_csv("own.csv")[["flow", "heat"]].to_numpy()
    # The axis of channels is the last one in both.
    drawn, own = drawn if kind == "arrays" else np.moveaxis(drawn, 1, -1), own.reshape(-1, 2)
    assert drawn.shape[-1] == 2
    assert (np.abs(drawn.reshape(-1, 2).mean(0) - own.mean(0)) < own.std(0)).all()
    embed.main(["run", "drawn.npy", "-o", "z.csv"])
    assert pd.read_csv("z.csv")["problem"].isna().all()


def test_signals_come_back_step_by_step(place: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = place("signals")
    new = runs.signal(5, 31)
    new.sample(frac=1, random_state=0).to_csv("new.csv", index=False)
    score.main(["run", "new.csv", "-o", "scored.csv"])
    scored = pd.read_csv("scored.csv").sort_values("when")
    monkeypatch.setattr(examples, "MOST_ROWS", 2)
    reconstruct.main(["run", "new.csv"])
    found = pd.read_csv("new.reconstructed.csv")
    assert list(found) == ["when", "flow", "heat", "note", "problem"]
    assert found["when"].tolist() == pd.read_csv("new.csv")["when"].tolist()
    found = found.sort_values("when")
    np.testing.assert_allclose(found["flow"], scored["reconstruction_flow"], rtol=1e-4)
    np.testing.assert_allclose(found["heat"], scored["reconstruction_heat"], rtol=1e-3, atol=1e-4)
    embed.main(["run", "new.csv", "-o", "z.csv"])
    latents = pd.read_csv("z.csv")
    assert latents["name"].tolist() == ["new.csv:0-11", "new.csv:12-23", "new.csv:19-30"]
    # Windows in an array are in the same units as the steps of a table.
    windows = [new[["flow", "heat"]].to_numpy()[start : start + 12].T for start in (0, 12, 19)]
    np.save("windows.npy", np.stack(windows))
    embed.main(["run", "windows.npy", "-o", "w.csv"])
    again = pd.read_csv("w.csv").filter(like="z_")
    np.testing.assert_allclose(again, latents.filter(like="z_"), rtol=1e-4, atol=1e-5)
    (folder / "many").mkdir()
    new.to_csv("many/a.csv", index=False)
    Path("many/b.csv").write_text("when,flow\n2026-01-01,1\n")
    runs.signal(6, 5).to_csv("many/c.csv", index=False)
    reconstruct.main(["run", "many"])
    assert [path.name for path in sorted(Path("many.reconstructed").iterdir())] == ["a.csv", "c.csv", "problems.csv"]
    assert pd.read_csv("many.reconstructed/problems.csv")["name"].tolist() == ["b.csv", "c.csv"]
    np.testing.assert_allclose(pd.read_csv("many.reconstructed/a.csv")["flow"], found["flow"], rtol=1e-5)
    assert pd.read_csv("many.reconstructed/c.csv")["flow"].isna().all()
    embed.main(["run", "many", "-o", "many.csv"])
    table = pd.read_csv("many.csv")
    assert table["name"].tolist() == ["a.csv:0-11", "a.csv:12-23", "a.csv:19-30", "b.csv", "c.csv"]
    assert "has no column 'heat'" in table["problem"][3]
    new.to_parquet("many/a.parquet", index=False)
    new.to_csv("many/problems.csv", index=False)
    reconstruct.main(["run", "many", "-o", "apart"])
    back = [path.name for path in sorted(Path("apart").iterdir())]
    assert back == ["a.csv", "a.parquet.csv", "c.csv", "problems.csv", "problems.csv.csv"]
    assert pd.read_csv("apart/problems.csv")["name"].tolist() == ["b.csv", "c.csv"]


def test_no_more_is_read_at_once_than_a_chunk(place: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    place("pictures")
    monkeypatch.setattr(examples, "MOST_ROWS", 2)
    read, most = 0, []
    real = ImageReader.__call__

    def counting(reader: ImageReader, path: Any) -> Any:
        nonlocal read
        read += 1
        return real(reader, path)

    def embedded(model: Autoencoder, batch: Batch) -> torch.Tensor:
        most.append(read)
        return model.encode(batch).point.flatten(1)

    monkeypatch.setattr(ImageReader, "__call__", counting)
    monkeypatch.setattr(Autoencoder, "embed", embedded)
    embed.main(["run", "test"])
    assert most == [2, 4, 6, 7]


def test_a_source_of_the_user_s_own_says_how_new_data_are_read(
    place: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    place("pictures")

    def new_data(source: ImageFolder, known: Known, given: Path) -> NewArrays:
        return NewArrays(source, known, np.full((int(given.read_text()), *known.spec.shape), 255, np.uint8))

    monkeypatch.setattr(ImageFolder, "new_data", new_data, raising=False)
    Path("how_many.txt").write_text("3")
    embed.main(["run", "how_many.txt", "-o", "z.npz"])
    with np.load("z.npz") as found:
        white = narrows.load("run").embed(torch.ones(3, 3, 8, 10)).numpy()
        np.testing.assert_allclose(found["latents"], white, rtol=1e-4, atol=1e-5)


REFUSALS: dict[tuple[str, ...], str] = {
    ("run",): "name the run and one file or folder: narrows embed RUN DATA",
    ("run", "missing.png"): "there is no file missing.png",
    ("run", "test", "-o", "z.txt"): "latents are written as .npz, .csv or .parquet",
    ("run", "test", "-o", "test/z.npz"): "test/z.npz lies in test, which is read",
    ("run", "test", "-o", "run/z.npz"): "run/z.npz lies in the run",
    ("run", "bad"): "nothing of bad can be read: ",
    ("run", "table.csv"): "table.csv is no image that can be read",
}


def test_refusals_leave_nothing(place: Callable[[str], Path], capsys: Any) -> None:
    folder = place("pictures")
    Path("bad").mkdir()
    Path("bad/one.png").write_text("bad")
    Path("table.csv").write_text("a,b\n1,2\n")
    before = sorted(folder.rglob("*"))
    for arguments, sentence in REFUSALS.items():
        assert sentence in refused(embed.main, *arguments, capsys=capsys)
        assert sorted(folder.rglob("*")) == before
    assert "is there already" in refused(reconstruct.main, "run", "test", "-o", "pics", capsys=capsys)
    assert "is a PNG" in refused(reconstruct.main, "run", "test/a/00.png", "-o", "x.jpg", capsys=capsys)
    assert "nothing of bad can be read" in refused(reconstruct.main, "run", "bad", capsys=capsys)
    assert sorted(folder.rglob("*")) == before


def test_scores_of_pictures_are_squared_errors_and_maps_show_where(
    place: Callable[[str], Path], capsys: Any, caplog: pytest.LogCaptureFixture
) -> None:
    folder = place("pictures")
    caplog.set_level("INFO")
    opened = OpenRun(folder / "run")
    (batch,) = opened.data.ordered_loader("test")
    own = (opened.model.reconstruct(batch) - batch.x).square().flatten(1).mean(1).numpy()
    names = sorted(path.relative_to(folder / "test").as_posix() for path in (folder / "test").rglob("*.*"))
    shutil.copytree("test", "new")
    Path("new/c.png").write_text("bad")
    score.main(["run", "new", "--quantile", "0.5", "--maps", "odd"])
    found = pd.read_csv("new.scored.csv")
    assert list(found) == ["name", "score", "anomaly", "problem"]
    assert found["name"].tolist() == [*names, "c.png"]
    np.testing.assert_allclose(found["score"][:-1], own, rtol=1e-3)
    assert found.loc[7, ["score", "anomaly"]].isna().all()
    normals = json.loads(Path("run/calibration.json").read_text())["scores"]
    assert len(normals) == 3, "of the validation split"
    flags = found["score"][:-1] > np.quantile(normals, 0.5)
    assert (found["anomaly"][:-1] == flags).all()
    assert f"{flags.sum()} flagged as anomalies" in caplog.text
    shown = pixels_of(Path("odd", names[0]).with_suffix(".png"))
    assert shown.shape == (128, 3 * 160 + 2 * 4, 3), "three panels of 8 x 10 pixels, 16 times as large"
    x = pixels_of(Path("odd", names[0]).with_suffix(".png"))[::16, :160:16].transpose(2, 0, 1)
    assert np.abs(x.astype(int) - eight_bits(batch.x)[0]).max() <= 1
    assert len(list(Path("odd").rglob("*.png"))) == 7

    config = OmegaConf.load("run/config.yaml")
    config.datamodule.source.path = "gone"
    OmegaConf.save(config, "run/config.yaml")
    score.main(["run", "new", "--quantile", "0.5", "-o", "again.parquet"])
    np.testing.assert_allclose(pd.read_parquet("again.parquet")["score"], found["score"], rtol=1e-5)
    np.save("x.npy", np.zeros((2, 3, 8, 10), np.uint8))
    err = refused(score.main, "run", "x.npy", "--maps", "more", capsys=capsys)
    assert "--maps draws where pictures are odd, and x.npy holds arrays" in err
    assert not Path("x.scored.csv").exists()


def test_normal_pictures_are_those_whose_label_the_runs_task_names(place: Callable[[str], Path]) -> None:
    folder = place("pictures")
    config = OmegaConf.load("run/config.yaml")
    config.tasks.odd = {"_target_": "narrows.tasks.Anomaly", "normal_labels": [1], "score": "standardised"}
    OmegaConf.save(config, "run/config.yaml")
    np.save("x.npy", np.zeros((2, 3, 8, 10), np.uint8))
    score.main(["run", "x.npy"])
    labels = OpenRun(folder / "run").data.part("validation").label.tolist()
    stored = json.loads(Path("run/calibration.json").read_text())
    assert len(stored["scores"]) == labels.count(1) > 0
    assert stored["score"] == "standardised"


def test_a_loaded_model_takes_paths_arrays_frames_and_texts(place: Callable[[str], Path]) -> None:
    folder = place("table")
    model, own = narrows.load("run"), runs.own_latents(folder / "run")
    frame = pd.read_csv("test.csv", dtype={"paid": str})
    for given in ("test.csv", Path("test.csv"), frame):
        np.testing.assert_allclose(model.embed(given).numpy(), own, rtol=1e-4, atol=1e-5)
    back = model.reconstruct(frame)
    assert list(back) == ["width", "colour", "paid"]
    assert back["width"].between(900, 1100).all()
    assert isinstance(model, Autoencoder)
    assert model.embed(torch.rand(2, *model.spec.shape)).shape == (2, own.shape[1])
    with pytest.raises(UserError, match=r"1: 'wide' in column 'width' is no finite number"):
        model.embed(frame.astype(object).assign(width=["1", "wide", *["2"] * 7]))
    with pytest.raises(UserError, match="x must be a tensor"):
        model.embed(None)
    with pytest.raises(UserError, match="there is no file nowhere"):
        model.embed("nowhere")

    folder = place("arrays")
    with np.load("own.npz") as arrays:
        new = arrays["x_test"]
    model = narrows.load("run")
    np.testing.assert_allclose(model.embed(new).numpy(), runs.own_latents(folder / "run"), rtol=1e-4, atol=1e-5)
    back = model.reconstruct(new)
    assert back.shape == new.shape
    assert abs(back[..., 0].mean() - 100) < 5

    folder = place("texts")
    model = narrows.load("run")
    lines = Path("test.txt").read_text().splitlines()
    np.testing.assert_allclose(model.embed(lines).numpy(), runs.own_latents(folder / "run"), rtol=1e-4, atol=1e-5)
    assert len(model.reconstruct(lines)) == 9

    place("pictures")
    model = narrows.load("run")
    assert model.reconstruct("test").shape == (7, 3, 8, 10)
    assert model.reconstruct("test").dtype == np.uint8


class Piped:
    """Standard input that holds these bytes."""

    def __init__(self, content: bytes) -> None:
        self.buffer = io.BytesIO(content)


def test_tables_and_texts_come_from_standard_input_and_are_printed(
    place: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, capsysbinary: Any, caplog: pytest.LogCaptureFixture
) -> None:
    place("table")
    content = Path("test.csv").read_bytes()
    for main in (embed.main, reconstruct.main, score.main):
        main(["run", "test.csv", "-o", "out.csv"])
        capsysbinary.readouterr()
        monkeypatch.setattr(sys, "stdin", Piped(content))
        main(["run", "-"])
        assert capsysbinary.readouterr().out == Path("out.csv").read_bytes()
    monkeypatch.setattr(sys, "stdin", Piped(content.replace(b"width", b"wide")))
    with pytest.raises(SystemExit):
        embed.main(["run", "-"])
    assert b"standard input has no column 'width': did you mean 'wide'?" in capsysbinary.readouterr().err
    place("texts")
    lines = Path("test.txt").read_bytes()
    monkeypatch.setattr(sys, "stdin", Piped(lines + b"\n"))
    reconstruct.main(["run", "-"])
    printed = capsysbinary.readouterr().out
    reconstruct.main(["run", "test.txt"])
    assert printed == Path("test.reconstructed.txt").read_bytes() + b"\n"
    assert "9 of standard input: it is blank" in caplog.text
    place("pictures")
    with pytest.raises(SystemExit):
        embed.main(["run", "-"])
    assert b"standard input holds a table or texts, and run was trained on image data" in capsysbinary.readouterr().err


def test_the_latents_of_one_run_are_the_data_of_the_next(place: Callable[[str], Path]) -> None:
    folder = place("pictures")
    runs.train(
        folder,
        *("datamodule=latents", "datamodule.source.run=run", "hydra.run.dir=second"),
        *("variant=undercomplete", "bottleneck.dim=2"),
    )
    first, second = OpenRun("run"), OpenRun("second")
    scaling = recorded_by_the_data.load_scaling(folder / "second", 8)
    for split in ("train", "validation", "test"):
        own = torch.cat([first.model.embed(batch) for batch in first.data.ordered_loader(split)])
        batches = list(second.data.ordered_loader(split))
        torch.testing.assert_close(torch.cat([batch.x for batch in batches]), scaling.apply(own), rtol=1e-3, atol=1e-4)
        labels = first.data.part(split).label
        assert labels is not None
        assert torch.equal(torch.cat([batch.label for batch in batches if batch.label is not None]), labels)
    manifest = json.loads(Path("second/manifest.json").read_text())
    assert first.checksum in manifest["reading"][0]
    assert manifest["data"]["class_names"] == ["a", "b"]
    # Its new data are latents, as the first run gives them.
    embed.main(["run", "test", "-o", "z.npz"])
    embed.main(["second", "z.npz", "datamodule.source.run=run", "-o", "zz.npz"])
    with np.load("zz.npz") as found:
        np.testing.assert_allclose(found["latents"], runs.own_latents(folder / "second"), rtol=1e-3, atol=1e-4)
    # The data are those of these weights, wherever the run lies; without it they are gone.
    Path("run").rename("moved")
    second = OpenRun("second")
    second.find_data(["datamodule.source.run=moved"])
    assert second.data.spec.fingerprint == manifest["data"]["fingerprint"]
    config = OmegaConf.load("second/config.yaml")
    config.datamodule.source.run = "gone"
    OmegaConf.save(config, "second/config.yaml")
    with pytest.raises(UserError, match=r"datamodule\.source\.run=gone, which is not on this machine"):
        OpenRun("second").find_data()
    done = run_in_process("datamodule=latents", "datamodule.source.run=gone", *runs.QUICK, cwd=folder)
    assert done.code == 2
    assert any("source.run=gone: there is no such run" in line for line in done.complaints)


def test_music_comes_back_piece_by_piece_and_molecules_as_lines(place: Callable[[str], Path]) -> None:
    folder = place("music")
    reconstruct.main(["run", "test.json"])
    pieces = json.loads(Path("test.json").read_text())["test"]
    own = iter(runs.own_reconstructions(folder / "run"))
    with np.load("test.reconstructed.npz") as found:
        assert list(found) == [f"test {number}" for number in range(len(pieces))]
        for piece, roll in zip(pieces, found.values(), strict=True):
            assert roll.shape == (88, len(piece))
            for start in range(0, len(piece), 5):
                window = roll[:, start : start + 5]
                guess = next(own)[:, : window.shape[1]].numpy()
                assert ((guess > 0.5) == window)[np.abs(guess - 0.5) > 1e-3].all()
    Path("midi").mkdir()
    for name in ("a.mid", "a.midi"):
        write_midi(np.ones((88, 4), np.uint8), Path("midi", name), 4)
    reconstruct.main(["run", "midi"])
    assert sorted(path.name for path in Path("midi.reconstructed").iterdir()) == ["a.mid", "a.midi.mid"]
    folder = place("molecules")
    table = pd.read_csv("test.csv")
    table.loc[1, "smiles"] = "[Xe]"
    table.to_csv("new.csv", index=False)
    reconstruct.main(["run", "new.csv"])
    lines = Path("new.reconstructed.txt").read_text().split("\n")[:-1]
    assert len(lines) == len(table)
    assert lines[1] == ""
    embed.main(["run", "new.csv", "-o", "z.csv"])
    assert pd.read_csv("z.csv")["problem"][1] == "the run's alphabet does not hold '[Xe]'"
