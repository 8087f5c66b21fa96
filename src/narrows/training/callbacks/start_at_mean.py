"""Starting the decoder at the mean of the training data."""

from __future__ import annotations

import math
from typing import Any, cast

import lightning as L
import torch
from torch import nn

from narrows.errors import require
from narrows.tasks.measures.observed_values import mean_of
from narrows.training.lightning_module import AutoencoderModule


class StartAtMean(L.Callback):
    """Before the first step, sets the bias of the decoder's last layer so that a linear decoder returns the mean of the
    training split (without missing values) when no latent is active.

    Otherwise a sparse autoencoder spends thousands of steps on learning the mean, and many latents die meanwhile.
    "Towards Monosemanticity: Decomposing Language Models With Dictionary Learning" (Bricken et al., 2023) and
    "Scaling and Evaluating Sparse Autoencoders" (Gao et al., 2024), appendix A.1, start at the geometric median.

    Raises:
        UserError: a decoder without a bias for every value, or a likelihood with parameters besides its mean.
    """

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        _bias(cast(AutoencoderModule, pl_module))

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.global_step > 0:
            return
        module, data = cast(AutoencoderModule, pl_module), cast(Any, trainer).datamodule
        shape = module.model.spec.shape
        mean = torch.from_numpy(mean_of(data.ordered_loader("train"), math.prod(shape))).float().reshape(shape)
        params = module.model.likelihood.params_of_mean(mean)
        assert params is not None
        with torch.no_grad():
            _bias(module).copy_(params.flatten())


def _bias(module: AutoencoderModule) -> nn.Parameter:
    model = module.model
    biases = [getattr(layer, "bias", None) for layer in model.decoder.modules() if hasattr(layer, "weight")]
    bias, values = biases[-1] if biases else None, math.prod(model.likelihood.out_shape)
    require(
        isinstance(bias, nn.Parameter) and bias.numel() == values,
        f"callbacks.start needs a decoder whose last layer has a bias for each of the {values} values (decoder=mlp), "
        f"not {type(model.decoder).__name__}",
    )
    require(
        model.likelihood.params_of_mean(torch.full(model.spec.shape, 0.5)) is not None,
        f"callbacks.start needs a likelihood with one parameter, its mean's (likelihood=bernoulli or gaussian), not "
        f"{type(model.likelihood).__name__}",
    )
    return cast(nn.Parameter, bias)
