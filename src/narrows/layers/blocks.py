"""Parts that several backbones share: checks of arguments, norms, and the halving and doubling of maps.

Everything here works on images `[B, C, H, W]`, series `[B, C, T]` and volumes or video `[B, C, D, H, W]` alike; "size"
is the shape of a map without batch and channels: `(H, W)`, `(T,)` or `(D, H, W)`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from narrows.distributed import is_distributed, sum_over_processes, sum_with_gradient
from narrows.errors import UserError, nearest, require
from narrows.layers.divisive_normalisation import GDN
from narrows.layers.recomputing import Staged
from narrows.layers.stages import ACTIVATIONS
from narrows.layers.stages import activation as make_activation
from narrows.types import Shape, at_least_single

CONVOLUTIONS: dict[int, type[nn.Module]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED: dict[int, type[nn.Module]] = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
GATED = "gated"
DIVISIVE = "gdn"
POOLINGS: dict[int, type[nn.Module]] = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}


class BatchNorm(_BatchNorm):
    """Batch normalisation over axis 1 of `[B, C, *size]` that also trains on a batch of one vector.

    One value per channel has no variance, so torch refuses it, and an epoch whose last batch holds one
    example would die there. Such a batch is normalised by the running statistics, which it leaves alone.

    Processes that share a batch normalise it as one process would, by the mean and variance of all its rows.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        """Any number of positions will do."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training and is_distributed():
            return self._over_processes(x)
        if not (self.training and x.numel() == x.shape[1]):
            return super().forward(x)
        assert self.running_mean is not None
        assert self.running_var is not None
        # Copies, because a larger batch may update the originals before this one's backward reads them.
        mean, variance = self.running_mean.clone(), self.running_var.clone()
        return F.batch_norm(x, mean, variance, self.weight, self.bias, training=False, eps=self.eps)

    def _over_processes(self, x: Tensor) -> Tensor:
        shape = [1, -1, *[1] * (x.ndim - 2)]
        rows = at_least_single(x).transpose(0, 1).flatten(1)
        count = sum_over_processes(rows.new_tensor(float(rows.shape[1])))
        mean = sum_with_gradient(rows.sum(1)) / count
        centred = rows - mean[:, None]
        variance = sum_with_gradient(centred.square().sum(1)) / count
        with torch.no_grad():
            if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
                rate = 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
                self.running_mean.lerp_(mean.to(self.running_mean), rate)
                self.running_var.lerp_((variance * count / (count - 1)).to(self.running_var), rate)
        y = (at_least_single(x) - mean.reshape(shape)) * (variance + self.eps).rsqrt().reshape(shape)
        if self.affine:
            y = y * self.weight.reshape(shape) + self.bias.reshape(shape)
        return y.to(x.dtype)


def choose(value: str, choices: Collection[str], option: str, part: str) -> None:
    """Raise `UserError` unless `value` is one of `choices`."""
    if value not in choices:
        raise UserError(f"{part} has no {option} '{value}': {nearest(str(value), choices)}")


def counts(values: Sequence[int], option: str, part: str, *, empty: bool = False) -> list[int]:
    """A copy of a list of whole positive numbers, or `UserError`."""
    listed = list(values)
    right = all(isinstance(value, int) and value > 0 for value in listed) and (empty or bool(listed))
    least = "" if empty else ", at least one"
    require(right, f"{part} needs {option} as a list of whole positive numbers{least}, not {listed}")
    return listed


def probability(value: float, option: str, part: str) -> float:
    """`value` if it is in [0, 1), else `UserError`."""
    require(0 <= value < 1, f"{part} needs {option} of at least 0 and below 1, not {value}")
    return value


def vector_norm(name: str | None, features: int, part: str) -> list[nn.Module]:
    """The normalisation of `[B, features]`, as a list of no or one layer."""
    choose(name or "null", ("batch", "layer", "null"), "norm", part)
    if name == "batch":
        return [BatchNorm(features)]
    return [nn.LayerNorm(features)] if name == "layer" else []


def map_norm(name: str | None, channels: int, part: str) -> list[nn.Module]:
    """The normalisation of `[B, channels, *size]`, as a list of no or one layer.

    Groups are at most eight and hold at least four channels where the number of channels allows: on a
    map of one position, a group of one channel is always zero and a group of two always +-1.
    """
    choose(name or "null", ("batch", "group", "null"), "norm", part)
    if name == "batch":
        return [BatchNorm(channels)]
    if name != "group":
        return []
    require(channels > 1, f"{part} has norm group over a single channel, which needs channels of at least 2")
    groups = max(g for g in range(1, 9) if g == 1 or (channels % g == 0 and channels // g >= 4))
    return [nn.GroupNorm(groups, channels)]


def norm_activation(
    norm: str | None, channels: int, activation: str, part: str, *, inverse: bool = False
) -> list[nn.Module]:
    """The norm of a map and the activation, in this order; `gdn` is the inverse one of decoders."""
    choose(activation, (*ACTIVATIONS, DIVISIVE), "activation", part)
    made = GDN(channels, inverse=inverse) if activation == DIVISIVE else make_activation(activation)
    return [*map_norm(norm, channels, part), made]


def halvings(shape: Shape, stages: int, part: str) -> list[Shape]:
    """The sizes of a map before, between and after `stages` halvings, where a side s becomes ceil(s / 2).

    Raises:
        UserError: not the shape of an image, a series or a volume, or a side would be 1 before the last halving.
    """
    size = tuple(shape[1:])
    require(
        len(size) in CONVOLUTIONS,
        f"{part} works on images (C, H, W), series (C, T) or volumes (C, D, H, W), not on shape {list(shape)}; use an "
        "MLP for vectors",
    )
    most = (min(size) - 1).bit_length()
    require(
        stages <= most,
        f"{part} has {stages} stages (entries of channels), but a size of {' x '.join(map(str, size))} "
        f"can be halved at most {most} times before a side is 1; use at most {most} entries",
    )
    sizes = [size]
    for _ in range(stages):
        sizes.append(tuple(-(-side // 2) for side in sizes[-1]))
    return sizes


def map_or_vector(
    stages: Iterable[Sequence[nn.Module]], width: int, size: Shape, *, flatten: bool, checkpointing: bool
) -> tuple[nn.Module, Shape]:
    """The stages of an encoder whose last map is `[B, width, *size]`, as one module that flattens it or not; and what
    they leave."""
    if not flatten:
        return Staged(stages, checkpointing=checkpointing), (width, *size)
    return Staged([*stages, [nn.Flatten()]], checkpointing=checkpointing), (width * math.prod(size),)


def odd_kernel(kernel_size: int, part: str) -> int:
    """An odd kernel keeps the map centred: padding k // 2 gives exactly ceil(s / stride)."""
    right = isinstance(kernel_size, int) and kernel_size >= 3 and kernel_size % 2 == 1
    require(right, f"{part} needs an odd kernel_size of at least 3, not {kernel_size}")
    return kernel_size


