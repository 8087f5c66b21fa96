"""What a run leaves behind."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from command import NARROW, TINY, manifest, only_run, recorded_config, run_in_process

import narrows


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A VAE with everything that the defaults record."""
    folder: Path = tmp_path_factory.mktemp("finished")
    kept = [argument for argument in TINY if argument != "callbacks=none"]
    done = run_in_process(*kept, *NARROW, "seed=3", "callbacks.progress.enable=false", cwd=folder)
    assert done.code == 0, done.err
    return only_run(folder)


def test_the_config_is_resolved(finished_run: Path) -> None:
    text = (finished_run / "config.yaml").read_text()
    assert "${" not in text
    assert "???" not in text
    config = recorded_config(finished_run)
    assert config.datamodule.loading.seed == config.seed == 3
    assert config.encoder.widths == [16]


def test_the_manifest_is_complete(finished_run: Path) -> None:
    record = manifest(finished_run)
    assert record["status"] == "completed"
    assert record["error"] is None
    assert record["command"].startswith("narrows train ")
    assert "seed=3" in record["overrides"]
    assert record["choices"]["variant"] == "vae"
    assert record["seed"] == 3
    assert record["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert record["hardware"]["cores"] >= 1
    assert record["data"]["shape"] == [1, 8, 8]
    assert len(record["data"]["fingerprint"]) == 64
    assert record["seconds"] > 0
    assert {"git", "python", "started", "ended", "directory", "narrows"} <= set(record)


def test_the_history_ends_in_the_final_figures(finished_run: Path) -> None:
    figures = json.loads((finished_run / "metrics.json").read_text())
    tested = {name: value for name, value in figures.items() if name.startswith("test/")}
    assert {"test/loss", "test/reconstruction", "test/kl", "test/elbo", "test/mse", "test/pca/mse"} <= set(tested)
    assert "val/loss" in figures
    with open(finished_run / "metrics.csv", newline="") as file:
        last = {row["metric"]: float(row["value"]) for row in csv.DictReader(file)}
    assert {name: last[name] for name in tested} == pytest.approx(tested, rel=1e-6)


def test_checkpoints_hold_nothing_but_plain_values(finished_run: Path) -> None:
    files = (finished_run / "checkpoints").iterdir()
    steps = {path.name: torch.load(path, weights_only=True)["global_step"] for path in files}
    # The last before it is the start at PCA, which may be the best.
    assert steps == {"last.ckpt": 2, "previous.ckpt": 0, "best.ckpt": steps["best.ckpt"]}
    assert steps["best.ckpt"] in (0, 2)


def test_pictures_are_kept(finished_run: Path) -> None:
    names = {path.stem.split("_")[0] for path in (finished_run / "figures").glob("*.png")}
    assert names, "no picture"
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in (finished_run / "figures").glob("*.png"))


def hparams_summary(accumulator: Any, name: str) -> Any:
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    content = accumulator.SummaryMetadata(f"_hparams_/{name}").plugin_data.content
    return getattr(HParamsPluginData.FromString(content), name)


def test_tensorboard_shows_one_row_and_no_sub_runs(finished_run: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.custom_scalar.layout_pb2 import Layout

    (events,) = finished_run.rglob("events.out.tfevents.*")
    assert events.parent == finished_run
    accumulator = EventAccumulator(str(events)).Reload()
    experiment = hparams_summary(accumulator, "experiment")
    session = hparams_summary(accumulator, "session_start_info")
    assert session.hparams["bottleneck.dim"].number_value == 8
    assert session.hparams["variant"].string_value == "vae"
    figures = json.loads((finished_run / "metrics.json").read_text())
    columns = [info.name.tag for info in experiment.metric_infos]
    assert len(columns) == len(set(columns))
    assert {"test/loss", "test/elbo", "test/mse"} <= set(columns) <= set(figures)
    layout = Layout.FromString(accumulator.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0])
    charts = {chart.title: list(chart.multiline.tag) for chart in layout.category[0].chart}
    assert charts["kl"] == ["^terms/kl/train$", "^terms/kl/val$"]
    scalars = accumulator.Tags()["scalars"]
    for column in columns:
        assert column in scalars
        assert accumulator.Scalars(column)[-1].value == pytest.approx(figures[column], rel=1e-6)
    assert {"loss/train", "loss/val", "terms/kl/val", "watch/lr", "watch/throughput/examples_per_s"} <= set(scalars)
    groups = {tag.partition("/")[0] for tag in [*scalars, *accumulator.Tags()["images"]]}
    assert groups == {"loss", "terms", "test", "views", "watch"}
    assert accumulator.Tags()["images"]


def test_a_trained_vae_has_all_five_methods(finished_run: Path) -> None:
    model = narrows.load(finished_run)
    assert not model.training
    x = torch.rand(4, 1, 8, 8)
    assert model.encode(x).z.shape == (4, 8)
    assert model.decode(torch.zeros(2, 8)).mean.shape == (2, 1, 8, 8)
    assert model.reconstruct(x).shape == x.shape
    assert model.sample(3).shape == (3, 1, 8, 8)
    assert torch.equal(model.embed(x), model.embed(x))
    with pytest.raises(narrows.errors.UserError, match="is not a run directory"):
        narrows.load(finished_run.parent)
