"""A mixture of Gaussians for every class."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from narrows.densities.base import StandardisedDensity, refuse_wide
from narrows.densities.gaussians import WIDEST
from narrows.errors import UserError, require
from narrows.evaluation import EvaluationData
from narrows.models.autoencoder import Autoencoder

ROWS_PER_VALUE = 2
"""Rows that a component has, for every value of a latent, before a class gets another component."""


class ClassMixtures(StandardisedDensity):
    """`p(z | y)`, a mixture of Gaussians for every class y, and `p(z) = sum_y p(y) p(z | y)` by the shares of the
    training rows: so every model can be sampled by class, whether its decoder is told the class or not.

    Of a class with rows for more than one component (2 for every value of a latent, in each) it is scikit-learn's
    `GaussianMixture`, with full covariances; of fewer one Gaussian. All of these classes share the covariance about
    their means, as in linear discriminant analysis, shrunk as "A well-conditioned estimator for large-dimensional
    covariance matrices" (Ledoit and Wolf, 2004, https://doi.org/10.1016/S0047-259X(03)00096-4)
    does. A class without training rows cannot be sampled.

    Args:
        components: of a class, at most.
        ridge: added to the diagonal of every standardised covariance.
        iterations: of expectation maximisation, at most.

    Raises:
        UserError: data without classes, a value out of its range, or more than 4,096 latent values.

    Example:
        >>> spec = DataSpec((4,), "vector", 10, num_classes=2, value_range=(0.0, 1.0))
        >>> model = Autoencoder(spec, Stages(MLPEncoder, Gaussian, MLPDecoder, BernoulliLikelihood, NoCorruption))
        >>> density = ClassMixtures(model, components=2)
        >>> density.sample_of(torch.tensor([0, 1, 1])).shape
        torch.Size([3, 8])
    """

    by_class = True
    shares: Tensor
    weights: Tensor
    centres: Tensor
    factors: Tensor

    def __init__(self, model: Autoencoder, *, components: int = 5, ridge: float = 1e-4, iterations: int = 100) -> None:
        for name, value in {"components": components, "iterations": iterations}.items():
            require(value >= 1, f"density by_class: {name} must be at least 1, not {value}")
        require(ridge > 0, f"density by_class: ridge must be above 0, not {ridge}")
        classes = model.spec.num_classes
        if classes is None:
            raise UserError("density by_class needs data with classes, and these have none; use density=mixture")
        super().__init__(model)
        refuse_wide("by_class", self.width, WIDEST, "a full covariance")
        self.components, self.ridge, self.iterations = components, ridge, iterations
        self.register_buffer("shares", torch.full((classes,), 1 / classes))
        self.register_buffer("weights", torch.eye(components)[0].repeat(classes, 1))
        self.register_buffer("centres", torch.zeros(classes, components, self.width))
        self.register_buffer("factors", torch.eye(self.width).repeat(classes, components, 1, 1))

    def begin(self, data: EvaluationData) -> None:
        labels = [batch.label for batch in data.ordered_loader("train")]
        known = [label for label in labels if label is not None]
        require(len(known) == len(labels), "density by_class: training examples have no labels")
        self.label = torch.cat(known).cpu()

    def learn_standard(self, train: Tensor, held: Tensor) -> None:
        counts = torch.bincount(self.label, minlength=len(self.shares)).double()
        self.shares.copy_(counts / counts.sum())
        by_class = {kind: train[self.label == kind].double() for kind in counts.nonzero().flatten().tolist()}
        few = {kind: rows for kind, rows in by_class.items() if self._count(rows) == 1}
        shared = _shared([rows - rows.mean(0) for rows in few.values()]) if few else None
        for kind, rows in by_class.items():
            if kind in few:
                assert shared is not None
                self._keep(kind, torch.ones(1), rows.mean(0, keepdim=True), shared[None].clone())
            else:
                self._keep(kind, *self._mixture(rows, self._count(rows)))

    def _count(self, rows: Tensor) -> int:
        """The number of components of a class with these rows."""
        return min(self.components, max(1, len(rows) // (ROWS_PER_VALUE * self.width)))

    def _keep(self, kind: int, weights: Tensor, means: Tensor, covariances: Tensor) -> None:
        count = len(weights)
        covariances.diagonal(dim1=-2, dim2=-1).add_(self.ridge)
        self.weights[kind] = 0.0
        self.weights[kind, :count] = weights.to(self.weights)
        self.centres[kind, :count] = means.to(self.centres)
        self.factors[kind, :count] = torch.linalg.cholesky(covariances).to(self.factors)

    def _mixture(self, rows: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
        import warnings

        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import GaussianMixture
        from threadpoolctl import threadpool_limits

        fit = GaussianMixture(
            count, reg_covar=self.ridge, max_iter=self.iterations, random_state=int(torch.randint(2**31, ()))
        )
        # k-means adds up its threads' sums in the order in which they end.
        with threadpool_limits(1, user_api="openmp"), warnings.catch_warnings():
            # The iterations are a budget: not having converged is expected.
            warnings.simplefilter("ignore", ConvergenceWarning)
            fit.fit(rows.numpy())
        found = (fit.weights_, fit.means_, fit.covariances_)
        weights, means, covariances = (torch.from_numpy(values) for values in found)
        return weights, means, covariances

    def mixtures(self) -> MixtureSameFamily:
        """The distributions of standardised latents, one for every class."""
        parts = MultivariateNormal(self.centres, scale_tril=self.factors, validate_args=False)
        return MixtureSameFamily(Categorical(self.weights, validate_args=False), parts, validate_args=False)

    def log_prob_standard(self, u: Tensor) -> Tensor:
        by_class: Tensor = self.mixtures().log_prob(u[:, None])
        return (by_class + self.shares.log()).logsumexp(1)

    def classes(self, n: int) -> Tensor:
        known = self.shares.nonzero().flatten()
        return known[torch.arange(n, device=known.device) % len(known)]

    def sample_standard(self, n: int) -> Tensor:
        return self.standard_of(torch.multinomial(self.shares, n, replacement=True))

    def standard_of(self, label: Tensor) -> Tensor:
        """A standardised draw of each of these classes, `[n] -> [n, D]`.

        Raises:
            UserError: a class without training rows.
        """
        empty = label[self.shares[label] == 0].tolist()
        require(not empty, f"density by_class: no training row is of class {empty[0] if empty else ''}")
        chosen = torch.multinomial(self.weights[label], 1).squeeze(1)
        noise = torch.randn(len(label), self.width, 1, device=label.device)
        return self.centres[label, chosen] + (self.factors[label, chosen] @ noise).squeeze(2)

    def sample_of(self, label: Tensor) -> Tensor:
        drawn = self.standard_of(label.to(self.device))
        return (drawn * self.scale + self.mean).reshape(len(label), *self.latent_shape)


def _shared(about: list[Tensor]) -> Tensor:
    """The covariance of rows about the means of their classes, `[D, D]`; of rows that are all alone 0."""
    from sklearn.covariance import ledoit_wolf

    rows = torch.cat(about)
    free = len(rows) - len(about)
    if free == 0:
        return torch.zeros(rows.shape[1], rows.shape[1], dtype=rows.dtype)
    return torch.as_tensor(ledoit_wolf(rows.numpy(), assume_centered=True)[0]) * len(rows) / free
