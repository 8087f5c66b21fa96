"""Task multimodal: its measures on constructed cases, and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from instances import IMAGE, model
from part_models import Linear, examples, network, spec_of

from narrows.bottlenecks.experts import MixtureOfExperts, ProductOfExperts
from narrows.drawing.parts import cross_generation, images, sheet_of_parts
from narrows.errors import UserError
from narrows.tasks.classics.part_regressions import CCAOfBoth, PCAOfBoth
from narrows.tasks.measures.conditions import conditional_nll, given_parts, joint_nll
from narrows.tasks.measures.part_classifier import PartClassifier
from narrows.tasks.multimodal import Multimodal, _within
from narrows.types import Batch

X = torch.tensor([[0.3, -1.0, 0.2, 0.8, 0.1], [2.0, 1.0, -0.5, -1.5, 0.3]], dtype=torch.float64)


def test_exact_experts_give_the_exact_conditional_and_joint_nll() -> None:
    """Their importance weights are all alike, so that any number of draws will do."""
    linear = Linear(ProductOfExperts)
    with torch.no_grad():
        joint = joint_nll(linear.model, Batch(X), 3)
        given_a = conditional_nll(linear.model, Batch(X), "b", "a", 3)
        given_b = conditional_nll(linear.model, Batch(X), "a", "b", 3)
    torch.testing.assert_close(joint, -linear.evidence(X))
    torch.testing.assert_close(given_a, linear.evidence(X, ["a"]) - linear.evidence(X))
    torch.testing.assert_close(given_b, linear.evidence(X, ["b"]) - linear.evidence(X))


def test_the_conditional_nll_of_a_mixture_is_that_of_its_answers() -> None:
    """`-log E_{q(z|a)} p(b|z)`, by plain draws of q(z|a), which is not the model's own conditional."""
    linear = Linear(MixtureOfExperts)
    torch.manual_seed(0)
    with torch.no_grad():
        found = conditional_nll(linear.model, Batch(X), "b", "a", 40_000)
        latent: Any = linear.model.encode(given_parts(Batch(X), linear.model, ["a"]))
        z = latent.posterior.sample((40_000,))
        law = torch.distributions.Normal(z * linear.weight[2:], 0.7)
        plain = np.log(40_000) - law.log_prob(X[:, 2:]).sum(2).logsumexp(0)
    torch.testing.assert_close(found, plain, atol=0.05, rtol=0)


def test_parts_that_are_not_given_are_missing() -> None:
    batch = examples(spec_of(), missing={"image": [0]})
    known = given_parts(batch, network(), ["image", "words"]).observed
    assert known is not None
    assert known[1:, :16].all()
    assert not known[0, :16].any()
    assert not known[:, 16:28].any()
    assert known[:, 28:].all()


def test_pca_of_both_answers_with_the_conditional_mean() -> None:
    rng = np.random.default_rng(0)
    weight = np.array([[1.0, 0.5, -0.7, 0.3, 0.9], [0.2, -0.8, 0.4, 1.1, -0.5]])
    both = rng.normal(size=(60_000, 2)) @ weight + 0.3 * rng.normal(size=(60_000, 5)) + 4.0
    source, target = both[:, :3], both[:, 3:]
    covariance = weight.T @ weight + 0.09 * np.eye(5)
    regression = np.linalg.solve(covariance[:3, :3], covariance[:3, 3:])
    wanted = (source[:9] - 4.0) @ regression + 4.0
    np.testing.assert_allclose(PCAOfBoth(source, target, 2, 0).predict(source[:9]), wanted, atol=0.03)


def test_cca_of_both_finds_a_linear_relation() -> None:
    rng = np.random.default_rng(0)
    source = rng.normal(size=(400, 4))
    target = source @ rng.normal(size=(4, 3)) + 1.0
    np.testing.assert_allclose(CCAOfBoth(source, target, 0).predict(source[:9]), target[:9], atol=1e-6)


@pytest.mark.parametrize("shape", [(6,), (2, 9), (1, 8, 8)])
def test_a_classifier_learns_what_can_be_told_and_repeats_itself(shape: tuple[int, ...]) -> None:
    label = torch.arange(60) % 3
    x = torch.randn(60, *shape) * 0.1 + label.reshape(-1, *[1] * len(shape))
    first, again = (PartClassifier(x, label, 3, 0, "a") for _ in range(2))
    assert torch.equal(first.labels(x), label)
    noise = torch.randn(9, *shape)
    assert torch.equal(again.labels(noise), first.labels(noise))


def test_spread_is_within_labels() -> None:
    label = torch.tensor([0, 0, 1, 1, 2])
    x = torch.tensor([[0.0], [2.0], [10.0], [14.0], [99.0]])
    assert _within(x, label) == pytest.approx((2 + 8) / 2)
    assert _within(torch.ones(4, 1), torch.zeros(4).long()) == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Multimodal(samples=0), "samples must be at least 1"),
        (lambda: Multimodal(source="a"), "set both, or neither"),
        (lambda: Multimodal(source="a", target="a"), "are both 'a'"),
        (lambda: Multimodal(source="imag", target="sound").check(spec_of()), "no part 'imag'.*image"),
        (lambda: Multimodal(flipped=["x"]).check(spec_of()), "no part 'x'"),
    ],
)
def test_options_that_do_not_fit_are_refused(make: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make()


def test_what_it_judges() -> None:
    task = Multimodal()
    assert task.fits(spec_of(), network()) is None
    assert "no named parts" in str(task.fits(IMAGE, model()))
    assert "reads all parts at once" in str(task.fits(spec_of(), model()))


def test_pictures_hold_parts_of_any_shape() -> None:
    spec = spec_of()
    side = (4, 12)
    column = np.arange(12, dtype=np.float32).reshape(1, 12)
    assert images(column, (2, 6), side)[0, 0, 1:3, 3:9].tolist() == column.reshape(2, 6)[::-1].tolist()
    upright = images(np.arange(16, dtype=np.float32)[None], (1, 4, 4), (4, 4))
    flipped = images(np.arange(16, dtype=np.float32)[None], (1, 4, 4), (4, 4), flipped=True)
    assert np.array_equal(flipped[:, :, ::-1], upright)
    x = torch.rand(5, 31)
    assert sheet_of_parts([("model", x.numpy())], spec, "parts").shape[2] == 3
    drawn = cross_generation([("image", x[:, :16], "words", [x[:, 28:]] * 2)], spec)
    assert drawn is not None
    assert cross_generation([], spec) is None
