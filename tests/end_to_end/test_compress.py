"""`narrows compress` and `decompress` on real runs: what comes back, in other processes too, and what is refused."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from command import NO_TASKS, TINY, run_in_process
from numpy.typing import NDArray
from PIL import Image

import narrows
from narrows.coding.model_codec import Codec
from narrows.commands import compress, decompress, evaluate

SMALL = (*TINY, *NO_TASKS, "logger=csv", "hydra.run.dir=run")
CONV = ("encoder=conv", "decoder=conv", "encoder.channels=[4]", "decoder.channels=[4]", "encoder.flatten=false")
SMALL_HYPERPRIOR = ("bottleneck.dim=3", "bottleneck.hidden=4", "bottleneck.side=2", "likelihood=gaussian")
RUNS = {
    "noise": ("bottleneck=entropy", "loss=elbo", "bottleneck.dim=3", *CONV),
    "told": ("variant=scale_hyperprior", *CONV[2:4], *SMALL_HYPERPRIOR),
    "codes": ("variant=residual_vq", "bottleneck.codes=8", "encoder.widths=[16]", "decoder.widths=[16]"),
}
"""Pictures of any size, and of one."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    found = {}
    for name, options in RUNS.items():
        folder: Path = tmp_path_factory.mktemp(name)
        done = run_in_process(*SMALL, *options, cwd=folder)
        assert done.code == 0, done.err
        found[name] = folder / "run"
    return found


def pictures(count: int = 37) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (count, 8, 8), dtype=np.uint8)


def there(run: Path, source: Path, target: Path, *options: str) -> None:
    compress.main([str(source), str(target), "--run", str(run), *options])


def back(run: Path, source: Path, target: Path) -> None:
    decompress.main([str(source), str(target), "--run", str(run)])


