"""The total is the weighted sum of named terms, and nothing else."""

from __future__ import annotations

import pytest
import torch
from instances import BOTTLENECKS, LOSSES, TERMS, batch, model

from narrows.bottlenecks.base import Bottleneck
from narrows.corruptions import Masking, NoCorruption
from narrows.errors import UserError
from narrows.losses import Objective, Term
from narrows.losses.divergence import KL
from narrows.losses.reconstruction import HiddenNegativeLogLikelihood, NegativeLogLikelihood
from narrows.losses.sparsity import L1, SparseKL
from narrows.models.autoencoder import Autoencoder
from narrows.schedules import Constant, Cyclical, Linear
from narrows.types import FINAL_STEP, Latent, Output, SparseLatent, UnitLatent, VariationalLatent


class Fixed(Term):
    """A value per example, or one for the batch."""

    def __init__(self, value: float, weight: float = 1.0, scalar: bool = False) -> None:
        super().__init__(weight)
        self.value, self.scalar = value, scalar

    def forward(self, out: Output, model: Autoencoder) -> torch.Tensor:
        return torch.tensor(self.value) if self.scalar else torch.arange(len(out.batch)) * self.value


def gradients(net: Autoencoder, value: torch.Tensor) -> torch.Tensor:
    parts = torch.autograd.grad(value, list(net.parameters()), retain_graph=True, allow_unused=True)
    return torch.cat(
        [
            torch.zeros_like(p).flatten() if g is None else g.flatten()
            for p, g in zip(net.parameters(), parts, strict=True)
        ]
    )


def test_the_total_is_the_weighted_sum_of_the_means() -> None:
    net, data = model(), batch(n=5)
    losses = Objective({"a": Fixed(1.0, 0.5), "b": Fixed(3.0, 2.0, scalar=True)})(net(data), net)
    assert {name: value.item() for name, value in losses.terms.items()} == {"a": 2.0, "b": 3.0}
    assert losses.total.item() == 0.5 * 2.0 + 2.0 * 3.0


@pytest.mark.parametrize("name", ["elbo", "capacity"])
def test_names_are_the_config_s_own(name: str) -> None:
    net = model()
    losses = LOSSES[name]()(net(batch()), net)
    assert list(losses.terms) == ["reconstruction", {"elbo": "kl"}.get(name, name)]
    renamed = Objective({"x": NegativeLogLikelihood(), "y": KL()})(net(batch()), net)
    assert list(renamed.terms) == ["x", "y"]


@pytest.mark.parametrize("weight", [0.0, 0.25, 1.0, 40.0])
def test_terms_come_back_unweighted(weight: float) -> None:
    net, out = (net := model()), net(batch())
    losses = Objective({"reconstruction": NegativeLogLikelihood(), "kl": KL(weight)})(out, net)
    kl, reconstruction = KL()(out, net).mean(), NegativeLogLikelihood()(out, net).mean()
    torch.testing.assert_close(losses.terms["kl"], kl)
    torch.testing.assert_close(losses.terms["reconstruction"], reconstruction)
    torch.testing.assert_close(losses.total, reconstruction + weight * kl)


class Unmonitored(Fixed):
    monitored = False


def test_a_term_that_is_not_monitored_is_descended_and_logged_and_no_more() -> None:
    net, data = model(), batch(n=5)
    objective = Objective({"a": Fixed(1.0, 0.5), "b": Unmonitored(3.0, 2.0, scalar=True)})
    losses = objective(net(data), net)
    assert losses.terms["b"].item() == 3.0
    assert losses.total.item() == 0.5 * 2.0 + 2.0 * 3.0
    assert losses.monitored.item() == 0.5 * 2.0


def test_one_backward_is_the_weighted_sum_of_the_terms_gradients() -> None:
    net = model()
    out = net(batch())
    losses = Objective({"reconstruction": NegativeLogLikelihood(2.0), "kl": KL(0.3)})(out, net)
    expected = 2.0 * gradients(net, losses.terms["reconstruction"]) + 0.3 * gradients(net, losses.terms["kl"])
    torch.testing.assert_close(gradients(net, losses.total), expected, rtol=1e-4, atol=1e-5)


