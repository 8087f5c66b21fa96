"""Runs of strangers: no command writes through a link in a run, or prints what takes over a terminal."""

from __future__ import annotations

import io
import json
import shutil
import struct
import zlib
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pytest
from command import NARROW, NO_TASKS, TINY, Finished, run_in_process
from PIL import Image

import narrows
from narrows.coding.nrwz_file import digest, unpack
from narrows.commands import (
    compare,
    compress,
    decompress,
    diff,
    embed,
    evaluate,
    export,
    reconstruct,
    reproduce,
    sample,
    score,
    style,
    summarise,
)
from narrows.errors import UserError

SMALL = (*TINY, *NO_TASKS, *NARROW, "logger=csv", "hydra.run.dir=run")
CODES = ("variant=residual_vq", "bottleneck.codes=8")
LINKS = (".lock", "metrics.csv", "train.log", "manifest.json", "config.yaml", "metrics.json", "events.out.tfevents.1")
FOLDERS = ("checkpoints", "figures", "tasks", "samples", "coding", "densities", ".hydra")
WITHIN = ("checkpoints/last.ckpt", "figures/reconstruction.png", "tasks/latent.json", ".hydra/config.yaml")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that can do everything, beside a compressed file."""
    folder: Path = tmp_path_factory.mktemp("stranger")
    done = run_in_process(*SMALL, *CODES, cwd=folder)
    assert done.code == 0, done.err
    (folder / "in.txt").write_text("A text.")
    Image.fromarray(np.zeros((8, 8), dtype=np.uint8)).save(folder / "in.png")
    np.save(folder / "in.npy", np.zeros((3, 8, 8), dtype=np.uint8))
    compress.main([str(folder / "in.npy"), str(folder / "in.nrwz"), "--run", str(folder / "run")])
    return folder / "run"


def ended(call: Callable[[], object]) -> Finished:
    """What a command says, and how it ends."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with redirect_stdout(out), redirect_stderr(err):
        try:
            call()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
    return Finished(code, out.getvalue(), err.getvalue())


def commands(run: Path, beside: Path, out: Path) -> dict[str, Callable[[], object]]:
    """A call of every command that opens the run `run`."""
    resumed = ("resume=" + str(run), "trainer.max_epochs=2")
    return {
        "train": lambda: _as_ended(run_in_process(*resumed, cwd=out)),
        "evaluate": lambda: evaluate.main([str(run), "task=latent"]),
        "sample": lambda: sample.main([str(run), "--density", "autoregressive", "density.epochs=1"]),
        "score": lambda: score.main([str(run), str(beside / "in.npy"), "-o", str(out / "scored.csv")]),
        "embed": lambda: embed.main([str(run), str(beside / "in.npy"), "-o", str(out / "z.npz")]),
        "reconstruct": lambda: reconstruct.main([str(run), str(beside / "in.npy"), "-o", str(out / "rebuilt.npy")]),
        "export": lambda: export.main([str(run), "--to", "safetensors", "-o", str(out / "new.safetensors")]),
        "summarise": lambda: summarise.main([str(run), str(beside / "in.txt"), "-o", str(out / "short.txt")]),
        "style": lambda: style.main([*[str(beside / "in.png")] * 2, "--run", str(run), "-o", str(out / "new.png")]),
        "compress": lambda: compress.main([str(beside / "in.npy"), str(out / "new.nrwz"), "--run", str(run)]),
        "decompress": lambda: decompress.main([str(beside / "in.nrwz"), str(out / "new.npy"), "--run", str(run)]),
        "reproduce": lambda: _reproduce(str(run), "--into", str(out / "again")),
        "compare": lambda: compare.main([str(run), "--html", str(out / "new.html"), "--csv", str(out / "new.csv")]),
        "diff": lambda: diff.main([str(run), str(beside / "run")]),
    }


def _as_ended(done: Finished) -> None:
    import sys

    sys.stderr.write(done.err)
    raise SystemExit(done.code)