def refusal(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    command = decompress if arguments[0] == "decompress" else compress
    with pytest.raises(SystemExit) as end:
        command.main([str(argument) for argument in arguments[1:]])
    error = capsys.readouterr().err
    assert end.value.code == 2
    assert error.startswith("narrows: ")
    assert error.count("\n") == 1
    return error


READ = """
import sys
from pathlib import Path
import torch
import narrows
from narrows.coding.model_codec import Codec
from narrows.coding.packing import find_tables, unpack_examples
for threads in (1, 2):
    torch.set_num_threads(threads)
    for run in map(Path, sys.argv[1:]):
        data = (run / "in.nrwz").read_bytes()
        codec = Codec(narrows.load(run))
        _, streams = unpack_examples(codec, find_tables(codec, run / "coding", data, "f"), data, "f")
        print(b"".join(stream.tobytes() for stream in streams).hex())
"""


def test_the_codes_are_the_same_in_another_process_with_any_number_of_threads(runs: dict[str, Path]) -> None:
    sent = []
    for run in runs.values():
        np.save(run / "in.npy", pictures())
        there(run, run / "in.npy", run / "in.nrwz")
        sources = Codec(narrows.load(run)).sources(torch.from_numpy(pictures())[:, None] / 255)
        sent.append(b"".join(np.rint(source).astype(np.int64).tobytes() for source in sources).hex())
    command = [sys.executable, "-c", READ, *map(str, runs.values())]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert found == [*sent, *sent]


def test_an_array_comes_back_as_the_model_rebuilds_it_without_data(runs: dict[str, Path], tmp_path: Path) -> None:
    run = shutil.copytree(runs["codes"], tmp_path / "run")
    np.savez(tmp_path / "in.npz", digits=pictures())
    there(run, tmp_path / "in.npz", tmp_path / "new" / "in.nrwz")
    assert {path.name for path in (run / "coding").iterdir()} == {"codes.json"}
    back(run, tmp_path / "new" / "in.nrwz", tmp_path / "out.npz")
    rebuilt = narrows.load(run).reconstruct(torch.from_numpy(pictures())[:, None] / 255)[:, 0]
    found = np.load(tmp_path / "out.npz")["digits"]
    np.testing.assert_allclose(found, (rebuilt * 255).clamp(0, 255), atol=0.51)
    once = (tmp_path / "new" / "in.nrwz").read_bytes()
    there(run, tmp_path / "in.npz", tmp_path / "again.nrwz", "data_dir=nowhere")
    assert (tmp_path / "again.nrwz").read_bytes() == once


def test_pictures_and_folders_of_any_size(runs: dict[str, Path], tmp_path: Path) -> None:
    folder, source = tmp_path / "photos", np.random.default_rng(1)
    sizes = {"a.png": (31, 17), "b/c.jpg": (8, 8), "b/d.png": (8, 8)}
    for name, (height, width) in sizes.items():
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        Image.fromarray(source.integers(0, 256, (height, width), dtype=np.uint8)).save(folder / name)
    for kind in ("noise", "told"):
        run, out = runs[kind], tmp_path / kind
        there(run, folder, out / "photos.nrwz", "--step", "0.5")
        back(run, out / "photos.nrwz", out / "back")
        for name, size in sizes.items():
            with Image.open((out / "back" / name).with_suffix(".png")) as image:
                assert (image.height, image.width, image.mode) == (*size, "L")
        there(run, folder / "a.png", out / "a.nrwz", "--step", "0.5")
        back(run, out / "a.nrwz", out / "a.png")
        assert (out / "a.png").read_bytes() == (out / "back" / "a.png").read_bytes()


def test_mistakes_are_one_sentence_and_nothing_is_written(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, other = runs["codes"], runs["noise"]
    good, text = tmp_path / "good.npy", tmp_path / "a.txt"
    np.save(good, pictures())
    np.save(tmp_path / "wide.npy", np.zeros((3, 9, 9), dtype=np.uint8))
    np.save(tmp_path / "far.npy", np.full((3, 8, 8), 1.5))
    np.save(tmp_path / "whole.npy", np.zeros((3, 8, 8), dtype=np.int32))
    np.save(tmp_path / "none.npy", np.zeros((0, 8, 8)))
    text.write_text("text")
    out = tmp_path / "out.nrwz"
    cases = {
        (good, out, "--run", tmp_path / "nowhere"): "there is no run directory",
        (tmp_path / "nowhere.npy", out, "--run", run): "does not exist: set IN",
        (text, out, "--run", run): "is neither a picture",
        (tmp_path / "wide.npy", out, "--run", run): "shape 1 x 9 x 9 do not fit a model of 1 x 8 x 8; only one of conv",
        (tmp_path / "far.npy", out, "--run", run): r"values outside \[0, 1\]",
        (tmp_path / "whole.npy", out, "--run", run): "holds int32; bytes, truth values and floating-point",
        (tmp_path / "none.npy", out, "--run", run): r"shape \[0, 8, 8\]|shape \[0, 1, 8, 8\]",
        (good, out, "--run", run, "--step", "0.5"): "latents are codes already",
        (good, out, "--run", other, "--step", "0"): "step must be a number above 0",
        (good, out, "--run", run, "another"): "'another' is no KEY=VALUE",
        (good, out, "--run", run, "bottleneck.dim=5"): "changes nothing in a trained run",
        (good, tmp_path, "--run", run): "is a folder, and OUT is to be one file",
    }
    for arguments, sentence in cases.items():
        error = refusal(capsys, "compress", *arguments)
        assert re.search(sentence, error), error
    assert not out.exists()


@pytest.mark.parametrize("kind", ["codes", "told"])
def test_files_that_cannot_be_trusted_are_refused(
    kind: str, runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = runs[kind]
    np.save(tmp_path / "in.npy", pictures())
    there(run, tmp_path / "in.npy", tmp_path / "in.nrwz")
    whole = (tmp_path / "in.nrwz").read_bytes()
    broken = {
        "flipped": whole[:50] + bytes([whole[50] ^ 4]) + whole[51:],
        "torn": whole[:-9],
        "text": b"something else",
    }
    for name, data in broken.items():
        (tmp_path / name).write_bytes(data)
        error = refusal(capsys, "decompress", tmp_path / name, tmp_path / "out.npy", "--run", run)
        assert re.search("damaged|was not written by narrows compress", error), error
    moved = shutil.copytree(run, tmp_path / "moved")
    shutil.rmtree(moved / "coding")
    cases = {
        (tmp_path / "in.nrwz", tmp_path / "out.npy", "--run", runs["noise"]): "was written by another model",
        (tmp_path / "in.nrwz", tmp_path / "out.npy", "--run", moved): r"coding/(codes|step_1\.0)\.json is missing",
        (tmp_path / "in.nrwz", tmp_path / "out.png", "--run", run): r"let OUT end in \.npy",
        (tmp_path / "nowhere", tmp_path / "out.npy", "--run", run): "cannot use .*nowhere",
    }
    for arguments, sentence in cases.items():
        error = refusal(capsys, "decompress", *arguments)
        assert re.search(sentence, error), error
    assert not (tmp_path / "out.npy").exists()


def test_runs_are_judged_beside_one_another(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copies = [shutil.copytree(run, tmp_path / name) for name, run in runs.items()]
    evaluate.main([*map(str, copies), "task=compression", "task.factors=[]", "task.max_examples=20"])
    printed = capsys.readouterr().out
    assert "compressed file: bits per pixel" in printed
    assert str(copies[0] / "figures" / "compression_runs.png") in printed.replace("\n", "")
    assert (copies[0] / "figures" / "compression_runs.png").is_file()
    for copy in copies:
        figures = json.loads((copy / "tasks" / "compression.json").read_text())["figures"]
        ranked = json.loads((copy / "metrics.json").read_text())
        assert ranked | figures == ranked
        assert figures["test/compression/jpeg/bpp"] > 0
