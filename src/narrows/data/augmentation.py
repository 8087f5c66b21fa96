"""Training pictures that are flipped, shifted and recoloured: x and what it is compared with alike."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from torch import Tensor

from narrows.data.batch_plans import Step
from narrows.data.contents import Part
from narrows.errors import nearest, require
from narrows.random import generator
from narrows.types import DataSpec

Padding = Literal["constant", "edge", "reflect", "symmetric"]
NAME = "datamodule.augment"


@dataclass
class Augmentation:
    """Random changes of a picture that leave it a picture of its kind, made anew in every epoch, before anything else:
    x, target and masks of an example are changed alike, so that a model rebuilds the changed picture.

    Flips, then a window, then brightness, contrast, saturation and hue, in this order; each as torchvision's function
    of its name changes one picture.

    Args:
        flip: probability that left and right are exchanged.
        flip_vertical: probability that top and bottom are.
        crop: pixels by which the picture is made larger on each side, to be cut to its size at a random place; 0: not.
        padding: what stands in these pixels: `constant` (0), `edge`, `reflect` or `symmetric`, as torchvision names
            them.
        brightness: its factor is drawn from [1 - this, 1 + this], but not below 0; likewise
        contrast: and
        saturation: of colours.
        hue: by which it is shifted, at most, in [0, 0.5] of the circle of colours.

    Raises:
        UserError: an argument out of its range.

    "Improved Regularization of Convolutional Neural Networks with Cutout" (DeVries and Taylor, 2017,
    https://arxiv.org/abs/1708.04552), section 4, for flips and windows as they are usual; torchvision's `ColorJitter`
    for the rest.
    """

    flip: float = 0.5
    flip_vertical: float = 0.0
    crop: int = 4
    padding: Padding = "reflect"
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0

    def __post_init__(self) -> None:
        for name in ("flip", "flip_vertical"):
            value = getattr(self, name)
            require(0 <= value <= 1, f"{NAME}.{name}={value} is no probability: it must be in [0, 1]")
        require(self.crop >= 0, f"{NAME}.crop={self.crop} must be at least 0 pixels")
        known = get_args(Padding)
        require(self.padding in known, f"{NAME}.padding='{self.padding}': {nearest(str(self.padding), known)}")
        for name in ("brightness", "contrast", "saturation"):
            value = getattr(self, name)
            require(value >= 0, f"{NAME}.{name}={value} must be at least 0: it is the spread of a factor around 1")
        require(0 <= self.hue <= 0.5, f"{NAME}.hue={self.hue} must be in [0, 0.5], shares of the circle of colours")

    def check(self, spec: DataSpec, binarise: str) -> None:
        """Refuse data that these changes do not suit.

        Raises:
            UserError: names the option.
        """
        require(
            spec.kind == "image" and len(spec.shape) == 3,
            f"{NAME} changes pictures (C, H, W), not data of kind {spec.kind} and shape {list(spec.shape)}: set "
            f"{NAME}=null",
        )
        channels, side = spec.shape[0], min(spec.shape[1:])
        require(self.crop < side, f"{NAME}.crop={self.crop} must be below the shorter side of the pictures, {side}")
        asked = [name for name in ("brightness", "contrast", "saturation", "hue") if getattr(self, name) > 0]
        if not asked:
            return
        named = " and ".join(f"{NAME}.{name}" for name in asked)
        require(
            spec.value_range == (0.0, 1.0) and channels in (1, 3) and binarise != "static",
            f"{named} need pictures in [0, 1] with 1 or 3 channels that are not drawn black or white once "
            "(binarise=static): set 0",
        )
        coloured = channels == 3 or not {"saturation", "hue"}.intersection(asked)
        require(coloured, f"{NAME}.saturation and hue change colours, and these pictures are grey: set 0")


@dataclass
class Augmented:
    """An augmentation of the `size` rows of a split, whose chances are a function of (seed, "augment", epoch, row)."""

    how: Augmentation
    seed: int
    size: int
    _drawn: tuple[int, Tensor] | None = field(default=None, init=False)

    def __call__(
        self, step: Step, x: Tensor, target: Tensor | None, observed: Tensor | None, concealed: Tensor | None
    ) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
        """The rows of a step, changed: x and target `[B, C, H, W]`, and masks of that shape, bool; pixels of a constant
        padding are observed."""
        chances = self._chances(step.epoch, x.device)[step.rows]
        seen, hidden = (
            None if mask is None else _placed(mask.to(x), chances, self.how, fill) > 0.5
            for mask, fill in ((observed, 1.0), (concealed, 0.0))
        )
        compared = None if target is None else self._changed(target, chances)
        return self._changed(x, chances), compared, seen, hidden

    def _chances(self, epoch: int, device: torch.device) -> Tensor:
        """`[size, 8]`, each in [0, 1): one of every chance for every row of the split, so that none depends on the
        batch that a row is in, or on the process that serves it."""
        if self._drawn is None or self._drawn[0] != epoch:
            source = generator(self.seed, "augment", epoch)
            self._drawn = epoch, torch.rand(self.size, 8, generator=source, dtype=torch.float64).to(device)
        return self._drawn[1]

    def _changed(self, x: Tensor, chances: Tensor) -> Tensor:
        return _recoloured(_placed(x, chances, self.how, 0.0), chances[:, 4:].to(x), self.how)


def augmented(part: Part, how: Augmentation | None, seed: int) -> Augmented | None:
    """What changes the rows of this part, if anything does."""
    return None if how is None else Augmented(how, seed, len(part))


def _placed(x: Tensor, chances: Tensor, how: Augmentation, fill: float) -> Tensor:
    """`x [B, C, H, W]`, flipped by the chances 0 and 1, and shifted by 2 and 3."""
    from torchvision.transforms.v2 import functional  # slow to import

    flips = ((how.flip, functional.horizontal_flip), (how.flip_vertical, functional.vertical_flip))
    for column, (share, flipped) in enumerate(flips):
        if share > 0:
            x = torch.where(_per_example(chances[:, column] < share), flipped(x), x)
    if how.crop == 0:
        return x
    height, width = x.shape[2:]
    padded = functional.pad(x, [how.crop], fill=fill, padding_mode=how.padding)
    top, left = (chances[:, 2:4] * (2 * how.crop + 1)).long().unbind(1)
    rows = top[:, None] + torch.arange(height, device=x.device)
    columns = left[:, None] + torch.arange(width, device=x.device)
    examples, channels = (torch.arange(length, device=x.device) for length in x.shape[:2])
    return padded[_per_example(examples), channels[:, None, None], rows[:, None, :, None], columns[:, None, None, :]]


def _recoloured(x: Tensor, chances: Tensor, how: Augmentation) -> Tensor:
    """`x [B, C, H, W]` in [0, 1] with other colours, by chances `[B, 4]`."""
    from torchvision.transforms.v2 import functional  # slow to import

    def factor(column: int, spread: float) -> Tensor:
        low = max(0.0, 1 - spread)
        return _per_example(low + (1 + spread - low) * chances[:, column])

    def grey(x: Tensor) -> Tensor:
        return x if x.shape[1] == 1 else functional.rgb_to_grayscale(x)

    if how.brightness > 0:
        x = _blended(x, torch.zeros_like(x), factor(0, how.brightness))
    if how.contrast > 0:
        x = _blended(x, grey(x).mean((1, 2, 3), keepdim=True), factor(1, how.contrast))
    if how.saturation > 0:
        x = _blended(x, grey(x), factor(2, how.saturation))
    if how.hue > 0:
        shifts = (2 * chances[:, 3] - 1) * how.hue
        pairs = zip(x, shifts.tolist(), strict=True)
        x = torch.stack([functional.adjust_hue(picture, shift) for picture, shift in pairs])
    return x


def _blended(x: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    """`factor` of x, and what it lacks of 1 of the other picture."""
    return (factor * x + (1 - factor) * other).clamp(0.0, 1.0)


def _per_example(values: Tensor) -> Tensor:
    return values[:, None, None, None]
