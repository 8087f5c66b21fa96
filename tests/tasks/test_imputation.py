"""Imputation on cases whose answer is known, and how the model is asked."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import instances
import numpy as np
import pytest
import torch
from tasks.standins import PPCA, Rows, context, zero_model

from narrows.corruptions import Block
from narrows.data.datamodule import DataModule
from narrows.data.missing_completely_at_random import Missing
from narrows.data.sources.bundled import Bundled
from narrows.errors import UserError
from narrows.tasks.base import run_tasks
from narrows.tasks.classics import imputers
from narrows.tasks.classics.imputers import Known
from narrows.tasks.classics.series_imputers import last_value, linear, seasonal, series_imputers
from narrows.tasks.imputation import Imputation, _intervals, errors
from narrows.tasks.measures.imputation_cases import Case
from narrows.types import Batch, DataSpec


def _linear(n: int = 120) -> Rows:
    x = torch.randn(n, 2) @ torch.randn(2, 6) + 0.05 * torch.randn(n, 6) + 1
    return Rows({"train": Batch(x), "validation": Batch(x[:10]), "test": Batch(x[:40])})


def test_errors_are_over_hidden_values_alone() -> None:
    truth, guess = torch.randn(7, 2, 3), torch.randn(7, 2, 3)
    hidden = torch.rand(7, 2, 3) < 0.4
    found = errors(guess, truth, hidden, 0, binary=False)
    assert found["rmse"] == pytest.approx(float((guess - truth)[hidden].square().mean().sqrt()), rel=1e-5)
    assert found["mae"] == pytest.approx(float((guess - truth)[hidden].abs().mean()), rel=1e-5)
    assert found["rmse_stderr"] > 0
    bits = (truth > 0).float()
    assert errors(bits, bits, hidden, 0, binary=True)["accuracy"] == 1
    assert errors(1 - bits, bits, hidden, 0, binary=True)["accuracy"] == 0


def test_linear_data_are_filled_by_chained_equations_and_not_by_the_mean() -> None:
    data = _linear()
    model = instances.model(data.spec, likelihood=instances.LIKELIHOODS["gaussian_fixed"])
    found = run_tasks({"i": Imputation(rates=[0.2], draws=19)}, context(model, data))
    at = "test/imputation/mcar_0.2"
    assert found[f"{at}/iterative/rmse"] < 0.3 * found[f"{at}/mean/rmse"]
    assert found[f"{at}/knn/rmse"] < 0.7 * found[f"{at}/mean/rmse"]
    assert not [name for name in found if "/ridge/" in name or "biharmonic" in name]


def test_draws_from_the_true_posterior_cover_as_they_say() -> None:
    truth = PPCA(dims=6, latents=2, sigma=0.4)
    x = truth.evidence.sample(torch.Size((3000,)))
    case = Case("c", Batch(x), x, torch.rand_like(x) < 0.5, None)
    draws = truth.evidence.sample(torch.Size((99, len(x))))
    found = _intervals(case, np.stack([draw[case.hidden].numpy() for draw in draws]))
    assert found["coverage"] == pytest.approx(0.9, abs=4 * found["coverage_stderr"] + 1e-3)
    narrow = _intervals(case, np.stack([0.5 * draw[case.hidden].numpy() for draw in draws]))
    assert narrow["coverage"] < 0.75
    assert narrow["width"] == pytest.approx(found["width"] / 2, rel=1e-3)


def test_gibbs_steps_bring_the_draws_of_a_true_model_nearer() -> None:
    truth = PPCA(dims=6, latents=2, sigma=0.2)
    x = truth.evidence.sample(torch.Size((60,)))
    splits = {"train": Batch(x), "validation": Batch(x), "test": Batch(x)}
    errors_after = {}
    for steps in (0, 15):
        task = Imputation(rates=[0.4], draws=39, gibbs=steps, max_features=1)
        found = run_tasks({"i": task}, context(truth.model(), Rows(splits)))
        errors_after[steps] = found["test/imputation/mcar_0.4/multiple/rmse"]
    assert errors_after[15] < 0.9 * errors_after[0]


def test_a_hole_in_the_same_place_has_ridge_and_biharmonic_beside_it(tmp_path: Path) -> None:
    grid = torch.linspace(0, 1, 10)
    slope = torch.rand(60, 2, 1, 1)
    x = (slope[:, :1] * grid[:, None] + slope[:, 1:] * grid).reshape(60, 1, 10, 10) / 2
    data = Rows(
        {"train": Batch(x), "validation": Batch(x[:9]), "test": Batch(x[:4])}, kind="image", value_range=(0.0, 1.0)
    )
    hole = partial(Block, size=0.4, place="centre", value=0.7)
    model = instances.model(data.spec, bottleneck=instances.BOTTLENECKS["deterministic"], corruption=hole)
    asked: list[torch.Tensor] = []
    plain = model.reconstruct

    def noting(batch: Batch) -> torch.Tensor:
        assert batch.hidden is not None
        asked.append(batch.x[batch.hidden])
        return plain(batch)

    model.reconstruct = noting  # type: ignore[method-assign, assignment]
    judged = context(model, data)
    judged.directory = tmp_path
    found = run_tasks({"i": Imputation(rates=[], blocks={"centre": [0.4], "random": [0.3]})}, judged)
    assert all((values == 0.7).all() for values in asked), "as the training corruption hides"
    for name in ("ridge", "biharmonic"):
        assert found[f"test/imputation/centre_0.4/{name}/rmse"] < 0.02, "the pictures are planes"
    assert "test/imputation/random_0.3/ridge/rmse" not in found
    assert {path.stem for path in (tmp_path / "figures").iterdir()} == {
        "imputation_centre_0.4",
        "imputation_random_0.3",
    }
    assert any("WORSE THAN PREDICTING THE TRAINING MEAN" in warning for warning in judged.warnings)


def _table(share: float) -> DataModule:
    data = DataModule(Missing(Bundled("wine", test=0.2), share=share, seed=1), batch_size=16)
    data.setup()
    return data


def test_values_missing_on_purpose_are_judged_on_test_and_training_rows() -> None:
    data = _table(0.5)
    model = instances.model(
        data.spec,
        bottleneck=instances.BOTTLENECKS["deterministic"],
        likelihood=instances.LIKELIHOODS["gaussian_fixed"],
        corruption=instances.CORRUPTIONS["masking"],
        input=instances.INPUTS["missing_indicator"],
    )
    found = run_tasks({"i": Imputation(max_examples=None)}, context(model, data))  # type: ignore[arg-type]
    whole = _table(0.0).ordered_loader("train")
    train = torch.cat([batch.x for batch in whole])
    assert len(train) == data.spec.size
    for rows in ("missing", "missing_train"):
        at = f"test/imputation/{rows}"
        assert found[f"{at}/mean/nrmse"] == pytest.approx(1, abs=0.15), "standardised units"
        assert found[f"{at}/iterative/rmse"] < found[f"{at}/mean/rmse"]
    assert "test/imputation/mcar_0.5/rmse" not in found


def test_where_nobody_knows_the_missing_values_others_are_hidden_and_judged() -> None:
    x = torch.randn(60, 4)
    observed = torch.rand(60, 4) < 0.6
    split = Batch(torch.where(observed, x, 99.0), observed=observed)
    data = Rows({"train": split, "validation": split, "test": split})
    data.revealed_loader = data.ordered_loader  # type: ignore[attr-defined]
    model = instances.model(data.spec, likelihood=instances.LIKELIHOODS["gaussian_fixed"])
    found = run_tasks({"i": Imputation(rates=[0.3], draws=0)}, context(model, data))
    assert found["test/imputation/mcar_0.3/mean/rmse"] == pytest.approx(1, abs=0.3), "no 99 is judged or learned from"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"rates": [1.5]}, r"must be in \(0, 1\), not 1.5"),
        ({"blocks": {"middle": [0.5]}}, "centre, random, end, not 'middle'"),
        ({"draws": 5}, "draws must be 0 or at least 19"),
        ({"gibbs": -1}, "gibbs must not be negative"),
        ({"max_rows": 1}, "max_rows must be at least 2"),
    ],
)
def test_options_out_of_range_are_one_sentence(options: dict[str, object], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        Imputation(**options)  # type: ignore[arg-type]


def test_a_budget_leaves_chained_equations_out_and_trees_are_on_request() -> None:
    assert set(imputers.imputers_for(10, 9, False, True)) == {"mean", "knn"}
    assert set(imputers.imputers_for(10, 10, True, True)) == {"mean", "knn", "ridge", "iterative", "forest"}


def test_trees_fill_what_no_line_can() -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (300, 1))
    train = np.hstack([x, x**2])
    gapped = np.where(rng.random(train.shape) < 0.1, np.nan, train)
    rows = train[:50].copy()
    rows[:, 1] = np.nan
    known = imputers.Known(train, gapped, 0)
    rmse = {
        name: math.sqrt(np.mean((getattr(imputers, name)(known, rows)[:, 1] - train[:50, 1]) ** 2))
        for name in ("mean", "iterative", "forest")
    }
    assert rmse["forest"] < 0.3 * rmse["iterative"]
    assert rmse["iterative"] == pytest.approx(rmse["mean"], rel=0.1)


def test_errors_in_standard_deviations_do_not_depend_on_the_features_units() -> None:
    data = _linear()
    wide = Rows({name: Batch(split.x * torch.tensor([1, 10, 100, 1, 1, 1.0])) for name, split in data.splits.items()})
    found = []
    for rows in (data, wide):
        model = instances.model(rows.spec, likelihood=instances.LIKELIHOODS["gaussian_fixed"])
        found.append(run_tasks({"i": Imputation(rates=[0.3], draws=0, max_features=1)}, context(model, rows)))
    at = "test/imputation/mcar_0.3/mean"
    assert found[0][f"{at}/nrmse"] == pytest.approx(found[1][f"{at}/nrmse"], rel=1e-5)
    assert found[0][f"{at}/nrmse"] == pytest.approx(1, abs=0.15)
    assert found[1][f"{at}/rmse"] > 5 * found[0][f"{at}/rmse"]


def test_the_imputers_of_series_read_what_is_known_in_time() -> None:
    nan = math.nan
    row = np.array([nan, 1.0, nan, nan, 4.0, nan])
    assert linear(row).tolist() == [1, 1, 2, 3, 4, 4]
    assert last_value(row).tolist() == [1, 1, 1, 1, 4, 4]
    assert seasonal(3, np.array([1.0, nan, nan, nan, 5.0, nan])).tolist() == [1, 5, 3, 1, 5, 5]
    wave = np.sin(2 * np.pi * np.arange(40) / 8)
    gap = wave.copy()
    gap[30:] = nan
    np.testing.assert_allclose(seasonal(8, gap), wave, atol=1e-9)
    train = np.stack([np.concatenate([wave, -wave])] * 20)
    found = series_imputers((2, 40), train)
    assert list(found) == ["linear", "last_value", "seasonal"]
    rows = np.stack([np.concatenate([gap, np.full(40, nan)])])
    filled = found["seasonal"](Known(train, train, 0), rows)
    np.testing.assert_allclose(filled[0, :40], wave, atol=1e-9)
    np.testing.assert_allclose(filled[0, 40:], -wave, atol=1e-9, err_msg="a channel without a value is at its mean")
    assert "seasonal" not in series_imputers((1, 40), np.zeros((5, 40)))


def test_the_end_of_series_is_a_forecast(tmp_path: Path) -> None:
    steps = torch.arange(32.0)
    x = torch.stack([torch.sin(2 * math.pi * (steps + start) / 8) for start in range(60)])[:, None]
    data = Rows({name: Batch(x) for name in ("train", "validation", "test")}, kind="series")
    task = Imputation(rates=(), blocks={"end": [0.25], "centre": [0.25]}, max_examples=20)
    found = run_tasks({"i": task}, context(zero_model(data), data))
    assert found["test/imputation/end_0.25/seasonal/rmse"] == pytest.approx(0, abs=1e-4)
    assert found["test/imputation/centre_0.25/seasonal/rmse"] == pytest.approx(0, abs=1e-4)
    assert found["test/imputation/end_0.25/last_value/rmse"] > found["test/imputation/end_0.25/rmse"] > 0.5
    assert found["test/imputation/centre_0.25/linear/rmse"] > 0.1
    with pytest.raises(
        UserError, match=r"blocks\.end hides the last steps of series or frames of video, and these data are image"
    ):
        task.check(DataSpec(shape=(1, 8, 8), kind="image", size=1))
