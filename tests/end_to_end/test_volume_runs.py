"""Runs on scans: trained, judged voxel by voxel, and given scans that they have not seen."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import new_data_runs as runs
import numpy as np
import pytest
import torch
from command import TINY, run_in_process
from scans import blob, write_healthy_and_lesioned, write_nifti

import narrows
from narrows.commands import compress, decompress, embed, evaluate, reconstruct, score
from narrows.data import Grid, Slices
from narrows.data.scan_files import read_scan

nibabel = pytest.importorskip("nibabel")
SMALL = ("encoder.channels=[4,4]", "decoder.channels=[4,4]", "bottleneck.dim=4", "~tasks.latent")
JUDGED = ("+task@tasks.anomaly=anomaly", "tasks.anomaly.classics=[]", "tasks.anomaly.maps.smoothing=0")
WHERE = ("datamodule=volumes", "datamodule.source.path=scans", "variant=undercomplete")
MAPS = "tasks.anomaly.maps.classics=[equalised,equalised_extremes,z_score]"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on whole volumes, `run`, and one on their slices, `slices`."""
    made = tmp_path_factory.mktemp("volumes")
    write_healthy_and_lesioned(made / "scans")
    for name, more in {"run": (MAPS,), "slices": ("datamodule.source.slices.plane=coronal",)}.items():
        figures = ["callbacks=default", "callbacks.progress.enable=false"] if name == "run" else []
        whole = [option for option in TINY if "limit_test" not in option and "callbacks" not in option]
        done = run_in_process(
            *WHERE, *more, *SMALL, *JUDGED, *whole, *(figures or ["callbacks=none"]), f"hydra.run.dir={name}", cwd=made
        )
        assert done.code == 0, done.err
    return made