def halving_kernel(kernel_size: int, sizes: list[Shape], part: str, *, strided: bool) -> int:
    """An odd kernel, or an even one, which lies between two values, where each stage has stride 2 and an even side.

    Args:
        kernel_size: of every stage.
        sizes: of the map, as `halvings` gives them.
        part: in messages.
        strided: whether the stages halve or double by the stride of their convolutions.
    """
    whole = isinstance(kernel_size, int)
    if not whole or kernel_size < 3 or kernel_size % 2 == 1:
        return odd_kernel(kernel_size, part)
    uneven = [side for size in sizes[:-1] for side in size if side % 2 == 1]
    require(strided, f"{part} needs an odd kernel_size, not {kernel_size}: an even one fits steps of two alone")
    require(
        not uneven,
        f"{part} needs an odd kernel_size, not {kernel_size}: an even one fits sides that halve evenly at each of the "
        f"{len(sizes) - 1} stages, and {' x '.join(map(str, sizes[0]))} does not",
    )
    return kernel_size


def convolution(
    dims: int, inputs: int, outputs: int, kernel: int = 3, *, stride: int = 1, bias: bool = True
) -> nn.Module:
    """`[B, inputs, *size] -> [B, outputs, *ceil(size / stride)]`; for an even kernel see `halving_kernel`."""
    return CONVOLUTIONS[dims](inputs, outputs, kernel, stride=stride, padding=(kernel - 1) // 2, bias=bias)


def double_convolution(
    dims: int, inputs: int, outputs: int, norm: str | None, activation: str, part: str, *, inverse: bool = False
) -> list[nn.Module]:
    """Convolution, norm, activation, twice: `[B, inputs, *size] -> [B, outputs, *size]`."""
    layers: list[nn.Module] = []
    for before in (inputs, outputs):
        layers.append(convolution(dims, before, outputs, bias=norm != "batch"))
        layers += norm_activation(norm, outputs, activation, part, inverse=inverse)
    return layers


class Nearest(nn.Module):
    """Repeats the values of a map up to a size."""

    def __init__(self, size: Shape) -> None:
        super().__init__()
        self.size = tuple(size)

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, size=self.size, mode="nearest")


