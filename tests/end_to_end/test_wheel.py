"""A wheel holds all that a run needs, and works where there is no checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
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


def test_it_runs_in_an_empty_directory_without_the_checkout(wheel: Path, tmp_path: Path) -> None:
    unpacked, empty = tmp_path / "site", tmp_path / "empty"
    empty.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(unpacked)
    # Without site (-S) no .pth file puts the checkout of an editable installation on the path.
    packages = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(unpacked), *packages])}

    def python(*arguments: str) -> str:
        command = [sys.executable, "-S", *arguments]
        done = subprocess.run(command, cwd=empty, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = python(
        "-c",
        "import narrows.config.composition; print(narrows.__file__); print(narrows.config.composition.config_dir())",
    ).split()
    assert where == [str(unpacked / "narrows" / "__init__.py"), str(unpacked / "narrows" / "configs")]
    config = OmegaConf.create(python("-m", "narrows.commands.train", "--cfg", "job", "variant=topk", "bottleneck.k=3"))
    assert config.bottleneck.k == 3
    assert list(empty.iterdir()) == []
