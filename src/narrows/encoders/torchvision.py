"""Image classifiers of torchvision, without their last layer."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from narrows.errors import UserError, nearest, require
from narrows.layers.blocks import BatchNorm
from narrows.layers.stages import Encoder
from narrows.layers.weight_files import is_downloaded, read_weights, require_fitting
from narrows.types import Shape

PART = "encoder torchvision"
CLASSES = 1000
"""Number of ImageNet's classes: the last layer with so many outputs belongs to the classifier."""
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and standard deviation of ImageNet's red, green and blue in [0, 1]."""
AUXILIARY = ("googlenet", "inception_v3")
"""Models that train with auxiliary classifiers, and change their input."""


class TorchvisionEncoder(Encoder):
    """A classifier of `torchvision.models` up to what its last linear layer reads, `[B, C, H, W] -> [B, D]`.

    Other than three channels: the first convolution's weights become their sum over red, green and blue divided
    by C, for every channel alike. So an image whose channels are all equal gives what its grey picture in three
    channels gave before; that holds for any C, and exactly for C = 1. Batch norm is narrows' own, which also
    trains on a batch of one.

    Args:
        in_shape: `(C, H, W)`.
        name: of the model, such as `resnet18`.
        weights: None (drawn at random), a file of a state dict of that model (whole, or without the classifier), or
            the name that torchvision has for its weights, such as `IMAGENET1K_V1`, which torchvision downloads.
        freeze: whether its weights and running statistics stay as they are.
        normalise: whether the input, in [0, 1], is first shifted and scaled by ImageNet's mean and deviation (for
            other than three channels the means of the three), as pretrained weights expect.

    Raises:
        UserError: an unknown name, weights that cannot be used, or images that this model cannot read.

    "TorchVision: PyTorch's Computer Vision library" (2016), https://github.com/pytorch/vision.
    """

    initial: ClassVar[tuple[str, ...]] = ("weights",)
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        in_shape: Shape,
        *,
        name: str = "resnet18",
        weights: str | None = None,
        freeze: bool = False,
        normalise: bool = False,
    ) -> None:
        super().__init__()
        self.in_shape = tuple(in_shape)
        require(len(self.in_shape) == 3, f"{PART} reads images (C, H, W), not data of shape {list(self.in_shape)}")
        self.network = _classifier(name, weights)
        channels = self.in_shape[0]
        if channels != 3:
            _adapt_first(self.network, channels)
        _exchange_batch_norms(self.network)
        mean, std = (torch.tensor(values) for values in (MEAN, STD)) if normalise else (torch.zeros(3), torch.ones(3))
        if channels != 3:
            mean, std = mean.mean().expand(channels), std.mean().expand(channels)
        # Not persistent: they follow from the arguments.
        self.register_buffer("mean", mean.reshape(1, -1, 1, 1).clone(), persistent=False)
        self.register_buffer("std", std.reshape(1, -1, 1, 1).clone(), persistent=False)
        self.freeze = freeze
        self.network.requires_grad_(not freeze)
        self.out_shape = (self._features(name),)

    @staticmethod
    def downloads(name: str, weights: str | None) -> bool:
        """Whether these weights are torchvision's, and not yet on this machine."""
        from torchvision import models  # slow to import

        if weights is None or Path(weights).expanduser().is_file() or name not in models.list_models(module=models):
            return False
        published = [entry.name for entry in models.get_model_weights(name)]
        return weights in published and not is_downloaded(name, weights)

    def _features(self, name: str) -> int:
        self.eval()
        try:
            with torch.no_grad():
                out = self(torch.zeros(1, *self.in_shape))
        except (RuntimeError, AssertionError, ValueError) as error:
            raise UserError(
                f"{PART}: {name} cannot read images of shape {list(self.in_shape)}: {' '.join(str(error).split())}; "
                "give larger images, or another model"
            ) from error
        self.train()
        return out.shape[1]

    def forward(self, x: Tensor) -> Tensor:
        return self.network((x - self.mean) / self.std)

    def train(self, mode: bool = True) -> TorchvisionEncoder:
        super().train(mode)
        if self.freeze:
            self.network.eval()
        return self


def _classifier(name: str, weights: str | None) -> nn.Module:
    """The network of that name with its weights, whose last linear layer is gone."""
    from torchvision import models

    known = [model for model in models.list_models(module=models) if model not in AUXILIARY]
    require(name in known, f"{PART} has no model '{name}': {nearest(name, known)}")
    published = [entry.name for entry in models.get_model_weights(name)]
    if weights is None or weights in published:
        network = models.get_model(name, weights=weights)
        _remove_classifier(network, name)
        return network
    path = Path(weights).expanduser()
    require(
        path.is_file(),
        f"{PART}.weights is '{weights}', which is neither a file nor torchvision's name for weights of {name}: "
        f"{nearest(str(weights), published)}",
    )
    network = models.get_model(name)
    removed = _remove_classifier(network, name)
    _load(network, path, removed, name)
    return network


def _remove_classifier(network: nn.Module, name: str) -> str:
    """Put nothing in the place of the last layer; returns that place."""
    places = [
        place
        for place, layer in network.named_modules()
        if (isinstance(layer, nn.Linear) and layer.out_features == CLASSES)
        or (isinstance(layer, nn.Conv2d) and layer.out_channels == CLASSES)
    ]
    require(bool(places), f"{PART}: {name} has no layer of {CLASSES} outputs to leave out; use another model")
    _set(network, places[-1], nn.Identity())
    return places[-1]


def _load(network: nn.Module, path: Path, removed: str, name: str) -> None:
    state = {key: value for key, value in read_weights(path, PART).items() if not key.startswith(f"{removed}.")}
    require_fitting(state, network.state_dict(), f"{PART}.weights of {name}", path)
    network.load_state_dict(state)


def _adapt_first(network: nn.Module, channels: int) -> None:
    """Let the first convolution read `channels` instead of three."""
    first = next(layer for layer in network.modules() if isinstance(layer, nn.Conv2d))
    weight = first.weight.detach().sum(1, keepdim=True).expand(-1, channels, -1, -1) / channels
    first.in_channels, first.weight = channels, nn.Parameter(weight.contiguous())


def _exchange_batch_norms(network: nn.Module) -> None:
    for place, layer in list(network.named_modules()):
        if not isinstance(layer, nn.BatchNorm2d):
            continue
        ours = BatchNorm(layer.num_features, eps=layer.eps, momentum=layer.momentum)
        ours.load_state_dict(layer.state_dict())
        _set(network, place, ours)


def _set(network: nn.Module, place: str, layer: nn.Module) -> None:
    parent, _, child = place.rpartition(".")
    setattr(network.get_submodule(parent), child, layer)
