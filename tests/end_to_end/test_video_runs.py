"""A run on films: trained, judged frame by frame, and given films that it has not seen."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import new_data_runs as runs
import numpy as np
import pandas as pd
import pytest
import torch
from command import TINY, run_in_process
from PIL import Image, ImageSequence

import narrows
from narrows.coding.film_examples import cut
from narrows.coding.model_codec import Codec
from narrows.commands import compress, decompress, evaluate, reconstruct, sample, score
from narrows.data.film_files import as_gif

WHERE = ("datamodule=video", "datamodule.source.path=film.npy", "datamodule.source.clips.frames=4")
SMALL = ("encoder.channels=[4,4]", "decoder.channels=[4,4]", "bottleneck.dim=4", "~tasks.latent")
PREDICTS = ("+task@tasks.imputation=imputation", "tasks.imputation.rates=[]", "tasks.imputation.blocks={end: [0.25]}")


def film(frames: int = 120) -> np.ndarray:
    """A bright bar that goes round, `[T, 12, 11]`."""
    places = np.arange(11)[None] - np.arange(frames)[:, None]
    bar = np.where(places % 11 < 3, 220, 20).astype(np.uint8)
    return np.repeat(bar[:, None], 12, axis=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("video")
    np.save(made / "film.npy", film())
    whole = [option for option in TINY if "limit_test" not in option and "callbacks" not in option]
    shown = ("callbacks=default", "callbacks.progress.enable=false", "datamodule.source.clips.stride=1")
    done = run_in_process(*WHERE, *SMALL, *PREDICTS, *whole, *shown, "variant=vae", "hydra.run.dir=run", cwd=made)
    assert done.code == 0, done.err
    return made


@pytest.fixture
def place(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    found = Path(shutil.copytree(folder, tmp_path / "video"))
    monkeypatch.chdir(found)
    return found


def test_frames_are_judged_beside_the_frame_before(folder: Path) -> None:
    figures = json.loads((folder / "run" / "metrics.json").read_text())
    assert figures["test/frame_pca/psnr_per_frame"] > 10
    assert {"test/psnr_per_frame", "test/ssim", "test/imputation/end_0.25/rmse"} <= figures.keys()
    # The last frame of four is judged: of the frame before it differ two columns of eleven.
    truth = np.sqrt(2 / 11) * 200 / 255
    assert figures["test/imputation/end_0.25/previous_frame/rmse"] == pytest.approx(truth, rel=1e-3)
    assert figures["test/imputation/end_0.25/ridge/rmse"] < 0.1 * truth
    with Image.open(folder / "run" / "figures" / "samples.gif") as moving:
        assert len(list(ImageSequence.Iterator(moving))) <= 4


def test_a_film_comes_back_with_all_of_its_frames(place: Path) -> None:
    np.save("new.npy", film(10))
    reconstruct.main(["run", "new.npy", "-o", "out.npy"])
    found = np.load("out.npy")
    assert (found.shape, found.dtype) == ((10, 12, 11), np.uint8)
    # Clips of the frames 0 to 3, 4 to 7 and 6 to 9: where two overlap, their mean.
    clips = [film(10)[start : start + 4][None] for start in (0, 4, 6)]
    model = narrows.load("run")
    first, second, last = (np.asarray(model.reconstruct(as_input(clip)))[0, 0] for clip in clips)
    wanted = np.concatenate([first, second[:2], (second[2:] + last[:2]) / 2, last[2:]])
    np.testing.assert_allclose(found, 255 * np.clip(wanted, 0, 1), atol=0.51)
    reconstruct.main(["run", "new.npy", "-o", "out.gif"])
    with Image.open("out.gif") as moving:
        assert moving.size == (11, 12)
    Path("own.gif").write_bytes(as_gif(film(10), [40] * 5 + [400] * 5))
    reconstruct.main(["run", "own.gif", "-o", "out.gif"])
    assert shown("out.gif") == 5 * 40 + 5 * 400


def shown(path: str) -> int:
    """The milliseconds of all frames of an animation."""
    with Image.open(path) as moving:
        return sum(int(frame.info["duration"]) for frame in ImageSequence.Iterator(moving))


def as_input(clip: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(clip[None]).float() / 255


def test_folders_scores_and_samples(place: Path) -> None:
    Path("films").mkdir()
    np.save("films/a.npy", film(9))
    np.save("films/b.npy", film(3))
    reconstruct.main(["run", "films", "-o", "back"])
    assert np.load("back/a.npy").shape == (9, 12, 11)
    with Path("back/problems.csv").open() as file:
        assert [row["name"] for row in csv.DictReader(file)] == ["b.npy"]
    score.main(["run", "films/a.npy", "-o", "scores.csv"])
    with Path("scores.csv").open() as file:
        assert [row["name"] for row in csv.DictReader(file)] == ["a.npy:0-3", "a.npy:4-7", "a.npy:5-8"]
    sample.main(["run", "-n", "3", "-o", "drawn.gif"])
    with Image.open("drawn.gif") as moving:
        assert moving.size[1] > 12


def test_frames_are_scored_by_the_mean_of_the_clips_that_hold_them(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run's clips begin at every frame, so that all but a film's ends are in four of them."""
    odd = film(10)
    odd[6] = 255 - odd[6]
    Path("films").mkdir()
    np.save("films/a.npy", odd)
    np.save("films/b.npy", film(3))
    np.save("films/c.npy", film(5))
    score.main(["run", "films", "-o", "clips.csv", "--frames", "frames.csv", "--quantile", "0.9"])
    found = pd.read_csv("frames.csv")
    assert found["film"].tolist() == ["a.npy"] * 10 + ["b.npy"] + ["c.npy"] * 5
    assert found["frame"].dropna().tolist() == [*range(10), *range(5)]
    assert "fewer than the 4 of a clip" in found["problem"][10]
    assert found["problem"].notna().sum() == 1
    model, sums, counts = narrows.load("run"), np.zeros(10), np.zeros(10)
    for start in range(7):
        x = as_input(odd[start : start + 4][None])
        sums[start : start + 4] += (model.reconstruct(x) - x).square().mean((0, 1, 3, 4)).numpy()
        counts[start : start + 4] += 1
    scores = found["score"].to_numpy()
    np.testing.assert_allclose(scores[:10], sums / counts, rtol=1e-4)
    assert scores[:10].argmax() == 6
    # The threshold lies among the frames of the validation clips, each folded back once.
    usual = json.loads(Path("run/calibration.json").read_text())["frames"]
    assert usual == sorted(usual)
    threshold = np.quantile(usual, 0.9)
    known = found["score"].notna()
    assert (found["anomaly"][known] == (found["score"][known] > threshold)).all()
    # A calibration that an earlier version stored lacks the frames, and is found again.
    stored = json.loads(Path("run/calibration.json").read_text())
    del stored["frames"]
    Path("run/calibration.json").write_text(json.dumps(stored))
    score.main(["run", "films/a.npy", "-o", "clips.csv"])
    assert "frames" not in json.loads(Path("run/calibration.json").read_text())
    score.main(["run", "films/a.npy", "-o", "clips.csv", "--frames", "frames.parquet"])
    np.testing.assert_allclose(pd.read_parquet("frames.parquet")["score"], scores[:10], rtol=1e-5)
    assert json.loads(Path("run/calibration.json").read_text())["frames"] == pytest.approx(usual, rel=1e-5)
    for target, sentence in (("clips.csv", "cannot hold both tables"), ("frames.txt", "written as .csv or .parquet")):
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            score.main(["run", "films/a.npy", "-o", "clips.csv", "--frames", target])
        assert end.value.code == 2
        assert sentence in " ".join(capsys.readouterr().err.split())


