"""`narrows reproduce`: a run again, every figure judged, every difference named."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import NARROW, NO_TASKS, TINY, Finished, composed, manifest, only_run, replayed, run_in_process
from count_source import COUNTS, is_of_counts, is_of_series
from hydra.core.override_parser.overrides_parser import OverridesParser

from narrows.commands import reproduce
from narrows.commands.reproduce import Plan
from narrows.config.composition import config_dir, run_dir
from narrows.config.overrides import check_overrides
from narrows.config.quoting import quoted
from narrows.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


def started(*arguments: str, cwd: Path, command: str = "reproduce", **env: str) -> Finished:
    """`narrows COMMAND ARGUMENTS` in processes of their own."""
    done = subprocess.run(
        [sys.executable, "-m", f"narrows.commands.{command}", *arguments],
        **{"cwd": cwd, "env": os.environ | env, "capture_output": True, "text": True, "timeout": 600},
    )
    return Finished(done.returncode, done.stdout, done.stderr)


def trained(cwd: Path, *arguments: str) -> Path:
    done = run_in_process(*TINY, *arguments, cwd=cwd)
    assert done.code == 0, done.err
    return only_run(cwd / "outputs")


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run on digits; tests copy it before they change it."""
    return trained(tmp_path_factory.mktemp("digits"), *NARROW, *NO_TASKS, "seed=3")


