"""One definition of each reconstruction figure, against three slow lines."""

from __future__ import annotations

import logging
import math
from functools import partial
from pathlib import Path
from typing import Any

import instances
import pytest
import torch
from tasks.standins import Always, Rows, Same, context

from narrows.bottlenecks.deterministic import Deterministic
from narrows.corruptions import Block, GaussianNoise
from narrows.errors import UserError
from narrows.layers import FeatureNetwork
from narrows.likelihoods.normal import GaussianLikelihood
from narrows.models.autoencoder import Autoencoder
from narrows.models.stages import Stages
from narrows.tasks.base import run_tasks
from narrows.tasks.classics import mean_pca_ridge
from narrows.tasks.measures.pretrained_figures import SeenByNetwork
from narrows.tasks.measures.reconstruction_errors import (
    ErrorSums,
    example_ms_ssim,
    example_ssim,
    has_ms_ssim,
    has_ssim,
)
from narrows.tasks.reconstruction import Reconstruction
from narrows.types import Batch, DataSpec


def _unit_data(n: int = 50, **spec: object) -> Rows:
    x = torch.rand(n, 1, 8, 8) * torch.linspace(0.2, 1, 64).reshape(1, 8, 8)
    splits = {"train": Batch(x[: n - 10]), "validation": Batch(x[n - 10 :]), "test": Batch(x[n - 10 :])}
    return Rows(splits, **{"kind": "image", "value_range": (0.0, 1.0)} | spec)


def _constant_model(
    spec: DataSpec, values: torch.Tensor, corruption: instances.Build = instances.CORRUPTIONS["none"]
) -> Autoencoder:
    return Autoencoder(
        spec,
        Stages(
            encoder=Same,
            bottleneck=partial(Deterministic, dim=3),
            decoder=partial(Always, values=values),
            likelihood=GaussianLikelihood,
            corruption=corruption,
        ),
    )


def test_figures_are_exact_over_a_partial_last_batch() -> None:
    truth, guess = torch.rand(10, 2, 5), torch.rand(10, 2, 5)
    sums = ErrorSums(span=2.0, unit=True)
    for rows in (slice(0, 4), slice(4, 8), slice(8, 10)):
        sums.add(guess[rows], truth[rows])
    found = sums.figures()
    each = (guess - truth).square().flatten(1).mean(1)
    assert found["mse"] == pytest.approx(float(each.mean()), rel=1e-5)
    assert found["psnr"] == pytest.approx(float((10 * torch.log10(4 / each)).mean()), rel=1e-5)
    bce = torch.nn.functional.binary_cross_entropy(guess, truth)
    assert found["bce"] == pytest.approx(float(bce), rel=1e-5)


def test_missing_values_do_not_count() -> None:
    truth, guess = torch.rand(6, 5), torch.rand(6, 5)
    observed = torch.rand(6, 5) < 0.6
    observed[0] = False
    sums = ErrorSums(span=1.0, unit=False)
    sums.add(guess, torch.where(observed, truth, torch.nan), observed)
    assert sums.mse == pytest.approx(float((guess - truth)[observed].square().mean()), rel=1e-5)
    assert sums.examples == int(observed.any(1).sum())


def test_a_pretrained_network_judges_reconstructions_under_its_name() -> None:
    layers = partial(FeatureNetwork, layers=["stem", "stage1"])
    data = _unit_data()
    model = _constant_model(data.spec, torch.full((1, 8, 8), 0.5))
    found = Reconstruction(features=layers).run(context(model, data)).named()
    name = "efficientnet_lite0"
    assert 0 < found[f"test/pca/perceptual_{name}"] < found[f"test/perceptual_{name}"] < 4
    assert found[f"test/perceptual_{name}_stderr"] > 0
    assert 0 < found[f"test/pca/rfid_{name}"] < found[f"test/rfid_{name}"]
    assert not any("rfid" in name for name in Reconstruction().run(context(model, data)).named())

    exact, truth = SeenByNetwork(layers(size=16), data.spec, torch.device("cpu")), torch.rand(12, 1, 8, 8)
    for rows in truth.split(5):
        exact.add(rows, {"model": rows.clone(), "other": rows.flip(0)})
    figures = exact.figures()
    assert figures["model"][f"perceptual_{name}_16"] == pytest.approx(0, abs=1e-5)
    assert figures["model"][f"rfid_{name}_16"] == pytest.approx(0, abs=1e-4)
    assert figures["other"][f"perceptual_{name}_16"] > 0.01
    assert figures["other"][f"rfid_{name}_16"] == pytest.approx(0, abs=1e-4), "the same pictures, in another order"


