"""Terms that judge p(x|z)."""

from __future__ import annotations

from torch import Tensor

from narrows.losses.objective import Term
from narrows.model import Autoencoder
from narrows.types import Output


class NegativeLogLikelihood(Term):
    """`-log p(x|z)` summed over the observed values of an example, `[B]`, in nats.

    The textbooks' `mse` is this under a Gaussian likelihood, their `bce` under a Bernoulli one.
    """

    def forward(self, out: Output, model: Autoencoder) -> Tensor:
        return -out.log_likelihood


class HiddenNegativeLogLikelihood(Term):
    """`-log p(x|z)` summed over the values that the corruption hid, `[B]`, in nats: a masked
    autoencoder's loss ("Masked Autoencoders Are Scalable Vision Learners", He et al., 2022)."""

    needs_hidden = True

    def forward(self, out: Output, model: Autoencoder) -> Tensor:
        assert out.hidden is not None, "Objective.check admits hiding corruptions alone"
        nats = -out.p_x.log_prob(out.batch.truth) * out.hidden
        if out.batch.observed is not None:
            nats = nats * out.batch.observed
        return nats.flatten(1).sum(1)
