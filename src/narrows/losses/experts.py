"""Evidence lower bounds of multi-modal data.

Legend for shapes: T choices of parts or draws of z, B examples, K parts, S subsets, L draws of each subset, D latents.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from narrows.bottlenecks.experts import ExpertsLatent, ProductLatent
from narrows.errors import nearest, require
from narrows.likelihoods.named_parts import require_parts
from narrows.losses.objective import Term
from narrows.models.autoencoder import Autoencoder
from narrows.schedules import Schedule
from narrows.types import Batch, DataSpec, Output, log_prob_of

Weights = Literal["equal", "balanced"] | Mapping[str, float]
"""What a nat of each part weighs: 1, as many as the largest part has values for each of its own, or by name."""


class _OfParts(Term):
    """What terms of multi-modal data share: weights of the parts, and beta."""

    parts_weights: Tensor

    def __init__(self, weight: float | Schedule, weights: Weights, beta: float, name: str) -> None:
        super().__init__(weight)
        require(beta >= 0, f"term {name}: beta must be at least 0, not {beta}")
        words = ("equal", "balanced")
        if isinstance(weights, str):
            require(weights in words, f"term {name}: there are no weights {weights!r}: {nearest(weights, words)}")
        else:
            wrong = {part: value for part, value in weights.items() if not 0 <= value < math.inf}
            require(not wrong, f"term {name}: weights must be numbers of at least 0, not {wrong}")
        self.weights, self.beta, self.name = weights, beta, name
        self.register_buffer("parts_weights", torch.ones(0), persistent=False)

    def attach(self, model: Autoencoder) -> None:
        names = require_parts(model.spec, f"term {self.name}")
        found = weights_of(self.weights, model.spec)
        for part in found:
            require(part in names, f"term {self.name}: the data have no part '{part}': {nearest(part, names)}")
        self.parts_weights = torch.tensor([found.get(part, 1.0) for part in names])

    def weighed(self, model: Autoencoder, batch: Batch, z: Tensor, chosen: Tensor | None = None) -> Tensor:
        """`sum_k weight_k log p(x_k|z)` over the parts that are `chosen`, `[T, B]`; see `parts_log_likelihood`."""
        nats = parts_log_likelihood(model, batch, z, chosen)
        weighed: Tensor = (nats * self.parts_weights.to(nats)).sum(2)
        return weighed


def weights_of(weights: Weights, spec: DataSpec) -> dict[str, float]:
    """What a nat of each part weighs, by its name."""
    if not isinstance(weights, str):
        return {str(name): float(value) for name, value in weights.items()}
    parts = spec.parts or []
    largest = max(part.size for part in parts)
    return {part.name: 1.0 if weights == "equal" else largest / part.size for part in parts}


def parts_log_likelihood(model: Autoencoder, batch: Batch, z: Tensor, chosen: Tensor | None = None) -> Tensor:
    """`log p(x_k|z)` of each part's judged values, `[T, B, K]`, in nats.

    Args:
        z: `[T, B, D]`.
        chosen: bool, `[T, B, K]`: the parts that are judged, of others it is 0; None: all of them.
    """
    draws, told = len(z), batch.repeat(len(z))
    sizes = [part.size for part in model.spec.parts or []]
    judged = told.judged
    if chosen is not None:
        values = chosen.flatten(0, 1).repeat_interleave(torch.tensor(sizes, device=z.device), 1)
        judged = values if judged is None else judged & values
    nats = log_prob_of(model.decode(z.flatten(0, 1), told), told.truth, judged)
    by_part: Tensor = torch.stack([own.sum(1) for own in nats.split(sizes, 1)], 1).unflatten(0, (draws, -1))
    return by_part


class SubsampledELBO(_OfParts):
    """The negative bounds of all parts together, of each part alone, and of `subsets` random subsets, summed, `[B]`, in
    nats: without them a product of experts learns nothing of what one part alone says.

    `-ELBO(X) = -E_{q(z|X)} sum_{k in X} weight_k log p(x_k|z) + beta KL(q(z|X) || p(z))`, one draw each.

    "Multimodal Generative Models for Scalable Weakly-Supervised Learning" (Wu and Goodman, 2018,
    https://arxiv.org/abs/1802.05335), equation 5. Random subsets have two parts or more, but not all: of two parts
    there are none. They are drawn anew for every example.

    Args:
        weights: of the parts: `equal`, `balanced` (the largest part's number of values over its own), or numbers by
            name (others 1).
        beta: of the KL.
        subsets: how many random ones.

    Raises:
        UserError: an option out of its range, a name of no part, or data without parts.

    Example:
        >>> spec = DataSpec((4,), "vector", 10, parts=[NamedPart("a", (2,), "vector"), NamedPart("b", (2,), "vector")])
        >>> model = Autoencoder(
        ...     spec, Stages(PartsEncoder, ProductOfExperts, PartsDecoder, PartsLikelihood, NoCorruption)
        ... )
        >>> term = SubsampledELBO()
        >>> term.attach(model)
        >>> term(model(Batch(torch.rand(3, 4))), model).shape
        torch.Size([3])
    """

    requires = ProductLatent

    def __init__(
        self,
        weight: float | Schedule = 1.0,
        weights: Weights = "equal",
        beta: float = 1.0,
        subsets: int = 1,
    ) -> None:
        super().__init__(weight, weights, beta, "subsampled_elbo")
        require(subsets >= 0, f"term subsampled_elbo: subsets must be at least 0, not {subsets}")
        self.subsets = subsets

    def forward(self, out: Output, model: Autoencoder) -> Tensor:
        latent = out.latent
        assert isinstance(latent, ProductLatent)
        chosen = self.chosen(latent.present)
        posterior = latent.product(chosen)
        prior = torch.distributions.Normal(torch.zeros_like(posterior.mean), 1.0, validate_args=False)
        kl = torch.distributions.kl_divergence(posterior, prior).sum(2)
        bounds = self.weighed(model, out.batch, posterior.rsample(), chosen) - self.beta * kl
        return -bounds.sum(0)

    def chosen(self, present: Tensor) -> Tensor:
        """bool, `[T, B, K]`: all parts, each alone, and random subsets."""
        rows, parts = present.shape
        fixed = torch.cat([torch.ones_like(present[:1]), torch.eye(parts, device=present.device).bool()])
        found = fixed[:, None].expand(-1, rows, -1)
        if parts < 3 or not self.subsets:
            return found
        order = torch.rand(self.subsets, rows, parts, device=present.device).argsort(2).argsort(2)
        sizes = 2 + torch.rand(self.subsets, rows, 1, device=present.device).mul(parts - 2).long()
        return torch.cat([found, order < sizes])


class StratifiedELBO(_OfParts):
    """The negative bound of a mixture of experts or of their products, `[B]`, in nats, with `samples` draws z_sl of
    every component q_s, where one draw of the mixture would see one component. Each z rebuilds all parts.

    - `divergence=mixture`: `-sum_s w_s log 1/L sum_l exp(sum_k weight_k log p(x_k|z_sl) + beta (log p(z_sl) - log
      q(z_sl|x)))`, where q is the whole mixture: "Variational Mixture-of-Experts Autoencoders for Multi-Modal Deep
      Generative Models" (Shi et al., 2019, https://arxiv.org/abs/1911.03393), equation 3 with one draw, the looser
      bound of its appendix with more.
    - `divergence=components`: `-sum_s w_s (mean_l sum_k weight_k log p(x_k|z_sl) - beta KL(q_s || p))`, which is
      larger, because the mean KL of the components is: "Generalized Multimodal ELBO" (Sutter et al., 2021,
      https://arxiv.org/abs/2105.02470), section 4.

    Args:
        weights: of the parts: `equal`, `balanced` (the largest part's number of values over its own), or numbers by
            name (others 1).
        beta: of the KL, or of its draw.
        samples: L.

    Raises:
        UserError: an option out of its range, a name of no part, or data without parts.

    Example:
        >>> spec = DataSpec((4,), "vector", 10, parts=[NamedPart("a", (2,), "vector"), NamedPart("b", (2,), "vector")])
        >>> model = Autoencoder(
        ...     spec, Stages(PartsEncoder, MixtureOfExperts, PartsDecoder, PartsLikelihood, NoCorruption)
        ... )
        >>> term = StratifiedELBO()
        >>> term.attach(model)
        >>> term(model(Batch(torch.rand(3, 4))), model).shape
        torch.Size([3])
    """

    requires = ExpertsLatent

    def __init__(
        self,
        weight: float | Schedule = 1.0,
        weights: Weights = "equal",
        beta: float = 1.0,
        samples: int = 1,
        divergence: Literal["mixture", "components"] = "mixture",
    ) -> None:
        super().__init__(weight, weights, beta, "stratified_elbo")
        kinds = ("mixture", "components")
        require(samples >= 1, f"term stratified_elbo: samples must be at least 1, not {samples}")
        require(
            divergence in kinds,
            f"term stratified_elbo: unknown divergence={divergence!r}: {nearest(str(divergence), kinds)}",
        )
        self.samples, self.divergence = samples, divergence

    def forward(self, out: Output, model: Autoencoder) -> Tensor:
        latent = out.latent
        assert isinstance(latent, ExpertsLatent)
        components, shares = latent.of_subsets(), latent.shares
        z = components.rsample((self.samples,))
        nats = self.weighed(model, out.batch, z.flatten(0, 1)).unflatten(0, z.shape[:2])
        prior = torch.distributions.Normal(torch.zeros_like(components.mean), 1.0, validate_args=False)
        if self.divergence == "components":
            kl = torch.distributions.kl_divergence(components, prior).sum(2)
            bounds = nats.mean(0) - self.beta * kl
        else:
            log_q = latent.posterior.log_prob(z) if latent.posterior.event_shape else _summed(latent, z)
            ratio = prior.log_prob(z).sum(3) - log_q
            bounds = (nats + self.beta * ratio).logsumexp(0) - math.log(self.samples)
        bound: Tensor = (bounds * shares.to(bounds)).sum(0)
        return -bound


def _summed(latent: ExpertsLatent, z: Tensor) -> Tensor:
    """`log q(z|x)` of an elementwise posterior, `[L, S, B, D] -> [L, S, B]`."""
    log_q: Tensor = latent.posterior.log_prob(z)
    return log_q.sum(3)
