"""The scikit-learn interface: scikit-learn's own checks, and what users build with it."""

from __future__ import annotations

import logging
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from sklearn.base import clone
from sklearn.datasets import load_wine
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import narrows
from narrows.errors import UserError
from narrows.loading import OpenRun
from narrows.sklearn import AutoencoderDetector, AutoencoderTransformer

SMALL = ("bottleneck.dim=2", "encoder.widths=[4]", "decoder.widths=[4]")
TINY: dict[str, Any] = {"overrides": SMALL, "max_epochs": 1}


@parametrize_with_checks([AutoencoderTransformer(**TINY), AutoencoderDetector(**TINY)])
def test_scikit_learn_s_own_checks(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    """`[150, 6]` close to a plane."""
    source = np.random.default_rng(0)
    return source.normal(size=(150, 2)) @ source.normal(size=(2, 6)) + 0.05 * source.normal(size=(150, 6))


LINEAR: dict[str, Any] = {
    "variant": "linear",
    "overrides": ["bottleneck.dim=2", "optimizer.lr=0.05", "datamodule.batch_size=8", "scheduler=cosine"],
    "max_epochs": 30,
}


def test_a_linear_one_is_pca(rows: np.ndarray) -> None:
    fitted = AutoencoderTransformer(**LINEAR).fit(rows)
    pca = PCA(2).fit(rows)
    again = pca.inverse_transform(pca.transform(rows))
    assert -fitted.score(rows) == pytest.approx(np.square(rows - again).mean(), rel=0.1)
    back = fitted.inverse_transform(fitted.transform(rows))
    assert np.square(rows - back).mean(1) == pytest.approx(-fitted.score_samples(rows), rel=1e-5)
    assert fitted.transform(rows).dtype == np.float64
    assert fitted.transform(rows.astype(np.float32)).dtype == np.float32


def test_detection_and_its_threshold(rows: np.ndarray) -> None:
    fitted = AutoencoderDetector(**LINEAR, quantile=0.8).fit(rows)
    far = rows + np.random.default_rng(1).normal(size=rows.shape)
    assert (fitted.predict(far) == -1).mean() > 0.9
    # 15 rows validate: interpolated, their 0.8 quantile has three of them above.
    assert (fitted.predict(rows) == -1).sum() >= 3
    assert (fitted.predict(rows) == -1).mean() < 0.4
    assert fitted.decision_function(rows) == pytest.approx(fitted.score_samples(rows) - fitted.offset_)
    with pytest.raises(UserError, match=r"quantile must be in \(0, 1\), not 1"):
        AutoencoderDetector(quantile=1).fit(rows)


def test_a_pipeline_is_searched() -> None:
    x, y = load_wine(return_X_y=True)
    pipeline = make_pipeline(
        StandardScaler(), AutoencoderTransformer(overrides=SMALL, max_epochs=3), LogisticRegression()
    )
    grid = {"autoencodertransformer__variant": ["undercomplete", "vae"]}
    search = GridSearchCV(pipeline, grid, cv=2).fit(x, y)
    assert search.best_score_ > 0.4
    names = search.best_estimator_[:-1].get_feature_names_out()
    assert list(names) == ["autoencodertransformer0", "autoencodertransformer1"]


@pytest.mark.parametrize("variant", ["vae", "topk", "wae_gan", "ladder_vae", "flow_posterior_vae", "vq_vae"])
def test_variants(variant: str, rows: np.ndarray) -> None:
    options = [
        "encoder.widths=[8]",
        "decoder.widths=[8]",
    ]
    one = AutoencoderTransformer(variant, overrides=options, max_epochs=1).fit(rows)
    codes = one.transform(rows)
    assert codes.shape == (150, len(one.get_feature_names_out()))
    assert one.inverse_transform(codes).shape == rows.shape
    assert np.isfinite(one.score(rows))


def test_equal_parameters_equal_fits_whatever_the_directory(rows: np.ndarray, tmp_path: Path) -> None:
    tiny = AutoencoderTransformer(**TINY)
    first = tiny.fit(rows).transform(rows)
    torch.manual_seed(17)
    assert np.array_equal(clone(tiny).fit(rows).transform(rows), first)
    kept = clone(tiny).set_params(directory=tmp_path / "outputs").fit(rows)
    assert np.array_equal(kept.transform(rows), first)
    assert not np.array_equal(clone(tiny).set_params(seed=1).fit(rows).transform(rows), first)
    assert np.array_equal(pickle.loads(pickle.dumps(kept)).transform(rows), first)


def test_a_directory_holds_real_runs(rows: np.ndarray, tmp_path: Path) -> None:
    tiny = AutoencoderTransformer(**TINY, directory=tmp_path)
    runs = [tiny.fit(rows).run_, clone(tiny).fit(rows).run_]
    assert len(set(runs)) == 2
    run = runs[0]
    assert run is not None
    assert run.parent == tmp_path / "undercomplete"
    record = narrows.runs.run_directory.read_json(run / "manifest.json")
    assert record["status"] == "completed"
    assert record["data"]["size"] == 135
    assert record["parameters"] == sum(p.numel() for p in narrows.load(run).parameters())
    assert record["attempts"][0]["step"] == 0
    assert {"metrics.json", "metrics.csv", "config.yaml", "rows.npz"} <= {path.name for path in run.iterdir()}
    assert "val/loss" in narrows.runs.run_directory.read_json(run / "metrics.json")
    loaded = narrows.load(run)
    embedded = loaded.embed(torch.from_numpy(rows).float()).numpy()
    assert embedded == pytest.approx(clone(tiny).fit(rows).transform(rows), abs=1e-5)
    opened = OpenRun(run)
    opened.find_data()
    assert opened.data.spec.fingerprint == record["data"]["fingerprint"]


def test_quiet_and_nothing_left_behind(
    rows: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    state, filters = torch.get_rng_state(), list(warnings.filters)
    strict, hydra = torch.are_deterministic_algorithms_enabled(), GlobalHydra.instance().hydra
    with caplog.at_level(logging.INFO):
        AutoencoderDetector(**TINY).fit(rows).predict(rows)
    assert not list(tmp_path.iterdir())
    assert capfd.readouterr() == ("", "")
    assert not caplog.messages
    assert torch.equal(torch.get_rng_state(), state)
    assert warnings.filters == filters
    assert torch.are_deterministic_algorithms_enabled() is strict
    assert GlobalHydra.instance().hydra is hydra


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"variant": "masked"}, "encoder.patch"),
        ({"variant": "vea"}, "there is no variant 'vea': did you mean 'vae'"),
        ({"overrides": ["encoder=3"]}, "there is no encoder '3': valid: "),
        ({"overrides": ["bottleneck.dims=2"]}, "there is no config key 'dims' in 'bottleneck': did you mean 'dim'"),
        ({"overrides": "bottleneck.dim=2"}, r"overrides is a list, such as \['bottleneck.dim=8'\]"),
        (
            {"overrides": ["datamodule.source.kind=image"]},
            "the rows given to fit are the data: leave datamodule=arrays",
        ),
        ({"overrides": ["datamodule.source.standardise=standard"]}, r"make_pipeline\(StandardScaler\(\), ...\)"),
        ({"max_epochs": 0}, "nothing was trained"),
        ({"encoder": "conv", "decoder": "conv"}, "conv"),
        ({"variant": "conditional_vae"}, "needs data with classes, but these have none"),
    ],
)
def test_refusals_are_one_sentence(options: dict[str, Any], sentence: str, rows: np.ndarray) -> None:
    with pytest.raises(UserError, match=sentence):
        AutoencoderTransformer(**(TINY | {"overrides": ()} | options)).fit(rows)


def test_a_loss_that_cannot_read_the_latent_leaves_no_run(rows: np.ndarray, tmp_path: Path) -> None:
    estimator = AutoencoderTransformer("vamp_vae", overrides=["loss=reconstruction"], directory=tmp_path)
    with pytest.raises(UserError, match="model VampAutoencoder has a prior that none of the loss terms"):
        estimator.fit(rows)
    assert not list(tmp_path.iterdir())
