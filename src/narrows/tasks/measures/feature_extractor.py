"""The feature extractor in whose features images are compared: a small network, trained once per data set.

Inception's weights need a download and fit photographs, not digits. This network is named after its data, kept in
`$XDG_CACHE_HOME/narrows/extractors` (by default `~/.cache`), and the same for every run, because it has its own seed.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from narrows.errors import require
from narrows.random import generator, seed_default
from narrows.runs import checkpoint_files
from narrows.tasks.base import TaskContext
from narrows.tasks.measures.classifier import descend

log = logging.getLogger(__name__)

FEATURES = 128
STEPS, RATE = 1_500, 1e-3
MAX_ROWS, MAX_VALUES = 60_000, 200_000_000
QUARTERS = 4
VERSION = 1
"""Version of all of the above: another recipe is another extractor."""


class Extractor(nn.Module):
    """Two convolutions of stride 2, a layer of 128 whose activations are the features, and a linear classifier.

    Args:
        shape: `(C, H, W)`.
        classes: of the data, or 4 quarter turns where they have none.
    """

    def __init__(self, shape: tuple[int, ...], classes: int) -> None:
        super().__init__()
        small = math.prod(-(-side // 4) for side in shape[1:])
        self.layers = nn.Sequential(
            nn.Conv2d(shape[0], 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(64 * small, FEATURES),
            nn.ReLU(),
        )
        self.head = nn.Linear(FEATURES, classes)
        self.register_buffer("accuracy", torch.tensor(math.nan))
        self.register_buffer("scale", torch.tensor(1.0))

    accuracy: Tensor
    """Accuracy on the validation split, a scalar."""
    scale: Tensor
    """Root mean square of the last layer over the validation split, a scalar."""

    def forward(self, x: Tensor) -> Tensor:
        """Features `[B, 128]` of unit mean square, float64."""
        return (self.layers(x.float()) / self.scale).double()


def is_binary(context: TaskContext) -> bool:
    """Whether the first data are all 0 or 1; computed once per context."""
    if "binary" not in context.memo:
        x = next(context.batches("test")).truth
        context.memo["binary"] = bool(((x == 0) | (x == 1)).all())
    return context.memo["binary"]


def name_of(context: TaskContext) -> str:
    """`conv128-classes-1a2b3c4d`: what was trained, on what, and the data's fingerprint, which is that of the data
    before they were drawn in black and white (`conv128-classes-1a2b3c4d-binary`)."""
    spec = context.spec
    name = f"conv{FEATURES}-{'rotations' if spec.num_classes is None else 'classes'}-{spec.fingerprint[:8]}"
    return f"{name}-binary" if is_binary(context) else name


def feature_extractor(context: TaskContext) -> Extractor:
    """The extractor of these data, from the cache or trained now; shared by the tasks of one context.

    Trained to tell the classes, or, where the data have none, by how many quarters an image was turned
    ("Unsupervised Representation Learning by Predicting Image Rotations", Gidaris et al., 2018).

    Raises:
        UserError: the cached file is damaged, or there is no fingerprint to name it by.
    """
    if "extractor" not in context.memo:
        context.memo["extractor"] = _cached(context).eval().to(context.device)
    return context.memo["extractor"]


def cache_dir() -> Path:
    """The folder of files that all runs share."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "narrows"


def _cached(context: TaskContext) -> Extractor:
    spec = context.spec
    require(spec.fingerprint != "", "the data have no fingerprint, by which their feature extractor is known")
    name = name_of(context)
    file = cache_dir() / "extractors" / f"{name}-v{VERSION}" / "best.ckpt"
    network = Extractor(spec.shape, spec.num_classes or QUARTERS)
    if file.is_file():
        network.load_state_dict(checkpoint_files.read(file))
        return network
    log.info("training the feature extractor %s (once for these data)", name)
    network = _trained(context, network.to(context.device))
    checkpoint_files.save_as(network.state_dict(), file)
    log.info("%s: accuracy %.4f on the validation split", name, float(network.accuracy))
    return network


def _trained(context: TaskContext, network: Extractor) -> Extractor:
    x, y = _examples(context, "train")
    seed_default(0, "extractor", "init")
    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            layer.reset_parameters()
    descend(
        lambda part: network.head(network.layers(part)),
        network.parameters(),
        (x, y),
        "extractor",
        steps=STEPS,
        rate=RATE,
    )
    _measure(network, *_examples(context, "validation"))
    return network


@torch.no_grad()
def _measure(network: Extractor, x: Tensor, y: Tensor) -> None:
    features = torch.cat([network.layers(part.to(network.scale.device)) for part in x.split(1000)])
    network.scale.copy_(features.square().mean().sqrt())
    network.accuracy.copy_((network.head(features).argmax(1).cpu() == y).float().mean())


def _examples(context: TaskContext, split: str) -> tuple[Tensor, Tensor]:
    """Images and their classes or rotations, on the CPU."""
    most = min(MAX_ROWS, MAX_VALUES // math.prod(context.spec.shape))
    images, labels = [], []
    for x, label in _rows(context, split):
        images.append(x)
        labels.append(label)
        if sum(map(len, images)) >= most:
            break
    return torch.cat(images)[:most], torch.cat(labels)[:most]


def _rows(context: TaskContext, split: str) -> Iterator[tuple[Tensor, Tensor]]:
    classes = context.spec.num_classes
    for i, batch in enumerate(context.batches(split)):
        x = batch.truth.float().cpu()
        if classes is not None:
            assert batch.label is not None
            yield x, batch.label.long().cpu()
            continue
        turns = torch.randint(QUARTERS, (len(x),), generator=generator(0, "turns", split, i))
        yield torch.stack([_turned(image, int(k)) for image, k in zip(x, turns, strict=True)]), turns


def _turned(image: Tensor, quarters: int) -> Tensor:
    turned = torch.rot90(image, quarters, (1, 2))
    # An image that is not square keeps its shape: the half turns alone are then told apart from none.
    return turned if turned.shape == image.shape else torch.rot90(image, 2 * (quarters // 2), (1, 2))