def test_a_pretrained_network_reads_pictures_alone() -> None:
    for spec in (instances.TABLE, instances.SERIES):
        with pytest.raises(UserError, match="task reconstruction: features compares images"):
            Reconstruction(features=FeatureNetwork).fits(spec, instances.model())


def test_an_exact_reconstruction_has_a_finite_psnr() -> None:
    sums = ErrorSums(span=1.0, unit=True)
    sums.add(torch.ones(2, 3), torch.ones(2, 3))
    assert sums.figures()["psnr"] == pytest.approx(100)


def test_predicting_the_training_mean_leaves_all_variance_unexplained() -> None:
    data = _unit_data()
    model = _constant_model(data.spec, data.splits["train"].x.mean(0))
    judged = context(model, data)
    found = run_tasks({"r": Reconstruction()}, judged)
    assert found["test/variance_unexplained"] == pytest.approx(1, rel=1e-5)
    assert found["test/mse"] == pytest.approx(found["test/mean/mse"], rel=1e-5)
    assert not judged.warnings
    assert set(Reconstruction.figures) <= found.keys()


def test_worse_than_the_mean_is_a_loud_warning(caplog: pytest.LogCaptureFixture) -> None:
    data = _unit_data()
    judged = context(_constant_model(data.spec, torch.ones(1, 8, 8)), data)
    with caplog.at_level(logging.WARNING):
        found = run_tasks({"r": Reconstruction()}, judged)
    assert found["test/variance_unexplained"] > 1
    assert "WORSE THAN PREDICTING THE TRAINING MEAN" in caplog.text
    assert judged.warnings


def test_pca_has_as_many_components_as_the_latent_has_dimensions() -> None:
    data = _unit_data()
    model = _constant_model(data.spec, torch.zeros(1, 8, 8))
    found = run_tasks({"r": Reconstruction()}, context(model, data))
    train, test = (data.splits[name].x.flatten(1).double() for name in ("train", "test"))
    axes = torch.linalg.svd(train - train.mean(0), full_matrices=False)[2][:3]
    centred = test - train.mean(0)
    expected = (centred - centred @ axes.T @ axes).square().mean()
    assert found["test/pca/components"] == 3
    assert found["test/pca/mse"] == pytest.approx(float(expected), rel=1e-5)


def test_pca_that_leaves_no_error_has_one_of_nine_tenths_beside_it() -> None:
    data = _unit_data(n=80)
    assert "test/pca_90/mse" not in run_tasks(
        {"r": Reconstruction()}, context(_constant_model(data.spec, _mean(data)), data)
    )
    full = instances.model(data.spec, bottleneck=partial(Deterministic, dim=64))
    found = run_tasks({"r": Reconstruction()}, context(full, data))
    assert found["test/pca/variance_unexplained"] < 1e-6
    assert 0.05 < found["test/pca_90/variance_unexplained"] < 0.5
    assert found["test/pca_90/mse"] < found["test/mean/mse"]


def test_a_model_that_draws_z_is_also_judged_at_a_draw() -> None:
    data = _unit_data()
    model = instances.model(data.spec, bottleneck=instances.BOTTLENECKS["gaussian"])
    found = run_tasks({"r": Reconstruction()}, context(model, data))
    assert found["test/drawn/mse"] != found["test/mse"]
    ratio = found["test/drawn/mse"] / found["test/mean/mse"]
    assert found["test/drawn/variance_unexplained"] == pytest.approx(ratio)
    plain = instances.model(data.spec, bottleneck=instances.BOTTLENECKS["deterministic"])
    assert "test/drawn/mse" not in run_tasks({"r": Reconstruction()}, context(plain, data))


def _mean(data: Rows) -> torch.Tensor:
    return data.splits["train"].x.mean(0)


def test_a_denoiser_is_also_judged_from_the_corrupted_input() -> None:
    spec = _unit_data().spec
    noise = partial(GaussianNoise, sigma=0.3, clip=False)
    model = instances.model(spec, bottleneck=instances.BOTTLENECKS["deterministic"], corruption=noise)
    found = run_tasks({"r": Reconstruction()}, context(model, _unit_data(300)))
    assert found["test/corrupted/mse"] == pytest.approx(0.09, rel=0.15)
    assert found["test/denoised/ridge/psnr"] > found["test/corrupted/psnr"]
    assert {"test/denoised/mse", "test/denoised/psnr", "test/denoised/bce", "test/denoised/pca/psnr"} <= found.keys()
    assert "test/corrupted/bce" not in found