def test_films_are_compressed_and_come_back_with_all_of_their_frames(
    place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    np.save("new.npy", film(10))
    with caplog.at_level("INFO"):
        compress.main(["new.npy", "new.nrwz", "--run", "run", "--step", "0.25"])
    size = Path("new.nrwz").stat().st_size
    assert f"{size} bytes, {size / 10:.4g} per frame, {8 * size / 1320:.4g} bits per pixel" in caplog.text
    shutil.move("film.npy", "elsewhere.npy")  # decompressing needs no data
    decompress.main(["new.nrwz", "back.npy", "--run", "run"])
    # Three clips side by side, the last filled up by its last frame.
    filled = np.concatenate([film(10), film(10)[-1:], film(10)[-1:]])
    x = torch.from_numpy(filled.reshape(3, 1, 4, 12, 11)).float() / 255
    codec = Codec(narrows.load("run"))
    whole = [np.rint(source.astype(np.float64) / 0.25).astype(np.int64) for source in codec.sources(x)]
    wanted = codec.rebuild(whole, 3, (1, 4, 12, 11), 0.25).reshape(12, 12, 11)[:10]
    np.testing.assert_allclose(np.load("back.npy"), 255 * wanted.clamp(0, 1).numpy(), atol=0.51)
    decompress.main(["new.nrwz", "back.gif", "--run", "run"])
    with Image.open("back.gif") as moving:
        assert moving.size == (11, 12)
    Path("films/deep").mkdir(parents=True)
    np.save("films/a.npy", film(9))
    Path("films/deep/b.gif").write_bytes(as_gif(film(10), [40] * 5 + [400] * 5))
    compress.main(["films", "films.nrwz", "--run", "run", "--step", "0.25"])
    decompress.main(["films.nrwz", "films_back", "--run", "run"])
    assert np.load("films_back/a.npy").shape == (9, 12, 11)
    with Image.open("films_back/deep/b.gif") as moving:
        assert moving.size == (11, 12)
    assert shown("films_back/deep/b.gif") == 5 * 40 + 5 * 400
    compress.main(["films/deep/b.gif", "one.nrwz", "--run", "run", "--step", "0.25"])
    decompress.main(["one.nrwz", "one.gif", "--run", "run"])
    assert shown("one.gif") == 5 * 40 + 5 * 400
    assert shown("back.gif") == 10 * 100  # of an array, whose pace nobody knows
    # Clips as the model reads them are an array of examples, as ever.
    np.save("clips.npy", filled.reshape(3, 4, 12, 11))
    compress.main(["clips.npy", "clips.nrwz", "--run", "run", "--step", "0.25"])
    decompress.main(["clips.nrwz", "clips_back.npy", "--run", "run"])
    np.testing.assert_array_equal(np.load("clips_back.npy").reshape(12, 12, 11)[:10], np.load("back.npy"))


def test_films_of_any_size_are_compressed_by_convolutions_alone(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    np.save("film.npy", film()[:, :10, :10])
    maps = ("encoder.flatten=false", "encoder.channels=[4]", "decoder.channels=[4]", "bottleneck.dim=4")
    done = run_in_process(
        *WHERE, *maps, "~tasks.latent", *TINY, "variant=undercomplete", "hydra.run.dir=maps", cwd=place
    )
    assert done.code == 0, done.err
    Path("films").mkdir()
    films = {"a.npy": film(6), "b.npy": film(9)[:, :10, :10], "c.npy": film(5)[:, :7, :11], "d.npy": film(4)[:, :7]}
    for name, values in films.items():
        np.save(f"films/{name}", values)
    with caplog.at_level("INFO"):
        compress.main(["films", "films.nrwz", "--run", "maps", "--step", "0.001"])
    size, places = Path("films.nrwz").stat().st_size, sum(values.size for values in films.values())
    assert f"{size / 24:.4g} per frame, {8 * size / places:.4g} bits per pixel" in caplog.text
    decompress.main(["films.nrwz", "back", "--run", "maps"])
    model = narrows.load("maps")
    for name, values in films.items():
        frames, height, width = values.shape
        x = torch.from_numpy(cut(values[:, None], 4)).float() / 255
        with torch.no_grad():
            padded = model.reconstruct(
                torch.nn.functional.pad(x, (0, width % 2, 0, height % 2, 0, 0), mode="replicate")
            )
        clips = padded[..., :height, :width].transpose(1, 2).reshape(-1, height, width)
        wanted = 255 * clips[:frames].clamp(0, 1).numpy()
        found = np.load(f"back/{name}")
        assert found.shape == values.shape
        np.testing.assert_allclose(found, wanted, atol=2)
    compress.main(["films/c.npy", "one.nrwz", "--run", "maps", "--step", "0.001"])
    decompress.main(["one.nrwz", "one.npy", "--run", "maps"])
    np.testing.assert_allclose(np.load("one.npy").astype(int), np.load("back/c.npy").astype(int), atol=1)


@pytest.mark.parametrize(
    ("command", "arguments", "sentence"),
    [
        ("compress", ("large.npy", "out.nrwz"), "only one of convolutions alone (encoder.flatten=false) takes others"),
        ("compress", ("large.npy", "out.nrwz"), "frames of large.npy are 1 x 13 x 11, and the run's 1 x 12 x 11"),
        ("compress", ("none", "out.nrwz"), "none holds no film"),
        ("compress", ("broken.gif", "out.nrwz"), "broken.gif is no animation that can be read"),
        ("compress", ("new.npy", "out.nrwz", "--step", "0"), "step must be a number above 0"),
        ("decompress", ("new.nrwz", "out.mp4"), "a film comes back: let OUT end in .gif or .npy, not out.mp4"),
    ],
)
def test_films_that_cannot_be_compressed_are_one_sentence(
    place: Path, command: str, arguments: tuple[str, ...], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save("new.npy", film(10))
    np.save("large.npy", np.zeros((9, 13, 11), np.uint8))
    Path("none").mkdir()
    Path("broken.gif").write_bytes(b"GIF89a")
    if command == "decompress":
        compress.main(["new.npy", "new.nrwz", "--run", "run"])
    runs.assert_refused({"compress": compress, "decompress": decompress}[command], arguments, sentence, capsys)


def test_clips_are_judged_as_files_beside_h264(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("av")
    with caplog.at_level("INFO"):
        evaluate.main(["run", "task=compression", "task.factors=[]"])
    figures = json.loads(Path("run/tasks/compression.json").read_text())["figures"]
    # Of the last clips of a film of 120 frames, one begins at each frame: those side by side are taken.
    assert json.loads(Path("run/manifest.json").read_text())["data"]["size"] > 80
    assert ": 3 examples encoded" in caplog.text
    for name in ("h264", "h264_mosaic", "jpeg2000", "pca"):
        assert figures[f"test/compression/{name}/psnr_per_frame"] > 5
        assert figures[f"test/compression/{name}/bpp"] > 0
    assert figures["test/compression/psnr_per_frame"] > 5
    assert Path("run/figures/compression_examples.png").is_file()
