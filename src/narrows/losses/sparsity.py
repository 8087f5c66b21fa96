"""Terms for few active latents, and against latents that are never active."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from narrows.errors import require
from narrows.losses.isolation import decoded, frozen, side_nats
from narrows.losses.objective import Term
from narrows.models.autoencoder import Autoencoder
from narrows.schedules import Schedule
from narrows.types import GatedLatent, JumpLatent, Output, SparseLatent, UnitLatent, at_least_single


class L1(Term):
    """`sum_j |z_j|`, `[B]`: the Laplace prior's penalty.

    Example:
        >>> batch = Batch(torch.zeros(1, 2))
        >>> latent = Latent(z=torch.tensor([[1.0, -2.0]]), point=torch.tensor([[1.0, -2.0]]))
        >>> out = Output(batch, batch, latent, p_x=None)
        >>> L1()(out, None)
        tensor([3.])
    """

    def __init__(self, weight: float | Schedule = 0.1) -> None:
        super().__init__(weight)

    def forward(self, out: Output, model: Autoencoder) -> Tensor:
        return out.latent.point.abs().flatten(1).sum(1)


class SparseKL(Term):
    """`sum_j KL(Bernoulli(rho) || Bernoulli(rho_j))`, a scalar, where `rho_j` is unit j's mean activation
    over the batch and the positions.

    "Sparse autoencoder" (Ng, CS294A lecture notes, 2011), section 3.

    Raises:
        UserError: `rho` outside (0, 1), or a negative weight.

    Example:
        >>> z = torch.full((2, 1), 0.5)
        >>> SparseKL(rho=0.05)(Output(Batch(z), Batch(z), UnitLatent(z, z), p_x=None), None)
        tensor(0.4946)
    """

    requires = UnitLatent

    def __init__(self, weight: float | Schedule = 1.0, rho: float = 0.05) -> None:
        super().__init__(weight)
        require(0 < rho < 1, f"term sparse_kl: the target activation rho must be in (0, 1), not {rho}")
        self.rho = rho

    def forward(self, out: Output, model: Autoencoder) -> Tensor:
        mean = at_least_single(out.latent.point).transpose(0, 1).flatten(1).mean(1)
        mean = self.over_batch(mean, out).clamp(1e-6, 1 - 1e-6)
        rho = self.rho
        entropy = rho * math.log(rho) + (1 - rho) * math.log(1 - rho)
        return (entropy - rho * mean.log() - (1 - rho) * (1 - mean).log()).sum()


class L0(Term):
    """`sum_j H(pre_j - theta_j)`, `[B]`: active latents, with a pseudo-gradient to the thresholds.

    "Jumping Ahead: Improving Reconstruction Fidelity with JumpReLU Sparse Autoencoders" (Rajamanoharan et al., 2024,
    https://arxiv.org/abs/2407.14435), equation 9.

    Example:
        >>> z, active = torch.tensor([[0.5, 0.0, 2.0]]), torch.tensor([[1.0, 0.0, 1.0]])
        >>> out = Output(Batch(z), Batch(z), JumpLatent(z, z, pre=z, active=active), p_x=None)
        >>> L0()(out, None)
        tensor([2.])
    """

    requires = JumpLatent

    def __init__(self, weight: float | Schedule = 0.1) -> None:
        super().__init__(weight)

    def forward(self, out: Output, model: Autoencoder) -> Tensor:
        return cast(JumpLatent, out.latent).active.flatten(1).sum(1)


class GateL1(Term):
    """`sum_j relu(gate_j)`, `[B]`: the penalty falls on the gate and leaves the magnitudes alone.

    "Improving Dictionary Learning with Gated Sparse Autoencoders" (Rajamanoharan et al., 2024,
    https://arxiv.org/abs/2404.16014), equation 8. A decoder that grows would escape it: give a linear decoder columns
    of unit norm (`decoder.unit_norm=true`).

    Example:
        >>> z = torch.zeros(1, 3)
        >>> latent = GatedLatent(z, z, pre=torch.tensor([[1.0, -2.0, 3.0]]))
        >>> GateL1()(Output(Batch(z), Batch(z), latent, p_x=None), None)
        tensor([4.])
    """

    requires = GatedLatent

    def __init__(self, weight: float | Schedule = 0.1) -> None:
        super().__init__(weight)

    def forward(self, out: Output, model: Autoencoder) -> Tensor:
        return cast(GatedLatent, out.latent).pre.relu().flatten(1).sum(1)


class GateReconstruction(Term):
    """`-log p(x | relu(gate))`, `[B]`, in nats, through a frozen decoder: what teaches the gate which latents matter.

    "Improving Dictionary Learning with Gated Sparse Autoencoders" (Rajamanoharan et al., 2024,
    https://arxiv.org/abs/2404.16014), equation 8.

    Example:
        >>> spec = DataSpec((4,), "vector", 10, value_range=(0.0, 1.0))
        >>> model = Autoencoder(spec, Stages(MLPEncoder, GatedSAE, MLPDecoder, BernoulliLikelihood, NoCorruption))
        >>> out = model(Batch(torch.rand(2, 4)))
        >>> GateReconstruction()(out, model).shape
        torch.Size([2])
    """

    requires = GatedLatent
    trains = "gate"

    def forward(self, out: Output, model: Autoencoder) -> Tensor:
        with frozen(model.decoder):
            params = decoded(cast(GatedLatent, out.latent).pre.relu(), out, model)
        return side_nats(params, out, model)


class AuxK(Term):
    """The error that the living latents leave, rebuilt by the dead ones, `[B]`, in nats: the auxiliary loss "AuxK".

    `-log p(x | D(z) + D(z_dead) - D(0))`, where D(z), the decoder's output, is a constant and z_dead the `k` largest
    activations of latents that have been 0 for `dead_after` training passes, times `min(dead / k, 1)`. For a linear
    decoder and a Gaussian likelihood that is `|e - W z_dead|^2 / 2 sigma^2` of the detached residual e. While no
    latent is dead it is 0. It is no part of `val/loss`: the fewer latents are dead, the less it weighs, and that
    would choose the checkpoint.

    "Scaling and Evaluating Sparse Autoencoders" (Gao et al., 2024, https://arxiv.org/abs/2406.04093), appendix A.2.

    Args:
        weight: alpha.
        k: number of dead latents that rebuild the error; None: half the width of the bottleneck's input, as there.
        dead_after: training passes without activity after which a latent counts as dead.

    Raises:
        UserError: `k` or `dead_after` below 1, or a negative weight.

    Example:
        >>> spec = DataSpec((4,), "vector", 10, value_range=(0.0, 1.0))
        >>> model = Autoencoder(spec, Stages(MLPEncoder, TopK, MLPDecoder, BernoulliLikelihood, NoCorruption))
        >>> out = model(Batch(torch.rand(2, 4)))
        >>> AuxK()(out, model).tolist()  # no latent is dead yet
        [0.0, 0.0]
    """

    requires = SparseLatent
    monitored = False

    def __init__(self, weight: float | Schedule = 0.03125, k: int | None = None, dead_after: int = 250) -> None:
        super().__init__(weight)
        require(k is None or k >= 1, f"term auxk: k must be at least 1, or null, not {k}")
        require(dead_after >= 1, f"term auxk: dead_after must be at least 1, not {dead_after}")
        self.k, self.dead_after = k, dead_after

    def forward(self, out: Output, model: Autoencoder) -> Tensor:
        latent = cast(SparseLatent, out.latent)
        k = self.k or max(1, model.bottleneck.in_shape[0] // 2)
        assert latent.idle is not None, f"{type(model.bottleneck).__name__} does not count idle passes"
        dead = latent.idle >= self.dead_after
        z = _largest_dead(latent.pre, dead, k)
        correction = decoded(z, out, model) - decoded(torch.zeros_like(z), out, model)
        with torch.no_grad():
            base = decoded(latent.z, out, model)
        share = (dead.sum() / k).clamp(max=1)
        return share * side_nats(base + correction, out, model)


class MatryoshkaReconstruction(Term):
    """`sum_m -log p(x | z_1..m)`, `[B]`, in nats, over nested prefixes of the latents: the first ones must rebuild
    the whole by themselves, so that general features are not split into special ones.

    The full code is the reconstruction term's; with it, this is the paper's sum over all sizes. "Learning Multi-Level
    Features with Matryoshka Sparse Autoencoders" (Bussmann et al., 2025, https://arxiv.org/abs/2503.17547), equation 5.

    Args:
        weight: beside the reconstruction from the full code.
        prefixes: sizes as shares of all latents, inside (0, 1).

    Raises:
        UserError: no prefix, or one outside (0, 1), or a negative weight.

    Example:
        >>> spec = DataSpec((4,), "vector", 10, value_range=(0.0, 1.0))
        >>> model = Autoencoder(spec, Stages(MLPEncoder, TopK, MLPDecoder, BernoulliLikelihood, NoCorruption))
        >>> out = model(Batch(torch.rand(2, 4)))
        >>> MatryoshkaReconstruction()(out, model).shape
        torch.Size([2])
    """

    def __init__(self, weight: float | Schedule = 1.0, prefixes: Sequence[float] = (0.0625, 0.125, 0.25, 0.5)) -> None:
        super().__init__(weight)
        self.prefixes = sorted(prefixes)
        right = bool(self.prefixes) and all(0 < share < 1 for share in self.prefixes)
        require(right, f"term matryoshka: prefixes must be shares inside (0, 1), at least one, not {list(prefixes)}")

    def forward(self, out: Output, model: Autoencoder) -> Tensor:
        z = out.latent.z
        sizes = dict.fromkeys(max(1, round(share * z.shape[1])) for share in self.prefixes)
        index = torch.arange(z.shape[1], device=z.device).reshape(-1, *[1] * (z.ndim - 2))
        parts = [side_nats(decoded(z * (index < size), out, model), out, model) for size in sizes]
        return torch.stack(parts).sum(0)


def _largest_dead(pre: Tensor, dead: Tensor, k: int) -> Tensor:
    """`pre` with all but the `k` largest activations of dead latents set to 0."""
    others = ~dead.reshape(-1, *[1] * (pre.ndim - 2))
    values, index = pre.masked_fill(others, -math.inf).topk(min(k, pre.shape[1]), dim=1)
    values = values.masked_fill(values == -math.inf, 0.0)
    return torch.zeros_like(pre).scatter(1, index, values)