def test_a_weight_of_zero_has_no_gradient_and_is_still_reported() -> None:
    net = model()
    losses = Objective({"reconstruction": NegativeLogLikelihood(), "kl": KL(0.0)})(net(batch()), net)
    torch.testing.assert_close(gradients(net, losses.total), gradients(net, losses.terms["reconstruction"]))
    assert losses.terms["kl"] > 0


@pytest.mark.parametrize("schedule", [Constant(0.7), Linear(0.0, 2.0, 10, 3), Cyclical(0.0, 1.0, 10, 2)])
def test_weights_are_read_at_the_output_s_step(schedule: Linear) -> None:
    net = model()
    objective = Objective({"reconstruction": NegativeLogLikelihood(), "kl": KL(schedule)})
    out = net(batch())
    assert out.step == 0
    for step in (9, 0, 5, 14, FINAL_STEP):
        out.step = step
        losses = objective(out, net)
        expected = losses.terms["reconstruction"] + schedule(step) * losses.terms["kl"]
        torch.testing.assert_close(losses.total, expected)
        assert objective.weights(step) == {"reconstruction": 1.0, "kl": schedule(step)}


@pytest.mark.parametrize("name", ["reconstruction", "l1", "sparse_kl"])
def test_totals_are_per_example(name: str) -> None:
    """Every example twice is the same loss."""
    net = model(bottleneck=BOTTLENECKS["deterministic_sigmoid"])
    once, twice = batch(n=6), batch(n=12)
    twice.x = torch.cat([once.x, once.x])
    objective = LOSSES[name]()
    torch.testing.assert_close(objective(net(twice), net).total, objective(net(once), net).total)


REFUSED = [
    ({"kl": KL()}, Latent, NoCorruption, r"'kl' \(KL\) reads a VariationalLatent, but .* use a variational bottleneck"),
    ({"kl": KL()}, SparseLatent, NoCorruption, r"returns a SparseLatent"),
    ({"rate": SparseKL()}, Latent, NoCorruption, r"'rate' \(SparseKL\) reads a UnitLatent, .*activation=sigmoid"),
    ({"rate": SparseKL()}, VariationalLatent, NoCorruption, r"bottleneck Gaussian returns a VariationalLatent"),
    (
        {"x": HiddenNegativeLogLikelihood()},
        Latent,
        NoCorruption,
        r"'x' .* judges hidden values, but corruption NoCorruption hides none",
    ),
]
"""Terms, latent, corruption, and what is said of them."""


def giving(kind: type[Latent]) -> Bottleneck:
    bottleneck: Bottleneck = BOTTLENECKS["gaussian"]((4,))
    bottleneck.returns = kind
    return bottleneck


@pytest.mark.parametrize(("terms", "returns", "corruption", "sentence"), REFUSED)
def test_refusals_name_the_term_and_the_remedy(
    terms: dict[str, Term], returns: type[Latent], corruption: type[NoCorruption], sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence) as refused:
        Objective(terms).check(Autoencoder, giving(returns), corruption)
    assert "\n" not in str(refused.value)


def test_what_can_be_read_is_not_refused() -> None:
    Objective({"kl": KL(), "l1": L1()}).check(Autoencoder, giving(VariationalLatent), NoCorruption)
    Objective({"rate": SparseKL()}).check(Autoencoder, giving(UnitLatent), NoCorruption)
    Objective({"hidden": HiddenNegativeLogLikelihood()}).check(Autoencoder, giving(Latent), Masking)


def test_a_loss_that_could_choose_no_checkpoint_is_refused() -> None:
    alone = Objective({"adversary": TERMS["latent_adversary"]()})
    with pytest.raises(UserError, match=r"none of the loss terms 'adversary' is part of val/loss, .* add loss.recons"):
        alone.check(Autoencoder, giving(Latent), NoCorruption)


def test_a_loss_without_terms_is_refused() -> None:
    with pytest.raises(UserError, match="the loss has no term; choose one, for example loss=elbo"):
        Objective({})
