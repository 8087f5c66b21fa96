"""Terms and the objective they add up to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from narrows.bottlenecks.base import Bottleneck
from narrows.corruptions import Corruption
from narrows.distributed import mean_over_processes, rows_of_all, sum_over_processes
from narrows.errors import UserError, require
from narrows.likelihoods.elementwise import Likelihood
from narrows.models.autoencoder import Autoencoder
from narrows.schedules import Schedule, Timed, as_schedule
from narrows.types import Latent, Output

LARGEST = 1e4
"""Of the factor of an adaptive weight, for each value of an example."""


class Term(nn.Module):
    """One summand of a loss, `(output, model) -> [B]` or a scalar, in nats per example.

    It is a sum over the dimensions of the data or of the latent, never a mean, and does not know the trainer.
    `requires` is the kind of latent that it reads, `needs_hidden` whether the corruption must hide values; `Objective`
    refuses a composition that does not offer them.

    Raises:
        UserError: a negative weight.

    Example:
        >>> class Largest(Term):
        ...     def forward(self, out, model):
        ...         return out.latent.z.abs().flatten(1).amax(1)
        >>> batch = Batch(torch.zeros(1, 2))
        >>> latent = Latent(z=torch.tensor([[1.0, -3.0]]), point=torch.zeros(1, 2))
        >>> out = Output(batch, batch, latent, p_x=None)
        >>> Largest()(out, None)
        tensor([3.])
    """

    requires: type[Latent] = Latent
    needs_hidden: ClassVar[bool] = False
    monitored: ClassVar[bool] = True
    """Whether it counts in the figure that chooses a checkpoint: not where it is measured by what changes in
    training."""
    needs_mean: ClassVar[bool] = False
    """Whether it reads `p_x.mean`, and so needs a likelihood whose mean is a value of the data."""
    adaptive: bool = False
    """Whether its weight is multiplied by the ratio of gradients that `Objective` describes."""
    trains: ClassVar[str] = ""
    """The part of a bottleneck that gets a gradient from this term alone (`Latent.needs`)."""

    def __init__(self, weight: float | Schedule = 1.0) -> None:
        super().__init__()
        self.weight = as_schedule(weight, f"the weight of term {type(self).__name__}")

    def attach(self, model: Autoencoder) -> None:
        """Build what depends on the model's shapes (a critic); called once, before any step."""

    def forward(self, out: Output, model: Autoencoder) -> Tensor:
        raise NotImplementedError

    # In training a batch may be shared by several processes; in evaluation each of them has whole ones.

    def over_batch(self, mean: Tensor, out: Output) -> Tensor:
        """A mean over this process' rows as the mean over the whole batch, for terms that are no sum over rows."""
        return mean_over_processes(mean, out.batch.share) if self.training else mean

    def whole(self, values: Tensor, out: Output) -> Tensor:
        """The rows of the whole batch, for terms that compare rows, `[b, *any] -> [B, *any]`."""
        return rows_of_all(values, out.batch.share) if self.training else values

    def opponent(self, out: Output, model: Autoencoder) -> Tensor | None:
        """Loss of the other player (a critic), which trains this term's own parameters and not the model; None: no
        player."""
        return None

    def hold(self, step: int) -> None:
        """Take its gradients from another player that does not learn in this optimiser step, so that the optimiser
        passes it over."""


@dataclass
class Losses:
    """What an objective returns: batch means, in nats.

    Example:
        >>> spec = DataSpec((4,), "vector", 10, value_range=(0.0, 1.0))
        >>> model = Autoencoder(spec, Stages(MLPEncoder, Gaussian, MLPDecoder, BernoulliLikelihood, NoCorruption))
        >>> out = model(Batch(torch.rand(2, 4)))
        >>> losses = Objective({"reconstruction": NegativeLogLikelihood(), "kl": KL(weight=2.0)})(out, model)
        >>> list(losses.terms), losses.total.shape
        (['reconstruction', 'kl'], torch.Size([]))
    """

    total: Tensor
    """What a training step minimises."""
    monitored: Tensor
    """The total of the terms that are `monitored`: what validation and test report as `loss`."""
    terms: dict[str, Tensor]
    """Unweighted, under the config's own names; an opponent's loss is `<name>_critic`, and the factor of an adaptive
    weight, in training, `<name>_factor`."""


