"""What is installed is what was tested, and importing it costs and breaks nothing."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from narrows import _torchvision

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINNED = re.compile(r"^([A-Za-z0-9._-]+)==([A-Za-z0-9.!+_-]+)$")


def pins() -> dict[str, Version]:
    """The lines of the constraints file, by canonical name."""
    found: dict[str, Version] = {}
    for line in (ROOT / ".ci" / "constraints.txt").read_text().splitlines():
        text = line.partition("#")[0].strip()
        if not text:
            continue
        match = PINNED.match(text)
        assert match, f"not of the form name==version: {line}"
        name = canonicalize_name(match[1])
        assert name not in found, f"pinned twice: {name}"
        found[name] = Version(match[2])
    return found


def direct() -> list[Requirement]:
    """What narrows and its tests name."""
    return [Requirement(text) for text in PROJECT["dependencies"] + PROJECT["optional-dependencies"]["test"]]


def installed(name: str) -> Version | None:
    """Without the local part, which says how it was built (`+cpu`)."""
    try:
        return Version(Version(metadata.version(name)).public)
    except metadata.PackageNotFoundError:
        return None


def closure(requirements: list[Requirement]) -> set[str]:
    """All that they need in this environment, and what that needs."""
    needed: set[str] = set()
    waiting = list(requirements)
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name in needed or installed(name) is None:
            continue
        needed.add(name)
        inner = [Requirement(text) for text in metadata.requires(name) or []]
        extras = [{"extra": extra} for extra in ("", *requirement.extras)]
        waiting += [r for r in inner if r.marker is None or any(r.marker.evaluate(extra) for extra in extras)]
    return needed


@pytest.mark.parametrize("requirement", direct(), ids=lambda requirement: requirement.name)
def test_every_dependency_is_pinned_within_its_range(requirement: Requirement) -> None:
    pinned = pins().get(canonicalize_name(requirement.name))
    assert pinned is not None, "add it to .ci/constraints.txt"
    assert requirement.specifier.contains(pinned)
    assert not pinned.is_prerelease


def test_a_pin_carries_no_build() -> None:
    """`+cpu` and `+cu130` are the same version: the file must serve both."""
    assert not [name for name, version in pins().items() if version.local]


def test_pins_are_what_runs_here() -> None:
    other = {name: (pin, installed(name)) for name, pin in pins().items() if installed(name) not in (None, pin)}
    assert not other, "install with: pip install -c .ci/constraints.txt -e '.[test]'"


def test_all_that_is_needed_is_pinned() -> None:
    # Which CUDA and Triton wheels torch brings is its own affair: CPU builds have none.
    free = {name for name in closure(direct()) if name.startswith(("nvidia-", "cuda-", "triton"))}
    assert closure(direct()) - free - pins().keys() - {"setuptools"} == set()


def test_lightning_s_compromised_releases_are_excluded() -> None:
    (lightning,) = (r for r in direct() if r.name == "lightning")
    assert not any(lightning.specifier.contains(bad) for bad in ("2.6.2", "2.6.3", "2.6.5"))


def test_the_citation_is_the_project_s() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "abstract"} <= citation.keys()
    assert citation["authors"] == PROJECT["authors"]
    same = {"title": "name"} | {key: key for key in ("version", "license", "keywords")}
    assert {key: citation[key] for key in same} == {key: PROJECT[theirs] for key, theirs in same.items()}


def test_the_workflow_asks_every_python_that_the_project_takes() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    (job,) = workflow["jobs"].values()
    asked, allowed = job["strategy"]["matrix"]["python"], SpecifierSet(PROJECT["requires-python"])
    assert asked == [python for python in (f"3.{minor}" for minor in range(30)) if allowed.contains(f"{python}.0")]
    (command,) = (step["run"] for step in job["steps"] if "run" in step)
    assert (ROOT / command).stat().st_mode & 0o111


# ── torchvision beside a torch of another build ─────────────────────────────────────────────────────────


def run(program: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_narrows_imports_nothing_heavy() -> None:
    heavy = "{'torch', 'torchvision', 'lightning', 'hydra', 'omegaconf', 'numpy', 'sklearn', 'matplotlib', 'rich'}"
    assert run(f"import sys, narrows, narrows.cli; print(sorted({heavy} & sys.modules.keys()))") == "[]"


def test_torchvision_and_lightning_work_in_this_environment() -> None:
    program = """
