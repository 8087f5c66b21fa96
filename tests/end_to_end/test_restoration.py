"""Denoising, imputation, reconstruction and transfer through the real commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command import NO_TASKS, TINY, run_in_process

from narrows.commands import evaluate

SMALL = ("encoder.widths=[16]", "decoder.widths=[16]", "hydra.run.dir=run", "trainer.limit_test_batches=1.0")


def _trained(folder: Path, *options: str) -> Path:
    done = run_in_process(*TINY, *SMALL, *NO_TASKS, *options, cwd=folder)
    assert done.code == 0, done.err
    return folder / "run"


def test_a_table_with_missing_values_is_learned_and_filled_in(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("experiment=imputation_tables", "datamodule.source.source.name=iris", "trainer.max_epochs=1")
    run = _trained(tmp_path, *options)
    evaluate.main([str(run), "task=imputation", "task.max_examples=null"])
    printed = capsys.readouterr().out
    figures = json.loads((run / "tasks" / "imputation.json").read_text())["figures"]
    for classic in ("mean", "knn", "iterative"):
        assert figures[f"test/imputation/missing_train/{classic}/rmse"] > 0
    assert "imputation missing: RMSE" in printed
    assert (run / "figures" / "imputation_missing.png").is_file()
    evaluate.main([str(run), "task=reconstruction"])
    assert "test/nll_at_point" in json.loads((run / "tasks" / "reconstruction.json").read_text())["figures"]


def test_a_denoiser_of_digits_is_judged_and_taken_elsewhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = _trained(tmp_path, "variant=denoising", "corruption.sigma=0.2")
    noises = "task.noises={salt_and_pepper: [0.2]}"
    evaluate.main([str(run), "task=denoising", "task.max_examples=5", noises])
    printed = capsys.readouterr().out
    figures = json.loads((run / "tasks" / "denoising.json").read_text())["figures"]
    assert figures["test/denoising/gaussian_0.2/seen"] == 1
    assert figures["test/denoising/salt_and_pepper_0.2/seen"] == 0
    assert "non-local means" in printed
    with pytest.raises(SystemExit) as end:
        evaluate.main([str(run), "task=transfer", "task.others=[bundled]"])
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert "bundled has examples of kind vector and shape [13], but the model reads image" in said
    assert not (run / "tasks" / "transfer.json").exists()
