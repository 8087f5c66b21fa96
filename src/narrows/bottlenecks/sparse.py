"""Bottlenecks in which few latents are active."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from narrows.bottlenecks.base import Bottleneck
from narrows.distributed import is_distributed, largest_of_all, sum_over_processes
from narrows.errors import require
from narrows.layers.stages import AxisLinear
from narrows.types import GatedLatent, JumpLatent, Latent, Shape, SparseLatent, at_least_single

MOMENTUM = 0.02
"""Rate of the averages over training batches."""


class _Sparse(Bottleneck):
    """A linear projection of `h - centre` to `dim` latents; the buffer `idle` counts for how many training passes
    each of them has been 0 at every position of every example.

    Where it is `centred`, `centre [C]` is the average of h over training batches and positions, as the papers' encoders
    subtract the decoder's bias; else it is 0. A dictionary of the data themselves needs it: latents selected by their
    size would else all compete along that one direction, and most die. Behind a deep encoder, whose biases can do the
    same, it moves while they learn and costs more than it gains. "Scaling and Evaluating Sparse Autoencoders" (Gao
    et al., 2024, https://arxiv.org/abs/2406.04093), equation 1 and appendix A.1.
    """

    returns: type[Latent] = SparseLatent
    idle: Tensor
    centre: Tensor
    passes: Tensor

    def __init__(self, in_shape: Shape, dim: int, name: str, *, centred: bool, bias: bool = True) -> None:
        require(dim >= 1, f"bottleneck {name}: dim must be at least 1, not {dim}")
        super().__init__(in_shape, dim)
        self.centred = centred
        self.projection = AxisLinear(in_shape[0], dim, bias=bias)
        self.register_buffer("idle", torch.zeros(dim, dtype=torch.long))
        self.register_buffer("centre", torch.zeros(in_shape[0]))
        self.register_buffer("passes", torch.tensor(0))

    def project(self, h: Tensor) -> Tensor:
        """`h [B, C, *positions]` to activations `[B, dim, *positions]`."""
        pre: Tensor = self.projection(h - _over_positions(self.centre, h) if self.centred else h)
        return pre

    @torch.no_grad()
    def learn(self, latent: Latent) -> None:
        assert isinstance(latent, SparseLatent)
        assert latent.read is not None
        fired = (latent.z != 0).transpose(0, 1).flatten(1).any(1)
        self.idle.add_(1).masked_fill_(sum_over_processes(fired.long()) > 0, 0)
        self.passes.add_(1)
        if self.centred:
            self.centre.lerp_(_mean(latent.read.transpose(0, 1).flatten(1)), self.rate())

    def rate(self, momentum: float = MOMENTUM) -> Tensor:
        """Rate of this training pass in an average, which is a plain mean at first and exponential later."""
        return (1 / self.passes).clamp_min(momentum)


class TopK(_Sparse):
    """Keeps the `k` largest of `dim` linear activations at every position, sets the others to 0.

    "k-Sparse Autoencoders" (Makhzani and Frey, 2014, https://arxiv.org/abs/1312.5663), algorithm 1. Ties are broken so
    that exactly `k` stay.

    Raises:
        UserError: `dim` below 1, or `k` outside 1..dim.

    Example:
        >>> latent = TopK((5,), dim=8, k=2)(torch.rand(3, 5))
        >>> (latent.z != 0).sum(1)
        tensor([2, 2, 2])
    """

    def __init__(self, in_shape: Shape, *, dim: int = 256, k: int = 16, centred: bool = False) -> None:
        super().__init__(in_shape, dim, "topk", centred=centred)
        require(1 <= k <= dim, f"bottleneck topk: k must be between 1 and dim={dim}, not {k}")
        self.k = k

    def forward(self, h: Tensor) -> SparseLatent:
        pre = self.project(h)
        z = _largest(pre, self.k)
        return SparseLatent(z=z, point=z, pre=pre, idle=self.idle, read=h)


class BatchTopK(_Sparse):
    """Keeps `k` of `dim` linear activations per position on average: in training the largest of the whole batch,
    in evaluation those above a learned `threshold`, so that an example's code never depends on its neighbours.

    The threshold follows the border between kept and dropped activations of the training batches, first as their
    mean, then as an exponential average of rate `momentum`. `point` is always the code by the threshold. A batch of
    one example keeps its own `k` largest. Processes that share a batch keep the largest of all of it.

    "BatchTopK Sparse Autoencoders" (Bussmann et al., 2024, https://arxiv.org/abs/2412.06410), equations 3 to 5; there
    the threshold is the mean of the smallest kept activations.

    Raises:
        UserError: `dim` below 1, `k` outside 1..dim - 1, or `momentum` outside (0, 1].

    Example:
        >>> latent = BatchTopK((5,), dim=8, k=2)(torch.rand(3, 5))
        >>> (latent.z != 0).sum()
        tensor(6)
    """

    threshold: Tensor

    def __init__(
        self, in_shape: Shape, *, dim: int = 256, k: int = 16, momentum: float = 0.02, centred: bool = False
    ) -> None:
        super().__init__(in_shape, dim, "batch_topk", centred=centred)
        require(1 <= k < dim, f"bottleneck batch_topk: k must be between 1 and dim - 1 = {dim - 1}, not {k}")
        require(0 < momentum <= 1, f"bottleneck batch_topk: momentum must be in (0, 1], not {momentum}")
        self.k, self.momentum = k, momentum
        self.register_buffer("threshold", torch.tensor(0.0))

    def forward(self, h: Tensor) -> SparseLatent:
        pre = self.project(h)
        point = pre * (pre > self.threshold)
        z = self._largest_of_batch(pre) if self.training else point
        return SparseLatent(z=z, point=point, pre=pre, idle=self.idle, read=h)

    def _largest_of_batch(self, pre: Tensor) -> Tensor:
        if not is_distributed():
            return _largest(pre.reshape(1, -1), self._kept(pre)).reshape(pre.shape)
        return pre * (pre >= largest_of_all(pre.flatten(), self._kept(pre))[-1])

    def _kept(self, pre: Tensor) -> int:
        positions = pre.numel() // pre.shape[1]
        if is_distributed():
            positions = int(sum_over_processes(torch.tensor(positions, device=pre.device)))
        return self.k * positions

    @torch.no_grad()
    def learn(self, latent: Latent) -> None:
        super().learn(latent)
        assert isinstance(latent, SparseLatent)
        border = largest_of_all(latent.pre.flatten(), self._kept(latent.pre) + 1)[-2:]
        self.threshold.lerp_(at_least_single(border).mean(), self.rate(self.momentum))


class JumpReLU(_Sparse):
    """`z = pre H(pre - theta)`: linear activations above a learned threshold theta > 0 of each latent, else 0.

    theta and `width` are in units of the activations' root mean square over all latents, an average over the training
    batches (buffer `scale`): the paper's data are normalised, and what an encoder gives is not; without that unit,
    activations outgrow any threshold and any kernel.

    A step has no useful derivative; theta gets the pseudo-gradients of the paper, with a rectangular kernel K of width
    `width`: `dz/dtheta = -theta / width K((pre - theta) / width)` and, for the count of active latents,
    `dH/dtheta = -1 / width K((pre - theta) / width)`. The activations themselves get the plain gradient of z and none
    of H. theta = exp(log_threshold) scale starts at `threshold` scale; width is `bandwidth` scale.

    "Jumping Ahead: Improving Reconstruction Fidelity with JumpReLU Sparse Autoencoders" (Rajamanoharan et al., 2024,
    https://arxiv.org/abs/2407.14435), equations 3, 11 and 12.

    Raises:
        UserError: `dim` below 1, `threshold` or `bandwidth` not above 0.

    Example:
        >>> latent = JumpReLU((5,), dim=8, threshold=0.1)(torch.rand(3, 5))
        >>> torch.equal(latent.active, (latent.z != 0).float())
        True
    """

    returns = JumpLatent
    scale: Tensor

    def __init__(
        self,
        in_shape: Shape,
        *,
        dim: int = 256,
        threshold: float = 1.0,
        bandwidth: float = 0.5,
        centred: bool = False,
    ) -> None:
        super().__init__(in_shape, dim, "jumprelu", centred=centred)
        for name, value in {"threshold": threshold, "bandwidth": bandwidth}.items():
            require(value > 0, f"bottleneck jumprelu: {name} must be above 0, not {value}")
        self.bandwidth = bandwidth
        self.log_threshold = nn.Parameter(torch.full((dim,), math.log(threshold)))
        self.register_buffer("scale", torch.tensor(1.0))

    def forward(self, h: Tensor) -> JumpLatent:
        pre = self.project(h)
        # A copy, because `learn` moves it before this batch's backward reads it.
        scale = self.scale.clone()
        theta = _over_positions(self.log_threshold.exp() * scale, pre)
        active = (pre > theta).to(pre.dtype)
        # The ramp's slope is the kernel, and its value cancels.
        ramp = ((pre.detach() - theta) / (self.bandwidth * scale) + 0.5).clamp(0, 1)
        step = ramp - ramp.detach()
        z = pre * active + theta.detach() * step
        return JumpLatent(z=z, point=z, pre=pre, idle=self.idle, read=h, active=active + step)

    @torch.no_grad()
    def learn(self, latent: Latent) -> None:
        super().learn(latent)
        assert isinstance(latent, JumpLatent)
        square = _mean(at_least_single(latent.pre).square().reshape(1, -1)).squeeze(0)
        self.scale.lerp_(square.sqrt(), self.rate())


class GatedSAE(_Sparse):
    """`z = H(gate) relu(magnitude)`: one linear map decides which latents are active, another how strongly.

    `gate = W h + b_gate` and `magnitude = exp(r) W h + b_magnitude` share W up to a scale per latent. The step gives
    the gate no gradient: its own reconstruction and penalty train it (`loss=gated_sae`).

    "Improving Dictionary Learning with Gated Sparse Autoencoders" (Rajamanoharan et al., 2024,
    https://arxiv.org/abs/2404.16014), equations 6 and 7.

    Raises:
        UserError: `dim` below 1.

    Example:
        >>> latent = GatedSAE((5,), dim=8)(torch.rand(3, 5))
        >>> bool((latent.z[latent.pre <= 0] == 0).all())
        True
    """

    returns = GatedLatent

    def __init__(self, in_shape: Shape, *, dim: int = 256, centred: bool = False) -> None:
        super().__init__(in_shape, dim, "gated_sae", centred=centred, bias=False)
        self.gate_bias = nn.Parameter(torch.zeros(dim))
        self.magnitude_bias = nn.Parameter(torch.zeros(dim))
        self.log_scale = nn.Parameter(torch.zeros(dim))

    def forward(self, h: Tensor) -> GatedLatent:
        shared = self.project(h)
        gate_bias, magnitude_bias, log_scale = (
            _over_positions(values, shared) for values in (self.gate_bias, self.magnitude_bias, self.log_scale)
        )
        gate = shared + gate_bias
        z = (gate > 0) * (log_scale.exp() * shared + magnitude_bias).relu()
        return GatedLatent(z=z, point=z, pre=gate, idle=self.idle, read=h)


def _largest(values: Tensor, k: int) -> Tensor:
    """`values` with all but the `k` largest along axis 1 set to 0."""
    kept, index = values.topk(k, dim=1)
    return torch.zeros_like(values).scatter(1, index, kept)


def _mean(values: Tensor) -> Tensor:
    """`[N, M]` to `[N]`, over M and all processes."""
    values = at_least_single(values)
    sums = sum_over_processes(torch.cat([values.sum(1), values.new_tensor([values.shape[1]])]))
    return sums[:-1] / sums[-1]


def _over_positions(values: Tensor, like: Tensor) -> Tensor:
    """`[D]` as `[D, 1, ...]`, to meet `[B, D, *positions]`."""
    return values.reshape(-1, *[1] * (like.ndim - 2))