@pytest.fixture
def run(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that run, away from where it was made."""
    monkeypatch.chdir(tmp_path)
    run_dir.cache_clear()
    shutil.copytree(digits, tmp_path / "theirs")
    return tmp_path / "theirs"


@pytest.fixture
def repeated(monkeypatch: pytest.MonkeyPatch, digits: Path) -> list[Plan]:
    """Instead of training, the run as it was: a perfect reproduction, at no cost. The plans that were asked for."""
    asked: list[Plan] = []

    def train(plan: Plan) -> int:
        asked.append(plan)
        shutil.copytree(digits, plan.into)
        return 0

    monkeypatch.setattr(reproduce, "train", train)
    return asked


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train for real, but in this process: a new one costs seconds."""
    monkeypatch.setattr(reproduce, "train", replayed)


def verdict(root: Path) -> dict[str, Any]:
    (found,) = (root / "outputs" / "reproductions").rglob("reproduction.json")
    text: dict[str, Any] = json.loads(found.read_text())
    return text


def edit_json(path: Path, change: Callable[[Any], None]) -> None:
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


# ── equal ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_run_is_reproduced_to_the_bit(run: Path, tmp_path: Path) -> None:
    """In real processes, with the recorded number of threads, and nothing of the current directory imported."""
    (tmp_path / "torch.py").write_text("raise SystemExit('imported from the current directory')")
    recorded = manifest(run)["hardware"]["threads"]
    program = "import sys; sys.path[:] = [p for p in sys.path if p]; import narrows.commands.reproduce as r; r.main()"
    done = subprocess.run(
        [sys.executable, "-P", "-c", program, str(run)],
        **{"cwd": tmp_path, "env": os.environ | {"OMP_NUM_THREADS": "3"}, "capture_output": True, "text": True},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(
        r"\n\d+ metrics bitwise equal, \d+ history rows bitwise equal, \d+ weight tensors bitw", done.stdout
    )
    assert done.stdout.rstrip().endswith("verdict      bitwise equal")
    new = only_run(tmp_path / "outputs")
    assert re.fullmatch(r"outputs/reproductions/vae/[\d_-]+_[0-9a-f]{8}", str(new.relative_to(tmp_path)))
    assert manifest(new)["reproduces"] == str(run)
    assert manifest(new)["status"] == "completed"
    assert manifest(new)["hardware"]["threads"] == recorded
    found = verdict(tmp_path)
    assert (found["verdict"], found["exit_code"]) == ("bitwise equal", 0)
    assert found["metrics"]["counts"]["equal"] > 5
    assert found["weight_tensors"]["counts"]["equal"] > 5
    assert found["notes"] == []
    assert not {"data", "versions", "config"} & {name for name, pairs in found["differences"].items() if pairs}


def test_the_recorded_surroundings_are_restored(run: Path, repeated: list[Plan], monkeypatch: Any) -> None:
    def change(values: Any) -> None:
        values["hardware"]["threads"] = 5
        values["environment"] = {"CUBLAS_WORKSPACE_CONFIG": ":16:8", "LD_PRELOAD": "x.so", "MKL_CBWR": "a b$(c)"}

    edit_json(run / "manifest.json", change)
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "default")
    monkeypatch.setenv("NARROWS_JOB", "{}")
    monkeypatch.delenv("LD_PRELOAD", raising=False)
    assert reproduce.reproduce([str(run)]) == 0
    environment = reproduce._environment(repeated[0])
    assert environment["OMP_NUM_THREADS"] == "5"
    assert environment["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"
    assert environment["PYTHONSAFEPATH"] == "1"
    assert not {"ATEN_CPU_CAPABILITY", "NARROWS_JOB", "LD_PRELOAD", "MKL_CBWR"} & environment.keys()
    run_dir.cache_clear()
    assert reproduce.reproduce([str(run), "--threads", "2", "--allow", "mylab,lightning", "--allow", "other"]) == 0
    environment = reproduce._environment(repeated[1])
    assert environment["OMP_NUM_THREADS"] == "2"
    assert repeated[1].allow == ["mylab", "lightning", "other"]
    assert environment["PYTHONSAFEPATH"] == "1", "nothing but the allowed packages is imported from here"


# ── different, and why ──────────────────────────────────────────────────────────────────────────────────


def test_one_changed_data_byte_is_named(tmp_path: Path, monkeypatch: Any, in_process: None, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    run_dir.cache_clear()
    x = np.random.default_rng(0).integers(0, 256, size=(64, 8), dtype=np.uint8)
    np.savez(tmp_path / "table.npz", x=x)
    source = ("datamodule=arrays", "datamodule.source.path=table.npz", "datamodule.source.standardise=minmax")
    run = trained(tmp_path, *NARROW, *NO_TASKS, *source, "trainer.limit_train_batches=null")
    run = run.rename(tmp_path / "theirs")
    x[5, 3] ^= 1
    np.savez(tmp_path / "table.npz", x=x)
    assert reproduce.reproduce([str(run)]) == 4
    out = capsys.readouterr().out
    assert "data differs:\n  fingerprint: " in out
    assert "likely cause: what differs in data" in out
    assert out.rstrip().endswith("verdict      different")
    assert verdict(tmp_path)["differences"]["data"].keys() == {"fingerprint"}


SURROUNDINGS: dict[str, tuple[Callable[[Any], None], str]] = {
    "code": (lambda m: m.update(source="0" * 64), "code differs:\n  source: 0000"),
    "versions": (lambda m: m["versions"].update(torch="1.0"), "versions differ:\n  torch: 1.0 -> "),
    "hardware": (lambda m: m["hardware"].update(cpu="abacus"), "hardware differs:\n  processor: abacus -> "),
    "environment": (lambda m: m["environment"].update(MKL_CBWR="AVX2"), "environment differs:\n  MKL_CBWR: AVX2 -> "),
    "data": (lambda m: m["data"].update(fingerprint="0"), "data differs:\n  fingerprint: 0 -> "),
}


@pytest.mark.parametrize("section", SURROUNDINGS)
def test_what_differs_is_named(section: str, run: Path, repeated: list[Plan], capsys: Any) -> None:
    change, sentence = SURROUNDINGS[section]
    edit_json(run / "manifest.json", change)
    assert reproduce.reproduce([str(run)]) == 0
    out = capsys.readouterr().out
    assert sentence in out
    assert "likely cause" not in out, "no figure differs"
    edit_json(run / "metrics.json", lambda m: m.update({"test/loss": m["test/loss"] * 1.01}))
    run_dir.cache_clear()
    assert reproduce.reproduce([str(run)]) == 4
    assert f"likely cause: what differs in {section}" in capsys.readouterr().out


def test_another_commit_of_the_same_source_is_no_cause(run: Path, repeated: list[Plan], capsys: Any) -> None:
    def change(values: Any) -> None:
        values["git"] = {"commit": "0" * 40, "diff": ""}

    edit_json(run / "manifest.json", change)
    edit_json(run / "metrics.json", lambda m: m.update({"test/loss": 1.0}))
    assert reproduce.reproduce([str(run)]) == 4
    out = capsys.readouterr().out
    assert "git differs, but the source of narrows is the same" in out
    assert "nothing that was recorded explains it" in out


def test_an_unexplained_difference_is_not_explained_away(run: Path, repeated: list[Plan], capsys: Any) -> None:
    edit_json(run / "metrics.json", lambda m: m.update({"test/loss": 1.0}))
    assert reproduce.reproduce([str(run)]) == 4
    out = capsys.readouterr().out
    assert "code, versions, hardware, data and config are the same" in out
    assert "nothing that was recorded explains it" in out


def test_nondeterministic_operations_are_named(run: Path, repeated: list[Plan], capsys: Any) -> None:
    edit_json(run / "manifest.json", lambda m: m.update(nondeterministic=["adaptive_pool_backward"]))
    assert reproduce.reproduce([str(run)]) == 0
    assert "without a deterministic implementation on this device: adaptive_pool_backward" in capsys.readouterr().out
    edit_json(run / "metrics.json", lambda m: m.update({"test/loss": 1.0}))
    run_dir.cache_clear()
    assert reproduce.reproduce([str(run)]) == 4
    assert "these can give other figures in each run" in capsys.readouterr().out


def test_a_tolerance_is_stated_and_told_by_the_exit_code(run: Path, repeated: list[Plan], capsys: Any) -> None:
    edit_json(run / "metrics.json", lambda m: m.update({"test/loss": m["test/loss"] * (1 + 1e-8)}))
    assert reproduce.reproduce([str(run)]) == 3
    assert capsys.readouterr().out.rstrip().endswith("verdict      equal within the tolerance of 1e-06")
    run_dir.cache_clear()
    assert reproduce.reproduce([str(run), "--tolerance", "1e-9"]) == 4
    out = capsys.readouterr().out
    assert re.search(r"test/loss +│ -?[\d.]+ +│ -?[\d.]+ +│ +1e-08 +│ different", out), out


@pytest.mark.parametrize("what", ["a metric less", "a metric more", "a row less", "a row more"])
def test_what_is_missing_or_extra_is_different(what: str, run: Path, repeated: list[Plan], capsys: Any) -> None:
    metrics, history = run / "metrics.json", run / "metrics.csv"
    if what == "a metric less":
        edit_json(metrics, lambda m: m.pop("test/loss"))
    elif what == "a metric more":
        edit_json(metrics, lambda m: m.update({"test/new": 1.0}))
    elif what == "a row less":
        history.write_text("".join(history.read_text().splitlines(keepends=True)[:-1]))
    else:
        history.write_text(history.read_text() + "99,val/loss,1.0\n")
    assert reproduce.reproduce([str(run)]) == 4
    words = "only in the reproduction" if what.endswith("less") else "missing in the reproduction"
    assert f"1 {words}" in capsys.readouterr().out


def test_wall_clock_figures_do_not_count(run: Path, repeated: list[Plan]) -> None:
    (run / "metrics.csv").write_text((run / "metrics.csv").read_text() + "9,throughput/examples_per_second,1.0\n")
    assert reproduce.reproduce([str(run)]) == 0


def test_a_run_copied_without_its_weights_is_judged_by_its_figures(
    run: Path, repeated: list[Plan], capsys: Any
) -> None:
    shutil.rmtree(run / "checkpoints")
    assert reproduce.reproduce([str(run)]) == 0
    assert "weights are not compared: there is no last checkpoint in" in capsys.readouterr().out


def test_a_run_that_the_clock_ended_is_said_to_be_one(run: Path, repeated: list[Plan], capsys: Any) -> None:
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace("max_time: null", "max_time: '00:00:01:00'"))
    reproduce.reproduce([str(run)])
    assert "trainer.max_time ends a run by the clock" in capsys.readouterr().out


def test_what_the_user_changes_is_a_difference_of_the_config(run: Path, in_process: None, capsys: Any) -> None:
    assert reproduce.reproduce([str(run), "optimizer.lr=0.5"]) == 4
    out = capsys.readouterr().out
    assert "config differs:\n  optimizer.lr: 0.001 -> 0.5\n" in out
    assert "likely cause: what differs in config" in out


# ── refused ─────────────────────────────────────────────────────────────────────────────────────────────


def refusal(*arguments: str) -> str:
    with pytest.raises(UserError) as caught:
        reproduce.reproduce(arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_command_line_that_makes_no_sense_is_refused(run: Path, tmp_path: Path) -> None:
    assert "name the run to reproduce" in refusal()
    assert "there is no run directory nowhere" in refusal("nowhere")
    assert "only one run" in refusal(str(run), str(run))
    assert "--against goes with --from-config" in refusal(str(run), "--against", str(run))
    assert "--tolerance" in refusal(str(run), "--tolerance", "-1")
    assert "invalid float value" in refusal(str(run), "--tolerance", "x")
    assert "--threads" in refusal(str(run), "--threads", "0")
    assert "is not empty" in refusal(str(run), "--into", str(run.parent))
    assert "lies in the run" in refusal(str(run), "--into", str(run / "again"))
    assert "is not a run directory" in refusal(str(tmp_path))
    assert list(tmp_path.iterdir()) == [run]


@pytest.mark.parametrize("status", ["running", "interrupted", "failed", "pruned", None])
def test_only_a_completed_run_can_be_judged(status: str | None, run: Path) -> None:
    edit_json(run / "manifest.json", lambda m: m.update(status=status))
    sentence = refusal(str(run))
    expected = "status must be text" if status is None else f"{run} is {status}: only a completed run can be judged"
    assert expected in sentence
    assert ("narrows train resume=" in sentence) == (status in ("running", "interrupted", "failed"))


@pytest.mark.parametrize("name", ["manifest.json", "metrics.json", "config.yaml"])
@pytest.mark.parametrize("text", [None, "", "[]", "{", "\x00\xff"])
def test_a_damaged_run_is_refused_in_one_sentence(name: str, text: str | None, run: Path, tmp_path: Path) -> None:
    if text is None:
        (run / name).unlink()
    else:
        (run / name).write_bytes(text.encode("latin-1"))
    assert name.partition(".")[0] in refusal(str(run))
    assert not (tmp_path / "outputs").exists()


def test_a_tampered_run_executes_nothing(run: Path, tmp_path: Path, in_process: None, capsys: Any) -> None:
    canary = tmp_path / "canary"
    text = (run / "config.yaml").read_text()
    place = f"[{{_target_: pathlib.Path, _args_: ['{canary}']}}]"
    node = f"callbacks:\n  evil:\n    _target_: pathlib.Path.mkdir\n    _args_: {place}\n"
    assert "callbacks:\n" in text
    (run / "config.yaml").write_text(text.replace("callbacks:\n", node))
    assert reproduce.reproduce([str(run)]) == 2
    assert "callbacks.evil._target_: 'pathlib.Path.mkdir' is no component" in capsys.readouterr().err
    assert not canary.exists()
    assert not (tmp_path / "outputs").exists()


def test_a_stranger_chooses_no_place_to_write(run: Path, repeated: list[Plan], tmp_path: Path) -> None:
    edit_json(run / "manifest.json", lambda m: m["choices"].update(variant="../../../up", experiment="None"))
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace("output_dir: outputs", f"output_dir: {tmp_path}/elsewhere"))
    reproduce.reproduce([str(run)])
    assert repeated[0].into.parent == tmp_path / "outputs" / "reproductions" / "_________up"
    assert repeated[0].adapted["output_dir"] == "'outputs'"


def test_a_stranger_s_words_cannot_write_to_the_terminal(run: Path, repeated: list[Plan], capsys: Any) -> None:
    edit_json(run / "manifest.json", lambda m: m["hardware"].update(cpu="\x1b]0;x\x07[red]abacus[/red]"))
    edit_json(run / "metrics.json", lambda m: m.update({"a\x1b[2J[bold]": 1.0}))
    assert reproduce.reproduce([str(run)]) == 4
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\x07" not in out
    assert "[red]abacus[/red]" in out


def test_a_failed_reproduction_is_no_verdict(run: Path, monkeypatch: Any, capsys: Any) -> None:
    for code, told in ((1, 1), (3, 1), (-9, 1), (143, 143), (2, 2)):
        run_dir.cache_clear()
        monkeypatch.setattr(reproduce, "train", lambda plan, code=code: code)
        assert reproduce.reproduce([str(run)]) == told
        assert ("exit code" in capsys.readouterr().err) == (code != 2)


# ── elsewhere ───────────────────────────────────────────────────────────────────────────────────────────


def adapted(run: Path, changes: str, repeated: list[Plan], *arguments: str) -> dict[str, str]:
    """What is adapted for a run whose data come from `changes`."""
    text = (run / "config.yaml").read_text()
    found = re.sub(r"(?m)^  source:\n(    .*\n)+", f"  source:\n{changes}", text)
    assert found != text
    (run / "config.yaml").write_text(found)
    run_dir.cache_clear()
    reproduce.reproduce([str(run), *arguments])
    return {key: value for key, value in repeated[-1].adapted.items() if key != "output_dir"}


ARRAYS = "    _target_: narrows.data.sources.arrays.Arrays\n    path: table.npz\n    test: {path: null}\n"
MNIST = "    _target_: narrows.data.sources.mnist.MNIST\n    data_dir: data\n    download: true\n"


def test_data_are_found_where_the_run_was_started(run: Path, repeated: list[Plan], tmp_path: Path) -> None:
    there = tmp_path / "there's"
    there.mkdir()
    edit_json(run / "manifest.json", lambda m: m.update(directory=str(there)))
    with pytest.raises(UserError, match=r"datamodule\.source\.path=table\.npz, which is not on this machine: say "):
        adapted(run, ARRAYS, repeated)
    (there / "table.npz").write_text("")
    reproduce.reproduce([str(run)])
    key, value = "datamodule.source.path", repeated[-1].adapted["datamodule.source.path"]
    (parsed,) = OverridesParser.create().parse_overrides([f"{key}={value}"])
    assert parsed.value() == str(there / "table.npz")


def test_a_path_that_the_user_gives_is_the_user_s(run: Path, repeated: list[Plan]) -> None:
    assert adapted(run, ARRAYS, repeated, "datamodule.source.path=/my/table.npz") == {}
    assert repeated[-1].overrides == ["datamodule.source.path=/my/table.npz"]


def test_data_dir_reaches_the_source_and_permits_downloads(run: Path, repeated: list[Plan]) -> None:
    assert adapted(run, MNIST, repeated) == {"datamodule.source.download": "false"}
    run_dir.cache_clear()
    reproduce.reproduce([str(run), "data_dir=/my/data"])
    assert repeated[-1].adapted["datamodule.source.data_dir"] == "/my/data"
    assert "datamodule.source.download" not in repeated[-1].adapted


def test_loggers_that_write_elsewhere_are_left_out(run: Path, repeated: list[Plan], capsys: Any) -> None:
    text = (run / "config.yaml").read_text()
    node = "logger:\n  far:\n    _target_: narrows.training.loggers.mlflow\n    _partial_: true\n    tracking_uri: http://far\n"
    (run / "config.yaml").write_text(text.replace("logger:\n", node))
    reproduce.reproduce([str(run)])
    assert "left out: logger 'far'" in capsys.readouterr().out
    (parsed,) = OverridesParser.create().parse_overrides([f"logger={repeated[-1].adapted['logger']}"])
    assert set(parsed.value()) == {"csv", "tensorboard"}
    check_overrides([f"logger={repeated[-1].adapted['logger']}"], recorded=True)
    run_dir.cache_clear()
    reproduce.reproduce([str(run), "--keep-loggers"])
    assert "logger" not in repeated[-1].adapted


@pytest.mark.parametrize(
    "value",
    [
        *("", "a b", "it's", "a\\", "a\\'b", "\\\\", "c:\\d", "{x}", "[1,2]", "1e-3", "a=b,c", "µ", '"'),
        *("true", "null", "NaN", "inf", "word", "two.words"),
        *(1, 1.5, True, None, [1, "a'b", None], {"a": {"b": "c d"}, "e": [False]}),
    ],
)
@pytest.mark.parametrize("bare", [False, True])
def test_a_value_survives_hydra_s_grammar(value: Any, bare: bool) -> None:
    (parsed,) = OverridesParser.create().parse_overrides([f"key={quoted(value, bare)}"])
    assert parsed.value() == value
    assert type(parsed.value()) is type(value)


def test_a_bare_config_is_run_and_judged_only_where_asked(run: Path, repeated: list[Plan], tmp_path: Path) -> None:
    bare = Path(shutil.copy(run / "config.yaml", tmp_path / "bare.yaml"))
    assert reproduce.reproduce(["--from-config", str(bare), "seed=3"]) == 0
    assert repeated[0].file == bare
    assert repeated[0].threads is None
    assert not list(tmp_path.rglob("reproduction.json"))
    run_dir.cache_clear()
    assert reproduce.reproduce(["--from-config", str(bare), "--against", str(run)]) == 0
    assert verdict(tmp_path)["reproduces"] == str(run)


# ── for real, and long ──────────────────────────────────────────────────────────────────────────────────

VARIANTS = sorted(path.stem for path in (config_dir() / "variant").glob("*.yaml"))
SMALL = ("trainer.max_epochs=2", "trainer.limit_train_batches=5")


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_is_reproduced_to_the_bit(variant: str, tmp_path: Path) -> None:
    counts = is_of_counts(composed(f"variant={variant}"))
    data = (COUNTS,) if counts else ("datamodule=series",) if is_of_series(variant) else ()
    here = {"PYTHONPATH": str(Path(__file__).parents[1])}
    done = started(f"variant={variant}", *data, *SMALL, cwd=tmp_path, command="train", **here)
    assert done.code == 0, done.err
    done = started(str(only_run(tmp_path)), *(["--allow", "count_source"] * counts), cwd=tmp_path, **here)
    assert done.code == 0, done.out + done.err
    found = verdict(tmp_path)["differences"]
    assert not {name for name, pairs in found.items() if pairs} - {"code"}, "the source may be edited meanwhile"


@pytest.mark.slow
def test_one_edited_source_line_is_named(tmp_path: Path) -> None:
    done = started(*SMALL, *NARROW, *NO_TASKS, cwd=tmp_path, command="train")
    assert done.code == 0, done.err
    run = only_run(tmp_path)
    copy = tmp_path / "edited"
    shutil.copytree(ROOT / "src", copy / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "configs", copy / "configs")
    path = copy / "src" / "narrows" / "losses" / "reconstruction.py"
    line = next(line for line in path.read_text().splitlines() if line.strip().startswith("return -"))
    path.write_text(path.read_text().replace(line, f"{line} * 1.001", 1))
    done = started(str(run), cwd=tmp_path, PYTHONPATH=str(copy / "src"))
    assert done.code == 4, done.out + done.err
    assert "code differs:\n  " in done.out
    assert re.search(r"\n  source: [0-9a-f]{64} -> [0-9a-f]{64}\n", done.out)
    assert "likely cause: what differs in code" in done.out


@pytest.mark.slow
def test_a_resumed_run_is_reproduced_like_any_other(tmp_path: Path) -> None:
    long = ("trainer.max_epochs=30", *NARROW, *NO_TASKS)
    command = [sys.executable, "-m", "narrows.commands.train", *long]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        while child.poll() is None and not list(tmp_path.rglob("last.ckpt")):
            time.sleep(0.05)
        child.send_signal(signal.SIGTERM)
    run = only_run(tmp_path)
    assert manifest(run)["status"] == "interrupted"
    assert started(f"resume={run}", cwd=tmp_path, command="train").code == 0
    assert len(manifest(run)["attempts"]) == 2
    done = started(str(run), cwd=tmp_path)
    assert done.code == 0, done.out + done.err


@pytest.mark.slow
def test_a_signal_reaches_the_run(tmp_path: Path) -> None:
    long = trained(tmp_path, *NARROW, *NO_TASKS)
    edit = ["trainer.max_epochs=100000", "trainer.limit_train_batches=null"]
    command = [sys.executable, "-m", "narrows.commands.reproduce", str(long), "--into", str(tmp_path / "new"), *edit]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as parent:
        while parent.poll() is None and not (tmp_path / "new" / "checkpoints" / "last.ckpt").exists():
            time.sleep(0.05)
        parent.send_signal(signal.SIGTERM)
    assert parent.returncode == 143
    assert manifest(tmp_path / "new")["status"] == "interrupted"
    assert not (tmp_path / "new" / "reproduction.json").exists()
