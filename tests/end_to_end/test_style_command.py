"""`narrows style` on a real run: pictures of any size, a grid of strengths, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from command import NARROW, NO_TASKS, TINY, only_run, run_in_process
from numpy.typing import NDArray
from PIL import Image

from narrows.commands import evaluate, reconstruct, style

MAPS = ("encoder=conv", "encoder.flatten=false", "decoder=conv", "encoder.channels=[4,6]", "decoder.channels=[6,4]")


def write(path: Path, *size: int, grey: bool = False) -> Path:
    values = np.random.default_rng(sum(size)).integers(0, 256, size if grey else (*size, 3), dtype=np.uint8)
    Image.fromarray(values).save(path)
    return path


def pixels(path: Path) -> NDArray[np.uint8]:
    """`[H, W, 3]`."""
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of pictures, and runs on them: `maps`, whose latent is a map, and `vector`."""
    folder: Path = tmp_path_factory.mktemp("style")
    (folder / "photos").mkdir()
    for number in range(20):
        write(folder / "photos" / f"{number}.png", 16 + number, 18)
    data = ("datamodule=image_folder", "datamodule.source.path=photos", "datamodule.source.size=16", *NO_TASKS)
    for name, options in (("maps", ("variant=undercomplete", *MAPS, "bottleneck.dim=4")), ("vector", NARROW)):
        done = run_in_process(*TINY, *data, *options, f"output_dir={name}", cwd=folder)
        assert done.code == 0, done.err
    return folder


def run_of(place: Path, name: str = "maps") -> str:
    return str(only_run(place / name))


def test_a_picture_keeps_its_size_and_strength_0_is_the_reconstruction(place: Path, tmp_path: Path) -> None:
    content, other = write(tmp_path / "photo.png", 16, 16), write(tmp_path / "other.png", 33, 21)
    style.main([str(content), str(other), "--run", run_of(place), "--strength", "0"])
    plain = pixels(tmp_path / "photo.styled.png")
    reconstruct.main([run_of(place), str(content), "-o", str(tmp_path / "rebuilt.png")])
    assert np.array_equal(plain, pixels(tmp_path / "rebuilt.png"))
    wide, out = write(tmp_path / "wide.png", 19, 50), tmp_path / "new" / "out.png"
    options = ["--method", "wct", "--layers", "encoder2", "latent", "-o", str(out)]
    style.main([str(wide), str(other), "--run", run_of(place), *options])
    assert pixels(out).shape == (19, 50, 3)
    style.main([str(wide), str(other), "--run", run_of(place), "--size", "25", "-o", str(out)])
    assert pixels(out).shape == (10, 25, 3)


def test_several_strengths_are_one_picture(place: Path, tmp_path: Path) -> None:
    content, other = write(tmp_path / "a.png", 64, 80), write(tmp_path / "b.png", 90, 40, grey=True)
    style.main([str(content), str(other), "--run", run_of(place), "--strength", "0", "0.5", "1"])
    height, width, _ = pixels(tmp_path / "a.styled.png").shape
    assert width > 5 * 80
    assert height > 64


def test_a_finished_run_is_judged(place: Path) -> None:
    evaluate.main([run_of(place), "task=style", "task.max_examples=2", "task.features.layers=[stem]"])
    figures = (only_run(place / "maps") / "metrics.json").read_text()
    assert "test/style/reinhard/gram_distance" in figures


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (lambda a, b, run: [a, b, "--run", run("vector")], "cannot transfer style: its latent is a vector"),
        (lambda a, b, run: [a, "nowhere.png", "--run", run("maps")], "nowhere.png does not exist"),
        (lambda a, b, run: [a, b, "--run", run("maps"), "--strength", "2"], "--strength 2 must be from 0"),
        (lambda a, b, run: [a, b, "--run", run("maps"), "--strength", "nan"], "--strength nan must be from 0"),
        (lambda a, b, run: [a, b, "--run", run("maps"), "--method", "adan"], "unknown method 'adan': did you mean"),
        (lambda a, b, run: [a, b, "--run", run("maps"), "--layers", "middle"], "no layer 'middle' to match"),
        (lambda a, b, run: [a, b, "--run", run("maps"), "-o", "out.jpg"], "let OUT end in .png"),
        (lambda a, b, run: [a, b, "--run", run("maps"), "-o", b], "would be overwritten"),
        (lambda a, b, run: [a, __file__, "--run", run("maps")], "is no image that can be read"),
    ],
)
def test_a_mistake_is_one_sentence_and_nothing_is_written(
    place: Path, tmp_path: Path, arguments: Callable[..., list[str]], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    content, other = write(tmp_path / "a.png", 20, 20), write(tmp_path / "b.png", 20, 20)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(SystemExit) as ended:
        style.main(arguments(str(content), str(other), lambda name: run_of(place, name)))
    assert ended.value.code == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("narrows: ")]
    assert sentence in line
    assert sorted(tmp_path.iterdir()) == before
