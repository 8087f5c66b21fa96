"""A wheel holds all that a run needs, and works where there is no checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from command import NARROW, NO_TASKS, TINY
from hub_stand_in import serving
from omegaconf import OmegaConf

from narrows.config.composition import config_dir

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("*.whl")
    return built


def test_it_holds_the_package_and_every_config(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    files = [path.relative_to(config_dir()) for path in config_dir().rglob("*") if path.is_file()]
    configs = {f"narrows/configs/{path.as_posix()}" for path in files}
    sources = [
        path
        for path in (ROOT / "src").rglob("*")
        if path.is_file() and not {"__pycache__", ".mypy_cache"} & {*path.parts}
    ]
    modules = {path.relative_to(ROOT / "src").as_posix() for path in sources}
    assert {name for name in names if ".dist-info/" not in name} == configs | modules
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    assert any(name.endswith(".dist-info/entry_points.txt") for name in names)


@pytest.fixture(scope="module")
def unpacked(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the wheel's content lies, as pip would put it there."""
    folder: Path = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def python(*arguments: str, cwd: Path, unpacked: Path, **env: str) -> str:
    """What a Python prints that knows the wheel's content and the installed packages, but no checkout."""
    # Without site (-S) no .pth file puts the checkout of an editable installation on the path.
    packages = [path for path in sys.path if Path(path).name == "site-packages"]
    surroundings = os.environ | {"PYTHONPATH": os.pathsep.join([str(unpacked), *packages])} | env
    command = [sys.executable, "-S", *arguments]
    done = subprocess.run(command, cwd=cwd, env=surroundings, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_runs_in_an_empty_directory_without_the_checkout(unpacked: Path, tmp_path: Path) -> None:
    where = python(
        "-c",
        "import narrows.config.composition; print(narrows.__file__); print(narrows.config.composition.config_dir())",
        cwd=tmp_path,
        unpacked=unpacked,
    ).split()
    assert where == [str(unpacked / "narrows" / "__init__.py"), str(unpacked / "narrows" / "configs")]
    shown = ("-m", "narrows.commands.train", "--cfg", "job", "variant=topk", "bottleneck.k=3")
    config = OmegaConf.create(python(*shown, cwd=tmp_path, unpacked=unpacked))
    assert config.bottleneck.k == 3
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_run_goes_from_one_user_to_another(unpacked: Path, tmp_path: Path) -> None:
    """Trained and packed by one; by another, with another home, elsewhere, from a file that cannot be written."""
    mine, shelf, theirs, home = (tmp_path / name for name in ("mine", "shelf", "theirs", "home"))
    for folder in (mine, shelf, theirs, home):
        folder.mkdir()

    def narrows(*arguments: str, cwd: Path = theirs, **env: str) -> str:
        said = {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache"), "MPLCONFIGDIR": str(home / "mpl")}
        return python("-m", "narrows.cli", *arguments, cwd=cwd, unpacked=unpacked, **said, **env)

    tiny = (*TINY, *NARROW, *NO_TASKS)
    narrows("train", "variant=vae", *tiny, "hydra.run.dir=run", cwd=mine)
    narrows("pack", "run", "-o", str(shelf / "small.narrows"), cwd=mine)
    shutil.rmtree(mine)
    run = shelf / "small.narrows"
    run.chmod(0o444)
    shelf.chmod(0o555)
    np.save(theirs / "new.npy", np.random.default_rng(0).random((6, 1, 8, 8), dtype=np.float32))
    for command in ("embed", "reconstruct", "score"):
        narrows(command, str(run), "new.npy")
    with np.load(theirs / "new.latents.npz") as latents:
        assert latents["latents"].shape == (6, 8)
    narrows("sample", str(run), "-n", "3", "--out", "drawn")
    assert np.load(theirs / "drawn" / "samples.npy").shape == (3, 1, 8, 8)
    narrows("export", str(run), "--to", "safetensors", "-o", "weights.safetensors")
    narrows("sample", "digits-vae", "-n", "3")
    narrows("train", "variant=vae", *TINY, *NO_TASKS, "init_from=digits-vae", "hydra.run.dir=warm")
    with serving({"me/small": {"small.narrows": run.read_bytes()}}) as address:
        hub = {"HF_ENDPOINT": address, "HF_HUB_CACHE": str(home / "hub")}
        loaded = "import narrows, sys; print(narrows.__file__, *narrows.load('hf://me/small').sample(2).shape)"
        said = python("-c", loaded, cwd=theirs, unpacked=unpacked, HOME=str(home), **hub).split()
    assert said == [str(unpacked / "narrows" / "__init__.py"), "2", "1", "8", "8"]
    made = {"drawn", "digits-vae-samples", "new.latents.npz", "new.npy", "new.reconstructed.npy", "new.scored.csv"}
    assert {path.name for path in theirs.iterdir()} == made | {"warm", "weights.safetensors"}
    assert {path.name for path in shelf.iterdir()} == {"small.narrows"}
