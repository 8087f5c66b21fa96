"""Pictures of other sizes than those that a model was trained on, which models of convolutions alone take."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from narrows.errors import UserError
from narrows.models.autoencoder import Autoencoder
from narrows.types import QuantizedLatent


@torch.no_grad()
def side_multiples(model: Autoencoder) -> tuple[int, int] | None:
    """The numbers of which the height and width of a picture must be multiples; None if the model reads only its own
    size.

    A picture larger by one step of the latent map shows whether all stages are convolutions.
    """
    shape, latent = tuple(model.spec.shape), tuple(model.latent_shape)
    if model.spec.kind != "image" or len(latent) != 3 or shape[1] % latent[1] or shape[2] % latent[2]:
        return None
    each = shape[1] // latent[1], shape[2] // latent[2]
    larger = (shape[0], shape[1] + each[0], shape[2] + each[1])
    try:
        found = model.encode(torch.zeros(1, *larger, device=next(model.parameters()).device))
        given = model.point_at(found.point)
        if isinstance(found, QuantizedLatent) and found.maps is not None:
            return None
    except (RuntimeError, UserError):
        # What torch raises if the shape of a layer is fixed, as it is or as the model's refusal of its input.
        return None
    grown = (1, latent[0], latent[1] + 1, latent[2] + 1)
    return each if tuple(found.point.shape) == grown and tuple(given.shape[1:]) == larger else None


def padded_to_multiples(x: Tensor, multiples: tuple[int, int]) -> Tensor:
    """Pictures `[B, C, H, W]` whose last pixels are repeated at the right and lower edges, up to sides that are
    multiples of these."""
    down, right = (-side % each for side, each in zip(x.shape[2:], multiples, strict=True))
    return F.pad(x, (0, right, 0, down), mode="replicate") if down or right else x
