"""Where in memory the channels of pictures lie: behind their positions, which many kernels of convolutions prefer.

The numbers are those of the usual layout up to rounding, and shapes, checkpoints and records do not change: a layout is
a matter of strides. "Channels Last Memory Format in PyTorch",
https://docs.pytorch.org/tutorials/intermediate/memory_format_tutorial.html.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from narrows.batches import Batch
from narrows.errors import require
from narrows.models.autoencoder import Autoencoder


def lay_channels_last(module: nn.Module, model: Autoencoder) -> None:
    """Give every weight `[out, in, height, width]` of `module`, of which the model is a part, this layout.

    Raises:
        UserError: the data are no pictures or maps `(C, H, W)`, or no part of the model has such a weight.
    """
    shape = model.spec.shape
    require(
        len(shape) == 3,
        f"module.channels_last=true is a layout of pictures (C, H, W), not of data of shape {list(shape)}: set false",
    )
    require(
        any(p.ndim == 4 for p in model.parameters()),
        "module.channels_last=true is for convolutions over pictures, and neither the encoder "
        f"({type(model.encoder).__name__}) nor the decoder ({type(model.decoder).__name__}) has one: set false, or "
        "encoder=conv decoder=conv",
    )
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def channels_last(batch: Batch) -> Batch:
    """The batch with x and target in this layout."""
    x, target = (
        None if values is None else values.contiguous(memory_format=torch.channels_last)
        for values in (batch.x, batch.target)
    )
    assert x is not None
    return replace(batch, x=x, target=target)
