"""Denoising: each method on the same noisy rows, the noise as named, the filters tuned elsewhere."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import instances
import numpy as np
import pytest
import torch
from tasks.standins import Rows, context

from narrows.corruptions import GaussianNoise
from narrows.errors import UserError
from narrows.models.autoencoder import Autoencoder
from narrows.tasks.base import run_tasks
from narrows.tasks.classics import denoising_filters
from narrows.tasks.denoising import KINDS, Denoising
from narrows.types import Batch, DataSpec

IMAGES = {"kind": "image", "value_range": (0.0, 1.0)}


def _waves(n: int, side: int = 16) -> torch.Tensor:
    """Smooth pictures in [0.1, 0.9] with two degrees of freedom."""
    grid = torch.linspace(0, 3, side)
    phase = torch.rand(n, 2, 1, 1) * 3
    return (0.5 + 0.4 * torch.sin(grid[:, None] + phase[:, :1]) * torch.cos(grid + phase[:, 1:])).reshape(
        n, 1, side, side
    )


def _data(x: torch.Tensor, **spec: object) -> Rows:
    return Rows({"train": Batch(x), "validation": Batch(x[:12]), "test": Batch(x[12:30])}, **spec)


class Identity(Autoencoder):
    """Gives back what it is given."""

    def reconstruct(self, batch: Batch | torch.Tensor) -> torch.Tensor:
        return Batch.of(batch).x


def _identity(spec: DataSpec) -> Autoencoder:
    model = instances.model(spec, bottleneck=instances.BOTTLENECKS["deterministic"], likelihood=_GAUSSIAN)
    model.__class__ = Identity
    return model


_GAUSSIAN = instances.LIKELIHOODS["gaussian_fixed"]


@pytest.fixture(scope="module")
def judged() -> dict[str, float]:
    torch.manual_seed(0)
    data = _data(_waves(200), **IMAGES)
    task = Denoising(noises={"gaussian": [0.1], "masking": [0.3]}, max_examples=10)
    return run_tasks({"d": task}, context(_identity(data.spec), data))


def test_a_model_that_does_nothing_is_the_noisy_input(judged: dict[str, float]) -> None:
    at = "test/denoising/gaussian_0.1"
    for figure in ("psnr", "ssim", "psnr_stderr"):
        assert judged[f"{at}/{figure}"] == judged[f"{at}/noisy/{figure}"]
    assert judged[f"{at}/gain"] == 0
    assert judged[f"{at}/noisy/psnr"] == pytest.approx(20, abs=0.3), "20 log10(1 / 0.1), hardly clipped"
    assert judged[f"{at}/seen"] == 0


def test_every_classic_gains_on_smooth_pictures_and_ridge_most(judged: dict[str, float]) -> None:
    at = "test/denoising/gaussian_0.1"
    for name in denoising_filters.FILTERS:
        assert judged[f"{at}/{name}/gain"] > 1, name
        assert judged[f"{at}/{name}/ssim"] > judged[f"{at}/noisy/ssim"], name
    best = max((*denoising_filters.FILTERS, "ridge"), key=lambda name: judged[f"{at}/{name}/psnr"])
    assert best == "ridge", "the pictures are linear in four numbers"
    assert judged[f"{at}/lead"] == pytest.approx(judged[f"{at}/noisy/psnr"] - judged[f"{at}/ridge/psnr"])


def test_the_gain_is_paired(judged: dict[str, float]) -> None:
    at = "test/denoising/masking_0.3/ridge"
    assert judged[f"{at}/gain"] == pytest.approx(judged[f"{at}/psnr"] - judged["test/denoising/masking_0.3/noisy/psnr"])
    assert 0 < judged[f"{at}/gain_stderr"] < 1


def test_the_noise_of_training_is_judged_as_seen_and_by_the_model_s_own_corruption() -> None:
    data = _data(_waves(60), **IMAGES)
    own = partial(GaussianNoise, sigma=0.2, clip=False)
    model = instances.model(data.spec, bottleneck=instances.BOTTLENECKS["deterministic"], corruption=own)
    task = Denoising(noises={"gaussian": [0.1]}, max_examples=5)
    found = run_tasks({"d": task}, context(model, data))
    assert {name.split("/")[2]: value for name, value in found.items() if name.endswith("/seen")} == {
        "gaussian_0.1": 0,
        "gaussian_0.2": 1,
    }


def test_noise_that_does_not_fit_is_left_out_and_vectors_have_ridge_alone() -> None:
    data = _data(torch.randn(60, 5) @ torch.randn(5, 5))
    found = run_tasks({"d": Denoising(max_examples=None)}, context(_identity(data.spec), data))
    assert {name.split("/")[2].rpartition("_")[0] for name in found} == {"gaussian", "speckle", "masking"}
    assert {name.split("/")[3] for name in found if name.count("/") == 4} == {"noisy", "ridge"}
    with pytest.raises(UserError, match="none of these noises fits"):
        Denoising(noises={"block": [0.5], "hum": [5]}).run(context(_identity(data.spec), data))


def test_series_have_filters_too() -> None:
    x = torch.sin(torch.linspace(0, 6, 40) + torch.rand(60, 2, 1) * 6)
    data = _data(x, kind="series")
    found = run_tasks({"d": Denoising(noises={"gaussian": [0.3]}, max_examples=6)}, context(_identity(data.spec), data))
    assert found["test/denoising/gaussian_0.3/gaussian_filter/gain"] > 2
    assert "test/denoising/gaussian_0.3/nlm/psnr" not in found


@pytest.mark.parametrize("name", denoising_filters.FILTERS)
def test_a_filter_leaves_a_constant_alone_in_any_range(name: str) -> None:
    rows = np.full((2, 1, 12, 12), -3.0)
    assert denoising_filters.apply(name, rows, 3, (-5.0, 5.0)) == pytest.approx(rows)


def test_the_strength_is_the_best_of_the_held_out_rows() -> None:
    rng = np.random.default_rng(0)
    clean = np.full((3, 1, 16, 16), 0.5)
    noisy = clean + 0.1 * rng.standard_normal(clean.shape)
    assert denoising_filters.best_strength("gaussian_filter", noisy, clean, (0, 1)) == 1.5, "nothing to blur but noise"
    assert denoising_filters.best_strength("gaussian_filter", noisy, noisy, (0, 1)) == 0.5


def test_the_same_command_gives_the_same_figures_and_pictures_of_each_condition(tmp_path: Path) -> None:
    data = _data(_waves(60), **IMAGES)
    task = Denoising(noises={"gaussian": [0.2, 0.4]}, max_examples=4)
    first, again = context(_identity(data.spec), data), context(_identity(data.spec), data)
    first.directory = tmp_path
    assert run_tasks({"d": task}, first) == run_tasks({"d": task}, again)
    drawn = {path.stem for path in (tmp_path / "figures").iterdir()}
    assert drawn == {"denoising_gaussian_0.2", "denoising_gaussian_0.4", "denoising_levels"}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"noises": {"gausian": [0.1]}}, "no noise 'gausian'.*gaussian"),
        ({"noises": {"gaussian": []}}, "at least one level"),
        ({"noises": {"white": [500]}}, "noise white has level 500, and decibels go from -60 to 120"),
        ({"max_examples": 0}, "max_examples must be at least 1"),
    ],
)
def test_options_out_of_range_are_one_sentence(options: dict[str, object], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        Denoising(**options)  # type: ignore[arg-type]


def test_every_kind_is_a_corruption_with_that_argument() -> None:
    spec = DataSpec(shape=(1, 8, 8), kind="image", size=1, value_range=(0.0, 1.0))
    for corruption, argument in KINDS.values():
        assert getattr(corruption(spec, **{argument: 0.4}), argument) == 0.4