class Objective(nn.ModuleDict):
    """Named, weighted terms: `total = sum_i weight_i(step) * mean(term_i)`.

    In training the weight of an `adaptive` term is multiplied by `|grad M| / (|grad T| + 1e-4)`, where T is the term, M
    the sum of all that are monitored, and the gradients are those of the weights of the decoder's last layer. It is at
    most 1e4 for each value of an example, because terms are sums over them ("Taming Transformers for High-Resolution
    Image Synthesis", Esser et al., 2021, https://arxiv.org/abs/2012.09841, equation 7; the numbers are their code's).

    Raises:
        UserError: no term at all.

    Example:
        >>> objective = Objective({"reconstruction": NegativeLogLikelihood(), "kl": KL(weight=Linear(0.0, 1.0, 100))})
        >>> objective.weights(step=50)
        {'reconstruction': 1.0, 'kl': 0.5}
    """

    def __init__(self, terms: Mapping[str, Term]) -> None:
        if not terms:
            raise UserError("the loss has no term; choose one, for example loss=elbo")
        super().__init__(dict(terms))

    def check(self, model: type[Autoencoder], bottleneck: Bottleneck, corruption: type[Corruption]) -> None:
        """Refuse, by name, terms that cannot read what this composition offers.

        Args:
            model: the class, which says whether it turns the bottleneck's latent into another.
            bottleneck: one of any width.
            corruption: the class, which says whether it hides values.

        Raises:
            UserError: a term reads another kind of latent, or hidden values where none are hidden; no term trains a
                part that needs it; no term is monitored.
        """
        returns, source = model.returns(bottleneck), model.name_source(bottleneck)
        for name, term in self._terms():
            if not issubclass(returns, term.requires):
                raise UserError(
                    f"loss term '{name}' ({type(term).__name__}) reads a {term.requires.__name__}, but {source} "
                    f"returns a {returns.__name__}; {_remedy(term.requires)}"
                )
            if term.needs_hidden and not corruption.hides:
                raise UserError(
                    f"loss term '{name}' ({type(term).__name__}) judges hidden values, but corruption "
                    f"{corruption.__name__} hides none; use corruption=masking"
                )
        if not any(term.monitored for _, term in self._terms()):
            raise UserError(
                f"none of the loss terms {', '.join(repr(name) for name in self)} is part of val/loss, by which a "
                "checkpoint is chosen; add loss.reconstruction (+term@loss.reconstruction=nll)"
            )
        if returns.needs and all(term.trains != returns.needs for _, term in self._terms()):
            raise UserError(
                f"{source} has a {returns.needs} that none of the loss terms "
                f"{', '.join(repr(name) for name in self)} trains; {_REMEDIES[returns.needs]}"
            )

    def check_likelihood(self, likelihood: type[Likelihood]) -> None:
        """Refuse, by name, terms that read a mean which this likelihood does not have.

        Raises:
            UserError: such a term.
        """
        for name, term in self._terms():
            require(
                likelihood.has_mean or not term.needs_mean,
                f"loss term '{name}' ({type(term).__name__}) reads the mean of p(x|z), and that of likelihood "
                f"{likelihood.__name__} is no value of the data; use another loss",
            )

    def attach(self, model: Autoencoder) -> None:
        """Let every term build what depends on the model's shapes."""
        for _, term in self._terms():
            term.attach(model)

    def span(self, run: int | None) -> None:
        """Give every schedule the number of optimiser steps of the run; None where it is not known.

        Raises:
            UserError: a schedule is a share of the run, whose length is not known.
        """
        for _, term in self._terms():
            for value in vars(term).values():
                if isinstance(value, Timed):
                    value.span(run)

    def forward(self, out: Output, model: Autoencoder) -> Losses:
        terms = {name: term(out, model).mean() for name, term in self._terms()}
        weighted = {name: term.weight(out.step) * terms[name] for name, term in self._terms()}
        monitored = _sum(weighted[name] for name, term in self._terms() if term.monitored)
        for name, term in self._terms():
            if term.adaptive and torch.is_grad_enabled():
                factor = (
                    balance(monitored, terms[name], out, model)
                    if term.weight(out.step) > 0
                    else monitored.new_zeros(())
                )
                weighted[name], terms[f"{name}_factor"] = factor * weighted[name], factor
        total = _sum(weighted.values())
        for name, term in self._terms():
            loss = term.opponent(out, model)
            if loss is not None:
                # One backward serves both players, and the total's value is the model's alone.
                terms[f"{name}_critic"] = loss.mean()
                total = total + (loss.mean() - loss.mean().detach())
        return Losses(total=total, monitored=monitored.detach(), terms=terms)

    def _terms(self) -> list[tuple[str, Term]]:
        return cast(list[tuple[str, Term]], list(self.items()))

    def hold(self, step: int) -> None:
        """Let every term take the gradients from players that do not learn in this optimiser step."""
        for _, term in self._terms():
            term.hold(step)

    def weights(self, step: int) -> dict[str, float]:
        """Every term's weight at `step`."""
        return {name: term.weight(step) for name, term in self._terms()}