import narrows, torchvision, lightning
from pathlib import Path
from narrows import _torchvision
from torch import zeros
from torchvision.utils import make_grid
folder = Path(torchvision.__file__).parent
fit = _torchvision.operators_load(folder)
assert bool(_torchvision._declared) is not fit, "declared where, and only where, the builds do not match"
assert not any(isinstance(finder, _torchvision._BeforeTorchvision) for finder in __import__("sys").meta_path)
_torchvision.install()
_torchvision.declare_missing_operators(folder)
assert len(_torchvision._declared) == (not fit)
print(tuple(make_grid(zeros(4, 1, 8, 8), nrow=2).shape))
"""
    assert run(program) == "(3, 22, 22)"


class Library:
    """Notes what would be declared to torch."""

    declared: list[str]

    def __init__(self, name: str, kind: str) -> None:
        assert (name, kind) == ("torchvision", "DEF")

    def define(self, schema: str) -> None:
        Library.declared.append(schema)


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """As before the first import of torchvision, another of which stands in front of the path."""
    folder = tmp_path / "torchvision"
    folder.mkdir()
    (folder / "__init__.py").write_text("standin = True\n")
    real = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "torchvision"}
    for name in real:
        del sys.modules[name]
    Library.declared = []
    monkeypatch.setattr("torch.library.Library", Library)
    monkeypatch.setattr(_torchvision, "_declared", [])
    others = [finder for finder in sys.meta_path if not isinstance(finder, _torchvision._BeforeTorchvision)]
    monkeypatch.setattr(sys, "meta_path", others)
    monkeypatch.syspath_prepend(tmp_path)
    yield folder
    sys.modules.pop("torchvision", None)
    sys.modules.update(real)
    importlib.invalidate_caches()


def imported() -> bool:
    return importlib.import_module("torchvision").standin


def test_nothing_is_declared_where_the_operators_load(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []
    monkeypatch.setattr(_torchvision, "operators_load", lambda folder: not asked.append(folder))
    _torchvision.install()
    assert imported()
    assert asked == [elsewhere]
    assert Library.declared == []


@pytest.mark.parametrize("compiled", [None, b"no library at all"])
def test_both_schemas_are_declared_where_they_do_not(elsewhere: Path, compiled: bytes | None) -> None:
    if compiled is not None:
        (elsewhere / "_C.so").write_bytes(compiled)
    _torchvision.install()
    assert imported()
    assert Library.declared == [name + _torchvision.SCHEMA for name in ("nms", "qnms")]


def test_installing_twice_declares_once(elsewhere: Path) -> None:
    finders = list(sys.meta_path)
    _torchvision.install()
    _torchvision.install()
    assert len(sys.meta_path) == len(finders) + 1
    assert imported()
    assert sys.meta_path == finders
    assert len(Library.declared) == 2
    del sys.modules["torchvision"]
    _torchvision.install()
    assert imported()
    assert len(Library.declared) == 2


def test_installing_after_torchvision_does_nothing(elsewhere: Path) -> None:
    assert imported()
    finders = list(sys.meta_path)
    _torchvision.install()
    assert sys.meta_path == finders
    assert Library.declared == []


def test_a_missing_torchvision_is_said_in_python_s_own_words(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "meta_path", [f for f in sys.meta_path if "editable" not in repr(f)])
    _torchvision.install()
    with pytest.raises(ModuleNotFoundError, match="No module named 'torchvision'"):
        imported()
