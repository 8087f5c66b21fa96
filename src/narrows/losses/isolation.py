"""Passes through a part of the model that do not train it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from torch import Tensor, nn

from narrows.layers.stages import still
from narrows.models.autoencoder import Autoencoder
from narrows.types import Output


@contextmanager
def frozen(*modules: nn.Module) -> Iterator[None]:
    """Inside, `modules` are `still`, and their parameters get no gradient from what is computed."""
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        with still(*modules):
            yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)


def decoded(z: Tensor, out: Output, model: Autoencoder) -> Tensor:
    """The likelihood's parameters at `z` from the decoder in evaluation mode, with teacher forcing if
    autoregressive."""
    with still(model.decoder):
        return model.params(z, out.seen)


def side_nats(params: Tensor, out: Output, model: Autoencoder) -> Tensor:
    """`-log p(x | params)`, `[B]`; neither parameters nor buffers of the likelihood are trained by it."""
    with frozen(model.likelihood):
        return -replace(out, p_x=model.likelihood(params, out.seen.given)).log_likelihood