def balance(monitored: Tensor, term: Tensor, out: Output, model: Autoencoder) -> Tensor:
    """How much larger the gradient of `monitored` is than that of `term`, at the weights of the decoder's last layer; a
    scalar without a gradient, the same in every process.

    Raises:
        UserError: the decoder has no weights that learn.
    """
    layers = (getattr(layer, "weight", None) for layer in model.decoder.modules())
    learning = [weight for weight in layers if isinstance(weight, nn.Parameter) and weight.requires_grad]
    last = next((weight for weight in reversed(learning) if weight.ndim > 1), None)
    if last is None:
        raise UserError(
            "an adaptive weight compares gradients at the decoder's last layer, but the decoder has no weights of its "
            "own that learn; use adaptive=false"
        )
    found = [torch.autograd.grad(value, last, retain_graph=True, allow_unused=True)[0] for value in (monitored, term)]
    gradients = torch.stack([torch.zeros_like(last) if gradient is None else gradient for gradient in found])
    # Of the whole batch, if several processes share it.
    together = sum_over_processes(gradients * out.batch.share) / sum_over_processes(last.new_ones(()))
    wanted, own = torch.linalg.vector_norm(together.flatten(1), dim=1)
    factor: Tensor = (wanted / (own + 1e-4)).clamp_max(LARGEST * out.batch.truth[0].numel())
    return factor.detach()


def _sum(values: Iterable[Tensor]) -> Tensor:
    total = sum(values)
    return total if isinstance(total, Tensor) else torch.tensor(float(total))


_REMEDIES = {"gate": "use loss=gated_sae", "codebook": "use loss=vq_gradient", "prior": "use loss=elbo"}
"""What to use, by the part (`Latent.needs`) that no term trains."""


def _remedy(kind: type[Latent]) -> str:
    remedies = {
        "VariationalLatent": "use a variational bottleneck (bottleneck=gaussian) or another loss",
        "ReparameterisedLatent": "use a bottleneck with a continuous posterior (bottleneck=gaussian) or another loss",
        "GaussianLatent": "use a Gaussian posterior and prior (bottleneck=gaussian) or another loss",
        "HyperpriorLatent": "use bottleneck=scale_hyperprior or another loss",
        "JointLatent": "use a latent of several parts (bottleneck=joint) or another loss",
        "UnitLatent": "use activations inside (0, 1) (bottleneck=deterministic bottleneck.activation=sigmoid)",
        "SparseLatent": "use a sparse bottleneck (bottleneck=topk) or another loss",
        "JumpLatent": "use bottleneck=jumprelu or another loss",
        "GatedLatent": "use bottleneck=gated_sae together with loss=gated_sae",
        "CodebookLatent": "use a bottleneck with codes (bottleneck=vq) or another loss",
        "LearnedCodebookLatent": "use bottleneck=vq bottleneck.ema=null together with loss=vq_gradient",
        "BitLatent": "use bottleneck=lfq or another loss",
        "SoftCodeLatent": "use bottleneck=gumbel_vq or another loss",
    }
    return remedies.get(kind.__name__, f"use a bottleneck that returns a {kind.__name__}")