@pytest.fixture
def place(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    found = Path(shutil.copytree(folder, tmp_path / "volumes"))
    monkeypatch.chdir(found)
    return found


def test_voxels_are_judged_beside_what_needs_no_network(folder: Path) -> None:
    figures = json.loads((folder / "run" / "metrics.json").read_text())
    assert figures["test/anomaly/z_score/best_dice"] > 0.5
    assert figures["test/anomaly/mean/best_dice"] > 0.9
    # The lesions are darker, and no brightness tells them.
    assert figures["test/anomaly/equalised/best_dice"] < 0.5
    assert figures["test/anomaly/equalised_extremes/best_dice"] < 0.5
    drawn = {path.name for path in (folder / "run" / "figures").iterdir()}
    assert {"anomaly_pixels.png", "anomaly_top.png", "reconstruction.png"} <= drawn
    of_slices = json.loads((folder / "slices" / "metrics.json").read_text())
    # Of the ten coronal slices of each of six scans, three of each of three lesioned ones show the lesion.
    assert of_slices["test/anomaly/prevalence"] == pytest.approx(9 / 60)
    assert {"test/anomaly/best_dice", "test/anomaly/mean/aupro"} <= of_slices.keys()


@pytest.mark.parametrize("run", ["run", "slices"])
def test_a_scan_comes_back_on_its_own_grid(place: Path, run: str) -> None:
    # The run's size, lying otherwise: from the left, and the front first.
    values = blob((10, 8, 12)).astype(np.float32)
    write_nifti(place / "new.nii.gz", values, "sagittal")
    reconstruct.main([run, "new.nii.gz", "-o", "out.nii"])
    one, other = nibabel.load("new.nii.gz"), nibabel.load("out.nii")
    assert other.shape == one.shape == (10, 8, 12)
    np.testing.assert_array_equal(other.affine, one.affine)
    assert other.get_data_dtype() == np.float32
    scan, grid = read_scan("new.nii.gz"), Grid()
    x = torch.from_numpy(grid.fit(scan, "new"))[None, None]
    slices = Slices("coronal" if run == "slices" else None)
    seen = x if run == "run" else torch.from_numpy(np.ascontiguousarray(slices.of(x[0, 0].numpy())))[:, None]
    with torch.no_grad():
        made = narrows.load(run).reconstruct(seen)[:, 0].numpy()
    wanted = grid.back(made[0] if run == "run" else slices.joined(made), scan, "new")  # in the scan's own units
    np.testing.assert_allclose(read_scan("out.nii").values, wanted, rtol=1e-4, atol=0.01)
    reconstruct.main([run, "new.nii.gz"])
    assert (place / "new.reconstructed.nii.gz").is_file()


def test_a_folder_comes_back_and_what_cannot_be_read_is_told(place: Path) -> None:
    (place / "scans" / "test" / "lesion" / "broken.nii").write_bytes(b"nothing")
    np.save(place / "scans" / "test" / "array.npy", blob((8, 10, 12)))
    reconstruct.main(["run", "scans/test", "-o", "back"])
    found = sorted(path.relative_to("back").as_posix() for path in Path("back").rglob("*.*"))
    assert found == ["array.npy", *(f"good/{n}.nii.gz" for n in range(3)), *(f"lesion/{n}.nii.gz" for n in (3, 4, 5)),
                     "problems.csv"]  # fmt: skip
    assert np.load("back/array.npy").shape == (8, 10, 12)
    with Path("back/problems.csv").open() as file:
        assert [row["name"] for row in csv.DictReader(file)] == ["lesion/broken.nii"]


def test_scans_are_scored_embedded_and_read_in_python(place: Path) -> None:
    score.main(["run", "scans/test", "-o", "scores.csv"])
    with Path("scores.csv").open() as file:
        assert [row["name"] for row in csv.DictReader(file)][:2] == ["good/0.nii.gz", "good/1.nii.gz"]
    embed.main(["slices", "scans/test/good/0.nii.gz", "-o", "latents.npz"])
    assert np.load("latents.npz")["latents"].shape == (10, 4)
    found = narrows.load("run").reconstruct("scans/test/good")
    assert np.asarray(found).shape == (3, 8, 10, 12)


def test_a_scan_of_another_size_is_one_sentence(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_nifti(place / "other.nii", blob((9, 9, 9)))
    with pytest.raises(SystemExit) as end:
        reconstruct.main(["run", "other.nii", "-o", "out.nii"])
    assert end.value.code == 2
    assert "and the run's are [1, 8, 10, 12]" in capsys.readouterr().err
    assert not (place / "out.nii").exists()
    with pytest.raises(SystemExit):
        reconstruct.main(["run", "scans/test/good/0.nii.gz", "-o", "out.png"])
    assert "written as .nii, .nii.gz or .npy" in capsys.readouterr().err


@pytest.mark.parametrize("run", ["run", "slices"])
def test_a_scan_is_compressed_and_comes_back_where_it_lay(
    place: Path, run: str, caplog: pytest.LogCaptureFixture
) -> None:
    values = blob((10, 8, 12)).astype(np.float32)
    write_nifti(place / "new.nii.gz", values, "sagittal")
    with caplog.at_level("INFO"):
        compress.main(["new.nii.gz", "new.nrwz", "--run", run, "--step", "0.001"])
    size = Path("new.nrwz").stat().st_size
    assert f"{size} bytes, {size} per scan, {8 * size / 960:.4g} bits per voxel" in caplog.text
    shutil.move("scans", "elsewhere")  # decompressing needs no data
    decompress.main(["new.nrwz", "back.nii.gz", "--run", run])
    reconstruct.main([run, "new.nii.gz", "-o", "rebuilt.nii.gz"])
    one, other, rebuilt = (nibabel.load(f"{name}.nii.gz") for name in ("new", "back", "rebuilt"))
    assert (other.shape, other.get_data_dtype()) == ((10, 8, 12), np.float32)
    np.testing.assert_array_equal(other.affine, one.affine)
    # As fine a step as this leaves what the model makes of the scan.
    np.testing.assert_allclose(other.get_fdata(), rebuilt.get_fdata(), atol=0.02 * values.max())
    decompress.main(["new.nrwz", "back.npy", "--run", run])
    np.testing.assert_allclose(np.load("back.npy"), read_scan("back.nii.gz").values, rtol=1e-6)


def test_folders_of_scans_are_compressed(place: Path) -> None:
    shutil.copytree("scans/test", "mine")
    np.save("mine/good/array.npy", blob((8, 10, 12)))
    compress.main(["mine", "all.nrwz", "--run", "run"])
    decompress.main(["all.nrwz", "back", "--run", "run"])
    found = sorted(path.relative_to("back").as_posix() for path in Path("back").rglob("*.*"))
    names = [*(f"good/{n}.nii.gz" for n in range(3)), *(f"lesion/{n}.nii.gz" for n in (3, 4, 5))]
    assert found == sorted(["good/array.npy", *names])
    assert nibabel.load("back/good/0.nii.gz").shape == nibabel.load("mine/good/0.nii.gz").shape
    assert np.load("back/good/array.npy").shape == (8, 10, 12)


def test_scans_of_any_size_are_compressed_by_convolutions_alone(place: Path) -> None:
    maps = ("encoder.flatten=false", "encoder.channels=[4]", "decoder.channels=[4]", "bottleneck.dim=4")
    done = run_in_process(*WHERE, *maps, "~tasks.latent", *TINY, "hydra.run.dir=maps", cwd=place)
    assert done.code == 0, done.err
    Path("mine").mkdir()
    sides = {"a.nii.gz": (7, 9, 9), "b.nii.gz": (12, 10, 8), "c.npy": (9, 9, 7), "d.npy": (3, 1, 16)}
    for name, size in sides.items():
        values = blob(size).astype(np.float32)
        if name.endswith(".npy"):
            np.save(f"mine/{name}", values)
        else:
            write_nifti(Path("mine") / name, values)
    # As a scan is read, its depth comes first: NIfTI has it last.
    sizes = {name: read_scan(f"mine/{name}").values.shape for name in sides}
    assert sizes == {"a.nii.gz": (9, 9, 7), "b.nii.gz": (8, 10, 12), "c.npy": (9, 9, 7), "d.npy": (3, 1, 16)}
    compress.main(["mine", "all.nrwz", "--run", "maps", "--step", "0.001"])
    decompress.main(["all.nrwz", "back", "--run", "maps"])
    assert {name: read_scan(f"back/{name}").values.shape for name in sizes} == sizes
    # Each comes back as it does alone, and as what the model makes of it filled up by its last voxels.
    model = narrows.load("maps")
    for name in sizes:
        compress.main([f"mine/{name}", "one.nrwz", "--run", "maps", "--step", "0.001"])
        decompress.main(["one.nrwz", "one.npy", "--run", "maps"])
        np.testing.assert_allclose(np.load("one.npy"), read_scan(f"back/{name}").values, rtol=1e-4, atol=1e-4)
        scan = read_scan(f"mine/{name}")
        x = torch.from_numpy(Grid().fit(scan, name))[None, None]
        ends = [end for side in reversed(sizes[name]) for end in (0, side % 2)]
        with torch.no_grad():
            padded = model.reconstruct(torch.nn.functional.pad(x, ends, mode="replicate"))[0, 0]
        depth, height, width = sizes[name]
        low, high = Grid().ends(scan.values)
        wanted = low + (high - low) * padded[:depth, :height, :width].numpy()
        np.testing.assert_allclose(np.load("one.npy"), wanted, atol=0.02 * (high - low))


@pytest.mark.parametrize(
    ("command", "arguments", "sentence"),
    [
        ("compress", ("other.nii", "out.nrwz"), "only one of convolutions alone (encoder.flatten=false) takes others"),
        ("compress", ("other.nii", "out.nrwz"), "and the run's are [1, 8, 10, 12]"),
        ("compress", ("broken.nii", "out.nrwz"), "broken.nii is no NIfTI file that can be read"),
        ("compress", ("empty", "out.nrwz"), "empty holds no scans"),
        ("decompress", ("good.nrwz", "out.png"), "let OUT end in .nii or .nii.gz or .npy, not out.png"),
        ("decompress", ("array.nrwz", "out.nii"), "let OUT end in .npy, not out.nii"),
    ],
)
def test_scans_that_cannot_be_compressed_are_one_sentence(
    place: Path, command: str, arguments: tuple[str, ...], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_nifti(place / "other.nii", blob((9, 9, 9)))
    Path("broken.nii").write_bytes(b"nothing")
    Path("empty").mkdir()
    np.save("array.npy", blob((8, 10, 12)))
    if command == "decompress":
        compress.main(["scans/test/good/0.nii.gz", "good.nrwz", "--run", "run"])
        compress.main(["array.npy", "array.nrwz", "--run", "run"])
    runs.assert_refused({"compress": compress, "decompress": decompress}[command], arguments, sentence, capsys)


def test_scans_are_judged_as_files_beside_codecs_of_their_slices(place: Path) -> None:
    evaluate.main(["run", "task=compression", "task.factors=[]"])
    figures = json.loads(Path("run/tasks/compression.json").read_text())["figures"]
    each = figures["test/compression/bytes_per_example"]
    assert figures["test/compression/bpp"] == pytest.approx(8 * each / 960)
    for name in ("jpeg2000", "pca"):
        assert figures[f"test/compression/{name}/psnr"] > 5
    assert "test/compression/h264/bpp" not in figures