def test_hidden_values_are_judged_alone_and_the_warning_is_about_them(caplog: pytest.LogCaptureFixture) -> None:
    data = _unit_data()
    hole = partial(Block, size=0.5, place="centre")
    model = _constant_model(data.spec, torch.full((1, 8, 8), 0.9), corruption=hole)
    found = run_tasks({"r": Reconstruction()}, context(model, data))
    centre = (slice(None), slice(None), slice(2, 6), slice(2, 6))
    train, test = (data.splits[name].x for name in ("train", "test"))
    mean = (test - train.mean(0, keepdim=True))[centre].square().mean()
    guess = model.reconstruct(test)
    assert found["test/hidden/mse"] == pytest.approx(float((test - guess)[centre].square().mean()), rel=1e-5)
    assert found["test/hidden/mean/mse"] == pytest.approx(float(mean), rel=1e-5)
    assert found["test/hidden/ridge/mse"] > 0
    assert "test/hidden MSE" in caplog.text


def test_unbounded_data_take_their_range_from_the_training_split_and_have_no_bce() -> None:
    data = _unit_data(value_range=None)
    found = run_tasks({"r": Reconstruction()}, context(_constant_model(data.spec, torch.zeros(1, 8, 8)), data))
    train, test = data.splits["train"].x, data.splits["test"].x
    span = float(train.max() - train.min())
    each = test.square().flatten(1).mean(1)
    assert found["test/psnr"] == pytest.approx(float((10 * torch.log10(span**2 / each)).mean()), rel=1e-5)
    assert "test/bce" not in found


def test_a_cap_on_rows_is_said_and_seeded(caplog: pytest.LogCaptureFixture) -> None:
    data = _unit_data()
    model = _constant_model(data.spec, torch.zeros(1, 8, 8))
    with caplog.at_level(logging.INFO):
        first = run_tasks({"r": Reconstruction(max_rows=15)}, context(model, data))
    again = run_tasks({"r": Reconstruction(max_rows=15)}, context(model, data))
    assert "15 of the 40 training rows" in caplog.text
    assert first == again


def test_missing_training_values_are_filled_with_the_mean() -> None:
    x = torch.randn(30, 4)
    observed = torch.rand(30, 4) < 0.7
    split = Batch(torch.where(observed, x, 0.0), observed=observed)
    data = Rows({"train": split, "validation": split, "test": split})
    spec_model = _constant_model(data.spec, torch.zeros(4))
    training = mean_pca_ridge.gather_training(context(spec_model, data), None)
    mean = torch.stack([x[observed[:, i], i].mean() for i in range(4)])
    torch.testing.assert_close(torch.from_numpy(training.mean).float(), mean)
    filled = torch.where(observed, x, mean)
    torch.testing.assert_close(torch.from_numpy(training.clean).float(), filled)


def test_standard_errors_are_those_of_independent_examples() -> None:
    truth, guess = torch.rand(50, 4), torch.rand(50, 4)
    sums = ErrorSums(span=1.0, unit=True)
    for rows in (slice(0, 30), slice(30, 50)):
        sums.add(guess[rows], truth[rows])
    each = (guess - truth).square().mean(1).double()
    found = sums.deviations()
    assert found["mse_stderr"] == pytest.approx(float(each.std() / 50**0.5), rel=1e-5)
    assert found["psnr_stderr"] == pytest.approx(float((10 * torch.log10(1 / each)).std() / 50**0.5), rel=1e-5)
    torch.testing.assert_close(sums.example_errors, each, rtol=1e-5, atol=1e-8)


def test_the_error_of_a_ratio_of_sums_knows_that_rows_differ_in_length() -> None:
    source = torch.Generator().manual_seed(0)
    found, expected = [], []
    for _ in range(200):
        observed = torch.rand(60, 6, generator=source) < torch.linspace(0.1, 1, 60)[:, None]
        sums = ErrorSums(span=1.0, unit=False)
        sums.add(torch.randn(60, 6, generator=source), torch.zeros(60, 6), observed)
        found.append(sums.deviations()["mse_stderr"])
        expected.append(sums.mse)
    assert float(torch.tensor(found).mean()) == pytest.approx(float(torch.tensor(expected).std()), rel=0.2)


@pytest.mark.parametrize(
    ("likelihood", "value", "name"),
    [
        ("bernoulli", 1.0, "bits_per_dim"),
        ("bernoulli", 0.4, None),
        ("continuous_bernoulli", 0.4, "density_bits_per_dim"),
        ("continuous_bernoulli", 1.4, None),
        ("categorical", 0.4, "bits_per_dim"),
        *[(name, 7.0, "density_bits_per_dim") for name in instances.LIKELIHOODS if name.startswith("gaussian")],
        ("laplace", 7.0, "density_bits_per_dim"),
    ],
)
def test_bits_are_named_after_what_the_likelihood_is_of_such_data(
    likelihood: str, value: float, name: str | None
) -> None:
    built = instances.LIKELIHOODS[likelihood](instances.IMAGE)
    assert built.bits_name(torch.tensor([0.0, value])) == name
    mixed = instances.COLUMN_LIKELIHOODS["mixed"](instances.TABLE)
    assert mixed.bits_name(torch.tensor([0.0, value])) is None, "some columns have a mass, others a density"


