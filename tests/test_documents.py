"""What the documents tell a newcomer to type, typed."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from command import run_command, run_directories, run_in_process

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()

# One epoch of two batches: the commands are proven to compose and run; what they reach is measured elsewhere.
SMALL = ("trainer.max_epochs=1", "trainer.limit_train_batches=2", "trainer.limit_val_batches=1", "callbacks=none")


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^[ ]*```{language}\n(.*?)^[ ]*```", text, re.MULTILINE | re.DOTALL)


def commands(text: str, start: str = "narrows train") -> list[str]:
    lines = [line.partition("  #")[0].strip() for block in blocks(text, "bash") for line in block.splitlines()]
    return [line for line in lines if line.startswith(start)]


def section(title: str) -> str:
    return README.partition(f"## {title}\n")[2].partition("\n## ")[0]


DAY = section("Sweep, compare, reproduce")


def test_the_readme_has_commands() -> None:
    assert len(commands(README.replace(DAY, ""))) >= 8
    assert len(commands(DAY, "narrows")) >= 7


@pytest.mark.parametrize("line", commands(README.replace(DAY, "")))
def test_a_command_of_the_readme(line: str, tmp_path: Path) -> None:
    _, _, *arguments = shlex.split(line)
    small = () if {"--help", "--cfg"} & set(arguments) else SMALL
    finished = run_in_process(*arguments, *small, cwd=tmp_path)
    assert finished.code == 0, finished.err
    if small:
        assert list(tmp_path.rglob("metrics.json"))


def test_a_day_of_sweeping_comparing_and_reproducing(tmp_path: Path) -> None:
    """The section's commands, in their order, on the runs that the first ones leave."""
    for line in commands(DAY, "narrows"):
        runs = [str(run) for run in run_directories(tmp_path)]
        for name, run in {"RUN_A": runs[:1], "RUN_B": runs[1:2], "RUN": runs[:1]}.items():
            line = re.sub(rf"\b{name}\b", "".join(run), line)
        line = line.replace("bottleneck.dim=4,16 seed=0,1", "bottleneck.dim=4 seed=0,1")
        _, command, *arguments = shlex.split(re.sub(r"sweep.trials=\d+", "sweep.trials=1", line))
        small = SMALL if "-m" in arguments else ()
        if command == "train":
            done = run_in_process(*arguments, *small, cwd=tmp_path)
        else:
            done = run_command(command, *arguments, cwd=tmp_path, timeout=300)
        assert done.code == 0, f"{line}\n{done.err}\n{done.out}"
        assert done.out.strip(), line
    assert "bitwise equal" in next(tmp_path.rglob("reproduction.json")).read_text()
    assert (tmp_path / "report.html").stat().st_size > 1_000_000


def test_the_first_screen_installs_with_the_constraints() -> None:
    install = [line for block in blocks(README, "bash") for line in block.splitlines() if line.startswith("pip ")]
    assert install == [
        "pip install -c .ci/constraints.txt -e . && narrows train",
        "pip install -c .ci/constraints.txt -e '.[test]' && python -m pytest",
    ]


def test_a_newcomer_adds_a_bottleneck_by_the_book(tmp_path: Path) -> None:
    """Do in a copy of the tree what the section says, then ask the laws and the command."""
    for folder in ("src", "configs", "tests"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    written = re.findall(r"^ *```\w+ (\S+)\n(.*?)^ *```", CONTRIBUTING, re.MULTILINE | re.DOTALL)
    assert [name for name, _ in written] == [
        "src/narrows/bottlenecks/simplex.py",
        "configs/bottleneck/simplex.yaml",
    ]
    for name, body in written:
        (tmp_path / name).write_text(re.sub(r"^ {3}", "", body, flags=re.MULTILINE))
    entry = re.search(r'`("simplex": .*?)`', CONTRIBUTING)
    assert entry
    table = tmp_path / "tests/instances.py"
    text = table.read_text().replace(
        "BOTTLENECKS: dict[str, Build] = {\n", f"BOTTLENECKS: dict[str, Build] = {{\n    {entry[1]}\n"
    )
    imported = "from narrows.decoders.mlp import MLPDecoder\n"
    table.write_text(text.replace(imported, "from narrows.bottlenecks.simplex import Simplex\n" + imported))

    line = re.search(r"`(from \.simplex import .*?)`", CONTRIBUTING)
    assert line
    face = tmp_path / "src/narrows/bottlenecks/__init__.pyi"
    face.write_text(face.read_text() + line[1] + "\n")

    environment = os.environ | {"PYTHONPATH": str(tmp_path / "src"), "OMP_NUM_THREADS": "1"}
    (tmp_path / "tests/test_command.py").write_text(f"""
from command import run_in_process
def test_simplex_trains(tmp_path):
    done = run_in_process("variant=undercomplete", "bottleneck=simplex", *{SMALL}, cwd=tmp_path)
    assert done.code == 0, done.err
""")
    run = {"cwd": tmp_path, "env": environment, "capture_output": True, "text": True, "check": False}
    options = ["-v", "-n0", "-p", "no:cacheprovider", "-k", "simplex"]
    files = ["tests/laws/test_bottlenecks.py", "tests/laws/test_examples.py", "tests/test_command.py"]
    asked = subprocess.run([sys.executable, "-m", "pytest", *options, *files], **run)
    assert asked.returncode == 0, asked.stdout
    assert "[simplex]" in asked.stdout
    assert "[bottlenecks.Simplex] PASSED" in asked.stdout
    assert "test_simplex_trains PASSED" in asked.stdout


def test_printed_tables_are_rewritten_by_their_command(tmp_path: Path) -> None:
    """What `scripts/readme_tables.py` runs is what the page tells to type, and its lines land in the page's places."""
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        import readme_tables as tables
    finally:
        sys.path.remove(str(ROOT / "scripts"))
    assert tables.command("narrows train$") == "narrows train"
    for place in ("start", "sweep", "compare"):
        page = tables.placed(README, place, ["│ one │ 1 │", "two"])
        assert f"<!-- {place} -->\n```text\n│ one │ 1 │\ntwo\n```\n<!-- /{place} -->" in page
        assert len(page) < len(README)
    with pytest.raises(SystemExit, match="needs one place"):
        tables.placed(README, "elsewhere", [])
    shown, said = tables.run(
        f"{sys.executable} -c \"import sys; print('│ 1 │'); print('log', file=sys.stderr)\"", tmp_path
    )
    assert (shown, said) == (["│ 1 │"], ["log"])
    with pytest.raises(SystemExit, match="ended with 3"):
        tables.run(f'{sys.executable} -c "raise SystemExit(3)"', tmp_path)
