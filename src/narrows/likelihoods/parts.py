"""The likelihood of multi-modal data, which treats each part by its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from narrows.errors import require
from narrows.likelihoods.elementwise import Likelihood
from narrows.likelihoods.named_parts import named_builders, require_parts
from narrows.likelihoods.normal import OptimalGaussianLikelihood
from narrows.types import DataSpec, Given, Shape


class PartsDistribution(Distribution):
    """Independent parts whose flattened values stand side by side, elementwise over `[B, D]`, in nats.

    Args:
        parts: p(x|z) of each part, over `[B, *shape]`.
        shapes: of one example of each part.

    Example:
        >>> parts = [Normal(torch.zeros(1, 2), 1.0), Laplace(torch.ones(1, 1, 3), 1.0)]
        >>> PartsDistribution(parts, [(2,), (1, 3)]).mean
        tensor([[0., 0., 1., 1., 1.]])
    """

    has_enumerate_support = False

    def __init__(self, parts: Sequence[Distribution], shapes: Sequence[Shape]) -> None:
        self.parts, self.shapes = list(parts), list(shapes)
        rows = self.parts[0].batch_shape[0]
        super().__init__(torch.Size((rows, sum(map(prod, self.shapes)))), validate_args=False)

    def _split(self, values: Tensor) -> list[Tensor]:
        """`[..., D]` to each part's `[..., *shape]`."""
        pieces = values.split([prod(shape) for shape in self.shapes], -1)
        return [piece.unflatten(-1, shape) for piece, shape in zip(pieces, self.shapes, strict=True)]

    def _beside(self, values: Sequence[Tensor]) -> Tensor:
        pairs = zip(values, self.shapes, strict=True)
        return torch.cat([value.flatten(value.ndim - len(shape)) for value, shape in pairs], -1)

    def log_prob(self, value: Tensor) -> Tensor:
        return self._beside([p.log_prob(own) for p, own in zip(self.parts, self._split(value), strict=True)])

    def log_prob_judged(self, value: Tensor, judged: Tensor) -> Tensor:
        """`log_prob`; parts that are fitted to the values that they judge are told which these are."""
        found = []
        for p, own, known in zip(self.parts, self._split(value), self._split(judged), strict=True):
            fitted = getattr(p, "log_prob_judged", None)
            found.append(p.log_prob(own) if fitted is None else fitted(own, known))
        return self._beside(found)

    @property
    def mean(self) -> Tensor:
        return self._beside([p.mean for p in self.parts])

    def sample(self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        return self._beside([p.sample(torch.Size(sample_shape)) for p in self.parts])


class PartsLikelihood(Likelihood):
    """A likelihood for each part of multi-modal data; parameters stand side by side, flattened, `[B, P]`.

    p(x|z) is the product of the parts', in nats: what parts weigh in training is the loss's to say.

    Args:
        each: builders by the part's name, of parts that have a likelihood of their own.
        default: builder of the others'.

    Raises:
        UserError: data without parts, a name of no part, or a likelihood that has no mean.

    Example:
        >>> parts = [NamedPart("image", (1, 2, 2), "image", (0.0, 1.0)), NamedPart("words", (3,), "vector")]
        >>> spec = DataSpec((7,), "vector", 10, parts=parts)
        >>> likelihood = PartsLikelihood(spec, each={"image": BernoulliLikelihood})
        >>> likelihood.out_shape, likelihood.layout, likelihood(torch.zeros(1, 7)).mean[:, :4]
        ((7,), {'image': (1, 2, 2), 'words': (3,)}, tensor([[0.5000, 0.5000, 0.5000, 0.5000]]))
    """

    def __init__(
        self,
        spec: DataSpec,
        *,
        each: Mapping[str, Callable[..., Any]] | None = None,
        default: Callable[..., Any] = OptimalGaussianLikelihood,
    ) -> None:
        super().__init__(spec)
        names = require_parts(spec, "likelihood parts")
        own = named_builders(each, names, "likelihood")
        self.parts = nn.ModuleDict({name: own.get(name, default)(spec.of_part(name)) for name in names})
        for name, likelihood in self.likelihoods.items():
            require(likelihood.has_mean, f"likelihood parts: that of part '{name}' has no mean; use another")
        self.shapes = [likelihood.data_shape for likelihood in self.likelihoods.values()]
        self.layout: dict[str, Shape] = {name: tuple(one.out_shape) for name, one in self.likelihoods.items()}
        """Shape of each part's parameters, in the order in which they stand side by side."""

    @property
    def likelihoods(self) -> dict[str, Likelihood]:
        """By part."""
        return dict(self.parts.items())  # type: ignore[arg-type]

    @property
    def out_shape(self) -> Shape:
        return (sum(map(prod, self.layout.values())),)

    def _params(self, params: Tensor) -> list[tuple[Likelihood, Tensor]]:
        pieces = params.split([prod(shape) for shape in self.layout.values()], 1)
        shaped = (piece.unflatten(1, shape) for piece, shape in zip(pieces, self.layout.values(), strict=True))
        return list(zip(self.likelihoods.values(), shaped, strict=True))

    def forward(self, params: Tensor, given: Given | None = None) -> Distribution:
        return PartsDistribution([one(own) for one, own in self._params(params)], self.shapes)

    def draw(self, params: Tensor, given: Given | None = None, temperature: float = 1.0) -> Tensor:
        drawn = [one.draw(own, None, temperature) for one, own in self._params(params)]
        return torch.cat([values.flatten(1) for values in drawn], 1)

    def bits_name(self, truth: Tensor) -> str | None:
        pieces = truth.split([prod(shape) for shape in self.shapes], 1)
        names = {one.bits_name(own) for one, own in zip(self.likelihoods.values(), pieces, strict=True)}
        return names.pop() if len(names) == 1 else None