def _reproduce(*arguments: str) -> None:
    from unittest.mock import patch

    with patch("sys.argv", ["narrows", *arguments]):
        reproduce.main()


@pytest.mark.parametrize("place", [*LINKS, *FOLDERS, *WITHIN])
def test_no_command_writes_through_a_link_in_a_run(run: Path, place: str, tmp_path: Path) -> None:
    copy, victim, out = shutil.copytree(run, tmp_path / "run"), tmp_path / "victim", tmp_path / "out"
    out.mkdir()
    entry = copy / place
    entry.parent.mkdir(exist_ok=True)
    if entry.exists():
        entry.rename(victim)
    elif place in FOLDERS:
        victim.mkdir()
    else:
        victim.write_text("precious")
    before = contents(victim)
    entry.symlink_to(victim)
    for name, call in commands(copy, run.parent, out).items():
        done = ended(call)
        assert done.code == 2, (name, done.err)
        (line,) = [line for line in done.err.splitlines() if line.startswith("narrows: ")]
        assert place in line, (name, line)
    with pytest.raises(UserError, match="is a link to"):
        narrows.load(copy)
    assert contents(victim) == before
    assert list(out.iterdir()) == []


def contents(path: Path) -> dict[str, bytes]:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return {file.name: file.read_bytes() for file in files}


def test_a_users_own_links_above_a_run_work(run: Path, tmp_path: Path) -> None:
    """The outputs may lie on another disk, and `latest` may lead to a run."""
    disk, out = tmp_path / "disk", tmp_path / "out"
    shutil.copytree(run, disk / "run")
    out.mkdir()
    (tmp_path / "outputs").symlink_to(disk)
    (tmp_path / "latest").symlink_to(Path("outputs") / "run")
    asked = commands(tmp_path / "latest", run.parent, out)
    for name in ("evaluate", "compress", "decompress", "compare", "diff"):
        done = ended(asked[name])
        assert done.code == 0, (name, done.err)
    assert (disk / "run" / "tasks" / "latent.json").is_file()
    done = run_in_process(*SMALL[:-1], *CODES, "hydra.run.dir=outputs/new", cwd=tmp_path)
    assert done.code == 0, done.err
    assert json.loads((disk / "new" / "manifest.json").read_text())["status"] == "completed"


def test_a_new_run_writes_nothing_through_a_link_in_its_directory(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "train.log").symlink_to(tmp_path / "victim")
    done = run_in_process(*SMALL, *CODES, cwd=tmp_path)
    assert done.code == 2
    assert "train.log is a link to" in done.err
    assert not (tmp_path / "victim").exists()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["train.log"]


@pytest.mark.parametrize(
    ("changes", "count"),
    [
        ({"names": ["../../evil.png"] * 3}, 3),
        ({}, 2**32 - 1),
        ({"shape": [1, 10**5, 10**5]}, 3),
        ({"kind": "image"}, 40),
    ],
)
def test_a_strangers_file_writes_nothing_that_it_should_not(
    run: Path, changes: dict[str, object], count: int, tmp_path: Path
) -> None:
    whole = (run.parent / "in.nrwz").read_bytes()
    header, code = unpack(whole, "in.nrwz")
    kind = {"kind": "folder"} if "names" in changes else {}
    layout = zlib.compress(json.dumps(header.layout | kind | changes).encode())
    body = whole[:29] + struct.pack("<II", count, len(layout)) + layout + code
    (tmp_path / "x.nrwz").write_bytes(body + digest(body))
    out = tmp_path / "out" / ("new" if kind else "new.png" if changes.get("kind") == "image" else "new.npy")
    done = ended(lambda: decompress.main([str(tmp_path / "x.nrwz"), str(out), "--run", str(run)]))
    assert done.code == 2, done.err
    assert len([line for line in done.err.splitlines() if line.startswith("narrows: ")]) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["x.nrwz"]


