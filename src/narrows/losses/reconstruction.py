"""Terms that judge p(x|z)."""

from __future__ import annotations

import torch
from torch import Tensor

from narrows.errors import require
from narrows.layers.patches import from_patches, patch_grid, to_patches
from narrows.likelihoods.elementwise import LaplaceLikelihood
from narrows.likelihoods.normal import GaussianLikelihood, OptimalGaussianLikelihood
from narrows.losses.objective import Term
from narrows.models.autoencoder import Autoencoder
from narrows.schedules import Schedule
from narrows.types import Output, Shape, log_prob_of, row_sums

UNBOUNDED = (GaussianLikelihood, OptimalGaussianLikelihood, LaplaceLikelihood)


class NegativeLogLikelihood(Term):
    """`-log p(x|z)` summed over the observed values of an example, `[B]`, in nats.

    The textbooks' `mse` is this under a Gaussian likelihood, their `bce` under a Bernoulli one.

    Example:
        >>> x = torch.zeros(1, 4)
        >>> out = Output(Batch(x), Batch(x), Latent(x, x), p_x=Laplace(x, 1.0))
        >>> NegativeLogLikelihood()(out, None)  # 4 log 2
        tensor([2.7726])
    """

    def forward(self, out: Output, model: Autoencoder) -> Tensor:
        return -out.log_likelihood


class HiddenNegativeLogLikelihood(Term):
    """`-log p(x|z)` summed over the values that the corruption hid, `[B]`, in nats: a masked autoencoder's loss
    ("Masked Autoencoders Are Scalable Vision Learners", He et al., 2022, https://arxiv.org/abs/2111.06377).

    With `patch`, the target is x normalised within each patch of that side, over all channels,
    `(x - mean) / sqrt(var + 1e-6)` (there, section 4.1, "reconstruction target"). The decoder then learns these
    units: what the model reconstructs is no picture, and its error in the data's own units says nothing.

    Raises:
        UserError: a negative weight; with `patch`, one that does not cover the data, or a likelihood of bounded values.

    Example:
        >>> spec = DataSpec((4,), "vector", 10, value_range=(0.0, 1.0))
        >>> model = Autoencoder(spec, Stages(MLPEncoder, Gaussian, MLPDecoder, BernoulliLikelihood, Masking))
        >>> out = model(Batch(torch.rand(2, 4)))
        >>> HiddenNegativeLogLikelihood()(out, model).shape
        torch.Size([2])
    """

    needs_hidden = True

    def __init__(self, weight: float | Schedule = 1.0, patch: int | None = None) -> None:
        super().__init__(weight)
        self.patch = patch

    def attach(self, model: Autoencoder) -> None:
        if self.patch is None:
            return
        patch_grid(model.spec.shape, self.patch, "term hidden_nll")
        kind = type(model.likelihood).__name__
        require(
            isinstance(model.likelihood, UNBOUNDED),
            f"term hidden_nll with patch={self.patch} asks for normalised values, which {kind} cannot give; use "
            "likelihood=gaussian",
        )

    def forward(self, out: Output, model: Autoencoder) -> Tensor:
        hidden, truth, known = out.seen.hidden, out.batch.truth, out.batch.judged
        assert hidden is not None, "Objective.check admits hiding corruptions alone"
        if self.patch is not None:
            truth = normalised(truth, patch_grid(truth.shape[1:], self.patch, "term hidden_nll"), known)
        return -row_sums(log_prob_of(out.p_x, truth, hidden if known is None else hidden & known))


def normalised(x: Tensor, grid: Shape, observed: Tensor | None = None) -> Tensor:
    """`x [B, *shape]` with the observed values of each patch, over all channels, at mean 0 and variance 1."""
    patches = to_patches(x if observed is None else x.masked_fill(~observed, 0.0), grid)
    known = torch.ones_like(patches) if observed is None else to_patches(observed, grid).to(x.dtype)
    count = known.sum(2, keepdim=True)
    centred = (patches - patches.sum(2, keepdim=True) / count.clamp_min(1)) * known
    variance = centred.square().sum(2, keepdim=True) / (count - 1).clamp_min(1)
    return from_patches(centred / (variance + 1e-6).sqrt(), grid, tuple(x.shape[1:]))
