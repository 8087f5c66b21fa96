"""A VampPrior for a model that was trained without one."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import MixtureSameFamily

from narrows.bottlenecks.mixture import mixture_of_normals
from narrows.densities.base import Density
from narrows.densities.gradient_fit import Budget
from narrows.errors import require
from narrows.evaluation import EvaluationData, subset
from narrows.models.autoencoder import Autoencoder
from narrows.models.vamp import inside, outside
from narrows.types import Batch, GaussianLatent


class VampDensity(Density):
    """`p(z) = 1/K sum_k q(z|v_k)` over K = `pseudo_inputs` inputs v_k, learnt with encoder and decoder frozen by
    maximising `E_q(z|x) log p(z)`, the one part of the ELBO that holds them.

    They start at training examples drawn at random, lie inside the data's range where it has one, and keep their
    example's class where the model reads it. The components' means and scales are kept, so that log-density and samples
    do not need the encoder.

    "VAE with a VampPrior" (Tomczak and Welling, 2018, https://arxiv.org/abs/1705.07120), equation 9; there it is learnt
    with the rest (`model=vamp`).

    Args:
        pseudo_inputs: K; the encoder reads them all at every step.
        epochs: at most.
        batch_size: latents per step.
        lr: of Adam.
        patience: epochs without a better log-density of the validation split after which it ends.

    Raises:
        UserError: a value out of its range, a posterior that is not Gaussian, or data of tokens.

    Example:
        >>> spec = DataSpec((4,), "vector", 10, value_range=(0.0, 1.0))
        >>> model = Autoencoder(spec, Stages(MLPEncoder, Gaussian, MLPDecoder, BernoulliLikelihood, NoCorruption))
        >>> density = VampDensity(model, pseudo_inputs=5)
        >>> density.log_prob(torch.zeros(3, 8)).shape, density.sample(2).shape
        (torch.Size([3]), torch.Size([2, 8]))
    """

    requires = GaussianLatent
    means: Tensor
    scales: Tensor
    labels: Tensor

    def __init__(
        self,
        model: Autoencoder,
        *,
        pseudo_inputs: int = 200,
        epochs: int = 50,
        batch_size: int = 512,
        lr: float = 1e-2,
        patience: int = 5,
    ) -> None:
        require(pseudo_inputs >= 1, f"density vamp: pseudo_inputs must be at least 1, not {pseudo_inputs}")
        super().__init__(model)
        require(
            model.spec.kind != "tokens",
            "density vamp: learnt inputs are real numbers, which tokens are not; use density=mixture",
        )
        self.budget = Budget("vamp", epochs, batch_size, lr, patience)
        self.spec, self._encode, self._told = model.spec, model.encode, model.classes(1) is not None
        self.raw_inputs = nn.Parameter(torch.zeros(pseudo_inputs, *model.spec.shape))
        self.register_buffer("labels", torch.zeros(pseudo_inputs, dtype=torch.long))
        self.register_buffer("means", torch.zeros(pseudo_inputs, *self.latent_shape))
        self.register_buffer("scales", torch.ones(pseudo_inputs, *self.latent_shape))

    def begin(self, data: EvaluationData) -> None:
        size = sum(len(batch) for batch in data.ordered_loader("train"))
        count = len(self.raw_inputs)
        # Fewer examples than pseudo-inputs are taken again and again.
        chosen = torch.cat([torch.randperm(size) for _ in range(-(-count // size))])[:count]
        places, back = chosen.unique(return_inverse=True)
        parts = list(subset(data.ordered_loader("train"), places))
        whole = Batch.cat(parts).to("cpu")
        self.raw_inputs.copy_(outside(whole.x[back], self.spec))
        if self._told:
            assert whole.label is not None
            self.labels.copy_(whole.label[back])

    def components(self) -> tuple[Tensor, Tensor]:
        """Means and standard deviations of q(z|v_k), each `[K, *latent_shape]`."""
        latent = self._encode(Batch(inside(self.raw_inputs, self.spec), label=self.labels if self._told else None))
        assert isinstance(latent, GaussianLatent)
        return latent.posterior.mean, latent.posterior.stddev

    def learn(self, train: Tensor, held: Tensor) -> None:
        self.budget.spend(self, lambda z: _mixture(*self.components()).log_prob(z), train, held)
        means, scales = self.components()
        self.means.copy_(means)
        self.scales.copy_(scales)

    def log_prob(self, values: Tensor) -> Tensor:
        log_prob: Tensor = _mixture(self.means, self.scales).log_prob(values)
        return log_prob

    def sample(self, n: int) -> Tensor:
        drawn: Tensor = _mixture(self.means, self.scales).sample(torch.Size((n,)))
        return drawn


def _mixture(means: Tensor, scales: Tensor) -> MixtureSameFamily:
    return mixture_of_normals(means.new_zeros(len(means)), means, scales)
