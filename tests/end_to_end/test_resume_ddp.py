"""Two gloo processes that are stopped and go on are two that never stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import scipy.sparse
from command import COMMAND, NARROW, manifest, run_command
from resume_runs import assert_same
from sklearn.datasets import load_digits

pytestmark = pytest.mark.slow

RUN = (
    *NARROW,
    "trainer=ddp",
    "trainer.accelerator=cpu",
    "trainer.devices=2",
    "datamodule.batch_size=242",
    "trainer.max_epochs=40",
    "trainer.log_every_n_steps=5",
    "~tasks.latent",
    "~tasks.reconstruction",
)


KINDS = {
    "digits": ("callbacks=ema", "callbacks.averaged.decay=0.9", "callbacks.pictures.every_n_epochs=null"),
    "counts": (
        *("datamodule=counts", "datamodule.source.path=counts.npz", "variant=nb_vae", "bottleneck.dim=6"),
        "callbacks=none",
    ),
}
"""Rows that are dense, under averaged weights; and rows that are held sparse."""


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def write_counts(folder: Path) -> None:
    """The ink in the pixels of handwritten digits, as SciPy writes sparse rows."""
    x, _ = load_digits(return_X_y=True)
    scipy.sparse.save_npz(folder / "counts.npz", scipy.sparse.csr_matrix(x[:, (x > 0).sum(0) > 100]))


@pytest.fixture(scope="module")
def whole(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ddp")
    write_counts(folder)
    done = run_command("train", *RUN, *KINDS[kind], "hydra.run.dir=run", cwd=folder, timeout=600)
    assert done.code == 0, done.err
    return folder / "run"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_rank_zero_is_stopped_and_the_run_goes_on(
    number: signal.Signals, kind: str, whole: Path, tmp_path: Path
) -> None:
    write_counts(tmp_path)
    run = tmp_path / "run"
    with subprocess.Popen(
        [str(COMMAND), "train", *RUN, *KINDS[kind], "hydra.run.dir=run"],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        while not (run / "checkpoints" / "previous.ckpt").exists():
            assert process.poll() is None, "it ended before it could be stopped"
            time.sleep(0.02)
        process.send_signal(number)
        code = process.wait(300)
    assert code == (128 + number if number is signal.SIGTERM else -number)
    deadline = time.monotonic() + 300
    while manifest(run)["status"] == "running" and time.monotonic() < deadline:
        time.sleep(0.1)  # the other process marks the run of the first one, which was killed
    assert manifest(run)["status"] == ("interrupted" if number is signal.SIGTERM else "failed")
    done = run_command("train", f"resume={run}", cwd=tmp_path, timeout=600)
    assert done.code == 0, done.err
    assert manifest(run)["attempts"][1]["step"] > 0
    assert_same(whole, run)
