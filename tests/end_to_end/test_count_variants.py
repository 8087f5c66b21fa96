"""Counts through the command: what fits them, what is refused, and what is said of a likelihood that is not theirs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from command import (
    NARROW,
    NO_TASKS,
    TINY,
    composed,
    free_port,
    manifest,
    only_run,
    recorded_config,
    replayed,
    run_command,
    run_directories,
    run_in_process,
)
from count_source import COUNTS, is_of_counts
from forks import KillAt, Server
from resume_runs import assert_same, figures

from narrows.commands import evaluate, reproduce, sample
from narrows.config.composition import config_dir


def test_a_likelihood_of_real_numbers_is_not_put_on_counts_in_silence(tmp_path: Path) -> None:
    done = run_in_process(*TINY, *NARROW, "variant=sigma_vae", COUNTS, f"output_dir={tmp_path}", cwd=tmp_path)
    assert done.code == 0, done.err
    assert "likelihood OptimalGaussianLikelihood judges counts as real numbers" in done.err


def test_figures_of_counts_have_no_decibels(tmp_path: Path) -> None:
    done = run_in_process(*TINY, *NARROW, "variant=nb_vae", COUNTS, f"output_dir={tmp_path}", cwd=tmp_path)
    assert done.code == 0, done.err
    assert "judges counts" not in done.err
    figures = json.loads((only_run(tmp_path) / "metrics.json").read_text())
    assert not [name for name in figures if "psnr" in name or "bce" in name]
    assert np.isfinite(figures["test/mse"])
    assert figures["test/bits_per_dim"] > 0


def test_what_needs_counts_is_refused_on_pictures(tmp_path: Path) -> None:
    done = run_in_process(*TINY, "variant=mult_vae", f"output_dir={tmp_path}", cwd=tmp_path)
    assert done.code == 2
    assert "likelihood multinomial is of counts (documents, items, genes), but these data are of kind image" in done.err


# ── laws of every run ───────────────────────────────────────────────────────────────────────────────────

VARIANTS = ("mult_dae", "mult_vae", "rec_vae", "nb_vae", "zinb_vae", "nvdm", "vmf_topics", "prodlda", "etm")
# With running statistics and a learnt dispersion; the others take turns in the slow suite.
QUICK = ("nb_vae",)
SMALL = {
    "nb_vae": NARROW,
    "zinb_vae": NARROW,
    "mult_vae": NARROW,
    "mult_dae": (),
    "etm": ("encoder.widths=[8]", "decoder.width=5"),
}
RUN = (
    *(COUNTS, "datamodule.batch_size=128", "bottleneck.dim=6", "trainer=cpu", "logger=csv", *NO_TASKS),
    *("callbacks=none", "trainer.max_epochs=2", "trainer.log_every_n_steps=4"),
)
TRUSTED = ("--allow", "count_source")
TESTS = Path(__file__).parents[1]
TWO = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2")


def settings(variant: str) -> tuple[str, ...]:
    return (f"variant={variant}", *RUN, *SMALL.get(variant, ("encoder.widths=[8]",)))


@pytest.mark.slow
def test_every_variant_of_counts_is_here() -> None:
    every = sorted(path.stem for path in (config_dir() / "variant").glob("*.yaml"))
    assert [name for name in every if is_of_counts(composed(f"variant={name}"))] == sorted(VARIANTS)


@pytest.fixture(
    scope="module", params=[pytest.param(v, marks=[] if v in QUICK else [pytest.mark.slow]) for v in VARIANTS]
)
def variant(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def trained(variant: str, server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp(variant)
    ended = server.run(*settings(variant), "hydra.run.dir=run", cwd=folder)
    assert ended.code == 0, ended.out
    assert ("nats leave out the multinomial's coefficient" in ended.out) == (variant not in ("nb_vae", "zinb_vae"))
    return folder / "run"


def test_killed_in_the_second_epoch_and_continued_it_never_stopped(
    variant: str, trained: Path, server: Server, tmp_path: Path
) -> None:
    step = KillAt("narrows.training.lightning_module:AutoencoderModule.training_step", 17)
    ended = server.run(*settings(variant), "hydra.run.dir=run", cwd=tmp_path, kill=step)
    assert ended.code == 137, ended.out
    ended = server.run(f"resume={tmp_path / 'run'}", "allow=count_source", cwd=tmp_path)
    assert ended.code == 0, ended.out
    assert len(manifest(tmp_path / "run")["attempts"]) == 2
    assert_same(trained, tmp_path / "run")


def test_it_is_reproduced_evaluated_and_sampled(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(reproduce, "train", replayed)
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    assert reproduce.reproduce([str(run), *TRUSTED]) == 0
    assert capsys.readouterr().out.rstrip().endswith("verdict      bitwise equal")
    evaluate.main([str(run), "task=clusters", "task.map_rows=20", *TRUSTED])
    assert "test/clusters/ari" in figures(run)
    own = [] if recorded_config(run).loss.get("kl") else ["--density", "gaussian"]
    sample.main([str(run), "-n", "5", *own, *TRUSTED])
    drawn = np.load(run / "samples" / "samples.npy")
    assert len(drawn) == 5
    assert (drawn >= 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_two_processes_train_it(name: str, tmp_path: Path) -> None:
    """Every parameter gets its gradient in both; without noise the figures are those of one process."""
    quiet = ("input.dropout=0", "datamodule.batch_size=242") if name == "mult_dae" else ()
    place = {"MASTER_PORT": free_port(), "PYTHONPATH": str(TESTS)}
    found = []
    for devices in (TWO, ()) if quiet else (TWO,):
        folder = tmp_path / str(len(devices))
        folder.mkdir()
        done = run_command("train", *settings(name), *quiet, *devices, cwd=folder, env=place)
        assert done.code == 0, done.err
        found.append(figures(only_run(folder)))
        assert np.isfinite(list(found[-1].values())).all()
    assert found[0] == pytest.approx(found[-1], rel=1e-4)


@pytest.mark.slow
def test_a_sweep_trains_all_of_them(tmp_path: Path) -> None:
    shared = [argument for argument in RUN if not argument.startswith(("bottleneck.dim", "trainer.max_epochs"))]
    asked = ("-m", f"variant={','.join(VARIANTS)}", "trainer.max_epochs=1", "sweep.workers.jobs=2")
    done = run_command("train", *asked, *shared, cwd=tmp_path, env={"PYTHONPATH": str(TESTS)}, timeout=900)
    assert done.code == 0, done.err
    runs = run_directories(tmp_path)
    assert [manifest(run)["status"] for run in runs] == ["completed"] * len(VARIANTS)
    assert {manifest(run)["choices"]["variant"] for run in runs} == set(VARIANTS)
