"""Which keys tell runs apart."""

from __future__ import annotations

from pathlib import Path

from run_copies import MakeRun

from narrows.compare.run_records import Record, read_runs
from narrows.compare.two_runs import MISSING
from narrows.compare.varied_keys import differing_columns

MLP = {"encoder._target_": "narrows.encoders.mlp.MLPEncoder", "encoder.widths": [16], "encoder.norm": None}
CONV = {"encoder._target_": "narrows.encoders.conv.ConvEncoder", "encoder.channels": [8, 16], "encoder.norm": "batch"}


def record(config: dict, choices: dict | None = None, overrides: tuple[str, ...] = ()) -> Record:
    manifest = {"choices": choices or {}, "overrides": list(overrides)}
    return Record(Path("/nowhere"), config=config, manifest=manifest)


def test_only_the_keys_that_differ(tmp_path: Path, make_run: MakeRun) -> None:
    make_run(tmp_path / "a", {"optimizer.lr": 0.001})
    make_run(tmp_path / "b", {"optimizer.lr": 0.002})
    assert differing_columns(read_runs([tmp_path])) == {"optimizer.lr": [0.001, 0.002]}


def test_the_seed_that_other_keys_repeat_is_one_column(tmp_path: Path, make_run: MakeRun) -> None:
    for seed in (0, 1):
        make_run(tmp_path / str(seed), {"seed": seed, "datamodule.loading.seed": seed}, overrides=[f"seed={seed}"])
    records = read_runs([tmp_path])
    assert differing_columns(records) == {"seed": [0, 1]}
    assert set(differing_columns(records, everything=True)) == {"seed", "datamodule.loading.seed"}


def test_a_group_choice_stands_for_what_follows_from_it() -> None:
    records = [record(MLP, {"encoder": "mlp"}, ("encoder=mlp",)), record(CONV, {"encoder": "conv"}, ("encoder=conv",))]
    assert differing_columns(records) == {"encoder": ["mlp", "conv"]}


def test_without_recorded_choices_the_class_names_them() -> None:
    assert differing_columns([record(MLP), record(CONV)]) == {"encoder": ["MLPEncoder", "ConvEncoder"]}


def test_a_key_below_a_choice_stays_when_it_was_asked_for_or_varies_within_the_choice() -> None:
    wide = MLP | {"encoder.widths": [512]}
    records = [record(MLP, {"encoder": "mlp"}), record(wide, {"encoder": "mlp"}), record(CONV, {"encoder": "conv"})]
    assert differing_columns(records)["encoder.widths"] == [[16], [512], MISSING]
    asked = [record(MLP, {"encoder": "mlp"}, ("encoder.norm=null",)), record(CONV, {"encoder": "conv"})]
    assert differing_columns(asked) == {"encoder": ["mlp", "conv"], "encoder.norm": [None, "batch"]}


def test_a_variant_explains_bottleneck_and_loss_but_not_an_override() -> None:
    vae = {"bottleneck._target_": "a.Gaussian", "loss.kl.weight": 1.0, "optimizer.lr": 0.001}
    topk = {"bottleneck._target_": "a.TopK", "bottleneck.k": 16, "optimizer.lr": 0.01}
    records = [
        record(vae, {"variant": "vae", "bottleneck": "gaussian"}, ("variant=vae",)),
        record(topk, {"variant": "topk", "bottleneck": "topk"}, ("variant=topk", "optimizer.lr=0.01")),
    ]
    assert differing_columns(records) == {"variant": ["vae", "topk"], "optimizer.lr": [0.001, 0.01]}


def test_where_data_lie_and_runs_land_is_no_difference() -> None:
    records = [
        record({"data_dir": f"/home/{who}", "datamodule.source.path": f"/home/{who}/x.npz", "output_dir": who, "a": 1})
        for who in "xy"
    ]
    assert differing_columns(records) == {}
    assert "output_dir" in differing_columns(records, everything=True)


def test_true_is_not_one_and_nan_is_nan() -> None:
    assert differing_columns([record({"a": True}), record({"a": 1})]) == {"a": [True, 1]}
    assert differing_columns([record({"a": float("nan")}), record({"a": float("nan")})]) == {}
