"""Passes through a part of the model, or past it, that leave the part as it is."""

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
    """`still`, and what is computed inside gives no gradient to the parameters of `modules`."""
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
    """The likelihood's parameters at `z`, the decoder being still; under teacher forcing where autoregressive."""
    with still(model.decoder):
        return model.params(z, out.batch)


def side_nats(params: Tensor, out: Output, model: Autoencoder) -> Tensor:
    """`-log p(x | params)`, `[B]`, under the likelihood as it is: neither its parameters nor its buffers learn."""
    with frozen(model.likelihood):
        return -replace(out, p_x=model.likelihood(params, out.batch.given)).log_likelihood