def doubling(
    kind: str, inputs: int, outputs: int, size: Shape, part: str, *, kernel: int = 3, bias: bool = True
) -> nn.Module:
    """`[B, inputs, *ceil(size / 2)] -> [B, outputs, *size]`, by a transposed convolution or by repeating
    values and then convolving."""
    choose(kind, ("transposed", "nearest"), "upsample", part)
    dims = len(size)
    if kind == "nearest":
        even = all(side % 2 == 0 for side in size)  # then pictures of other sizes are doubled too
        grown = nn.Upsample(scale_factor=2.0, mode="nearest") if even else Nearest(size)
        return nn.Sequential(grown, convolution(dims, inputs, outputs, kernel, bias=bias))
    # The default, because it convolves at the small size: forward and backward of 64-32-1 channels from
    # 7x7 to 28x28 at batch 128 took 35 ms on one CPU thread, where nearest + convolution took 118 ms.
    # Both are deterministic on CUDA, unlike the backward of linear and bicubic interpolation.
    return TRANSPOSED[dims](
        inputs,
        outputs,
        kernel,
        stride=2,
        padding=(kernel - 1) // 2,
        output_padding=tuple(kernel % 2 * (1 - side % 2) for side in size),
        bias=bias,
    )


def first_map(
    in_shape: Shape, channels: int, sizes: list[Shape], norm: str | None, part: str, *, kernel: int = 3
) -> nn.Module:
    """A latent to a decoder's first map `[B, channels, *sizes[-1]]`: linear from a vector, a convolution
    from a map of that size.

    Raises:
        UserError: the latent is a map of another size.
    """
    size = sizes[-1]
    if len(in_shape) == 1:
        positions = math.prod(size)
        # Batch norm over one position would cancel the bias; over several, each has its own.
        bias = norm != "batch" or positions > 1
        linear = nn.Linear(in_shape[0], channels * positions, bias=bias)
        return nn.Sequential(linear, nn.Unflatten(1, (channels, *size)))
    require(
        tuple(in_shape[1:]) == size,
        f"the bottleneck gives {list(in_shape)}, but {part} with {len(sizes) - 1} stages needs a vector or "
        f"a map {['C', *size]} to reach the size {list(sizes[0])}; give encoder and decoder equally many "
        "channels",
    )
    return convolution(len(size), in_shape[0], channels, kernel, bias=norm != "batch")


class ResidualBlock(nn.Module):
    """x + f(x), where f is norm, activation, convolution, twice (pre-activation); the shape stays."""

    def __init__(
        self, dims: int, channels: int, norm: str | None, activation: str, part: str, *, inverse: bool = False
    ) -> None:
        super().__init__()
        # In batch norm's company a bias has no effect: its reader subtracts it again.
        bias = norm != "batch"
        layers: list[nn.Module] = []
        for _ in range(2):
            layers += norm_activation(norm, channels, activation, part, inverse=inverse)
            layers.append(convolution(dims, channels, channels, bias=bias))
        self.residual = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        change: Tensor = self.residual(x)
        return x + change


def dense(
    inputs: int, widths: list[int], activation: str, norm: str | None, dropout: float, part: str
) -> list[nn.Sequential]:
    """One block per width: linear, norm, activation, dropout. The linear layer comes first in each.

    `gated`: h = (W x + b) * sigmoid(V x + c), where [W; V] are the rows of one linear layer (which is why it is no
    activation of maps); a norm acts on both halves. "Language Modeling with Gated Convolutional Networks" (Dauphin
    et al., 2017, https://arxiv.org/abs/1612.08083), equation 1; "VAE with a VampPrior" (Tomczak and Welling, 2018,
    https://arxiv.org/abs/1705.07120), 5.1.
    """
    choose(activation, (*ACTIVATIONS, GATED), "activation", part)
    gated, blocks = activation == GATED, []
    for before, width in zip([inputs, *widths], widths, strict=False):
        rows = 2 * width if gated else width
        layers: list[nn.Module] = [nn.Linear(before, rows, bias=norm != "batch"), *vector_norm(norm, rows, part)]
        layers.append(nn.GLU(dim=1) if gated else make_activation(activation))
        if dropout > 0:
            layers.append(nn.Dropout(dropout))
        blocks.append(nn.Sequential(*layers))
    return blocks


class Shortcut(nn.Module):
    """A linear map past a network's layers, `[B, inputs] -> [B, outputs]`, and the gate by which their result is to be
    multiplied before it is added: 0 at the start.

    Raises:
        UserError: there are no layers, so that the map would only double the next one.
    """

    def __init__(self, inputs: int, widths: list[int], outputs: int, part: str) -> None:
        super().__init__()
        require(bool(widths), f"{part} has a shortcut past no layers: give widths, or shortcut=false")
        self.linear = nn.Linear(inputs, outputs, bias=False)
        self.gate = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        past: Tensor = self.linear(x)
        return past
