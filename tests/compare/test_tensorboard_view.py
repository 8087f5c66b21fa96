"""What TensorBoard is shown of chosen runs, and in which order."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from torch.utils.tensorboard import SummaryWriter

from narrows.compare.run_records import Record
from narrows.compare.short_names import short_names
from narrows.compare.tensorboard_groups import tag_of
from narrows.compare.tensorboard_view import make_view
from narrows.config.run_names import LIMIT, asked_name


def test_losses_come_first_and_bookkeeping_last() -> None:
    names = ["epoch", "lr", "throughput/examples_per_s", "weight/kl", "train/kl", "val/kl", "val/elbo", "train/loss"]
    names += ["val/loss", "test/mse", "test/pca/mse", "density/log_prob_val"]
    tags = [tag_of(name) for name in names]
    assert len(set(tags)) == len(tags)
    groups = list(dict.fromkeys(tag.partition("/")[0] for tag in sorted(tags)))
    assert groups == ["loss", "terms", "test", "watch"]
    assert sorted(tags)[:2] == ["loss/train", "loss/val"]
    assert tag_of("train/kl") == "terms/kl/train"
    assert tag_of("val/kl") == "terms/kl/val"


def _run(folder: Path, variant: str, metrics: dict[str, float], **config: Any) -> Record:
    with SummaryWriter(str(folder)) as writer:
        writer.add_scalar("loss/val", 1.0, 3)
        for name, value in metrics.items():
            writer.add_scalar(tag_of(name), value, 3)
    choices = {"choices": {"variant": variant}}
    return Record(folder, name=folder.name, status="completed", config=config, manifest=choices, metrics=metrics)


def _bytes(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a_view_has_the_keys_that_differ_and_changes_no_run(tmp_path: Path) -> None:
    runs, view = tmp_path / "runs", tmp_path / "view"
    view.mkdir()
    made = [
        _run(runs / "a", "vae", {"test/mse": 0.1, "val/loss": 1.0}, **{"bottleneck.dim": 8, "seed": 0}),
        _run(runs / "b", "vae", {"test/mse": 0.2, "val/loss": 1.0}, **{"bottleneck.dim": 16, "seed": 0}),
        _run(runs / "c", "topk", {"test/mse": 0.3, "val/loss": 1.0}, **{"bottleneck.dim": 16, "seed": 0}),
        Record(runs / "none", name="none", config={"seed": 0}),
    ]
    before = _bytes(runs)
    named = make_view(view, made)
    assert list(named) == ["variant=vae,dim=8", "variant=vae,dim=16", "variant=topk,dim=16"]
    assert _bytes(runs) == before
    found = EventMultiplexer().AddRunsFromDirectory(str(view)).Reload()
    for (name, record), dim in zip(named.items(), (8, 16, 16), strict=True):
        assert found.Scalars(name, "test/mse")[-1].value == pytest.approx(record.metrics["test/mse"])
        contents = found.PluginRunToTagToContent("hparams")[name]
        start = HParamsPluginData.FromString(contents["_hparams_/session_start_info"]).session_start_info
        assert start.hparams["bottleneck.dim"].number_value == dim
        assert set(start.hparams) == {"bottleneck.dim", "variant"}
        experiment = HParamsPluginData.FromString(contents["_hparams_/experiment"]).experiment
        assert [info.name for info in experiment.hparam_infos] == ["variant", "bottleneck.dim"]
        shown = {info.display_name: info.name.tag for info in experiment.metric_infos}
        assert shown == {"test/mse": "test/mse", "val/loss": "loss/val"}


def test_every_run_of_a_view_has_a_name_of_its_own(tmp_path: Path) -> None:
    alike = [Record(tmp_path / "x", config={"seed": 1}), Record(tmp_path / "x", config={"seed": 1, "name": "first"})]
    assert short_names([*alike, alike[0]], {}) == ["x_1", "first", "x_2"]


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ([], ""),
        (["variant=vae", "data_dir=/somewhere", "name=x", "tags=[a]", "hydra.run.dir=y"], ""),
        (["likelihood=gaussian_optimal", "datamodule.batch_size=32"], "likelihood=gaussian_optimal,batch_size=32"),
        (["+trainer.fast=1", "optimizer.lr=0.0030000001"], "fast=1,lr=0.003"),
        (["datamodule.source.path=/my/faces/", "encoder.widths=[8,4]"], "path=faces,widths=8-4"),
        (["init_from='/my/dim=2,lr=0.1_2026-11-30_11-24-11_d454793c/'"], "init_from=dim-2-lr-0.1_2026-..d454793c"),
        (["bottleneck.dim=2", "input.dim=3"], "bottleneck.dim=2,input.dim=3"),
        (
            [f"a.key_{i}=1234567" for i in range(30)],
            ",".join(f"key_{i}=1234567" for i in range(30))[:LIMIT].rstrip("_=-.,"),
        ),
    ],
)
def test_a_run_is_named_by_what_was_asked(overrides: list[str], name: str) -> None:
    assert asked_name(overrides) == name
