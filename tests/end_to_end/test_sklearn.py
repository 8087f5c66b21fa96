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
from scipy import sparse
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
        ({"overrides": ["datamodule=interactions"]}, "leave datamodule=arrays, or datamodule=counts, and its source"),
        (
            {"overrides": ["datamodule=counts", "datamodule.source.form.transpose=true"]},
            "leave datamodule=arrays, or datamodule=counts, and its source",
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


# ── sparse rows ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def counts() -> np.ndarray:
    """`[300, 30]`, two thirds of it 0."""
    source = np.random.default_rng(0)
    found = source.poisson(0.4, (300, 30)).astype(np.float64)
    found[:, 0] += 1
    return found


COUNTED = ("datamodule=counts", "bottleneck.dim=3", "encoder.widths=[8]", "decoder.widths=[8]")


@pytest.mark.parametrize("overrides", [SMALL, COUNTED])
def test_sparse_rows_give_the_results_of_dense_ones(counts: np.ndarray, overrides: Any) -> None:
    variant = "nb_vae" if overrides == COUNTED else "vae"
    made = AutoencoderTransformer(variant, overrides=overrides, max_epochs=1)
    rows = counts if overrides == COUNTED else counts - 1.5 * (counts > 0)  # also below 0
    dense = clone(made).fit(rows)
    codes, scores = dense.transform(rows), dense.score_samples(rows)
    once = sparse.coo_matrix(rows)
    places = (np.tile(once.row, 2), np.tile(once.col, 2))
    doubled = sparse.coo_matrix((np.tile(once.data / 2, 2), places), rows.shape)  # what stands twice is summed
    forms = [sparse.csr_matrix, sparse.csc_array, sparse.lil_matrix, sparse.coo_array, sparse.csr_array]
    for form in forms:
        x = form(rows)
        fitted = clone(made).fit(x) if form in forms[:2] else dense
        assert fitted.transform(x) == pytest.approx(codes, rel=1e-4, abs=1e-6)
        assert fitted.score_samples(x) == pytest.approx(scores, rel=1e-4)
        assert fitted.score(x) == pytest.approx(scores.mean(), rel=1e-4)
    assert clone(made).fit(doubled).transform(doubled) == pytest.approx(codes, rel=1e-4, abs=1e-6)
    assert type(dense.transform(sparse.csr_matrix(rows))) is np.ndarray
    assert dense.transform(sparse.csr_matrix(rows.astype(np.float32))).dtype == np.float32
    assert dense.inverse_transform(sparse.csr_matrix(codes)) == pytest.approx(dense.inverse_transform(codes))
    found = AutoencoderDetector(variant, overrides=overrides, max_epochs=1).fit(sparse.csr_array(rows))
    assert found.predict(sparse.csc_matrix(rows)).tolist() == found.predict(rows).tolist()


def test_sparse_rows_are_never_dense_as_a_whole(counts: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    x, most = sparse.csr_matrix(counts / 3), [0]  # thirds, which single precision rounds
    for kind in (sparse.csr_matrix, sparse.csr_array):
        spread = kind.toarray

        def recorded(matrix: Any, *arguments: Any, spread: Any = spread, **options: Any) -> Any:
            most[0] = max(most[0], matrix.shape[0])
            return spread(matrix, *arguments, **options)

        monkeypatch.setattr(kind, "toarray", recorded)
    monkeypatch.setattr("narrows.sklearn.BATCH", 100)
    monkeypatch.setattr("narrows.data.stores.CHUNK_BYTES", 100 * 30 * 8)
    chunked = TINY | {"overrides": [*SMALL, "datamodule.loading.eval_batch_size=100"]}
    fitted = AutoencoderDetector(**chunked).fit(x)
    fitted.predict(x)
    assert 32 <= most[0] <= 200
    monkeypatch.undo()
    assert fitted.score_samples(x) == pytest.approx(fitted.score_samples(counts / 3))


def test_a_directory_keeps_counts_sparse_and_refuses_other_sparse_rows(counts: np.ndarray, tmp_path: Path) -> None:
    made = AutoencoderTransformer("mult_vae", overrides=COUNTED, max_epochs=1, directory=tmp_path)
    fitted = made.fit(sparse.csc_matrix(counts))
    assert fitted.run_ is not None
    assert sparse.load_npz(fitted.run_ / "rows.npz").nnz == np.count_nonzero(counts)
    opened = OpenRun(fitted.run_)
    opened.find_data()
    record = narrows.runs.run_directory.read_json(fitted.run_ / "manifest.json")
    assert opened.data.spec.fingerprint == record["data"]["fingerprint"]
    assert opened.model.embed(torch.from_numpy(counts).float()).numpy() == pytest.approx(
        fitted.transform(counts), abs=1e-4
    )
    with pytest.raises(UserError, match=r"add overrides=\['datamodule=counts'\]"):
        AutoencoderTransformer(**TINY, directory=tmp_path / "other").fit(sparse.csr_matrix(counts))
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("change", "overrides", "sentence"),
    [
        (lambda x: x * np.nan, SMALL, "NaN"),
        (lambda x: np.where(x > 1, np.inf, x), SMALL, "infinity"),
        (lambda x: x / 2, COUNTED, "counts must be whole numbers of 0 or more"),
        (lambda x: -x, COUNTED, "counts must be whole numbers of 0 or more"),
        (lambda x: x * 0, COUNTED, "no counts: set source.empty=drop"),
    ],
)
@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix])
def test_what_is_no_number_or_no_count_is_refused(
    change: Any, overrides: Any, sentence: str, form: Any, counts: np.ndarray
) -> None:
    made = AutoencoderTransformer("mult_vae" if overrides == COUNTED else "vae", overrides=overrides, max_epochs=1)
    with pytest.raises(ValueError, match=sentence):
        made.fit(form(change(counts[:60])))


def test_a_loss_that_cannot_read_the_latent_leaves_no_run(rows: np.ndarray, tmp_path: Path) -> None:
    estimator = AutoencoderTransformer("vamp_vae", overrides=["loss=reconstruction"], directory=tmp_path)
    with pytest.raises(UserError, match="model VampAutoencoder has a prior that none of the loss terms"):
        estimator.fit(rows)
    assert not list(tmp_path.iterdir())
