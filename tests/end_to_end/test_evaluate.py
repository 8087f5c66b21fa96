"""`narrows evaluate` on real runs: figures, records, refusals, and what it leaves alone."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from command import NO_TASKS, TINY, manifest, run_in_process
from omegaconf import OmegaConf

from narrows.commands import evaluate, sample
from narrows.commands.evaluate import parse_arguments
from narrows.compare.run_records import read_run
from narrows.compare.run_summary import print_figures
from narrows.errors import UserError
from narrows.loading import open_run
from narrows.new_data import loaded


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("trained")
    options = ("encoder.widths=[8]", "decoder.widths=[8]", "hydra.run.dir=run", "trainer.limit_test_batches=1.0")
    done = run_in_process(*TINY, *options, *NO_TASKS, cwd=folder)
    assert done.code == 0, done.err
    return folder / "run"


@pytest.fixture
def one(trained: Path, tmp_path: Path) -> Path:
    # A name as sweeps give it.
    return Path(shutil.copytree(trained, tmp_path / "000_seed=0"))


def test_figures_are_printed_recorded_and_ranked_by(one: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = json.loads((one / "metrics.json").read_text())
    weights = (one / "checkpoints" / "best.ckpt").read_bytes()
    evaluate.main([str(one), "task=likelihood", "task.samples=7", "task.max_examples=11"])
    printed = capsys.readouterr().out
    record = json.loads((one / "tasks" / "likelihood.json").read_text())
    after = json.loads((one / "metrics.json").read_text())
    assert set(record["figures"]) == {"test/nll", "test/nll_stderr"}
    assert after == before | record["figures"]
    shown = re.search(r"importance sampled \(nats\) │ +(\S+)", printed)
    assert shown is not None
    # Only as many digits as the standard error leaves.
    assert float(shown[1]) == pytest.approx(record["figures"]["test/nll"], abs=record["figures"]["test/nll_stderr"])
    assert (record["options"]["samples"], record["options"]["max_examples"]) == (7, 11)
    assert record["data"] == manifest(one)["data"]["fingerprint"]
    assert "torch" in record["versions"]
    assert manifest(one)["evaluated"] == ["test/nll", "test/nll_stderr"]
    assert read_run(one).metrics["test/nll"] == record["figures"]["test/nll"]
    assert (one / "checkpoints" / "best.ckpt").read_bytes() == weights
    evaluate.main([str(one), "task=likelihood", "task.samples=7", "task.max_examples=11"])
    assert json.loads((one / "tasks" / "likelihood.json").read_text()) == record, "the same question, the same answer"


def test_a_task_of_the_run_keeps_the_options_that_it_had_there(one: Path) -> None:
    config = OmegaConf.load(one / "config.yaml")
    config.tasks = {"nll": {**OmegaConf.load(evaluate.choices()["likelihood"]), "samples": 3, "max_examples": 5}}
    OmegaConf.save(config, one / "config.yaml")
    options = []
    for given in ((), ("task.samples=4",)):
        evaluate.main([str(one), "task=likelihood", *given])
        options.append(json.loads((one / "tasks" / "likelihood.json").read_text())["options"])
    assert [(each["samples"], each["max_examples"]) for each in options] == [(3, 5), (4, 5)]


def test_all_that_fit_and_several_runs_side_by_side(one: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = Path(shutil.copytree(one, one.parent / "other"))
    asked = parse_arguments([str(one), str(other), "task=all"])
    asked.tasks = ["reconstruction", "latent", "disentanglement"]
    evaluate.evaluate(asked)
    printed = capsys.readouterr().out
    assert "MSE per value" in printed
    for folder in (one, other):
        assert {path.stem for path in (folder / "tasks").iterdir()} == {"reconstruction", "latent"}
        assert "test/pca/mse" in json.loads((folder / "metrics.json").read_text())


def test_many_runs_are_printed_in_tables_that_can_be_read(capsys: pytest.CaptureFixture[str]) -> None:
    print_figures({f"sweep/{number:03d}_seed={number}": {"test/mse": number + 0.5} for number in range(9)})
    printed = capsys.readouterr().out
    assert printed.count("on the test split") == 3
    for number in range(9):
        assert f"sweep/{number:03d}_seed={number}" in printed
        assert f" {number}.5 " in printed


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["task=likelihood"], "name the runs to evaluate"),
        (["RUN"], "say which task once: task=NAME"),
        (["RUN", "task=likelihod"], "there is no task 'likelihod'.*likelihood"),
        (["nowhere", "task=latent"], "there is no run directory nowhere"),
        (["RUN", "task=latent,likelihood", "task.samples=3"], "task.samples=3 belongs to one task, but 2 were named"),
        (["RUN", "task=likelihood", "task.sample=3"], "no 'task.sample': did you mean 'task.samples'"),
        (["RUN", "task=likelihood", "task.samples=0"], "samples must be at least 1"),
        (["RUN", "task=disentanglement"], "task disentanglement does not fit"),
    ],
)
def test_one_sentence_and_nothing_is_written(
    arguments: list[str], sentence: str, one: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in one.rglob("*") if path.is_file()}
    with pytest.raises(SystemExit) as end:
        evaluate.main([str(one) if argument == "RUN" else argument for argument in arguments])
    error = capsys.readouterr().err
    assert end.value.code == 2
    assert error.startswith("narrows: ")
    assert error.count("\n") == 1
    assert re.search(sentence, error), error
    after = {path: path.read_bytes() for path in one.rglob("*") if path.is_file() and path.name != ".lock"}
    assert {k: v for k, v in before.items() if k.name != ".lock"} == after


def test_a_run_that_is_being_written_is_left_alone(one: Path) -> None:
    program = (
        "import time; from pathlib import Path; from narrows.runs.run_directory import RunDirectory\n"
        f"RunDirectory(Path({str(one)!r})).reclaim(); print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=r"another process .* is writing"):
            evaluate.evaluate(parse_arguments([str(one), "task=latent"]))
        holder.kill()
    evaluate.evaluate(parse_arguments([str(one), "task=latent"]))


def test_a_run_is_judged_and_sampled_with_its_own_threads(
    one: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    seen, build = [], open_run.build_model

    def noting(*arguments: Any, **options: Any) -> Any:
        seen.append(torch.get_num_threads())
        return build(*arguments, **options)

    monkeypatch.setattr(open_run, "build_model", noting)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    before = torch.get_num_threads()
    hardware = manifest(one)["hardware"]
    for threads, used in ((2, 2), (1, 1), (500, 2), ("many", before), (None, before)):
        rewritten = manifest(one) | {"hardware": hardware | {"threads": threads}}
        (one / "manifest.json").write_text(json.dumps(rewritten))
        evaluate.main([str(one), "task=likelihood", "task.samples=2", "task.max_examples=3"])
        sample.main([str(one), "-n", "2"])
        assert seen == [used, used]
        assert torch.get_num_threads() == before
        assert ("last digits: threads" in caplog.text) == (threads in (500, "many"))
        seen.clear()
        caplog.clear()


def test_what_makes_digits_differ_is_said(one: Path, caplog: pytest.LogCaptureFixture) -> None:
    hardware = manifest(one)["hardware"] | {"cpu": "\x1b[2J" + 300 * "x", "gpus": "none"}
    (one / "manifest.json").write_text(json.dumps(manifest(one) | {"hardware": hardware, "versions": {"torch": "1.0"}}))
    sample.main([str(one), "-n", "2"])
    (said,) = [record.message for record in caplog.records]
    assert re.search(r"last digits: processor '\\x1b\[2Jx+, now .*; GPUs 'none', now .*; torch '1.0', now '2", said)
    assert len(said) < 600


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["task="], "'task=' leaves out the name of a task"),
        (["task=latent,"], "'task=latent,' leaves out the name of a task"),
        (["+task=latent"], "'+task=latent': options of a task are changed, not added; write task=latent"),
        (["task=latent", "+task.max_rows=9"], "write task.max_rows=9"),
        (["task=latent", "bottleneck.dim=5"], "changes nothing in a trained run"),
        (["task=latent", "checkpoint=last"], "changes nothing in a trained run"),
        (["task=latent", "+nothing=1"], "changes nothing in a trained run"),
        (["task=latent", "+"], "there is no run directory +"),
        (["task=anomaly", "task.normal_labels=[77]"], "no example has the label 77"),
        (["task=anomaly", f"task.normal_labels={list(range(10))}"], "the test split is all normal"),
        (["task=denoising", "task.noises={gaussian: [-1]}"], "sigma must be above 0, not -1"),
    ],
)
def test_what_would_give_no_figures_is_refused_and_nothing_is_recorded(
    one: Path, arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (one / "metrics.json").read_bytes()
    with pytest.raises(SystemExit) as end:
        evaluate.main([str(one), *(argument.replace(" ", "") for argument in arguments)])
    assert end.value.code == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("narrows: ")]
    assert len(lines) == 1
    assert sentence in lines[0]
    assert (one / "metrics.json").read_bytes() == before
    assert not (one / "tasks").exists()


def test_the_last_checkpoint_in_place_of_the_best_is_said(one: Path, caplog: pytest.LogCaptureFixture) -> None:
    loaded.load(one)
    assert "best checkpoint" not in caplog.text
    (one / "checkpoints" / "best.ckpt").unlink()
    loaded.load(one)
    assert "has no best checkpoint, so last.ckpt is used" in caplog.text
    caplog.clear()
    loaded.load(one, "last")
    assert caplog.text == ""
