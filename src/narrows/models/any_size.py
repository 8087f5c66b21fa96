"""Examples of other sizes than those that a model was trained on, which models of convolutions alone take."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from narrows.errors import UserError
from narrows.models.autoencoder import Autoencoder
from narrows.types import PIXELS, QuantizedLatent


@torch.no_grad()
def side_multiples(model: Autoencoder) -> tuple[int, ...] | None:
    """The numbers of which the sides of a picture, a volume or a clip (its number of frames too), or the length of a
    sound, must be multiples; None if the model reads only its own size.

    An example larger by one step of the latent map shows whether all stages are convolutions.
    """
    shape, latent = tuple(model.spec.shape), tuple(model.latent_shape)
    if model.spec.kind not in (*PIXELS, "audio") or len(latent) != len(shape):
        return None
    if any(side % steps for side, steps in zip(shape[1:], latent[1:], strict=True)):
        return None
    each = tuple(side // steps for side, steps in zip(shape[1:], latent[1:], strict=True))
    larger = (shape[0], *(side + one for side, one in zip(shape[1:], each, strict=True)))
    try:
        found = model.encode(torch.zeros(1, *larger, device=next(model.parameters()).device))
        given = model.point_at(found.point)
        if isinstance(found, QuantizedLatent) and found.maps is not None:
            return None
    except (RuntimeError, UserError):
        # What torch raises if the shape of a layer is fixed, as it is or as the model's refusal of its input.
        return None
    grown = (1, latent[0], *(steps + 1 for steps in latent[1:]))
    return each if tuple(found.point.shape) == grown and tuple(given.shape[1:]) == larger else None


def padded_to_multiples(x: Tensor, multiples: tuple[int, ...]) -> Tensor:
    """`[B, C, *sides]` up to sides that are multiples of these: pictures by repeating their last pixels at the right
    and lower edges, volumes and clips likewise at the end of all three sides, sounds by silence at their end."""
    due = [-side % each for side, each in zip(x.shape[2:], multiples, strict=True)]
    if not any(due):
        return x
    if len(due) == 1:
        return F.pad(x, (0, due[0]))
    ends = [end for one in reversed(due) for end in (0, one)]
    return F.pad(x, ends, mode="replicate")
