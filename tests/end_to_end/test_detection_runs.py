"""Anomaly detection through the real commands."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from command import NARROW, TINY, only_run, run_in_process

from narrows.commands import evaluate
from narrows.loading.adapt_config import adapt
from narrows.loading.model_from_config import read_config

CLASSES = ("auroc", "average_precision", "false_alarm_rate", "recall", "precision", "f1")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained on the digit 1 alone, with other data beside it as outliers."""
    folder: Path = tmp_path_factory.mktemp("one_class")
    np.savez(folder / "noise.npz", x=np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8))
    arguments = (
        *("variant=vae", *NARROW, "datamodule.source.train_labels=[1]", "~tasks.reconstruction", "~tasks.latent"),
        *("+task@tasks.anomaly=anomaly", "trainer.limit_test_batches=null", "tasks.anomaly.classics=[knn]"),
        "tasks.anomaly.outliers={_target_:narrows.data.datamodule.DataModule,source:{_target_:narrows.data.sources.arrays.Arrays,"
        "path:noise.npz,test:{_target_:narrows.data.sources.arrays.HeldOut,fraction:0.5}}}",
    )
    done = run_in_process(*TINY, *arguments, "output_dir=outputs", cwd=folder)
    assert done.code == 0, done.err
    return only_run(folder / "outputs")


def test_figures_pictures_and_outliers_of_a_run(trained: Path) -> None:
    found = json.loads((trained / "metrics.json").read_text())
    for place in ("test/anomaly", "test/anomaly/pca", "test/anomaly/mean", "test/anomaly/knn"):
        for name in CLASSES:
            assert 0 <= found[f"{place}/{name}"] <= 1
            assert np.isfinite(found[f"{place}/{name}_stderr"])
        assert np.isfinite(found[f"{place}/threshold"])
    assert {"anomaly_scores.png", "anomaly_roc.png", "anomaly_top.png"} <= {
        path.name for path in (trained / "figures").iterdir()
    }
    # 359 test digits, of which one in ten is a 1, and 30 of noise.
    assert found["test/anomaly/prevalence"] > 0.9


def test_another_score_by_evaluate(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [str(trained), "task=anomaly", "task.score=elbo", "task.classics=[]", "task.false_alarms=0.2"]
    evaluate.main(command)
    assert "anomaly AUROC" in capsys.readouterr().out
    record = json.loads((trained / "tasks" / "anomaly.json").read_text())
    assert record["options"]["score"] == "elbo"
    assert "test/anomaly/knn/auroc" not in record["figures"]
    with pytest.raises(SystemExit) as end:
        evaluate.main([str(trained), "task=anomaly", "task.score=elob"])
    assert end.value.code == 2
    assert "no score 'elob': did you mean 'elbo'" in capsys.readouterr().err


def test_a_task_s_own_data_are_found_from_elsewhere(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    adapted, _ = adapt(read_config(trained), str(trained.parents[2]), [], "outputs", keep_loggers=True)
    assert Path(adapted["tasks.anomaly.outliers.source.path"].strip("'")).is_file()
