"""A density fitted in training, and afterwards by `narrows sample`."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from command import NARROW, NO_TASKS, TINY, composed, manifest, only_run, run_in_process
from omegaconf import OmegaConf
from PIL import Image

import narrows
from narrows.commands import sample
from narrows.commands.reproduce import _weights
from narrows.compare.bitwise_equality import Verdict, judge_weights
from narrows.config.composition import checked
from narrows.errors import UserError
from narrows.loading import fitted_density
from narrows.runs import checkpoint_files

SMALL = (*TINY, *NARROW, *NO_TASKS, "logger=csv")
FLOW = ("density=flow", "density.epochs=2", "density.widths=[8]", "density.transforms=2")


def trained(cwd: Path, *arguments: str) -> Path:
    done = run_in_process(*SMALL, *arguments, cwd=cwd)
    assert done.code == 0, done.err
    return only_run(cwd)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("plain"), "variant=rae_l2")


@pytest.fixture(scope="module")
def with_flow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pictures = ("callbacks=default", "callbacks.progress.enable=false")
    return trained(tmp_path_factory.mktemp("flow"), "variant=rae_l2", *FLOW, *pictures)


@pytest.fixture
def run(plain: Path, tmp_path: Path) -> Path:
    # A name as sweeps give it.
    return shutil.copytree(plain, tmp_path / "000_seed=0")


def drawn(run: Path) -> np.ndarray:
    return np.load(run / "samples" / "samples.npy")


def command(*arguments: str) -> None:
    sample.main(list(arguments))


def figures(run: Path) -> dict[str, float]:
    found: dict[str, float] = json.loads((run / "metrics.json").read_text())
    return found


# ── in training ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_run_with_a_prior_reports_stores_and_loads_it(with_flow: Path) -> None:
    found = figures(with_flow)
    assert np.isfinite([found["density/log_prob_train"], found["density/log_prob_val"]]).all()
    assert (with_flow / "figures" / "density_samples.png").exists()
    assert not (with_flow / "figures" / "samples.png").exists(), "that is the model's own prior"
    model = narrows.load(with_flow)
    assert type(model.density).__name__ == "FlowDensity"
    assert model.generative
    assert not model.density.training
    samples = []
    for loaded in (model, narrows.load(with_flow)):
        torch.manual_seed(2)
        samples.append(loaded.sample(3))
    assert torch.equal(*samples)
    rows = next(iter(data(with_flow).ordered_loader("validation"))).x
    with torch.no_grad():
        mean = model.density.log_prob(model.encode(rows).z).mean()
    assert abs(float(mean) - found["density/log_prob_val"]) < 10


def data(run: Path) -> Any:
    from narrows.config.building import build

    found = build(OmegaConf.load(run / "config.yaml").datamodule, "datamodule")
    found.setup()
    return found


def test_x_is_drawn_too_at_a_temperature(with_flow: Path, tmp_path: Path) -> None:
    found = []
    for name, *told in (("point",), ("cold", "--temperature", "0.01"), ("warm", "--temperature", "1")):
        command(str(with_flow), "-n", "50", "--out", str(tmp_path / name), *told)
        found.append(np.load(tmp_path / name / "samples.npy"))
    point, cold, warm = found
    # The same latents: a cold draw lies where its mean does.
    assert 0 < np.abs(cold - point).mean() < 0.5 * np.abs(warm - point).mean()
    with pytest.raises(UserError, match="--temperature must be above 0, not -1"):
        sample.sample(sample.parser().parse_args([str(with_flow), "--temperature", "-1"]))


def test_the_density_belongs_to_its_weights(with_flow: Path, tmp_path: Path) -> None:
    """After more training, or at another checkpoint, the latents are others."""
    run = shutil.copytree(with_flow, tmp_path / "run")
    state = checkpoint_files.read(run / "checkpoints" / "best.ckpt")
    state["state_dict"] = {key: tensor + 1e-3 for key, tensor in state["state_dict"].items()}
    checkpoint_files.save(state, run / "checkpoints", ["best"])
    assert narrows.load(run).density is None


def test_the_model_is_the_one_that_a_run_without_gives(with_flow: Path, plain: Path) -> None:
    a, b = (checkpoint_files.read(run / "checkpoints" / "last.ckpt")["state_dict"] for run in (with_flow, plain))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[key], b[key]) for key in a)
    same = {key: value for key, value in figures(with_flow).items() if not key.startswith("density/")}
    assert same == figures(plain)


def test_a_reproduction_judges_the_density_too(with_flow: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    done = run_in_process(f"replay={with_flow / 'config.yaml'}", f"into={again}", cwd=tmp_path)
    assert done.code == 0, done.err
    assert figures(again) == figures(with_flow)
    judged = judge_weights(_weights(with_flow), _weights(again), 0.0)
    assert judged.verdict is Verdict.EQUAL
    assert sum(c.name.startswith("density.") for c in judged.comparisons) > 5
    path = fitted_density.fitted_path(again)
    state = checkpoint_files.read(path)
    state["state_dict"]["mean"] += 1e-3
    checkpoint_files.save_as(state, path)
    assert judge_weights(_weights(with_flow), _weights(again), 1e-6).verdict is Verdict.DIFFERENT
    path.unlink()
    assert judge_weights(_weights(with_flow), _weights(again), 1e-6).verdict is Verdict.MISSING


def test_a_run_that_ended_in_the_fit_goes_on(with_flow: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spend, calls = fitted_density.Density.judge, []

    def dies(self: Any, values: torch.Tensor) -> float:
        calls.append(1)
        raise KeyboardInterrupt

    monkeypatch.setattr(fitted_density.Density, "judge", dies)
    with pytest.raises(KeyboardInterrupt):
        run_in_process(*SMALL, "variant=rae_l2", *FLOW, "hydra.run.dir=run", cwd=tmp_path)
    monkeypatch.setattr(fitted_density.Density, "judge", spend)
    run = tmp_path / "run"
    assert calls
    assert manifest(run)["status"] != "completed"
    assert not fitted_density.fitted_path(run).exists()
    assert narrows.load(run).density is None
    done = run_in_process(f"resume={run}", cwd=tmp_path)
    assert done.code == 0, done.err
    assert figures(run) == figures(with_flow)
    assert judge_weights(_weights(with_flow), _weights(run), 0.0).verdict is Verdict.EQUAL


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (
            ("variant=rae_l2", "density=vamp"),
            "density VampDensity reads a GaussianLatent, but bottleneck Deterministic",
        ),
        (("variant=vae", "density=autoregressive"), "density AutoregressiveCodes reads a QuantizedLatent"),
        (("variant=vae", "density=mixture", "density.components=0"), "density mixture: components must be at least 1"),
        (
            ("variant=vae", "density=flow", "density.width=3"),
            "no config key 'width' in 'density': did you mean 'widths'",
        ),
        (("variant=vae", "density=flo"), "there is no density 'flo': did you mean 'flow'"),
        (("variant=vae", "+density.components=3"), "density is no component"),
        (("variant=vae", "density=flow", "density._target_=narrows.encoders.mlp.MLPEncoder"), "density has no option"),
    ],
)
def test_a_prior_that_cannot_be_fitted_is_refused_before_training(
    arguments: tuple[str, ...], complaint: str, tmp_path: Path
) -> None:
    done = run_in_process(*SMALL, *arguments, cwd=tmp_path)
    assert done.code == 2, done.err
    assert complaint in "".join(done.complaints)
    assert not list(tmp_path.rglob("*.ckpt"))


def test_no_prior_is_as_it_was() -> None:
    assert "density" not in checked(composed())


# ── afterwards ──────────────────────────────────────────────────────────────────────────────────────────


def test_a_density_is_fitted_once_and_sampled(run: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    small = ("density.components=2",)
    command(str(run), "--density", "mixture", *small, "-n", "12")
    assert capsys.readouterr().out.split() == [str(run / "samples" / f"samples.{kind}") for kind in ("npy", "png")]
    first = drawn(run)
    assert first.shape == (12, 1, 8, 8)
    assert np.isfinite(first).all()
    with Image.open(run / "samples" / "samples.png") as picture:
        assert picture.size[0] > 100
    stored = (run / "densities" / "mixture.ckpt").read_bytes()

    def refuses(*arguments: Any) -> None:
        raise AssertionError("fitted again")

    monkeypatch.setattr(fitted_density, "fit", refuses)
    command(str(run), "--density", "mixture", *small, "-n", "12")
    assert np.array_equal(drawn(run), first)
    command(str(run), "--density", "mixture", *small, "-n", "12", "--seed", "1", "--out", str(run / "other"))
    assert not np.array_equal(np.load(run / "other" / "samples.npy"), first)
    with pytest.raises(AssertionError, match="fitted again"):
        command(str(run), "--density", "mixture", "density.components=3")
    assert (run / "densities" / "mixture.ckpt").read_bytes() == stored


def test_the_density_of_training_is_the_one_of_the_command(with_flow: Path, run: Path) -> None:
    copy = shutil.copytree(with_flow, run.parent / "trained")
    command(str(copy), "-n", "5")
    command(str(run), "--density", "flow", *FLOW[1:], "-n", "5")
    assert np.array_equal(drawn(copy), drawn(run))


def test_own_priors_and_labels(tmp_path: Path, capsys: Any) -> None:
    run = trained(tmp_path, "variant=conditional_vae")
    command(str(run), "--label", "3", "-n", "4")
    threes = drawn(run)
    command(str(run), "--density", "gaussian", "--label", "3", "-n", "4")
    assert not np.array_equal(drawn(run), threes)
    command(str(run), "--density", "own", "--label", "3", "-n", "4")
    assert np.array_equal(drawn(run), threes)
    command(str(run), "--label", "4", "-n", "4")
    assert not np.array_equal(drawn(run), threes)
    assert "--label must be from 0 to 9, not 10" in refusal(capsys, str(run), "--label", "10")


def refusal(capsys: Any, *arguments: str) -> str:
    with pytest.raises(SystemExit) as end:
        command(*arguments)
    assert end.value.code == 2
    return str(capsys.readouterr().err)


def test_mistakes_are_one_sentence(run: Path, capsys: Any) -> None:
    cases = {
        (): "Deterministic has no prior to sample from; fit a density to its latents with .* flow, gaussian, m",
        ("--density", "own"): "has no prior to sample from",
        ("--density", "mixtur"): "no density 'mixtur': did you mean 'mixture'",
        ("--density", "vamp"): "VampDensity reads a GaussianLatent",
        ("--density", "gaussian", "-n", "0"): "-n must be at least 1",
        ("--density", "gaussian", "--label", "1"): "this model is not told the class",
        ("--density", "gaussian", "datamodule.source.train_labels=[1]"): "the data found are not those that",
        ("density.ridge=1",): "changes nothing without --density",
        ("another",): "only one run is sampled",
    }
    for arguments, complaint in cases.items():
        text = refusal(capsys, str(run), *arguments)
        assert re.search(complaint, text), text
    assert "there is no run directory nowhere" in refusal(capsys, "nowhere")


def test_a_stranger_s_density_executes_nothing(run: Path, tmp_path: Path) -> None:
    weights = run / "checkpoints" / "best.ckpt"
    path = fitted_density.fitted_path(run)
    evil = {"_target_": "shutil.rmtree", "_partial_": True, "path": str(tmp_path)}
    state = {"config": evil, "fitted_to": checkpoint_files.checksum(weights), "state_dict": {}}
    checkpoint_files.save_as(state, path)
    with pytest.raises(UserError, match=r"shutil\.rmtree"):
        narrows.load(run)
    checkpoint_files.save_as(
        state | {"config": {"_target_": "narrows.encoders.mlp.MLPEncoder", "_partial_": True}}, path
    )
    with pytest.raises(UserError, match="MLPEncoder' is no Density"):
        narrows.load(run)
    flow = {"_target_": "narrows.densities.flow.FlowDensity", "_partial_": True}
    checkpoint_files.save_as(state | {"config": flow}, path)
    with pytest.raises(UserError, match="does not fit its model"):
        narrows.load(run)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(UserError, match="damaged"):
        narrows.load(run)


def test_a_table_is_sampled_as_rows_of_its_own(tmp_path: Path, capsys: Any) -> None:
    random = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "age": random.integers(18, 90, 60),
            "kind": random.choice(["ok", "bad"], 60, p=[0.8, 0.2]),
            "city": random.choice(["a", "b", "c"], 60),
        }
    )
    table.to_csv(tmp_path / "t.csv", index=False)
    source = ("datamodule=table", "datamodule.source.path=t.csv", "datamodule.source.label.column=kind")
    run = trained(tmp_path, "variant=conditional_vae", *source)
    out = tmp_path / "new.csv"
    command(str(run), "-n", "300", "-o", str(out))
    found = pd.read_csv(out)
    assert (found.dtypes == table.dtypes).all()
    assert found["age"].between(table["age"].min(), table["age"].max()).all()
    assert set(found["city"]) == {"a", "b", "c"}
    assert (found["kind"] == "ok").mean() == pytest.approx(0.8, abs=0.12)
    again = pd.read_csv(out)
    command(str(run), "-n", "300", "-o", str(out))
    pd.testing.assert_frame_equal(pd.read_csv(out), again)
    command(str(run), "-n", "9", "--density", "by_class", "--label", "bad", "-o", str(tmp_path / "new.parquet"))
    assert pd.read_parquet(tmp_path / "new.parquet")["kind"].tolist() == ["bad"] * 9
    command(str(run), "-n", "9", "--label", "1", "-o", str(tmp_path / "new.npz"))
    with np.load(tmp_path / "new.npz") as arrays:
        assert arrays["x"].shape == (9, 5)
        assert arrays["label"].tolist() == [1] * 9
    command(str(run), "-n", "9")
    assert {path.name for path in (run / "samples").iterdir()} == {"samples.npy", "samples.png", "samples.csv"}
    assert "no class 'bd': did you mean 'bad'" in refusal(capsys, str(run), "--label", "bd")
    assert "has no tokeniser" in refusal(capsys, str(run), "-o", "new.txt")
    assert "lies in the run" in refusal(capsys, str(run), "-o", str(run / "new.csv"))


def test_pictures_have_no_table(run: Path, tmp_path: Path, capsys: Any) -> None:
    told = refusal(capsys, str(run), "--density", "by_class", "-o", str(tmp_path / "new.csv"))
    assert "was trained on image data, whose examples are no rows of one" in told
    command(str(run), "--density", "by_class", "-n", "3", "--label", "7", "-o", str(tmp_path / "new.npz"))
    with np.load(tmp_path / "new.npz") as arrays:
        assert arrays["x"].shape == (3, 1, 8, 8)
        assert arrays["label"].tolist() == [7] * 3


def test_series_are_drawn_as_lines(tmp_path: Path) -> None:
    run = trained(tmp_path, "variant=rae_l2", "datamodule=series", "datamodule.source.window=16")
    command(str(run), "--density", "gaussian", "-n", "3")
    assert drawn(run).shape[0] == 3
    assert (run / "samples" / "samples.png").exists()
