"""Where the mean of p(x|z) is no value of the data, nothing reads it, or is refused by name."""

from __future__ import annotations

import pytest
import torch
from instances import BOTTLENECKS, CORRUPTIONS, IMAGE, TERMS, batch, model
from torch import Tensor
from torch.distributions import Distribution, Normal

from narrows.errors import UserError
from narrows.likelihoods.normal import GaussianLikelihood
from narrows.losses import Objective
from narrows.models.autoencoder import Autoencoder
from narrows.tasks.interpretation import Interpretation
from narrows.types import Given


class Meanless(Normal):
    @property
    def mean(self) -> Tensor:
        raise AssertionError("somebody has read the mean")


class Likeliest(GaussianLikelihood):
    has_mean = False

    def forward(self, params: Tensor, given: Given | None = None) -> Distribution:
        p_x = super().forward(params, given)
        assert isinstance(p_x, Normal)
        return Meanless(p_x.loc, p_x.scale, validate_args=False)

    def point(self, p_x: Distribution) -> Tensor:
        assert isinstance(p_x, Normal)
        return p_x.loc


def network(name: str) -> Autoencoder:
    """One whose latent the term can read."""
    term = TERMS[name]()
    bottleneck = next(b for b, build in BOTTLENECKS.items() if issubclass(build((4,)).returns, term.requires))
    return model(likelihood=Likeliest, bottleneck=BOTTLENECKS[bottleneck], corruption=CORRUPTIONS["patches"])


@pytest.mark.parametrize("name", TERMS)
def test_a_term_says_whether_it_reads_the_mean(name: str) -> None:
    term, objective = TERMS[name](), Objective({name: TERMS[name]()})
    objective.check_likelihood(GaussianLikelihood)
    if term.needs_mean:
        with pytest.raises(
            UserError, match=f"loss term '{name}' .* reads the mean of p.* and that of likelihood Likel"
        ):
            objective.check_likelihood(Likeliest)
        with pytest.raises(AssertionError, match="somebody has read the mean"):
            objective(*attached(objective, name))
        return
    objective.check_likelihood(Likeliest)
    assert objective(*attached(objective, name)).total.isfinite()


def attached(objective: Objective, name: str) -> tuple:
    net = network(name)
    objective.attach(net)
    return net(batch()), net


def test_a_model_answers_with_the_point() -> None:
    net = model(likelihood=Likeliest).eval()
    examples = batch()
    assert torch.equal(net.reconstruct(examples), net.decode(net.encode(examples).point).loc)
    assert net.sample(3).shape == (3, *IMAGE.shape)
    assert "Likeliest has no mean" in str(Interpretation().fits(net.spec, net))
