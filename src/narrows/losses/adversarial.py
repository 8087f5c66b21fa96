"""Terms with a second player: a critic that tells two samples apart.

Both players' losses are in one backward. The model's (`forward`, weighted) sees the critic frozen; the critic's
(`opponent`, always weighted by 1) sees its inputs detached. With Adam that is the trajectory of the textbook's
two optimisers that step together.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from narrows.errors import require
from narrows.losses.critic import Critic
from narrows.losses.isolation import frozen
from narrows.losses.objective import Term
from narrows.models.autoencoder import Autoencoder
from narrows.schedules import Schedule, Timed, as_schedule
from narrows.types import FINAL_STEP, Output, Shape, VariationalLatent


class _Delayed(Timed):
    """0 before `start`, a number of optimiser steps or a share of the run; then what `weight` is at that step."""

    name = "of an adversary's start"

    def __init__(self, weight: Schedule, start: int | float) -> None:
        super().__init__(delay=start)
        self.weight = weight

    def span(self, run: int | None) -> None:
        super().span(run)
        if isinstance(self.weight, Timed):
            self.weight.span(run)

    def begun(self, step: int) -> bool:
        # At step 0 the run's length may not be known yet.
        return step == FINAL_STEP or (step > 0 and step >= self.steps_of("delay"))

    def __call__(self, step: int) -> float:
        return self.weight(step) if self.begun(step) else 0.0


class _Adversary(Term):
    """A term with a critic over examples of shape `self.judges(model)`, built once the model is known.

    It does not count in `val/loss`: every epoch has another critic, so that its values cannot be compared.
    """

    monitored = False
    critic: Critic

    def __init__(self, weight: float | Schedule, critic: Callable[[Shape], Critic], start: int | float = 0) -> None:
        super().__init__(weight)
        require(
            start >= 0 and (isinstance(start, int) or start <= 1),
            f"an adversary's start must be a whole number of steps, or a share of the run of at most 1.0, not {start}",
        )
        self._make_critic = critic
        if start > 0:
            self.weight = _Delayed(as_schedule(weight, "the weight of an adversary"), start)

    def attach(self, model: Autoencoder) -> None:
        self.critic = self._make_critic(self.judges(model))

    def begun(self, step: int) -> bool:
        """Whether the players play in this optimiser step."""
        return not isinstance(self.weight, _Delayed) or self.weight.begun(step)

    def hold(self, step: int) -> None:
        if not self.begun(step):
            for parameter in self.critic.parameters():
                parameter.grad = None

    def judges(self, model: Autoencoder) -> Shape:
        """The shape of what the critic reads."""
        return model.latent_shape


class LatentAdversary(_Adversary):
    """`-log sigmoid(D(z))`, `[B]`, where D tells draws of the prior from latents of the batch.

    The latents' distribution over the data, and not each posterior, is matched to the prior: the bottleneck's own where
    it has one, else N(0, I). "Adversarial Autoencoders" (Makhzani et al., 2016, https://arxiv.org/abs/1511.05644),
    whose encoder has an optimiser for the reconstruction and another against the critic; here it has one, and `weight`
    says what the match counts beside the reconstruction's nats. With a weight of lambda and a Gaussian likelihood of
    sigma = sqrt(1/2), "Wasserstein Auto-Encoders" (Tolstikhin et al., 2018, https://arxiv.org/abs/1711.01558),
    algorithm 1.

    Args:
        weight: of the model's part; the critic's own loss has weight 1.
        critic: `critic(in_shape)`, over one latent.

    Raises:
        UserError: a negative weight.

    Example:
        >>> spec = DataSpec((4,), "vector", 10, value_range=(0.0, 1.0))
        >>> model = Autoencoder(spec, Stages(MLPEncoder, Gaussian, MLPDecoder, BernoulliLikelihood, NoCorruption))
        >>> out = model(Batch(torch.rand(2, 4)))
        >>> term = LatentAdversary()
        >>> term.attach(model)
        >>> term(out, model).shape, term.opponent(out, model).shape
        (torch.Size([2]), torch.Size([2]))
    """

    def __init__(self, weight: float | Schedule = 1.0, critic: Callable[[Shape], Critic] = Critic) -> None:
        super().__init__(weight, critic)

    def forward(self, out: Output, model: Autoencoder) -> Tensor:
        with frozen(self.critic):
            return self.critic.model_loss(out.latent.z)

    def opponent(self, out: Output, model: Autoencoder) -> Tensor:
        return self.critic.loss(real=_prior_draws(out, model), fake=out.latent.z)


class TotalCorrelationCritic(_Adversary):
    """`D(z)`, `[B]`: the total correlation KL(q(z) || prod_j q(z_j)) by a density ratio, in nats; its weight is gamma.

    D tells latents of the batch from latents whose entries were shuffled over the batch, each on its own. A batch of
    one example has nothing to shuffle: its critic learns nothing.

    "Disentangling by Factorising" (Kim and Mnih, 2018, https://arxiv.org/abs/1802.05983), equation 3 and algorithm 2;
    they shuffle a second batch.

    Args:
        weight: of the model's part; the critic's own loss has weight 1.
        critic: `critic(in_shape)`, over one latent.

    Raises:
        UserError: a negative weight, or a critic that gives no density ratio (`hinge`, `patches`).

    Example:
        >>> spec = DataSpec((4,), "vector", 10, value_range=(0.0, 1.0))
        >>> model = Autoencoder(spec, Stages(MLPEncoder, Gaussian, MLPDecoder, BernoulliLikelihood, NoCorruption))
        >>> out = model(Batch(torch.rand(2, 4)))
        >>> term = TotalCorrelationCritic()
        >>> term.attach(model)
        >>> term(out, model).shape, term.opponent(out, model).shape
        (torch.Size([2]), torch.Size([2]))
    """

    requires = VariationalLatent

    def __init__(self, weight: float | Schedule = 10.0, critic: Callable[[Shape], Critic] = Critic) -> None:
        super().__init__(weight, critic)

    def attach(self, model: Autoencoder) -> None:
        super().attach(model)
        require(
            not self.critic.hinge and not self.critic.patches,
            "term tc_critic reads its critic as a density ratio of whole latents: use hinge=false and patches=false",
        )

    def forward(self, out: Output, model: Autoencoder) -> Tensor:
        with frozen(self.critic):
            return self.critic(out.latent.z)

    def opponent(self, out: Output, model: Autoencoder) -> Tensor:
        z = out.latent.z.detach()
        return self.critic.loss(real=z, fake=shuffled(z))


class OutputAdversary(_Adversary):
    """`-log sigmoid(D(fake)) + match / 2 |f(x) - f(x')|^2`, `[B]`, where D tells data from decoded means.

    Fake are reconstructions and, where the bottleneck has a prior, decoded draws of it, half each. Their gradient
    moves the decoder alone: the encoder sees only the second part, where f is what D's last layer reads and x' the
    reconstruction (a Gaussian likelihood of unit variance over the critic's features). With `reconstructions`, fake
    are the batch's reconstructions alone, and their gradient moves the encoder too.

    "Autoencoding beyond pixels using a learned similarity metric" (Larsen et al., 2016,
    https://arxiv.org/abs/1512.09300), algorithm 1; `reconstructions` and `adaptive` as in "Taming Transformers for
    High-Resolution Image Synthesis" (Esser et al., 2021, https://arxiv.org/abs/2012.09841), equations 5 to 7.

    Args:
        weight: of the model's part; the critic's own loss has weight 1.
        critic: `critic(in_shape)`, over one example.
        match: weight of the features' distance beside the adversarial loss.
        reconstructions: whether reconstructions are judged, and nothing else.
        adaptive: whether the weight is multiplied by how much larger the gradient of the monitored terms is than this
            one's, at the decoder's last layer (`Objective`).
        start: optimiser step, or share of the run, from which critic and model play; before it neither learns from it.

    Raises:
        UserError: a negative weight, `match` or `start`, or a share above 1.0.

    Example:
        >>> spec = DataSpec((4,), "vector", 10, value_range=(0.0, 1.0))
        >>> model = Autoencoder(spec, Stages(MLPEncoder, Gaussian, MLPDecoder, BernoulliLikelihood, NoCorruption))
        >>> out = model(Batch(torch.rand(2, 4)))
        >>> term = OutputAdversary()
        >>> term.attach(model)
        >>> term(out, model).shape, term.opponent(out, model).shape
        (torch.Size([2]), torch.Size([2]))
    """

    needs_mean = True

    def __init__(
        self,
        weight: float | Schedule = 1.0,
        critic: Callable[[Shape], Critic] = Critic,
        match: float = 1.0,
        reconstructions: bool = False,
        adaptive: bool = False,
        start: int | float = 0,
    ) -> None:
        super().__init__(weight, critic, start)
        require(match >= 0, f"term output_adversary: match must be at least 0, not {match}")
        self.match, self.reconstructions, self.adaptive = match, reconstructions, adaptive
        self._fakes: list[Tensor] = []

    def judges(self, model: Autoencoder) -> Shape:
        return model.spec.shape

    def forward(self, out: Output, model: Autoencoder) -> Tensor:
        if not self.begun(out.step):
            return out.latent.z.new_zeros(len(out.batch))
        fakes = [out.p_x.mean] if self.reconstructions else _decoded(out, model)
        self._fakes = fakes = [_seen(image, out) for image in fakes]
        with frozen(self.critic):
            nats = torch.stack([self.critic.model_loss(fake) for fake in fakes]).mean(0)
            if self.match == 0:
                return nats
            gap = self.critic.features(_seen(out.batch.truth, out)) - self.critic.features(_seen(out.p_x.mean, out))
            return nats + 0.5 * self.match * gap.square().sum(1)

    def opponent(self, out: Output, model: Autoencoder) -> Tensor:
        # What the model's part has decoded, once; not kept, because it holds the step's graph.
        fakes, self._fakes = self._fakes, []
        if not self.begun(out.step):
            # In the graph, because every process of several must have a gradient of every parameter.
            return 0.0 * torch.stack([parameter.sum() for parameter in self.critic.parameters()]).sum()
        real = _seen(out.batch.truth, out)
        return torch.stack([self.critic.loss(real, fake) for fake in fakes]).mean(0)


def shuffled(z: Tensor) -> Tensor:
    """Each entry of axis 1 permuted over the examples on its own, `[B, C, *positions]`: draws of prod_j q(z_j).

    Positions of a map stay together with their entry.
    """
    order = torch.rand(z.shape[:2], device=z.device).argsort(0)
    index = order.reshape(*order.shape, *([1] * (z.ndim - 2))).expand_as(z)
    return z.gather(0, index)


def _prior_draws(out: Output, model: Autoencoder) -> Tensor:
    return model.draw(len(out.batch)) if model.generative else torch.randn_like(out.latent.z)


def _decoded(out: Output, model: Autoencoder) -> list[Tensor]:
    """Means of p(x|z) at the batch's latents and at draws of the prior; the encoder gets no gradient."""
    latents = [out.latent.z.detach()]
    if model.generative:
        latents.append(model.draw(len(out.batch)))
    return [model.decode(z, out.seen).mean for z in latents]


def _seen(x: Tensor, out: Output) -> Tensor:
    """x with missing values and padding set to 0, in real and fake alike, so that they say nothing to the critic."""
    judged = out.batch.judged
    return x if judged is None else x.masked_fill(~judged, 0.0)