def test_a_coin_per_value_costs_one_bit_per_dimension() -> None:
    x = (torch.rand(40, 1, 8, 8) < 0.5).float()
    data = Rows({name: Batch(x) for name in ("train", "validation", "test")}, kind="image", value_range=(0.0, 1.0))
    model = Autoencoder(
        data.spec,
        Stages(
            encoder=Same,
            bottleneck=partial(Deterministic, dim=3),
            decoder=partial(Always, values=torch.zeros(1, 8, 8)),
            likelihood=instances.LIKELIHOODS["bernoulli"],
            corruption=instances.CORRUPTIONS["none"],
        ),
    )
    found = run_tasks({"r": Reconstruction()}, context(model, data))
    assert found["test/bits_per_dim"] == pytest.approx(1)
    assert found["test/nll_at_point"] == pytest.approx(64 * math.log(2), rel=1e-5)
    assert found["test/nll_at_point_stderr"] == pytest.approx(0, abs=1e-4)
    assert "test/density_bits_per_dim" not in found
    assert "test/ssim" not in found, "8 pixels have no room for the window"


def test_similarity_is_one_for_equal_images_and_falls_with_noise() -> None:
    spec = DataSpec(shape=(2, 24, 24), kind="image", size=5, value_range=(0.0, 1.0))
    x = torch.rand(5, 2, 24, 24)
    noisy = [x + sigma * torch.randn_like(x) for sigma in (0.0, 0.1, 0.3)]
    assert has_ssim(spec)
    assert has_ms_ssim(spec)
    for similarity in (example_ssim, example_ms_ssim):
        found = [similarity(guess, x, 1.0) for guess in noisy]
        torch.testing.assert_close(found[0], torch.ones(5, dtype=torch.float64))
        assert (found[1] > found[2]).all()
        alone = torch.cat([similarity(noisy[1][i : i + 1], x[i : i + 1], 1.0) for i in range(5)])
        torch.testing.assert_close(found[1], alone)
    assert not has_ssim(DataSpec(shape=(1, 8, 8), kind="image", size=1))
    assert not has_ms_ssim(DataSpec(shape=(1, 11, 11), kind="image", size=1)), "SSIM alone"
    assert has_ms_ssim(DataSpec(shape=(1, 12, 12), kind="image", size=1))


@pytest.mark.parametrize(("kind", "shape"), [("image", (1, 8, 8)), ("series", (2, 12)), ("vector", (5,))])
def test_worst_and_best_are_shown(kind: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    x = torch.rand(30, *shape)
    data = Rows({name: Batch(x) for name in ("train", "validation", "test")}, kind=kind)
    judged = context(_constant_model(data.spec, torch.zeros(shape)), data)
    judged.directory = tmp_path
    run_tasks({"r": Reconstruction()}, judged)
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["worst_and_best.png"]


def _count_data(kind: Any, width: int = 30) -> Rows:
    """A few features frequent, most of them 0."""
    rates = torch.linspace(0.02, 1.5, width).expand(120, width)
    x = torch.poisson(rates, generator=torch.Generator().manual_seed(0))
    splits = {"train": Batch(x[:90]), "validation": Batch(x[90:100]), "test": Batch(x[100:])}
    return Rows(splits, kind=kind, value_range=(0.0, float("inf")))


@pytest.mark.parametrize("width", [30, 2])
def test_counts_have_the_errors_of_vectors_from_sparse_rows_and_no_decibels(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {}
    for kind in ("vector", "counts"):
        data = _count_data(kind, width)
        judged = context(_constant_model(data.spec, data.splits["train"].x.mean(0)), data)
        if kind != "vector":
            monkeypatch.setattr(mean_pca_ridge, "gather_training", lambda *_: pytest.fail("the whole was made dense"))
        found[kind] = run_tasks({"r": Reconstruction(max_rows=70)}, judged)
        monkeypatch.undo()
    plain = {name: value for name, value in found["vector"].items() if "psnr" not in name}
    assert len(plain) < len(found["vector"])
    assert found["counts"] == pytest.approx(plain, rel=1e-3, abs=1e-6)
    assert set(Reconstruction().declared(_count_data("counts").spec)) <= set(found["counts"])


def test_interactions_are_left_to_their_own_judge() -> None:
    data = _count_data("interactions")
    model = _constant_model(data.spec, data.splits["train"].x.mean(0))
    assert "task@tasks.recommendation" in (Reconstruction().fits(data.spec, model) or "")
