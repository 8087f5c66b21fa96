"""Measures of disentanglement: known latents have known scores, and each measure is what slow loops say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from factor_tables import factors, noise

from narrows.tasks.disentanglement import METRICS
from narrows.tasks.measures import factor_interventions
from narrows.tasks.measures.disentanglement_scores import (
    Matrix,
    Table,
    Whole,
    dci,
    read_by_forest,
)
from narrows.tasks.measures.factor_interventions import factor_vae


def scores(codes: Matrix, truth: Whole) -> dict[str, float]:
    table = Table(np.asarray(codes, dtype=np.float64), truth)
    found = dci(table, read_by_forest)
    for measure in METRICS.values():
        found |= measure(table)
    assert all(math.isfinite(value) and -1e-9 <= value <= 1 + 1e-9 for value in found.values()), found
    return found


@pytest.fixture(scope="module")
def perfect() -> dict[str, float]:
    return scores(factors(), factors())


@pytest.fixture(autouse=True)
def _fewer_points(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(factor_interventions, "TRAIN_POINTS", 2000)
    monkeypatch.setattr(factor_interventions, "TEST_POINTS", 2000)


# ── latents whose score is known ────────────────────────────────────────────────────────────────────────


def test_the_factors_themselves_are_perfect(perfect: dict[str, float]) -> None:
    one = ("mig", "disentanglement", "completeness", "informativeness", "factor_vae", "beta_vae", "modularity")
    for name in one:
        assert perfect[name] == pytest.approx(1, abs=0.02), name
    assert perfect["explicitness"] > 0.75  # the middle values of a factor are no half-lines


def test_sap_of_a_perfect_latent_of_two_values_is_one_minus_chance() -> None:
    truth = factors(9000, (2, 2, 2))
    assert scores(truth, truth)["sap"] == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("change", ["permuted", "scaled", "flipped", "shifted"])
def test_order_scale_sign_and_origin_of_latents_do_not_matter(change: str, perfect: dict[str, float]) -> None:
    truth = factors()
    codes = {
        "permuted": truth[:, [2, 0, 3, 1]],
        "scaled": truth * np.array([0.5, 3.0, 1.0, 2.0]),
        "flipped": truth * np.array([-1, 1, -1, -1]),
        "shifted": truth + np.array([100.0, -5.0, 0.0, 1e4]),
    }[change]
    assert scores(codes, truth) == pytest.approx(perfect, abs=0.02)


def test_noisy_latents_are_judged_the_same_in_any_unit() -> None:
    truth = factors()
    codes = truth + 0.7 * noise(*truth.shape)
    assert scores(codes * np.array([-0.5, 2.0, 1.0, 1.5]), truth) == pytest.approx(scores(codes, truth), abs=0.03)


def test_rotated_factors_are_informative_and_not_disentangled(perfect: dict[str, float]) -> None:
    truth = factors()
    # A Hadamard matrix: every latent tells of every factor alike.
    mixing = np.array([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]) / 2
    standard = (truth - truth.mean(0)) / truth.std(0)
    found = scores(standard @ mixing, truth)
    assert found["mig"] < 0.1
    assert found["sap"] < 0.1
    assert found["disentanglement"] < 0.35
    assert found["completeness"] < 0.35
    assert found["informativeness"] > 0.8
    assert found["explicitness"] == pytest.approx(perfect["explicitness"], abs=0.02)


def test_random_latents_tell_nothing() -> None:
    truth = factors(4000, (4, 4, 4, 4))
    found = scores(noise(4000, 5), truth)
    assert found["mig"] < 0.01
    assert found["sap"] < 0.02
    assert found["disentanglement"] < 0.1
    assert found["factor_vae"] == pytest.approx(0.25, abs=0.05)
    assert found["beta_vae"] == pytest.approx(0.25, abs=0.05)
    assert found["explicitness"] == pytest.approx(0.5, abs=0.02)
    assert found["informativeness"] == pytest.approx(0.25, abs=0.03)


def test_one_factor_in_two_latents_is_incomplete_and_still_disentangled() -> None:
    truth = factors()
    found = scores(truth[:, [0, 1, 2, 3, 3]], truth)
    assert found["mig"] == pytest.approx(3 / 4, abs=0.01)
    assert found["completeness"] < 0.97
    assert found["disentanglement"] == pytest.approx(1, abs=0.01)
    assert found["modularity"] == pytest.approx(1, abs=0.01)
    assert found["factor_vae"] == pytest.approx(1, abs=0.01)


def test_two_factors_in_one_latent_are_complete_and_not_disentangled() -> None:
    truth = factors(3000, (3, 3, 3))
    found = scores(np.stack([truth[:, 0] * 3 + truth[:, 1], truth[:, 2]], 1), truth)
    assert found["completeness"] == pytest.approx(1, abs=0.01)
    assert found["disentanglement"] < 0.75
    assert found["modularity"] < 0.85


def test_constant_latents_change_nothing_but_modularity(perfect: dict[str, float]) -> None:
    truth = factors()
    padded = np.concatenate([np.full((len(truth), 1), 0.1), truth, np.zeros((len(truth), 3))], axis=1)
    found = scores(padded, truth)
    assert found.pop("modularity") == pytest.approx(perfect["modularity"] * 4 / 8)
    assert found == pytest.approx({name: perfect[name] for name in found}, abs=0.02)


def test_a_latent_that_collapsed_to_noise_does_not_vote() -> None:
    truth = factors()
    codes = np.concatenate([truth, 1e-3 * noise(len(truth), 4)], axis=1)
    assert factor_vae(Table(codes, truth)) == {"factor_vae": pytest.approx(1, abs=0.01)}


def test_nothing_but_constants_scores_nothing() -> None:
    truth = factors(600)
    found = scores(np.ones((600, 3)), truth)
    for name in ("mig", "sap", "modularity", "disentanglement", "completeness", "factor_vae"):
        assert found[name] == 0, name
    assert found["explicitness"] == 0.5


@pytest.mark.parametrize("latents", [1, 3])
def test_a_single_factor_and_a_single_latent(latents: int) -> None:
    truth = factors(600, (3,))
    codes = np.concatenate([truth, noise(600, latents - 1)], axis=1)
    found = scores(codes, truth)
    assert found["mig"] > 0.85
    assert found["disentanglement"] == pytest.approx(1)
