"""Likelihoods of counts: words of a document, items of a user, transcripts of a cell.

The decoder writes a logit for every feature; `softmax` makes them shares, and an example's library size n (the sum of
its observed counts, `Given.total`) times its shares are the mean. Where values are missing, shares are of the observed
ones, so that the mean of these adds up to n.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from narrows.errors import UserError, require
from narrows.likelihoods.count_distributions import (
    MultinomialCounts,
    NegativeBinomialCounts,
    PoissonCounts,
    ZeroInflatedCounts,
    log_total,
)
from narrows.likelihoods.elementwise import Likelihood
from narrows.types import COUNTED, DataSpec, Given, at_least_single

SMALLEST = 1e-6
"""The library size that an example without counts is taken to have: the logarithm of 0 is not finite."""
HIGHEST = 80.0
"""Largest log rate, which only a missing value can reach: an observed one has no more than the library size."""
LOG_DISPERSIONS = (-18.0, 46.0)
"""Limits of a learnt log inverse dispersion: further out nothing changes, and float32 overflows."""
Dispersion = Literal["feature", "class"]


class CountLikelihood(Likelihood):
    """What the likelihoods of counts share: which data they take, and log rates from logits and library sizes.

    Subclasses set `name`, by which refusals call them, and say `forward`.

    Raises:
        UserError: data that are no counts; at use, no library size where the data have no usual one.

    Example:
        >>> spec = DataSpec((2,), "counts", 10, value_range=(0.0, float("inf")), totals=(1.0, 0.5))
        >>> PoissonLikelihood(spec).log_rate(torch.zeros(1, 2), Given(total=torch.tensor([6.0]))).exp()
        tensor([[3., 3.]])
    """

    name: ClassVar[str]

    def __init__(self, spec: DataSpec) -> None:
        require(
            spec.kind in COUNTED and len(spec.shape) == 1,
            f"likelihood {self.name} is of counts (documents, items, genes), but these data are of "
            f"kind {spec.kind} and shape {list(spec.shape)}; use likelihood=gaussian_optimal or likelihood=bernoulli",
        )
        super().__init__(spec)
        self.usual = None if spec.totals is None else math.exp(spec.totals[0])

    def params_of_mean(self, mean: Tensor) -> Tensor | None:
        """Logits at which shares are those of `mean`, none of them below a millionth of a count."""
        return mean.clamp_min(SMALLEST).log() if self.parameters_per_value == 1 else None

    def log_rate(self, logits: Tensor, given: Given | None) -> Tensor:
        """`log(n pi)`, `[B, D]`, of `logits [B, D]`; without a library size, that of a usual training example."""
        total = None if given is None else given.total
        if total is None:
            require(
                self.usual is not None,
                f"likelihood {self.name} needs the library size of every example: decode(z, Given(total=...))",
            )
            assert self.usual is not None
            total = logits.new_full((logits.shape[0],), self.usual)
        judged = None if given is None else given.judged
        log_n = at_least_single(total).clamp_min(SMALLEST).log()[:, None]
        return (log_n + logits - log_total(logits, judged)).clamp_max(HIGHEST)


class MultinomialLikelihood(CountLikelihood):
    """n draws of a feature, of which the decoder gives the logarithms of probabilities up to a constant.

    "Variational Autoencoders for Collaborative Filtering" (Liang et al., 2018, https://arxiv.org/abs/1802.05814),
    equation 2; there, and in most topic models, without the coefficient `n! / prod_d x_d!`.

    Args:
        coefficient: whether the coefficient counts. Without it the figures are the published ones and no
            log-probability of x, and there are no bits per dimension.

    Raises:
        UserError: data that are no counts.

    Example:
        >>> spec = DataSpec((2,), "counts", 10, value_range=(0.0, float("inf")), totals=(1.0, 0.5))
        >>> p_x = MultinomialLikelihood(spec)(torch.zeros(1, 2), Given(total=torch.tensor([6.0])))
        >>> p_x.mean
        tensor([[3., 3.]])
    """

    name = "multinomial"

    def __init__(self, spec: DataSpec, *, coefficient: bool = True) -> None:
        super().__init__(spec)
        self.coefficient = coefficient
        if not coefficient:
            self.remark = (
                "nats leave out the multinomial's coefficient, as published ones do: they rank models and are no "
                "-log p(x); with likelihood.coefficient=true they are"
            )

    def forward(self, params: Tensor, given: Given | None = None) -> Distribution:
        logits = at_least_single(params)
        return MultinomialCounts(logits, self.log_rate(logits, given), coefficient=self.coefficient)

    def bits_name(self, truth: Tensor) -> str | None:
        return _bits(truth) if self.coefficient else None


class PoissonLikelihood(CountLikelihood):
    """Independent Poisson counts of mean n times a share.

    Their joint probability is the multinomial's times that of n under a Poisson of mean n.

    Raises:
        UserError: data that are no counts.

    Example:
        >>> spec = DataSpec((2,), "counts", 10, value_range=(0.0, float("inf")), totals=(1.0, 0.5))
        >>> p_x = PoissonLikelihood(spec)(torch.zeros(1, 2), Given(total=torch.tensor([2.0])))
        >>> p_x.log_prob(torch.ones(1, 2))
        tensor([[-1., -1.]])
    """

    name = "poisson"

    def forward(self, params: Tensor, given: Given | None = None) -> Distribution:
        return PoissonCounts(self.log_rate(at_least_single(params), given))

    def bits_name(self, truth: Tensor) -> str | None:
        return _bits(truth)


class NegativeBinomialLikelihood(CountLikelihood):
    """Independent negative binomial counts of mean n times a share, with a learnt inverse dispersion r for every
    feature (variance `mu + mu^2 / r`).

    "Deep generative modeling for single-cell transcriptomics" (Lopez et al., 2018,
    https://doi.org/10.1038/s41592-018-0229-2), without the zero inflation and with the observed library size.

    Args:
        dispersion: `feature`: one r for each; `class`: one for each feature and class, read from `Given.label`.

    Raises:
        UserError: data that are no counts, an unknown dispersion, or `class` on data without classes; at use, `class`
            without labels.

    Example:
        >>> spec = DataSpec((2,), "counts", 10, value_range=(0.0, float("inf")), totals=(1.0, 0.5))
        >>> p_x = NegativeBinomialLikelihood(spec)(torch.zeros(1, 2), Given(total=torch.tensor([2.0])))
        >>> p_x.mean, p_x.variance
        (tensor([[1., 1.]]), tensor([[2., 2.]], grad_fn=<AddBackward0>))
    """

    name = "negative_binomial"

    def __init__(self, spec: DataSpec, *, dispersion: Dispersion = "feature") -> None:
        super().__init__(spec)
        self.dispersion = dispersion
        self.log_inverse_dispersion = nn.Parameter(torch.zeros(_dispersion_shape(spec, dispersion, self.name)))

    def forward(self, params: Tensor, given: Given | None = None) -> Distribution:
        r = _inverse_dispersion(self.log_inverse_dispersion, self.dispersion, given, self.name)
        return NegativeBinomialCounts(self.log_rate(at_least_single(params), given), r)

    def bits_name(self, truth: Tensor) -> str | None:
        return _bits(truth)


class ZeroInflatedLikelihood(CountLikelihood):
    """A negative binomial whose counts are lost to 0 with a probability that the decoder writes beside every share.

    "Deep generative modeling for single-cell transcriptomics" (Lopez et al., 2018,
    https://doi.org/10.1038/s41592-018-0229-2), equations of the online methods. n times a share is the mean of what is
    not lost; the mean of the counts is smaller.

    Args:
        dispersion: as of `NegativeBinomialLikelihood`.

    Raises:
        UserError: as of `NegativeBinomialLikelihood`.

    Example:
        >>> spec = DataSpec((2,), "counts", 10, value_range=(0.0, float("inf")), totals=(1.0, 0.5))
        >>> likelihood = ZeroInflatedLikelihood(spec)
        >>> likelihood.out_shape, likelihood(torch.zeros(1, 4), Given(total=torch.tensor([2.0]))).mean
        ((4,), tensor([[0.5000, 0.5000]]))
    """

    name = "zinb"
    parameters_per_value = 2

    def __init__(self, spec: DataSpec, *, dispersion: Dispersion = "feature") -> None:
        super().__init__(spec)
        self.dispersion = dispersion
        self.log_inverse_dispersion = nn.Parameter(torch.zeros(_dispersion_shape(spec, dispersion, self.name)))

    def forward(self, params: Tensor, given: Given | None = None) -> Distribution:
        logits, gate = at_least_single(params).chunk(2, dim=1)
        r = _inverse_dispersion(self.log_inverse_dispersion, self.dispersion, given, self.name)
        return ZeroInflatedCounts(NegativeBinomialCounts(self.log_rate(logits, given), r), gate)

    def bits_name(self, truth: Tensor) -> str | None:
        return _bits(truth)


def _bits(truth: Tensor) -> str | None:
    """A mass is one of whole numbers; of weights between them it is none."""
    return "bits_per_dim" if bool((truth == truth.round()).all()) else None


def _dispersion_shape(spec: DataSpec, dispersion: str, name: str) -> tuple[int, ...]:
    choices = ("feature", "class")
    require(dispersion in choices, f"likelihood {name}: dispersion must be feature or class, not '{dispersion}'")
    if dispersion == "feature":
        return spec.shape
    if spec.num_classes is None:
        raise UserError(f"likelihood {name}: dispersion=class needs data with classes, but these have none")
    return (spec.num_classes, *spec.shape)


def _inverse_dispersion(log_r: Tensor, dispersion: str, given: Given | None, name: str) -> Tensor:
    """r, `[D]` or `[B, D]`."""
    log_r = log_r.clamp(*LOG_DISPERSIONS)
    if dispersion == "feature":
        return log_r.exp()
    label = None if given is None else given.label
    if label is None:
        raise UserError(
            f"likelihood {name}: dispersion=class needs a label for every example, and these have none; use "
            "dispersion=feature"
        )
    return log_r[label.long()].exp()
