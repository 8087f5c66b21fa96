"""The manifest knows what a reproduction needs."""

from __future__ import annotations

import json
import shutil
import subprocess
import warnings
from pathlib import Path

import pytest
import torch

from narrows.runs import provenance
from narrows.runs.provenance import git_state, nondeterministic_operation, nondeterministic_operations, surroundings


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small package with configs in a git checkout, in place of narrows."""
    folder = tmp_path / "checkout" / "src" / "narrows"
    (folder / "inner").mkdir(parents=True)
    (folder / "a.py").write_text("a = 1\n")
    (folder / "inner" / "b.py").write_text("b = 1\n")
    configs = tmp_path / "checkout" / "configs"
    configs.mkdir()
    (configs / "train.yaml").write_text("seed: 0\n")
    (tmp_path / "checkout" / ".gitignore").write_text("*.pyc\n")
    monkeypatch.setattr(provenance, "PACKAGE", folder)
    monkeypatch.setattr(provenance, "config_dir", lambda: configs)
    return folder


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=n", "-c", "user.email=n@n", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", "-C", str(folder), *identity, *arguments], capture_output=True, text=True, check=True)
    return done.stdout


def test_an_edited_line_is_another_source(package: Path) -> None:
    before = provenance.source_digest()
    assert before == provenance.source_digest()
    (package / "inner" / "b.py").write_text("b = 2\n")
    edited = provenance.source_digest()
    assert edited != before
    (package / "inner" / "b.py").write_text("b = 1\n")
    assert provenance.source_digest() == before


@pytest.mark.parametrize("change", ["a config", "a new module", "a module less", "another name", "text moved"])
def test_every_other_change_is_another_source_too(change: str, package: Path) -> None:
    before = provenance.source_digest()
    if change == "a config":
        (package.parents[1] / "configs" / "train.yaml").write_text("seed: 1\n")
    elif change == "a new module":
        (package / "c.py").write_text("")
    elif change == "a module less":
        (package / "a.py").unlink()
    elif change == "another name":
        (package / "a.py").rename(package / "z.py")
    else:
        (package / "a.py").write_text("")
        (package / "inner" / "b.py").write_text("a = 1\nb = 1\n")
    assert provenance.source_digest() != before


def test_what_is_no_source_changes_nothing(package: Path) -> None:
    before = provenance.source_digest()
    (package / "a.pyc").write_text("x")
    (package / "notes.txt").write_text("x")
    assert provenance.source_digest() == before


def test_the_place_of_the_package_is_no_part_of_its_source(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = provenance.source_digest()
    elsewhere = tmp_path / "site-packages" / "narrows"
    shutil.copytree(package, elsewhere)
    shutil.copytree(package.parents[1] / "configs", elsewhere / "configs")  # as in a wheel
    monkeypatch.setattr(provenance, "PACKAGE", elsewhere)
    monkeypatch.setattr(provenance, "config_dir", lambda: elsewhere / "configs")
    assert provenance.source_digest() == before


def test_commit_and_diff_give_back_the_source(package: Path, tmp_path: Path) -> None:
    """Edited, deleted and new files, text and binary: all are in the diff."""
    top = package.parents[1]
    git(top, "init", "-q")
    git(top, "add", ".")
    git(top, "commit", "-qm", "first")
    assert git_state(package) == {"commit": git(top, "rev-parse", "HEAD").strip(), "diff": ""}
    (package / "a.py").write_text("a = 2")  # without a line end
    (package / "inner" / "b.py").unlink()
    (package / "new file.py").write_text("n = 1\n")
    (package / "data.bin").write_bytes(bytes(range(256)))
    (package / "ignored.pyc").write_text("x")
    (top / "configs" / "new.yaml").write_text("x: 1\n")
    (top / "notes.txt").write_text("of no concern\n")
    state = git_state(package)
    assert state is not None
    git(top, "clone", "-q", str(top), str(tmp_path / "clone"))
    (tmp_path / "patch").write_text(state["diff"])
    git(tmp_path / "clone", "apply", str(tmp_path / "patch"))
    again = tmp_path / "clone" / "src" / "narrows"
    assert (again / "a.py").read_text() == "a = 2"
    assert not (again / "inner" / "b.py").exists()
    assert (again / "new file.py").read_text() == "n = 1\n"
    assert (again / "data.bin").read_bytes() == bytes(range(256))
    assert (tmp_path / "clone" / "configs" / "new.yaml").exists()
    assert not (tmp_path / "clone" / "notes.txt").exists()
    assert not (again / "ignored.pyc").exists()


def test_of_a_large_new_file_the_hash_is_kept(package: Path) -> None:
    top = package.parents[1]
    git(top, "init", "-q")
    git(top, "add", ".")
    git(top, "commit", "-qm", "first")
    (package / "large.py").write_text("x" * 300_000)
    state = git_state(package)
    assert state is not None
    assert state["diff"].startswith("# new file src/narrows/large.py: sha256 ")


def test_outside_a_checkout_there_is_no_git_state(package: Path) -> None:
    assert git_state(package) is None


def test_surroundings_are_plain_and_hold_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    monkeypatch.setenv("SOME_API_KEY", "secret-value")
    found = surroundings(["seed=3"], {"variant": "vae"}, 3)
    text = json.dumps(found)
    assert json.loads(text) == found
    assert found["environment"]["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert "secret-value" not in text
    assert found["versions"]["torch"] == torch.__version__.split("+")[0] or "+" in found["versions"]["torch"]
    assert found["hardware"]["threads"] == torch.get_num_threads()
    assert {"os", "cpu", "instructions", "gpus", "driver", "cores"} <= found["hardware"].keys()
    assert {"python", "implementation", "source", "git", "command", "overrides", "seed", "choices"} <= found.keys()
    assert len(found["source"]) == 64


@pytest.mark.parametrize(
    ("message", "name"),
    [
        (
            "adaptive_avg_pool2d_backward_cuda does not have a deterministic implementation, but you set "
            "'torch.use_deterministic_algorithms(True, warn_only=True)'. You can file an issue",
            "adaptive_avg_pool2d_backward_cuda",
        ),
        ("put_ with accumulate=False does not have a deterministic implementation", "put_ with accumulate=False"),
        (
            "Memory Efficient attention defaults to a non-deterministic algorithm. To explicitly enable determinism",
            "Memory Efficient attention",
        ),
        (
            "Deterministic behavior was enabled with either `torch.use_deterministic_algorithms(True)` or "
            "`at::Context::setDeterministicAlgorithms(true)`, but this operation is not deterministic because it uses "
            "CuBLAS and you have CUDA >= 10.2.",
            "CuBLAS",
        ),
        ("The number of training batches is small", None),
    ],
)
def test_the_operation_is_read_from_torch_s_warning(message: str, name: str | None) -> None:
    assert nondeterministic_operation(message) == name


def test_operations_are_collected_shown_once_and_other_warnings_pass() -> None:
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with warnings.catch_warnings(record=True) as shown:
            warnings.simplefilter("always")
            with nondeterministic_operations() as names:
                for _ in range(3):
                    torch.zeros(4).put_(torch.tensor([1]), torch.tensor([2.0]), accumulate=False)
                warnings.warn("another", UserWarning, stacklevel=1)
                assert names == ["put_"], "filled while it lasts"
    finally:
        torch.use_deterministic_algorithms(False)
    assert len([w for w in shown if "put_" in str(w.message)]) == 1
    assert len([w for w in shown if str(w.message) == "another"]) == 1