@pytest.mark.parametrize("kind", ["pipe", "loop", "dangling"])
def test_a_record_holds_plain_files_alone(run: Path, kind: str, tmp_path: Path) -> None:
    import os

    copy = shutil.copytree(run, tmp_path / "run")
    (copy / "metrics.csv").unlink()
    if kind == "pipe":
        os.mkfifo(copy / "metrics.csv")
    else:
        (copy / "metrics.csv").symlink_to("metrics.csv" if kind == "loop" else "nowhere")
    done = run_in_process(f"resume={copy}", "trainer.max_epochs=2", cwd=tmp_path)
    assert done.code == 2
    assert "metrics.csv is" in done.err
    assert not (copy / "nowhere").exists()
    assert json.loads((copy / "manifest.json").read_text())["status"] == "completed"


HOSTILE = "a\x1b[2J\x07b\u202ec"


def raised(call: Callable[[], object]) -> UserError | None:
    try:
        call()
    except UserError as error:
        return error
    return None


def plain(done: Finished) -> bool:
    """Whether nothing that was printed could take over a terminal."""
    return all(line.isprintable() for line in (done.out + done.err).split("\n"))


@pytest.mark.parametrize(
    ("found", "becomes"),
    [
        ("_target_: narrows.encoders.MLPEncoder", f'_target_: "narrows.encoders.{HOSTILE}"'),
        ("_target_: narrows.encoders.MLPEncoder", f'_target_: narrows.encoders.MLPEncoder\n  "{HOSTILE}": 1'),
        ("seed: 0", f'seed: "${{{HOSTILE}}}"'),
        ("seed: 0", f'seed: 0\n"{HOSTILE}'),
        ("checkpoint: best", f'checkpoint: "{HOSTILE}"'),
        ("activation: relu", f'activation: "{HOSTILE}"'),
    ],
)
def test_no_command_prints_a_strangers_control_characters(run: Path, found: str, becomes: str, tmp_path: Path) -> None:
    copy, out = shutil.copytree(run, tmp_path / HOSTILE), tmp_path / "out"
    out.mkdir()
    text = (copy / "config.yaml").read_text()
    assert found in text
    escaped = "".join(char if char.isprintable() or char == "\n" else f"\\u{ord(char):04x}" for char in becomes)
    (copy / "config.yaml").write_text(text.replace(found, escaped, 1))
    figures = json.loads((copy / "metrics.json").read_text())
    (copy / "metrics.json").write_text(json.dumps(figures | {f"test/{HOSTILE}": 1.0}))
    for name, call in commands(copy, run.parent, out).items():
        # A child of reproduce says what train says.
        if name != "reproduce" or "${" in becomes:
            done = ended(call)
            assert plain(done), (name, done.out + done.err)
            assert done.code in (0, 2), (name, done.err)
    said = raised(lambda: narrows.load(copy))
    assert said is None or (str(said).isprintable() and said.__suppress_context__)


def test_a_hostile_directory_is_named_without_its_control_characters(run: Path, tmp_path: Path) -> None:
    copy, out = shutil.copytree(run, tmp_path / HOSTILE), tmp_path / "out"
    out.mkdir()
    for name, call in commands(copy, run.parent, out).items():
        if name != "reproduce":
            done = ended(call)
            assert plain(done), (name, done.out + done.err)
            assert done.code == (2 if name in ("summarise", "style", "decompress") else 0), (name, done.err)


def test_the_log_of_a_run_has_no_control_characters(tmp_path: Path) -> None:
    for number, name in enumerate((HOSTILE, "other")):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for i in range(20):
            shade = np.full((8, 8), 10 * i + number, dtype=np.uint8)
            Image.fromarray(shade).save(tmp_path / "pictures" / name / f"{i}.png")
    data = ("datamodule=image_folder", "datamodule.source.path=pictures", "datamodule.source.size=8")
    done = run_in_process(*SMALL, *data, cwd=tmp_path)
    assert done.code == 0, done.err
    assert plain(done), done.err
    assert (tmp_path / "run" / "train.log").read_text().replace("\n", "").isprintable()
